"""aiokafka's own functional tests, against a broker that runs already.

The tests are in no distribution of aiokafka: they come from a checkout, which `AIOKAFKA_CHECKOUT` names, while what
they test is the installed package.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import aiokafka
import harness
import pytest_suite

HERE = Path(__file__).resolve().parent
CHECKOUT = "AIOKAFKA_CHECKOUT"


def tests() -> Path:
    """A folder with the checkout's tests and without its `aiokafka`, which would hide the installed one."""
    checkout = Path(os.environ.get(CHECKOUT) or sys.exit(f"aiokafka-tests needs {CHECKOUT}: {explanation()}"))
    if not (checkout / "tests" / "conftest.py").is_file():
        sys.exit(f"{CHECKOUT}={checkout} is no checkout of aiokafka: {explanation()}")
    folder = Path(os.environ["COMPAT_RUN"]) / "sources"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(checkout / "tests", folder / "tests")
    shutil.copy(checkout / "pyproject.toml", folder)
    return folder


def explanation() -> str:
    return f"the folder of a git checkout of aiokafka at v{aiokafka.__version__}, whose packages do not hold its tests"


def checks(bootstrap: str) -> Iterator[harness.Check]:
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {"GIVEN_BROKER": bootstrap.split(",")[0], "PYTHONPATH": path}
    return pytest_suite.checks(tests(), ["tests"], environment, "-p", "given_broker", limit_s=90)


if __name__ == "__main__":
    harness.main("aiokafka's own tests", aiokafka.__version__, checks)
