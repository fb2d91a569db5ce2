"""The embedded store after crashes, and on damaged files."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, SMALL, append, batch, end, sent, values
from catalogues import create, delete
from disks import FOLDER, SYNCED, come_back, everything, opened
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.model import IsolationLevel
from kafkapy.records.batch import read_header, stamp
from kafkapy.storage.base import Bounds, LogSettings, Read
from kafkapy.storage.embedded.check import check
from kafkapy.storage.embedded.directory import DirectoryInUse, DirectoryMismatch
from kafkapy.storage.embedded.files import allocate


async def fill(directory: Path, count: int = 50) -> None:
    async with opened(directory) as logs:
        await create(logs, LOG, SMALL)
        for number in range(count):
            assert (await append(logs, LOG, sent(number, b"value %d" % number))).error is Error.NONE


def crash(directory: Path) -> list[Path]:
    """Make a cleanly closed directory look like one after kill -9; its log files."""
    (directory / ".kafka_cleanshutdown").unlink()
    (directory / "recovery-point-offset-checkpoint").unlink()
    return sorted((directory / FOLDER).glob("*.log"))


async def test_a_clean_stop_leaves_everything(tmp_path: Path) -> None:
    await fill(tmp_path)
    assert list(check(tmp_path)) == []
    async with opened(tmp_path) as logs:
        assert await everything(logs) == [(n, b"value %d" % n) for n in range(50)]
        assert (await append(logs, LOG, sent(49, b"value 49"))).duplicate
        assert (await append(logs, LOG, sent(50, b"x"))).base_offset == 50


@pytest.mark.parametrize("torn", [b"\x00" * 100, b"\x00", os.urandom(500), sent(50, b"half")[:-5]])
async def test_a_torn_tail_is_cut(tmp_path: Path, torn: bytes) -> None:
    await fill(tmp_path)
    last = crash(tmp_path)[-1]
    size = last.stat().st_size
    with last.open("ab") as file:
        file.write(torn)
    async with opened(tmp_path) as logs:
        assert last.stat().st_size == size
        assert len(await everything(logs)) == 50
        assert (await append(logs, LOG, sent(49, b"value 49"))).duplicate
        assert (await append(logs, LOG, sent(50, b"x"))).base_offset == 50
    assert list(check(tmp_path)) == []


async def test_a_flipped_bit_ends_the_log_before_it(tmp_path: Path) -> None:
    await fill(tmp_path)
    last = crash(tmp_path)[-1]
    data = bytearray(last.read_bytes())
    data[-3] ^= 1
    last.write_bytes(data)
    async with opened(tmp_path) as logs:
        assert [offset for offset, _ in await everything(logs)] == list(range(49))
        assert (await append(logs, LOG, sent(49, b"again"))).base_offset == 49
        assert (await everything(logs))[-1] == (49, b"again")
    assert list(check(tmp_path)) == []


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("suffix", ["index", "timeindex", "snapshot"])
@pytest.mark.parametrize("damage", [None, b"", b"garbage of some length"])
async def test_derived_files_are_rebuilt(tmp_path: Path, clean: bool, suffix: str, damage: bytes | None) -> None:
    await fill(tmp_path)
    if not clean:
        crash(tmp_path)
    for path in (tmp_path / FOLDER).glob(f"*.{suffix}"):
        path.unlink() if damage is None else path.write_bytes(damage)
    async with opened(tmp_path) as logs:
        assert len(await everything(logs)) == 50
        assert (await logs.find_time(LOG, 1000)) is not None
        assert (await append(logs, LOG, sent(49, b"value 49"))).duplicate
    assert list(check(tmp_path)) == []


async def test_sealed_segments_are_not_read_again_after_a_crash(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as logs:
        await create(logs, LOG, SYNCED)
        for number in range(60):
            await append(logs, LOG, sent(number, b"v" * 50))
        await trio.testing.wait_all_tasks_blocked()
        clock.advance_ms(1000)
        with trio.fail_after(20):
            while not (tmp_path / "log-start-offset-checkpoint").exists():  # a thread writes it, as the last one
                await trio.lowlevel.checkpoint()
        points = (tmp_path / "recovery-point-offset-checkpoint").read_text().split()
        copy = tmp_path.with_name(f"{tmp_path.name}-crashed")
        shutil.copytree(tmp_path, copy)
    segments = sorted((copy / FOLDER).glob("*.log"))
    assert int(points[-1]) >= int(segments[-1].stem) > 0
    # Damage that a second reading would find, in a segment that needs none.
    data = bytearray(segments[0].read_bytes())
    data[-10] ^= 1
    segments[0].write_bytes(data)
    async with opened(copy) as logs:
        assert len(await everything(logs)) == 60
    assert [finding.problem for finding in check(copy)] != []


async def test_a_lost_epoch_file_is_learned_from_the_batches(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SMALL)
        for epoch in (2, 2, 5):
            await append(logs, LOG, batch(b"a"), leader_epoch=epoch)
    (tmp_path / FOLDER / "leader-epoch-checkpoint").unlink()
    async with opened(tmp_path) as logs:
        assert await logs.epoch_end(LOG, 4) == (2, 2)


@pytest.mark.parametrize("left", [b"", b"0\n1\n4 7\n"])
async def test_epochs_say_no_more_than_a_power_cut_left_of_the_log(tmp_path: Path, left: bytes) -> None:
    """A file that cannot be read, or that tells of batches that are gone."""
    copy = tmp_path.with_name(f"{tmp_path.name}-crashed")
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SMALL)
        await append(logs, LOG, batch(b"lost"), leader_epoch=4)
        shutil.copytree(tmp_path, copy)
    (copy / FOLDER / f"{0:020}.log").write_bytes(b"")
    (copy / FOLDER / "leader-epoch-checkpoint").write_bytes(left)
    async with opened(copy) as logs:
        assert await logs.epoch_end(LOG, 9) is None
    assert list(check(copy)) == []
    assert not (copy / FOLDER / "leader-epoch-checkpoint").exists()


async def test_a_lost_topic_id_is_taken_from_the_metadata(tmp_path: Path) -> None:
    await fill(tmp_path, 3)
    (tmp_path / FOLDER / "partition.metadata").write_bytes(b"")
    async with opened(tmp_path) as logs:
        assert logs.bounds(LOG) is Error.UNKNOWN_TOPIC_OR_PARTITION
        await create(logs, LOG, SMALL)
        assert logs.bounds(LOG) == Bounds(0, 3, 3, 3)


async def test_trimming_and_deleting_survive(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with opened(tmp_path) as logs:
        await create(logs, OTHER, SMALL)
        await logs.trim(LOG, 30)
        await delete(logs, OTHER)
    async with opened(tmp_path) as logs:
        assert logs.bounds(LOG) == Bounds(30, 50, 50, 50)
        assert logs.bounds(OTHER) is Error.UNKNOWN_TOPIC_OR_PARTITION


LENGTH = read_header(batch(b"v")).batch_length


def segment(directory: Path, base: int, *offsets: int) -> None:
    """A segment of single records with these offsets."""
    data = b"".join(stamp(offset, LENGTH, 0) + batch(b"v")[16:] for offset in offsets)
    (directory / FOLDER / f"{base:020}.log").write_bytes(data)


@pytest.mark.parametrize(("offsets", "end"), [((0, 1, 2, 3), 6), ((0, 1), 2), ((), 0), ((0, 2), 6)])
async def test_a_segment_that_was_lost_ends_the_log_and_a_compacted_one_does_not(
    tmp_path: Path, offsets: tuple[int, ...], end: int
) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SMALL)
    (tmp_path / ".kafka_cleanshutdown").unlink()
    segment(tmp_path, 0, *offsets)
    segment(tmp_path, 4, 4, 5)
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SMALL)
        assert logs.bounds(LOG) == Bounds(0, end, end, end)


async def test_a_log_goes_on_in_the_leader_epoch_it_was_last_written_in(tmp_path: Path) -> None:
    """Such as one that another broker has led: clients take an epoch that goes back for another history."""
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SMALL)
        assert logs.leases.epoch(LOG) == 0
        await append(logs, LOG, batch(b"v"), leader_epoch=3)
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SMALL)
        assert logs.leases.epoch(LOG) == 3


async def test_a_directory_has_one_owner(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(DirectoryInUse):
            async with opened(tmp_path):
                pass
    with pytest.raises(DirectoryMismatch):
        async with opened(tmp_path, node_id=2):
            pass


async def test_segments_roll_by_size_and_by_age(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG, LogSettings(segment_bytes=1000))
        for _ in range(3):
            await append(logs, LOG, batch(b"v" * 600))
        await create(logs, OTHER, LogSettings(segment_ms=1000))
        for at in (1000, 1900, 2100):
            await append(logs, OTHER, batch(b"v", at=at))
        names = [sorted(path.name[:20] for path in (tmp_path / f).glob("*.log")) for f in (FOLDER, "u-3")]
    assert [[int(name) for name in part] for part in names] == [[0, 1, 2], [0, 2]]


def has_unused_blocks(path: Path) -> bool:
    """Whether the file occupies clearly more than it holds; a few blocks may be the file system's own."""
    found = path.stat()
    return found.st_blocks * 512 - found.st_size > 64_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allocates without moving the end of a file")
