"""Of a compacted log's records the last of each key stays, and what is needed to know that: for every store."""

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, append, end, marker
from catalogues import create

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.model import IsolationLevel, LogId
from kafkapy.records.batch import BatchHeader, Compression, walk
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record, read_records
from kafkapy.storage.base import Bounds, Checkpoint, CleanerSettings, Logs, LogSettings, Origin, Read
from kafkapy.storage.compaction import Cleanable, cleanable_section, group_segments
from kafkapy.storage.embedded.directory import open_embedded
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.memory import open_memory
from kafkapy.storage.offset_map import SLOT_BYTES, OffsetMap

COMPACTED = LogSettings(
    compacts=True, segment_bytes=400, index_interval_bytes=100, flush_messages=1, min_cleanable_dirty_ratio=0.01
)
CLEANER = CleanerSettings(io_buffer_size=1000)
DAY_MS = 24 * 3_600_000

Row = tuple[int, bytes | None, bytes | None]


def keyed(*pairs: tuple[bytes | None, bytes | None], at: int = 1000, **options: object) -> bytes:
    records = [Record(i, at + i, key, value, [("h", b"x")]) for i, (key, value) in enumerate(pairs)]
    return build_batch(records, **options)  # type: ignore[arg-type]


async def put(logs: Logs, *pairs: tuple[bytes | None, bytes | None], log: LogId = LOG, **options: object) -> int:
    outcome = await append(logs, log, keyed(*pairs, **options))
    assert outcome.error is Error.NONE
    return outcome.base_offset


async def roll(logs: Logs, log: LogId = LOG) -> None:
    """Fill the segment in use, so that another one begins with the next append."""
    await put(logs, (b"filler", b"." * 400), log=log)


async def clean(logs: Logs, settings: CleanerSettings = CLEANER) -> int:
    """Clean all there is to clean; how many rounds it took."""
    count = 0
    while await logs.clean(settings):
        count += 1
    return count


async def batches(logs: Logs, log: LogId = LOG) -> list[tuple[BatchHeader, list[Record]]]:
    bounds = logs.bounds(log)
    assert isinstance(bounds, Bounds)
    found, offset = [], bounds.log_start_offset
    while offset < bounds.end_offset:
        [piece] = await logs.read([Read(log, offset, 1 << 20)], 1 << 20)
        assert piece.error is Error.NONE
        if not piece.records:
            break
        for position, header in walk(piece.records):
            batch = memoryview(piece.records)[position : position + header.size_bytes]
            found.append((header, read_records(batch)))
            offset = header.next_offset
    return found


async def rows(logs: Logs, log: LogId = LOG) -> list[Row]:
    """What is left, but for what fills segments."""
    return [
        (record.offset, record.key, record.value)
        for header, records in await batches(logs, log)
        for record in records
        if not header.is_control and record.key != b"filler"
    ]


@pytest.fixture
async def compacted(logs: Logs) -> Logs:
    await create(logs, LOG, COMPACTED)
    return logs


async def test_the_last_record_of_each_key_stays_at_its_offset(compacted: Logs) -> None:
    for number in range(6):
        await put(compacted, (b"a", b"%d" % number), (b"b", b"%d" % number), (b"c%d" % number, b"-"))
    await roll(compacted)
    await roll(compacted)
    assert await clean(compacted) > 0
    assert await rows(compacted) == [
        (2, b"c0", b"-"),
        (5, b"c1", b"-"),
        (8, b"c2", b"-"),
        (11, b"c3", b"-"),
        (14, b"c4", b"-"),
        (15, b"a", b"5"),
        (16, b"b", b"5"),
        (17, b"c5", b"-"),
    ]
    assert compacted.bounds(LOG) == Bounds(0, 20, 20, 20)
    assert await clean(compacted) == 0  # nothing is dirty any longer
    assert (await append(compacted, LOG, keyed((b"a", b"6")))).base_offset == 20


