"""`kafkapy dump`: what it says of each kind of file, whole and damaged."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parent.parent / "storage"))

from batches import SMALL, append, batch, end, sent
from catalogues import create
from disks import opened

from kafkapy.cli.main import main
from kafkapy.cluster.journal import MetadataJournal
from kafkapy.coordination.shard import Entry
from kafkapy.groups.facts import CommittedOffset, OffsetRemoved, OffsetStored
from kafkapy.groups.journal import GroupJournal
from kafkapy.model import METADATA_TOPIC, LogId, format_uuid
from kafkapy.protocol.journal.cluster_metadata import RegisterBrokerRecord, TopicRecord
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.base import Checkpoint

TOPIC_ID = b"\xab" * 16


def records(*entries: Entry) -> bytes:
    return build_batch([Record(number, 1000, key, value, []) for number, (key, value) in enumerate(entries)])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A data directory with a log of everything, and internal ones."""

    async def fill() -> None:
        async with opened(tmp_path) as logs:
            log = LogId("t", 0, TOPIC_ID)
            await create(logs, log, SMALL)
            headers = [("h", b"x"), ("n", None)]
            await append(
                logs, log, build_batch([Record(0, 1000, b"k", b"v\xff", headers), Record(1, 2000, None, None, [])])
            )
            await append(logs, log, sent(0, b"a" * 300, transactional=True))
            await end(logs, log, 7, committed=False)
            for number in range(20):
                await append(logs, log, batch(b"text" * 30, at=3000 + number))
            offsets = LogId("__consumer_offsets", 3, b"2" * 16)
            await create(logs, offsets, SMALL)
            stored = OffsetStored("group", "t", 4, CommittedOffset(42, 1, "said", 1000, topic_id=TOPIC_ID))
            journal = GroupJournal()
            data = records(*journal.encode(stored), *journal.encode(OffsetRemoved("group", "t", 5)))
            await append(logs, offsets, data)
            await logs.save_checkpoint(offsets, Checkpoint(2, bytes(14) + data))
            metadata = LogId(METADATA_TOPIC, 0, b"3" * 16)
            await create(logs, metadata, SMALL)
            await append(logs, metadata, records(*MetadataJournal().encode(TopicRecord(name="t", topic_id=TOPIC_ID))))
            broker = bytearray((1, RegisterBrokerRecord.API_KEY, 3))
            RegisterBrokerRecord(broker_id=5).encode(3, broker)
            await append(logs, metadata, records(Entry(None, bytes(broker))))

    trio.run(fill)
    return tmp_path


