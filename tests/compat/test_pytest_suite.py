"""A client's own pytest suite counts only what ran, and is given the broker that runs instead of one of its own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

RUN = """
import sys
from pathlib import Path
import harness, pytest_suite

def checks(bootstrap):
    folder = Path(__file__).parent
    environment = {"GIVEN_BROKER": bootstrap, "PYTHONPATH": PLUGIN}
    return pytest_suite.checks(folder, ["tests"], environment, "-p", "given_broker", limit_s=LIMIT_S)

harness.main("fake", "1.0", checks)
"""

# As in aiokafka: the conftest would start a broker, and the tests find on their class what it gives.
CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def kafka_server():
    raise NotImplementedError("a container")

@pytest.fixture(scope="class")
def loop():
    return None

@pytest.fixture(scope="class")
def setup_test_class(kafka_server):
    raise NotImplementedError("a container")
"""

TESTS = """
import socket, unittest
import pytest

def test_that_needs_no_broker():
    pass

@pytest.mark.usefixtures("setup_test_class")
class TestFake(unittest.TestCase):
    def test_passes(self):
        assert self.hosts == [f"{self.kafka_host}:{self.kafka_port}"]
        socket.create_connection((self.kafka_host, self.kafka_port)).close()

    def test_asks_nobody(self):
        assert self.kafka_port

    def test_fails(self):
        open(__file__ + ".missing")

    def test_skips(self):
        self.skipTest("not today")

    @pytest.mark.xfail
    def test_expected_to_fail(self):
        assert False

    def test_of_tls(self):
        assert self.kafka_ssl_port
"""

HANG = """
import signal

def test_hangs(kafka_server):
    signal.pause()
"""


def run_suite(tmp_path: Path, only: str, limit_s: float = 60) -> dict[str, tuple[bool | None, str]]:
    """What was reported of each test whose name contains `only`."""
    (tmp_path / "tests").mkdir(exist_ok=True)
    (tmp_path / "tests" / "conftest.py").write_text(CONFTEST)
    (tmp_path / "tests" / "test_fake.py").write_text(TESTS)
    (tmp_path / "tests" / "test_hang.py").write_text(HANG)
    script = tmp_path / "run.py"
    plugin = str(ROOT / "compat" / "aiokafka-tests")
    script.write_text(RUN.replace("PLUGIN", repr(plugin)).replace("LIMIT_S", str(limit_s)))
    with socket.create_server(("127.0.0.1", 0)) as broker:
        bootstrap = f"127.0.0.1:{broker.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, str(script), "--bootstrap", bootstrap, "--only", only],
            env={**os.environ, "PYTHONPATH": str(ROOT / "compat"), "COMPAT_RUN": str(tmp_path)},
            stdout=subprocess.PIPE,
            check=True,
        )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return {entry["check"].split("::")[-1]: (entry["passed"], entry["detail"]) for entry in said if "check" in entry}


def test_only_what_ran_and_passed_is_a_pass(tmp_path: Path) -> None:
    outcomes = run_suite(tmp_path, "test_fake")
    assert {test: passed for test, (passed, _) in outcomes.items()} == {
        "test_passes": True,
        "test_asks_nobody": None,
        "test_fails": False,
        "test_skips": None,
        "test_expected_to_fail": None,
        "test_of_tls": None,
    }
    assert "'tests/test_fake.py.missing'" in outcomes["test_fails"][1]
    assert outcomes["test_skips"][1] == "skipped: not today"
    assert outcomes["test_of_tls"][1] == "skipped: needs a TLS listener"


def test_a_hang_ends_with_its_time(tmp_path: Path) -> None:
    passed, detail = run_suite(tmp_path, "test_hang", limit_s=1.5)["test_hangs"]
    assert passed is False
    assert "not done within 1.5 s" in detail