async def test_what_is_written_to_is_not_cleaned(compacted: Logs) -> None:
    await put(compacted, (b"a", b"1"))
    await put(compacted, (b"a", b"2"))
    assert await clean(compacted) == 0
    await roll(compacted)
    await put(compacted, (b"a", b"3"))
    await clean(compacted)
    assert await rows(compacted) == [(1, b"a", b"2"), (3, b"a", b"3")]


@pytest.mark.parametrize("codec", list(Compression))
async def test_a_batch_keeps_its_place_and_its_times(compacted: Logs, codec: Compression) -> None:
    await put(compacted, (b"a", b"1"), (b"b", b"1" * 100), (b"c", b"1"), (b"a", b"2"), at=5000, compression=codec)
    await put(compacted, (b"c", b"2"))
    await roll(compacted)
    await roll(compacted)
    before, after = dict(enumerate(await batches(compacted))), None
    await clean(compacted)
    after = await batches(compacted)
    (was, records), (now, left) = before[0], after[0]
    assert left == [records[1], records[3]]
    assert now._replace(batch_length=0, crc=0) == was._replace(
        batch_length=0, crc=0, base_timestamp=5001, max_timestamp=5003, record_count=2
    )


async def test_log_append_time_stays(compacted: Logs) -> None:
    await put(compacted, (b"a", b"1"), (b"b", b"1"), log_append_time=True, at=7000)
    await put(compacted, (b"a", b"2"))
    await roll(compacted)
    await roll(compacted)
    await clean(compacted)
    header, [record] = (await batches(compacted))[0]
    assert header.is_log_append_time
    assert (header.base_timestamp, header.max_timestamp, record.timestamp) == (7001, 7001, 7001)


async def test_tombstones_stay_for_a_while_that_the_batch_tells(compacted: Logs, clock: ManualClock) -> None:
    await put(compacted, (b"a", b"1"), (b"b", b"1"))
    await put(compacted, (b"a", None), (b"c", b"1"), at=2000)
    await roll(compacted)
    await roll(compacted)
    await clean(compacted)
    assert await rows(compacted) == [(1, b"b", b"1"), (2, b"a", None), (3, b"c", b"1")]
    header, records = (await batches(compacted))[1]
    assert header.has_delete_horizon
    assert header.base_timestamp == clock.now_ms() + DAY_MS
    assert [record.timestamp for record in records] == [2000, 2001]
    assert header.max_timestamp == 2001

    clock.advance_ms(DAY_MS - 1)
    await roll(compacted)
    await clean(compacted)
    assert (2, b"a", None) in await rows(compacted)
    clock.advance_ms(1)
    await roll(compacted)
    await clean(compacted)
    assert await rows(compacted) == [(1, b"b", b"1"), (3, b"c", b"1")]
    header, [record] = (await batches(compacted))[1]
    assert (header.has_delete_horizon, record.timestamp) == (True, 2001)  # as Kafka leaves it


async def test_records_without_a_key_go(compacted: Logs) -> None:
    """They came when the topic was not compacted yet."""
    await put(compacted, (None, b"1"), (b"a", b"1"))
    await roll(compacted)
    await put(compacted, (None, b"2"))
    await clean(compacted)
    assert await rows(compacted) == [(1, b"a", b"1"), (3, None, b"2")]


async def test_the_last_batch_of_a_producer_stays_for_its_sequence(compacted: Logs) -> None:
    async def send(sequence: int, key: bytes) -> None:
        await put(compacted, (key, b"1"), producer_id=7, producer_epoch=2, base_sequence=sequence)

    for sequence in range(3):
        await send(sequence, b"a")
    await put(compacted, (b"a", b"2"))
    await roll(compacted)
    await roll(compacted)
    await clean(compacted)
    kept = [(header, records) for header, records in await batches(compacted) if header.producer_id == 7]
    [(header, records)] = kept
    assert records == []
    assert (header.base_offset, header.base_sequence, header.producer_epoch) == (2, 2, 2)
    assert (header.base_timestamp, header.max_timestamp, header.record_count) == (-1, 1000, 0)


