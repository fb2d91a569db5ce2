"""`kafkapy start` as a process: what it prints, how it stops, what it says when it cannot start."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kafkapy.cli.failures import explain
from kafkapy.cli.main import main
from kafkapy.cluster.image import METADATA_LOG
from kafkapy.coordination.replaying import DamagedLog
from kafkapy.testing.handle import BrokerHandle

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
        assert set(ready) == {"bootstrap_servers", "port", "listeners", "brokers", "cluster_id", "data_dir", "pid"}
        assert ready["bootstrap_servers"] == f"127.0.0.1:{ready['port']}"
        assert (ready["cluster_id"], ready["pid"]) == ("MkU3OEVBNTcwNTJENDM2Qg", process.pid)
        assert ready["data_dir"] == str(tmp_path / "d")
        socket.create_connection(("127.0.0.1", int(str(ready["port"])))).close()


def test_several_brokers_are_told_with_their_addresses() -> None:
    with running("--port", "0", "--memory", "--brokers", "3", "--racks", "a,b") as (_, ready):
        brokers: Any = ready["brokers"]
        assert list(brokers) == ["1", "2", "3"]
        addresses = [listeners["PLAINTEXT"] for listeners in brokers.values()]
        assert ready["bootstrap_servers"] == ",".join(addresses)
        for address in addresses:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port))).close()


def test_a_seed_is_there_when_it_is_ready(tmp_path: Path) -> None:
    seed = tmp_path / "seed.jsonl"
    seed.write_text('{"topic": "orders", "partitions": 2}\n{"topic": "orders", "key": "k", "value": "v"}\n')
    with running("--port", "0", "--memory", "--seed", str(seed)) as (_, ready):
        broker = BrokerHandle("127.0.0.1", int(str(ready["port"])))
        assert [(record.key, record.value) for record in broker.records("orders")] == [(b"k", b"v")]
        assert broker.topics()[0].partitions == 2
        broker.close()


@pytest.mark.parametrize(("line", "why"), [("{", "line 1 is no JSON"), ('{"topic": "a b"}', "a b"), (None, "No such")])
def test_a_seed_that_cannot_be_is_named(tmp_path: Path, line: str | None, why: str) -> None:
    seed = tmp_path / "seed.jsonl"
    if line is not None:
        seed.write_text(line)
    said = failing("--port", "0", "--memory", "--seed", str(seed))
    assert f"--seed {seed}: " in said
    assert why in said


def test_less_than_one_broker_is_refused() -> None:
    assert "--brokers 0 is less than one" in failing("--memory", "--brokers", "0")


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
    assert f"port {port} is in use by " in said
    assert f"(pid {os.getpid()})" in said
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
        (["-c", "=3"], "KEY=VALUE"),
        (["--advertise", "PLAINTEXT://host:9092"], "--advertise takes a host"),
        (["--advertise", ""], "--advertise takes a host"),
        ([str(Path(__file__).parent)], "Is a directory"),
        (["-c", "listeners=SASL_SSL://:0"], "SASL_SSL"),
        (["-c", "listeners=PLAINTEXT://:0,PLAINTEXT://:1"], "different name"),
        (["-c", "advertised.listeners=PLAINTEXT://0.0.0.0:9092"], "0.0.0.0"),
        (["missing.properties"], "missing.properties"),
        (["--port", "70000"], "70000"),
        (["--port", "0", "-c", "listeners=PLAINTEXT://:0"], "exclude each other"),
        (["-c", "max.connections.per.ip.overrides=127.0.0.1"], "max.connections.per.ip.overrides"),
        (["-c", "listeners=PLAINTEXT://no-such-host.invalid:0"], "no-such-host.invalid"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, arguments: list[str], named: str) -> None:
    assert named in failing(*arguments, "--data-dir", str(tmp_path))


def test_every_bad_setting_has_a_line(tmp_path: Path) -> None:
    said = failing("-c", "num.partitions=many", "-c", "log.segment.bytes=1", KAFKA_LOG_DIRS=str(tmp_path))
    lines = said.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("kafkapy: ") for line in lines)
    assert "num.partitions" in said
    assert "log.segment.bytes" in said


def test_a_data_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for directory in (file, file / "below", Path("/proc/kafkapy")):
        said = failing("--port", "0", "--data-dir", str(directory))
        assert f"cannot start: {directory}: " in said
        assert "--data-dir" in said
        assert "Errno" not in said


def test_logs_lie_in_several_directories_and_the_metadata_log_where_it_was_wanted(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("a", "b", "meta")]
    settings = [f"log.dirs={names[0]},{names[1]}", f"metadata.log.dir={names[2]}"]
    for _ in range(2):
        with running("--port", "0", *(word for one in settings for word in ("-c", one))) as (process, ready):
            assert ready["data_dir"] == str(names[0])
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=30)[1]
            assert f"data in {names[0]}, {names[1]}" in said
        assert [(path / "meta.properties").exists() for path in names] == [True] * 3
        assert [(path / "__cluster_metadata-0").exists() for path in names] == [False, False, True]
        assert [(path / ".kafka_cleanshutdown").exists() for path in names] == [True] * 3


def test_a_directory_keeps_its_cluster_and_node(tmp_path: Path) -> None:
    with running("--port", "0", "--data-dir", str(tmp_path)) as (_, ready):
        cluster_id = ready["cluster_id"]
    with running("--port", "0", "--data-dir", str(tmp_path)) as (_, ready):
        assert ready["cluster_id"] == cluster_id
    assert str(cluster_id) in failing("--port", "0", "--data-dir", str(tmp_path), CLUSTER_ID="another")
    assert "node" in failing("--port", "0", "--data-dir", str(tmp_path), "-c", "node.id=7")
    (tmp_path / "meta.properties").write_text("version=0\nbroker.id=1001\ncluster.id=of-a-zookeeper\n")
    said = failing("--port", "0", "--data-dir", str(tmp_path))
    assert "belongs to node 1001, not to 1; name another one with --data-dir" in said


def test_without_a_directory_named_data_lives_in_the_users_folder(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "share")}
    with running("--port", "0", **environment) as (process, ready):
        data_dir = Path(str(ready["data_dir"]))
        assert tmp_path in data_dir.parents
        assert (data_dir / "meta.properties").exists()
        process.send_signal(signal.SIGTERM)
        assert str(data_dir) in process.communicate(timeout=10)[1]


def test_the_advertise_flag_beats_the_settings(tmp_path: Path) -> None:
    advertised = "PLAINTEXT://set.example:0"
    arguments = ["--port", "0", "--memory", "--advertise", "flag.example"]
    with running(*arguments, KAFKA_ADVERTISED_LISTENERS=advertised) as (_, ready):
        port = int(str(ready["port"]))
        assert ready["bootstrap_servers"] == f"flag.example:{port}"
        with socket.create_connection(("127.0.0.1", port)) as client:
            body = struct.pack(">hhihi", 3, 1, 1, -1, 0)  # Metadata version 1, no topics
            client.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", client.recv(4, socket.MSG_WAITALL))
            answer = client.recv(size, socket.MSG_WAITALL)
        told = struct.pack(">ih12si", 1, 12, b"flag.example", port)
        assert told in answer


def test_a_second_signal_stops_at_once() -> None:
    # A fetch that waits for a minute keeps the first signal's grace busy.
    topic = struct.pack(">h1si", 1, b"t", 1) + struct.pack(">iqi", 0, 0, 100)
    make = struct.pack(">hhihi", 3, 4, 1, -1, 1) + struct.pack(">h1sb", 1, b"t", 1)
    fetch = struct.pack(">hhih", 1, 4, 2, -1) + struct.pack(">iiiibi", -1, 60_000, 1, 100, 0, 1) + topic
    with (
        running("--port", "0", "--memory") as (process, ready),
        socket.create_connection(("127.0.0.1", int(str(ready["port"])))) as client,
    ):
        client.sendall(b"".join(struct.pack(">i", len(body)) + body for body in (make, fetch)))
        (size,) = struct.unpack(">i", client.recv(4, socket.MSG_WAITALL))
        client.recv(size, socket.MSG_WAITALL)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        while "stopping" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(1.5) == 130


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


def test_check_stops_where_there_is_nothing_to_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "file").write_text("")
    for where, why in (
        ("photos", "is not a data directory"),
        ("file", "is not a directory"),
        ("x", "is not a directory"),
    ):
        assert main(["check", str(tmp_path / where)]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert why in said.err
    with running("--port", "0", "--data-dir", str(tmp_path / "used")):
        assert main(["check", str(tmp_path / "used")]) == 2
    assert "in use by another process" in capsys.readouterr().err


def test_a_file_without_a_broker_s_settings_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("127.0.0.1 localhost\n")
    assert f"{file} is no server.properties" in failing(str(file), "--data-dir", str(tmp_path / "data"))


def test_bitnami_s_name_for_the_cluster_is_read(tmp_path: Path) -> None:
    with running("--port", "0", "--memory", KAFKA_KRAFT_CLUSTER_ID="MkU3OEVBNTcwNTJENDM2Qg") as (_, ready):
        assert ready["cluster_id"] == "MkU3OEVBNTcwNTJENDM2Qg"


def test_ipv6_s_wildcard_takes_ipv4_too() -> None:
    with running("--memory", "-c", "listeners=PLAINTEXT://[::]:0") as (_, ready):
        socket.create_connection(("127.0.0.1", int(str(ready["port"])))).close()
        socket.create_connection(("::1", int(str(ready["port"])))).close()


def test_a_directory_that_was_taken_away_ends_the_broker_with_a_line(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with running("--port", "0", "--data-dir", str(directory)) as (process, ready):
        shutil.rmtree(directory)
        # Whoever needs the disk finds out, before it would be looked for.
        make = struct.pack(">hhihi", 3, 4, 1, -1, 1) + struct.pack(">h1sb", 1, b"t", 1)
        with socket.create_connection(("127.0.0.1", int(str(ready["port"])))) as client:
            client.sendall(struct.pack(">i", len(make)) + make)
            _, said = process.communicate(timeout=30)
        assert process.returncode == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1] == f"kafkapy: the data directory {directory} was taken away; its broker ends"
    assert not directory.exists()


def test_all_listeners_are_told_the_one_for_this_machine_first() -> None:
    """As the usual compose file of cp-kafka has them."""
    environment = {
        "KAFKA_LISTENERS": "PLAINTEXT://0.0.0.0:0,PLAINTEXT_HOST://0.0.0.0:0",
        "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://broker:29092,PLAINTEXT_HOST://localhost:9092",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
    }
    with running("--memory", **environment) as (process, ready):
        assert ready["bootstrap_servers"] == "localhost:9092"
        assert list(dict(ready["listeners"]).items()) == [  # type: ignore[call-overload]
            ("PLAINTEXT_HOST", "localhost:9092"),
            ("PLAINTEXT", "broker:29092"),
        ]
        socket.create_connection(("127.0.0.1", int(str(ready["port"])))).close()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert "ready at localhost:9092 (PLAINTEXT_HOST), broker:29092 (PLAINTEXT), cluster" in said


def test_a_broker_that_was_to_keep_people_out_does_not_start() -> None:
    said = failing("--memory", "--port", "0", KAFKA_AUTHORIZER_CLASS_NAME="org.example.Authorizer")
    [line] = said.splitlines()
    assert line.startswith("kafkapy: authorizer.class.name: ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_shells_get_their_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "data-dir" in capsys.readouterr().out


def test_without_a_command_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    version = capsys.readouterr().out
    assert version.startswith("kafkapy ")
    assert main(["version"]) == 0
    assert capsys.readouterr().out == version
    assert main(["-c", "nonsense"]) == 1


def test_a_damaged_log_of_metadata_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    damage = DamagedLog(METADATA_LOG, 3, "it fails its CRC")
    explain(ExceptionGroup("nursery", [ExceptionGroup("nursery", [damage])]), ready=False)
    assert capsys.readouterr().err.splitlines() == [
        "kafkapy: cannot start: __cluster_metadata-0: the batch at offset 3 is damaged: it fails its CRC",
        "kafkapy: `kafkapy check` names file and position; docs/storage_format.md says what can be done",
    ]
