"""`kafkapy fault`, `clock`, `reset`, `snapshot`, `restore`, `activity`, against a broker that runs, as processes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kafkapy
from kafkapy.errors import KafkaError
from tests.cli.test_cli_start import failing, running

COMMAND = [sys.executable, "-m", "kafkapy"]


@pytest.fixture(scope="module")
def shared() -> Iterator[kafkapy.BrokerProcess]:
    with kafkapy.BrokerProcess() as broker:
        yield broker


@pytest.fixture
def broker(shared: kafkapy.BrokerProcess) -> Iterator[kafkapy.BrokerProcess]:
    yield shared
    shared.reset()


def said(broker: kafkapy.BrokerProcess, *arguments: str, given: str = "", code: int = 0) -> str:
    """What a command prints: on stdout, or where it fails with this code, on stderr."""
    name, *rest = arguments
    command = [*COMMAND, name, "--control", str(broker._control()), *rest]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if code == 2 else done.stdout + done.stderr


def test_a_fault_in_words(broker: kafkapy.BrokerProcess) -> None:
    words = ("ListGroups", "error=COORDINATOR_NOT_AVAILABLE", "times=2", "version=0-5", "probability=1", "must")
    [number, text] = said(broker, "fault", "add", *words).split(": ", 1)
    assert text == "ListGroups: COORDINATOR_NOT_AVAILABLE, 0 of 0 requests (must)\n"
    assert said(broker, "fault", "check", code=1) == f"{number}: {text}"
    assert said(broker, "fault", "wait", number, "--timeout", "0.01", code=1).startswith("kafkapy: after 0.01 s: List")
    with pytest.raises(KafkaError):
        broker.groups()
    met = f"{number}: ListGroups: COORDINATOR_NOT_AVAILABLE, 1 of 1 requests (must)\n"
    assert said(broker, "fault", "wait", number) == met
    assert said(broker, "fault") == met
    assert said(broker, "fault", "check") == ""
    assert said(broker, "fault", "remove", number) == met
    assert said(broker, "fault", "list") == ""


def test_a_script_comes_from_a_file_or_from_stdin(broker: kafkapy.BrokerProcess, tmp_path: Path) -> None:
    script = json.dumps([{"api": "Produce", "close": True}, {"api": "Fetch", "delay": 0.5, "times": None}])
    (tmp_path / "script.json").write_text(script)
    texts = ["Produce: close, 0 of 0 requests", "Fetch: delay=0.5 s, 0 of 0 requests"]
    for path, given in ((str(tmp_path / "script.json"), ""), ("-", script)):
        lines = said(broker, "fault", "script", path, given=given).splitlines()
        assert [line.partition(": ")[2] for line in lines] == texts
        said(broker, "fault", "clear")
    assert [*broker.faults] == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("fault", "add"), "takes an API, and words"),
        (("fault", "add", "Produce", "delay=soon"), "delay is a number, not 'soon'"),
        (("fault", "add", "Produce", "times=1.5"), "times cannot be 1.5"),
        (("fault", "add", "Produce", "version=1-x"), "version is a number, not 'x'"),
        (("fault", "add", "Produce", "close=maybe"), "close cannot be 'maybe'"),
        (("fault", "add", "Produce", "colour=red"), "a rule knows no 'colour'"),
        (("fault", "remove", "99"), "there is no rule 99"),
        (("fault", "remove"), "takes the number of a rule"),
        (("clock", "advance"), "clock advance takes a number of seconds"),
        (("clock", "freeze", "5"), "clock freeze takes nothing more"),
        (("clock", "advance", "-5"), "backwards"),
        (("clock", "set", "soon"), "Invalid isoformat"),
        (("restore", "-"), "a topic's name is text"),
    ],
)
def test_what_makes_no_sense_is_said(broker: kafkapy.BrokerProcess, arguments: tuple[str, ...], why: str) -> None:
    assert why in said(broker, *arguments, given='{"topic": 5}', code=2)


def test_a_file_that_is_not_there_is_named(broker: kafkapy.BrokerProcess) -> None:
    assert "/no/such: No such file" in said(broker, "restore", "/no/such", code=1)


def test_time(broker: kafkapy.BrokerProcess) -> None:
    assert said(broker, "clock", "freeze").endswith(", frozen\n")
    said(broker, "clock", "set", "2200-01-01T00:00:00+00:00")
    said(broker, "clock", "advance", "1.5")
    assert broker.clock.now_ms() == 7_258_118_400_000 + 1500
    assert not said(broker, "clock", "thaw").endswith(", frozen\n")
    assert said(broker, "clock").count(":") >= 2


def test_a_snapshot_goes_to_a_file_and_comes_back(broker: kafkapy.BrokerProcess, tmp_path: Path) -> None:
    broker.produce("t", "first")
    said(broker, "snapshot", str(tmp_path / "prepared.jsonl"))
    piped = said(broker, "snapshot")
    assert piped == (tmp_path / "prepared.jsonl").read_text()
    said(broker, "reset")
    assert broker.topics() == []
    for arguments, given in (((str(tmp_path / "prepared.jsonl"),), ""), ((), piped)):
        said(broker, "restore", *arguments, given=given)
        assert [record.value for record in broker.records("t")] == [b"first"]


def test_activity(broker: kafkapy.BrokerProcess) -> None:
    for flags in ((), ("--json",)):
        command = [*COMMAND, "activity", "-f", "--control", str(broker._control()), *flags]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            while not (line := _line_of(following, broker)).count("Produce"):
                pass
            following.terminate()
        assert json.loads(line)["topics"] == ["t"] if flags else "kafkapy-testing Produce v" in line
    assert said(broker, "activity") == ""  # what a test asks itself is left out


def _line_of(following: "subprocess.Popen[str]", broker: kafkapy.BrokerProcess) -> str:
    """Its next line, for which it has to have begun: requests go on until then."""
    import select

    assert following.stdout is not None
    while not select.select([following.stdout], [], [], 0.05)[0]:
        broker.produce("t", "v")
    return following.stdout.readline()


def test_nobody_there_and_nowhere_named() -> None:
    for arguments, why in ((("--control", "1"), "no control at 127.0.0.1:1"), ((), "or KAFKAPY_CONTROL")):
        done = subprocess.run([*COMMAND, "reset", *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == (1 if arguments else 2)
        assert why in done.stderr


def test_a_broker_is_controlled_only_where_that_is_asked_for() -> None:
    with running("--port", "0", "--memory") as (_, ready):
        assert "control" not in ready
    with running("--port", "0", "--memory", "--control", "127.0.0.1:0", "--brokers", "2") as (_, ready):
        command = [*COMMAND, "clock"]
        environment = {"KAFKAPY_CONTROL": str(ready["control"])}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
        assert done.returncode == 0, done.stderr


def test_a_broker_that_others_could_control_warns() -> None:
    with running("--port", "0", "--memory", "--control", "0.0.0.0:0") as (process, ready):
        process.terminate()
        assert "WARNING --control: whoever reaches 0.0.0.0:0 may empty this broker" in process.communicate()[1]
        assert str(ready["control"]).startswith("0.0.0.0:")


def test_an_address_that_is_none_or_taken_is_named(broker: kafkapy.BrokerProcess) -> None:
    assert "an address is HOST:PORT" in failing("--memory", "--port", "0", "--control", "localhost:high")
    at = str(broker._control())
    assert f"control cannot be told at {at}" in failing("--memory", "--port", "0", "--control", at)