async def test_a_large_log_is_cleaned_in_several_rounds(compacted: Logs) -> None:
    for number in range(40):
        await put(compacted, (b"k%d" % (number % 20), b"%d" % number))
    await roll(compacted)
    await roll(compacted)
    small = CleanerSettings(dedupe_buffer_size=8 * SLOT_BYTES, io_buffer_load_factor=0.9, io_buffer_size=1000)
    assert await clean(compacted, small) > 4
    assert await rows(compacted) == [(number, b"k%d" % (number % 20), b"%d" % number) for number in range(20, 40)]


async def test_the_dirtiest_log_comes_first_and_one_that_is_clean_enough_waits(compacted: Logs) -> None:
    half = replace(COMPACTED, min_cleanable_dirty_ratio=0.5)
    for log in (LOG, OTHER):
        await create(compacted, log, half)
        for _ in range(4):
            await roll(compacted, log)
    assert await clean(compacted) == 2
    await roll(compacted, LOG)
    assert await clean(compacted) == 0  # half of it is dirty: that is not more
    await create(compacted, LOG, COMPACTED)
    await roll(compacted, OTHER)
    await roll(compacted, OTHER)
    sizes = [compacted.size_bytes(log) for log in (LOG, OTHER)]
    assert await compacted.clean(CLEANER)
    assert (compacted.size_bytes(LOG), compacted.size_bytes(OTHER) < sizes[1]) == (sizes[0], True)
    assert await compacted.clean(CLEANER)
    assert compacted.size_bytes(LOG) < sizes[0]


async def test_a_log_that_is_not_compacted_is_left_until_it_is(logs: Logs) -> None:
    plain = replace(COMPACTED, compacts=False)
    await create(logs, LOG, plain)
    for _ in range(3):
        await roll(logs)
    assert await clean(logs) == 0
    await create(logs, LOG, COMPACTED)
    assert await clean(logs) == 1
    await create(logs, LOG, plain)
    await roll(logs)
    assert await clean(logs) == 0


async def test_aborted_records_go_and_their_markers_later(compacted: Logs, clock: ManualClock) -> None:
    async def send(*pairs: tuple[bytes, bytes], sequence: int = 0, producer: int = 7) -> None:
        data = keyed(*pairs, producer_id=producer, producer_epoch=0, base_sequence=sequence, transactional=True)
        assert (await append(compacted, LOG, data)).error is Error.NONE

    await put(compacted, (b"a", b"kept"))
    await send((b"a", b"aborted"))
    await send((b"b", b"aborted"), sequence=1)
    await end(compacted, LOG, 7, committed=False)
    await send((b"c", b"committed"), producer=8)
    await end(compacted, LOG, 8, committed=True)
    await roll(compacted)
    await roll(compacted)
    await clean(compacted)
    assert await rows(compacted) == [(0, b"a", b"kept"), (4, b"c", b"committed")]
    kinds = [(header.base_offset, header.is_control, len(records)) for header, records in await batches(compacted)]
    assert kinds[:5] == [(0, False, 1), (2, False, 0), (3, True, 1), (4, False, 1), (5, True, 1)]
    [piece] = await compacted.read([Read(LOG, 0, 1 << 20, IsolationLevel.READ_COMMITTED)], 1 << 20)
    assert piece.aborted == [(7, 1)]

    await send((b"d", b"1"), sequence=2)  # now its sequence numbers are known from elsewhere
    await end(compacted, LOG, 7, committed=True)
    for _ in range(2):
        await roll(compacted)
        await clean(compacted)
    assert [h.base_offset for h, _ in await batches(compacted)][:2] == [0, 3]
    clock.advance_ms(DAY_MS)
    await roll(compacted)
    await clean(compacted)
    assert [h.base_offset for h, _ in await batches(compacted)][:2] == [0, 4]
    [piece] = await compacted.read([Read(LOG, 0, 1 << 20, IsolationLevel.READ_COMMITTED)], 1 << 20)
    assert piece.aborted == []
    assert (5, True) in [(h.base_offset, h.is_control) for h, _ in await batches(compacted)]


