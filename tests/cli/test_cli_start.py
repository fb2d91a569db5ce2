"""`kafkapy start` as a process: what it prints, how it stops, what it says when it cannot start."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kafkapy.cli.main import main

COMMAND = [sys.executable, "-m", "kafkapy"]


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """A broker that has said that it is ready."""
    process = subprocess.Popen(
        [*COMMAND, "start", "--json-ready", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate()[1])
        yield process, json.loads(line)
    finally:
        process.kill()
        process.wait()


def failing(*arguments: str, **environment: str) -> str:
    """What a start that fails says on stderr; it exits with 1 and without a traceback."""
    done = subprocess.run(
        [*COMMAND, "start", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_ready_names_what_was_asked_for(tmp_path: Path) -> None:
    with running("--port", "0", "--data-dir", str(tmp_path / "d"), CLUSTER_ID="MkU3OEVBNTcwNTJENDM2Qg") as (
        process,
        ready,
    ):
        assert set(ready) == {"bootstrap_servers", "port", "cluster_id", "data_dir", "pid"}
        assert ready["bootstrap_servers"] == f"127.0.0.1:{ready['port']}"
        assert (ready["cluster_id"], ready["pid"]) == ("MkU3OEVBNTcwNTJENDM2Qg", process.pid)
        assert ready["data_dir"] == str(tmp_path / "d")
        socket.create_connection(("127.0.0.1", int(str(ready["port"])))).close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    with running("--port", "0", "--data-dir", str(tmp_path)) as (process, _):
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "stopped" in process.stderr.read()
    assert (tmp_path / ".kafka_cleanshutdown").exists()


def test_a_taken_port_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = failing("--port", str(port), "--data-dir", str(tmp_path))
    assert f"port {port} is in use" in said
    assert "--port 0" in said


def test_a_directory_serves_one_process(tmp_path: Path) -> None:
    with running("--port", "0", "--data-dir", str(tmp_path)):
        said = failing("--port", "0", "--data-dir", str(tmp_path))
    assert f"{tmp_path} is in use" in said


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-c", "num.partitions=many"], "num.partitions"),
        (["-c", "nonsense"], "KEY=VALUE"),
        (["-c", "listeners=SASL_SSL://:0"], "SASL_SSL"),
        (["-c", "listeners=PLAINTEXT://:0,PLAINTEXT://:1"], "different name"),
        (["-c", "advertised.listeners=PLAINTEXT://0.0.0.0:9092"], "0.0.0.0"),
        (["missing.properties"], "missing.properties"),
        (["--port", "70000"], "70000"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, arguments: list[str], named: str) -> None:
    assert named in failing(*arguments, "--data-dir", str(tmp_path))


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_text("listeners=PLAINTEXT://127.0.0.1:1\nlog.dirs=/nowhere\nnum.partition=3\n")
    arguments = [str(file), "--port", "0"]
    with running(*arguments, KAFKA_LOG_DIRS=str(tmp_path / "env"), KAFKA_LISTENERS="PLAINTEXT://127.0.0.1:2") as (
        p,
        ready,
    ):
        assert ready["data_dir"] == str(tmp_path / "env")
        p.send_signal(signal.SIGTERM)
        _, said = p.communicate(timeout=10)
    assert "did you mean num.partitions?" in said


def test_logs_can_be_json(tmp_path: Path) -> None:
    with running("--port", "0", "--memory", "--log-format", "json") as (process, ready):
        assert ready["data_dir"] is None
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=10)
    assert [json.loads(line)["level"] for line in said.splitlines()]


def test_check_tells_sound_from_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running("--port", "0", "--data-dir", str(tmp_path)) as (process, _):
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    assert main(["check", str(tmp_path)]) == 0
    assert "sound" in capsys.readouterr().out
    (tmp_path / "__cluster_metadata-0" / "leader-epoch-checkpoint").write_text("0\n2\n1 0\n0 5\n")
    assert main(["check", str(tmp_path)]) == 1
    assert main(["check", str(tmp_path / "missing")]) == 2


def test_without_a_command_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("kafkapy ")
    assert main(["-c", "nonsense"]) == 1