async def test_what_is_allocated_ahead_is_given_back(tmp_path: Path) -> None:
    record = os.urandom(100_000)
    first, second = (tmp_path / FOLDER / f"{offset:020}.log" for offset in (0, 30))
    async with opened(tmp_path) as logs:
        await create(logs, LOG, LogSettings(segment_bytes=3_010_000))
        for _ in range(29):
            await append(logs, LOG, batch(record))
        assert has_unused_blocks(first)
        assert first.stat().st_blocks * 512 < 1.3 * first.stat().st_size
        for _ in range(30):
            await append(logs, LOG, batch(record))
        assert not has_unused_blocks(first)
        assert has_unused_blocks(second)
    assert not has_unused_blocks(second)

    # A killed broker leaves the blocks behind; the next one finds no data in them.
    crash(tmp_path)
    size = second.stat().st_size
    descriptor = os.open(second, os.O_RDWR)
    assert allocate(descriptor, 1, size, 1 << 20) == 0
    os.close(descriptor)
    assert has_unused_blocks(second)
    async with opened(tmp_path) as logs:
        assert not has_unused_blocks(second)
        assert second.stat().st_size == size
        assert [value for _, value in await everything(logs)] == [record] * 59


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allocates without moving the end of a file")
async def test_a_topic_may_have_its_segments_allocated_at_once(tmp_path: Path) -> None:
    path = tmp_path / FOLDER / f"{0:020}.log"
    async with opened(tmp_path) as logs:
        await create(logs, LOG, LogSettings(segment_bytes=5_000_000, preallocate=True))
        await append(logs, LOG, batch(b"v"))
        assert path.stat().st_blocks * 512 >= 5_000_000
        assert path.stat().st_size == len(batch(b"v"))
    assert not has_unused_blocks(path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allocates without moving the end of a file")
async def test_a_segment_that_cannot_be_allocated_is_not_begun(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as logs:
        await create(logs, LOG, LogSettings(segment_bytes=1 << 46, preallocate=True))
        assert (await append(logs, LOG, batch(b"v"))).error is Error.KAFKA_STORAGE_ERROR
        await create(logs, LOG, LogSettings())
        await come_back(logs, clock)
        assert (await append(logs, LOG, batch(b"v"))).base_offset == 0


@pytest.mark.parametrize("to_send", [False, True])
@pytest.mark.parametrize(("interval", "whole"), [(100, True), (100_000, False)])
async def test_a_full_read_ends_with_a_whole_batch(tmp_path: Path, interval: int, whole: bool, to_send: bool) -> None:
    """Unless the index is too sparse to tell where that is without losing much of what fits."""
    data = batch(bytes(60_000))
    async with opened(tmp_path) as logs:
        await create(logs, LOG, LogSettings(index_interval_bytes=interval))
        for _ in range(20):
            await append(logs, LOG, data)
        for offset in range(20):
            fits = min(20 - offset, 5)
            [piece] = await logs.read(
                [Read(LOG, offset, 5 * len(data) + 700, IsolationLevel.READ_UNCOMMITTED, to_send)], 1 << 20
            )
            assert (piece.region is not None) is (to_send and piece.size_bytes >= 128 * 1024)
            part_size = 700 if not whole and offset < 15 else 0
            assert piece.size_bytes == fits * len(data) + part_size
            if not to_send:
                assert len(values(piece.records)) == fits
            [piece] = await logs.read([Read(LOG, offset, len(data) - 1)], 1 << 20)
            assert piece.size_bytes == len(data)


async def test_leftovers_of_deleted_logs_go_at_the_next_start(tmp_path: Path) -> None:
    await fill(tmp_path, 3)
    leftover = tmp_path / f"old-0.{'a' * 32}-delete"
    shutil.copytree(tmp_path / FOLDER, leftover)
    async with opened(tmp_path) as logs:
        assert logs.bounds(LOG) == Bounds(0, 3, 3, 3)
        with trio.fail_after(5):
            while leftover.exists():
                await trio.lowlevel.checkpoint()


async def test_a_namesake_does_not_inherit_the_start_of_a_deleted_log(tmp_path: Path) -> None:
    again = LOG._replace(topic_id=b"9" * 16)
    copy = tmp_path.with_name(f"{tmp_path.name}-crashed")
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SYNCED)
        for _ in range(40):
            await append(logs, LOG, batch(b"v" * 100))
        await logs.trim(LOG, 20)
        await delete(logs, LOG)
        await create(logs, again, SYNCED)
        for _ in range(30):
            await append(logs, again, batch(b"new"))
        shutil.copytree(tmp_path, copy)
    async with opened(copy) as logs:
        assert logs.bounds(again) == Bounds(0, 30, 30, 30)


@pytest.mark.parametrize("tail", [b"\x00" * 100, b"\x01" * 30])
async def test_the_mark_of_a_clean_stop_is_not_believed_against_the_evidence(tmp_path: Path, tail: bytes) -> None:
    await fill(tmp_path)
    last = max((tmp_path / FOLDER).glob("*.log"))
    with last.open("ab") as file:
        file.write(tail)
    async with opened(tmp_path) as logs:
        assert (await append(logs, LOG, sent(50, b"x"))).base_offset == 50
        assert len(await everything(logs)) == 51
    assert list(check(tmp_path)) == []


async def test_damage_in_a_trusted_segment_is_told_to_its_readers_alone(tmp_path: Path) -> None:
    await fill(tmp_path)
    first, *_, last = sorted((tmp_path / FOLDER).glob("*.log"))
    data = bytearray(first.read_bytes())
    data[16] = 9  # the magic byte of the first batch
    first.write_bytes(data)
    async with opened(tmp_path) as logs:
        reads = [Read(LOG, 0, 1000), Read(LOG, int(last.stem), 1000)]
        assert [piece.error for piece in await logs.read(reads, 10_000)] == [Error.CORRUPT_MESSAGE, Error.NONE]
        assert (await append(logs, LOG, sent(50, b"x"))).base_offset == 50


async def test_aborted_transactions_outlive_a_crash_that_took_their_index(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SMALL)
        await append(logs, LOG, sent(0, b"a", transactional=True))
        await end(logs, LOG, 7, committed=False)
    crash(tmp_path)
    for name in ("*.txnindex", "*.snapshot"):
        [path] = (tmp_path / FOLDER).glob(name)
        path.write_bytes(b"")
    for _ in range(2):  # the second start finds a snapshot, and replays nothing
        async with opened(tmp_path) as logs:
            [piece] = await logs.read([Read(LOG, 0, 1000, IsolationLevel.READ_COMMITTED)], 1000)
            assert piece.aborted == [(7, 0)]


async def test_an_index_of_aborted_transactions_outlives_a_power_cut_that_a_newer_snapshot_survived(
    tmp_path: Path,
) -> None:
    """What was not synced may be zeros, or not there; a snapshot beyond the recovery point must not hide that."""
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SMALL)
        for number in range(3):
            await append(logs, LOG, sent(0, b"a", producer=number, transactional=True))
            await end(logs, LOG, number, committed=False)
        await append(logs, LOG, batch(b"x" * 1900))
        assert len(logs._partitions[LOG].segments) == 2
    crash(tmp_path)
    index = tmp_path / FOLDER / f"{0:020}.txnindex"
    rows = index.read_bytes()
    for damaged in (b"", rows[:34] + bytes(68), rows[:50]):
        index.write_bytes(damaged)
        async with opened(tmp_path) as logs:
            [piece] = await logs.read([Read(LOG, 0, 1000, IsolationLevel.READ_COMMITTED)], 1000)
            assert piece.aborted == [(0, 0), (1, 2), (2, 4)]
        assert index.read_bytes() == rows
        crash(tmp_path)