async def test_an_open_transaction_ends_what_is_cleaned(compacted: Logs) -> None:
    await put(compacted, (b"a", b"1"))
    data = keyed((b"b", b"1"), producer_id=7, producer_epoch=0, base_sequence=0, transactional=True)
    await append(compacted, LOG, data)
    await put(compacted, (b"a", b"2"))
    for _ in range(2):
        await roll(compacted)
    assert await clean(compacted) == 0
    outcome = await append(compacted, LOG, marker(7, committed=True), origin=Origin.COORDINATOR)
    assert outcome.error is Error.NONE
    await clean(compacted)
    assert await rows(compacted) == [(1, b"b", b"1"), (2, b"a", b"2")]


async def test_a_checkpoint_that_the_cleaner_has_passed_is_not_believed(compacted: Logs) -> None:
    for _ in range(3):
        await roll(compacted)
    await compacted.save_checkpoint(LOG, Checkpoint(1, b"state"))
    assert await compacted.load_checkpoints(LOG) == [Checkpoint(1, b"state")]
    await clean(compacted)
    assert await compacted.load_checkpoints(LOG) == []
    await compacted.save_checkpoint(LOG, Checkpoint(3, b"state"))
    assert await compacted.load_checkpoints(LOG) == [Checkpoint(3, b"state")]


async def test_what_a_checkpoint_holds_can_be_cleaned_away_however_large_segments_are(logs: Logs) -> None:
    log = LogId("states", 0, b"3" * 16)
    await create(logs, log, replace(COMPACTED, segment_bytes=1 << 30))
    for number in range(5):
        await put(logs, (b"a", b"%d" % number * (1 << 20)), log=log)
    assert await clean(logs) == 0
    await logs.save_checkpoint(log, Checkpoint(5, b"state"))
    for number in range(5, 8):  # small segments are not ended
        await put(logs, (b"a", b"%d" % number), log=log)
        await logs.save_checkpoint(log, Checkpoint(number + 1, b"state"))
    await clean(logs)
    assert [offset for offset, _, _ in await rows(logs, log)] == [4, 5, 6, 7]


async def test_look_ups_find_what_is_left(compacted: Logs) -> None:
    for number in range(30):
        await put(compacted, (b"k%d" % (number % 7), b"%d" % number), at=1000 + 10 * number)
    await roll(compacted)
    await roll(compacted)
    await clean(compacted)
    left = [record for _, records in await batches(compacted) for record in records]
    for at in range(990, 1310, 5):
        found = await compacted.find_time(LOG, at)
        expected = next((record for record in left if record.timestamp >= at), None)
        assert (found and (found.offset, found.timestamp)) == (expected and (expected.offset, expected.timestamp))
    for offset in range(32):
        [piece] = await compacted.read([Read(LOG, offset, 1)], 1)
        assert next(walk(piece.records))[1].last_offset >= offset
        first = next(record.offset for record in left if record.offset >= offset)
        _, records = next((h, r) for h, r in await batches(compacted) if h.last_offset >= offset)
        assert not records or records[0].offset == first


async def test_a_log_that_is_trimmed_meanwhile_is_left_alone(compacted: Logs) -> None:
    for number in range(10):
        await put(compacted, (b"k%d" % number, b"." * 300))
    await compacted.trim(LOG, 5)
    await clean(compacted)
    assert [offset for offset, _, _ in await rows(compacted)] == [5, 6, 7, 8, 9]


# -- decisions


def segments(*sizes: int, each: int = 10, first_ms: int = 1000) -> list[Cleanable]:
    """Segments of so many bytes, of `each` offsets, each a second later."""
    return [Cleanable(i * each, size, first_ms + 1000 * i, first_ms + 1000 * i) for i, size in enumerate(sizes)]