def dumped(capsys: pytest.CaptureFixture[str], *paths: Path, code: int = 0) -> list[dict[str, Any]]:
    assert main(["dump", "--json", *map(str, paths)]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def of(entries: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry["entry"] == kind]


def said(capsys: pytest.CaptureFixture[str], *paths: Path, code: int = 0) -> str:
    assert main(["dump", *map(str, paths)]) == code
    return capsys.readouterr().out


def test_batches_and_their_records(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory / "t-0" / f"{0:020}.log"
    entries = dumped(capsys, path)
    assert entries[0] == {"file": str(path), "entry": "file", "size": path.stat().st_size}
    batches, records = of(entries, "batch"), of(entries, "record")
    assert [(one["base_offset"], one["last_offset"], one["count"]) for one in batches[:3]] == [
        (0, 1, 2),
        (2, 2, 1),
        (3, 3, 1),
    ]
    assert batches[1]["producer_id"] == 7
    assert batches[1]["transactional"]
    assert all(one["sound"] for one in batches)
    assert sum(one["size"] for one in batches) == path.stat().st_size
    assert (records[0]["key"], records[0]["value"]) == ("k", {"hex": "76ff"})
    assert records[0]["headers"] == [["h", "x"], ["n", None]]
    assert (records[1]["offset"], records[1]["timestamp"], records[1]["key"], records[1]["value"]) == (
        1,
        2000,
        None,
        None,
    )
    assert records[3]["means"] == {"type": "ABORT", "version": 0, "data": {"coordinator_epoch": 0}}
    words = said(capsys, path)
    assert "batch at 0: offsets 0 to 1, 2 records" in words
    assert '1970-01-01T00:00:01.000Z  "k": 0x76ff  h="x", n=null' in words
    assert "producer 7 epoch 0 sequence 0, transactional" in words


def test_what_internal_records_mean(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("__consumer_offsets-3/coordinator-checkpoint", f"__consumer_offsets-3/{0:020}.log"):
        stored, removed = of(dumped(capsys, directory / path), "record")
        assert stored["means"]["type"] == "OffsetCommit"
        assert stored["means"]["key"] == {"group": "group", "topic": "t", "partition": 4}
        assert stored["means"]["value"]["offset"] == 42
        assert stored["means"]["value"]["topic_id"] == format_uuid(TOPIC_ID)
        assert removed["means"] == {
            "type": "OffsetCommit",
            "key": {"group": "group", "topic": "t", "partition": 5},
            "value": None,
        }
    topic, broker = of(dumped(capsys, directory / f"{METADATA_TOPIC}-0" / f"{0:020}.log"), "record")
    assert topic["means"]["data"] == {"name": "t", "topic_id": format_uuid(TOPIC_ID)}
    assert (broker["means"]["type"], broker["means"]["data"]["broker_id"]) == ("RegisterBrokerRecord", 5)


def test_indexes_snapshots_and_checkpoints(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = directory / "t-0"
    batches = {one["position"]: one for one in of(dumped(capsys, folder / f"{0:020}.log"), "batch")}
    rows = of(dumped(capsys, folder / f"{0:020}.index"), "row")
    assert rows
    assert all(batches[row["position"]]["last_offset"] == row["offset"] for row in rows)
    times = of(dumped(capsys, folder / f"{0:020}.timeindex"), "row")
    assert {row["offset"] for row in times} <= {one["last_offset"] for one in batches.values()}
    [aborted] = of(dumped(capsys, folder / f"{0:020}.txnindex"), "row")
    assert (aborted["producer_id"], aborted["first_offset"], aborted["last_offset"]) == (7, 2, 3)
    second = sorted(folder.glob("*.index"))[1]
    assert of(dumped(capsys, second), "row")[0]["offset"] >= int(second.stem)
    [producer] = of(dumped(capsys, max(folder.glob("*.snapshot"))), "producer")
    assert (producer["producer_id"], producer["batches"][0]["last_offset"]) == (7, 2)
    texts = [directory / "recovery-point-offset-checkpoint", directory / "meta.properties"]
    words = said(capsys, *texts, folder / "leader-epoch-checkpoint", folder / "partition.metadata")
    assert "t 0 24" in words
    assert "node.id=1" in words
    assert f"topic_id: {format_uuid(TOPIC_ID)}" in words


@pytest.mark.parametrize("name", [f"{0:020}.log", f"{0:020}.index", f"{0:020}.txnindex", "snapshot", "checkpoint"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "zeros", "random"])
def test_what_is_damaged_is_told_not_a_traceback(
    directory: Path, capsys: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    paths = {
        "snapshot": max((directory / "t-0").glob("*.snapshot")),
        "checkpoint": directory / "__consumer_offsets-3" / "coordinator-checkpoint",
    }
    path = paths.get(name, directory / "t-0" / name)
    data = bytearray(path.read_bytes())
    match damage:
        case "cut":
            data = data[:-3]
        case "flipped":
            data[len(data) - 4] ^= 0x80
        case "zeros":
            data += bytes(816)  # whole rows, of any kind
        case "random":
            data = bytearray(b"\xa5\x5a\x33" * (len(data) // 3 + 1))
    path.write_bytes(data)
    harmless = (damage, path.suffix) in {("zeros", ".index"), ("flipped", ".txnindex")}  # room to spare; another offset
    found = of(dumped(capsys, path, code=0 if harmless else 1), "damage")
    assert bool(found) is not harmless
    assert ("DAMAGED" in said(capsys, path, code=0 if harmless else 1)) is not harmless


def test_what_follows_a_batch_with_a_flipped_bit_is_told(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory / "t-0" / f"{0:020}.log"
    before = dumped(capsys, path)
    data = bytearray(path.read_bytes())
    data[of(before, "batch")[1]["position"] - 1] ^= 1
    path.write_bytes(data)
    entries = dumped(capsys, path, code=1)
    assert [one["base_offset"] for one in of(entries, "batch")] == [one["base_offset"] for one in of(before, "batch")]
    assert [one["problem"] for one in of(entries, "damage")] == ["the batch fails its CRC"]
    assert of(entries, "record") == of(before, "record")[2:]


def test_files_that_are_none_of_a_logs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert main(["dump", str(tmp_path / "notes.txt")]) == 2
    assert "is not called like a file of a log" in capsys.readouterr().err
    assert main(["dump", str(tmp_path / "missing.log")]) == 2
    assert "No such file" in capsys.readouterr().err
    (tmp_path / f"{0:020}.log").write_bytes(b"")
    assert main(["dump", str(tmp_path / f"{0:020}.log")]) == 0


def test_who_has_seen_enough_hears_no_complaint(directory: Path) -> None:
    command = f"{sys.executable} -m kafkapy dump {directory}/t-0/*.log {directory}/t-0/*.log | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
