"""kafka-python's own integration tests, against a broker that runs already."""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import harness
import kafka
import pytest_suite

# By this the tests decide what they expect of the broker: the newest release that kafka-python tells apart.
BROKER_VERSION = "4.3"


def sources() -> Path:
    """The unpacked source distribution, from PyPI at the first use."""
    work = Path(os.environ["COMPAT_WORK"])
    folder = work / f"kafka_python-{kafka.__version__}"
    if not folder.exists():
        wanted = ["--no-deps", "--no-binary", ":all:", f"kafka-python=={kafka.__version__}"]
        download = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "-d", str(work)]
        subprocess.run([*download, *wanted], check=True, stdout=sys.stderr)
        with tarfile.open(next(work.glob("kafka_python-*.tar.gz"))) as archive:
            archive.extractall(work, filter="data")
    # Left out of the distribution; without the first, `test` is the standard library's package of that name.
    (folder / "test" / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("service.py"), folder / "test")
    return folder


def checks(bootstrap: str) -> Iterator[harness.Check]:
    with harness.alone(Path(os.environ["COMPAT_WORK"])):
        folder = sources()
    first = bootstrap.split(",")[0]
    # KAFKA_ROOT would be the installation of a broker to start; all that is asked of it here is to be there.
    environment = {"KAFKA_URI": f"kafka://{first}", "KAFKA_VERSION": BROKER_VERSION, "KAFKA_ROOT": str(folder)}
    return pytest_suite.checks(folder, ["test/integration"], environment)


if __name__ == "__main__":
    harness.main("kafka-python's own tests", kafka.__version__, checks)