def section(
    given_segments: list[Cleanable], cleaned_to: int = 0, stable: int = 1 << 30, start: int = 0, **settings: object
) -> tuple[int, int, int, int]:
    log_settings = replace(COMPACTED, **settings)  # type: ignore[arg-type]
    bounds = Bounds(start, 1 << 30, stable, 1 << 30)
    found = cleanable_section(given_segments, cleaned_to, bounds, log_settings, 10_000)
    return found[:4]


def test_what_is_cleanable() -> None:
    three = segments(100, 200, 300, 50)
    assert section(three) == (0, 30, 0, 600)
    assert section(three, cleaned_to=10) == (10, 30, 100, 500)
    assert section(three, cleaned_to=15) == (15, 30, 300, 500)  # half of a segment counts as both
    assert section(three, cleaned_to=30) == (30, 30, 600, 0)
    assert section(three, stable=29) == (0, 20, 0, 300)
    assert section(three, stable=9) == (0, 0, 0, 0)
    assert section(three, cleaned_to=5, start=12) == (12, 30, 300, 500)
    assert section(three, cleaned_to=(1 << 30) + 1) == (0, 30, 0, 600)  # the log was cut
    assert section(three, min_compaction_lag_ms=7500) == (0, 20, 0, 300)
    assert section(three, min_compaction_lag_ms=9001) == (0, 0, 0, 0)
    assert section(segments(100)) == (0, 0, 0, 0)
    assert section([]) == (0, 0, 0, 0)


@pytest.mark.parametrize(("lag_ms", "due"), [(9000, False), (8999, True)])
def test_what_has_been_dirty_for_too_long_is_cleaned_now(lag_ms: int, due: bool) -> None:
    settings = replace(COMPACTED, min_cleanable_dirty_ratio=0.9, max_compaction_lag_ms=lag_ms)
    bounds = Bounds(0, 40, 40, 40)
    assert cleanable_section(segments(100, 100, 50), 0, bounds, settings, 10_000).is_due(settings)
    found = cleanable_section(segments(500, 100, 100, 50, first_ms=0), 10, bounds, settings, 10_000)
    assert found.is_due(settings) is due
    assert not cleanable_section(segments(500, 50, first_ms=0), 10, bounds, settings, 10_000).is_due(settings)


def test_segments_are_joined_up_to_the_size_of_one() -> None:
    def grouped(given_segments: Sequence[Cleanable], **settings: object) -> list[int]:
        return group_segments(given_segments, 100, replace(COMPACTED, **settings))  # type: ignore[arg-type]

    assert grouped(segments(100, 100, 200, 1, 500, 300, 100)) == [3, 1, 1, 2]
    indexed = [Cleanable(i, 1, None, 0, 40, 60) for i in range(5)]
    assert grouped(indexed, segment_index_bytes=130) == [2, 2, 1]
    far = [Cleanable(base, 1, None, 0) for base in (0, 1 << 30, (1 << 31) - 1, 1 << 31, 3 << 30)]
    assert grouped(far) == [3, 2]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1 << 40)), max_size=60), st.integers(2, 40))
def test_an_offset_map_is_a_map_up_to_its_size(puts: Iterable[tuple[int, int]], slots: int) -> None:
    offsets = OffsetMap(1000, slots * SLOT_BYTES, 0.75)
    model: dict[bytes, int] = {}
    for number, offset in puts:
        if not offsets.is_full:
            key = b"%d" % number
            offsets.put(key, offset)
            model[key] = offset
    assert offsets.count == len(model) <= offsets.capacity <= slots
    assert {key: offsets.get(key) for key in model} == model
    assert offsets.get(b"other") == -1
    offsets.close()