@pytest.mark.parametrize("stop", ["clean", "crash"])
async def test_the_last_five_batches_are_recognised_after_a_start(tmp_path: Path, stop: str) -> None:
    """Kafka knows the last one alone; a producer that retries across a restart need not find that out."""
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SMALL)
        for number in range(40):  # over several segments
            await append(logs, LOG, sent(number, b"v" * 100))
            await append(logs, LOG, batch(b"other" * 20))
    if stop == "crash":
        crash(tmp_path)
    for _ in range(2):
        async with opened(tmp_path) as logs:
            outcomes = [await append(logs, LOG, sent(number, b"v" * 100)) for number in range(34, 40)]
            assert outcomes[0].error is Error.OUT_OF_ORDER_SEQUENCE_NUMBER
            assert [(o.base_offset, o.duplicate, o.repeated_timestamp) for o in outcomes[1:]] == [
                (2 * number, True, 1000) for number in range(35, 40)
            ]


async def test_a_transaction_that_was_cut_off_leaves_no_trace(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SMALL)
        await append(logs, LOG, batch(b"plain"))
        size = (tmp_path / FOLDER / f"{0:020}.log").stat().st_size
        await append(logs, LOG, sent(0, b"a", transactional=True))
        await end(logs, LOG, 7, committed=False)
    [log] = crash(tmp_path)
    with log.open("rb+") as file:
        file.truncate(size)
    async with opened(tmp_path) as logs:
        for number in range(4):
            await append(logs, LOG, sent(number, b"b", producer=8))
    async with opened(tmp_path) as logs:
        [piece] = await logs.read([Read(LOG, 0, 1000, IsolationLevel.READ_COMMITTED)], 1000)
        assert piece.aborted == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4), st.integers(1, 400)),
        st.tuples(st.just("repeat"), st.just(0), st.just(0)),
        st.tuples(st.just("reopen"), st.booleans(), st.integers(0, 80)),
    ),
    max_size=25,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS)