# -- any history


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("write"), st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 120)), min_size=1, max_size=4)
        ),
        st.tuples(st.just("idempotent"), st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 60)), min_size=1)),
        st.tuples(
            st.just("abort"), st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 60)), min_size=1, max_size=3)
        ),
        st.tuples(
            st.just("commit"), st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 60)), min_size=1, max_size=3)
        ),
        st.tuples(st.just("clean"), st.sampled_from([1 << 20, 4 * SLOT_BYTES])),
        st.tuples(st.just("time passes"), st.integers(0, 2000)),
    ),
    max_size=40,
)


class HastyDisk(Disk):
    """Says that all is on the medium at once."""

    def sync(self, paths: Sequence[str]) -> None:
        pass

    def sync_folder(self, folder: str) -> None:
        pass


@settings(max_examples=int(os.environ.get("KAFKAPY_SCALE", "1")) * 8, deadline=None)
@given(steps=STEPS)
async def test_every_store_leaves_of_each_key_the_last_value(steps: list[tuple[str, object]]) -> None:
    clock = ManualClock()
    log_settings = replace(COMPACTED, delete_retention_ms=1000, segment_bytes=500)
    with tempfile.TemporaryDirectory() as directory:
        async with (
            open_memory(clock) as memory,
            open_embedded(Path(directory), clock=clock, node_id=1, disk=HastyDisk()) as embedded,
        ):
            stores: tuple[Logs, ...] = (memory, embedded)
            for logs in stores:
                await create(logs, LOG, log_settings)
            last: dict[bytes | None, bytes | None] = {}
            sequences = {1: 0, 2: 0}
            for kind, given_value in steps:
                if kind == "clean":
                    cleaner = CleanerSettings(dedupe_buffer_size=given_value, io_buffer_size=1000)  # type: ignore[arg-type]
                    for logs in stores:
                        await clean(logs, cleaner)
                elif kind == "time passes":
                    clock.advance_ms(given_value)  # type: ignore[arg-type]
                else:
                    pairs = [(b"k%d" % key, None if size < 0 else b"." * size) for key, size in given_value]  # type: ignore[attr-defined]
                    options: dict[str, Any] = {}
                    if kind != "write":
                        producer = 1 if kind == "idempotent" else 2
                        options = {"producer_id": producer, "producer_epoch": 0, "base_sequence": sequences[producer]}
                        sequences[producer] += len(pairs)
                    data = keyed(*pairs, transactional=kind in ("abort", "commit"), **options)
                    for logs in stores:
                        assert (await append(logs, LOG, data)).error is Error.NONE
                        if kind in ("abort", "commit"):
                            await end(logs, LOG, 2, committed=kind == "commit")
                    if kind != "abort":
                        last |= {key: None for key, _ in pairs} | dict(pairs)
            left, other = [await batches(logs) for logs in stores]
            assert left == other
            assert memory.bounds(LOG) == embedded.bounds(LOG)
            for logs in stores:
                state = {record.key: record.value for record in await committed(logs)}
                assert present(state) == present(last)


def present(state: Mapping[bytes | None, bytes | None]) -> dict[bytes | None, bytes | None]:
    """What has not been deleted."""
    return {key: value for key, value in state.items() if value is not None}


async def committed(logs: Logs) -> list[Record]:
    """The records that were not aborted, as a client finds out."""
    bounds = logs.bounds(LOG)
    assert isinstance(bounds, Bounds)
    found: list[Record] = []
    offset = bounds.log_start_offset
    while offset < bounds.last_stable_offset:
        [piece] = await logs.read([Read(LOG, offset, 1 << 20, IsolationLevel.READ_COMMITTED)], 1 << 20)
        to_come, under_way = sorted((row.first_offset, row.producer_id) for row in piece.aborted or []), set()
        for position, header in walk(piece.records):
            while to_come and to_come[0][0] <= header.last_offset:
                under_way.add(to_come.pop(0)[1])
            if header.is_control:
                under_way.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in under_way):
                found += read_records(memoryview(piece.records)[position : position + header.size_bytes])
            offset = header.next_offset
    return found