async def test_any_history_reads_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    directory = tmp_path_factory.mktemp("model")
    model: list[bytes] = []
    sequence, last = 0, b""
    manager = opened(directory)
    logs = await manager.__aenter__()
    await create(logs, LOG, SMALL)
    for step, first, second in steps:
        if step == "append":
            contents = [b"%d" % (len(model) + i) + b"." * second for i in range(first)]
            last = sent(sequence, *contents)
            assert (await append(logs, LOG, last)).base_offset == len(model)
            model += contents
            sequence += first
        elif step == "repeat" and last:
            assert (await append(logs, LOG, last)).duplicate
        elif step == "reopen":
            await manager.__aexit__(None, None, None)
            if first:
                (directory / ".kafka_cleanshutdown").unlink()
                for path in sorted(directory.glob("t-0/*.log"))[-1:]:
                    with path.open("ab") as file:
                        file.write(b"\x01" * second)
            manager = opened(directory)
            logs = await manager.__aenter__()
            await create(logs, LOG, SMALL)
        assert await everything(logs) == list(enumerate(model))
    await manager.__aexit__(None, None, None)
    assert list(check(directory)) == []


async def test_the_log_dir_is_named_as_the_system_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with opened(Path("data")) as logs:
        [log_dir] = logs.log_dirs()
    assert log_dir.path == str(tmp_path / "data")
    assert 0 < log_dir.usable_bytes <= log_dir.total_bytes
