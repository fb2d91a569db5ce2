"""The one suite that every store passes: `storage/base.py`, line by line."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, SMALL, append, batch, end, sent, values, write
from catalogues import create, delete

from kafkapy.clock import ManualClock
from kafkapy.errors import Error, KafkaError
from kafkapy.model import IsolationLevel, LogId
from kafkapy.records.batch import Compression, read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.base import Bounds, EpochEnd, FoundTime, Logs, LogSettings, Outcome, Reach, Read, Slice
from kafkapy.storage.embedded.directory import open_embedded

COMMITTED = IsolationLevel.READ_COMMITTED


async def read(logs: Logs, offset: int, max_bytes: int = 1 << 20, log: LogId = LOG, committed: bool = False) -> Slice:
    isolation = COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    [piece] = await logs.read([Read(log, offset, max_bytes, isolation)], 1 << 20)
    return piece


async def test_batches_get_dense_offsets_and_come_back_as_they_went_in(logs: Logs) -> None:
    first, second = batch(b"a", b"b", compression=Compression.GZIP), batch(b"c")
    assert await append(logs, LOG, first, leader_epoch=3) == Outcome(0, 2, 0)
    assert (await append(logs, LOG, second, leader_epoch=3)).base_offset == 2
    got = bytes((await read(logs, 0)).records)
    assert got[16 : len(first)] == first[16:]
    assert read_header(got).leader_epoch == 3
    assert values(got) == [(0, b"a"), (1, b"b"), (2, b"c")]


@pytest.mark.parametrize("sizes", [(1,), (20_000,), (9_000, 1, 1), (1, 9_000), (3_000, 9_000, 2_000, 1, 1)])
@pytest.mark.parametrize("settings", [SMALL, LogSettings()])
async def test_a_read_begins_with_the_batch_that_holds_the_offset(
    logs: Logs, settings: LogSettings, sizes: tuple[int, ...]
) -> None:
    await create(logs, LOG, settings)
    for number in range(60):
        await append(logs, LOG, batch(b"%d" % number, b"x" * sizes[number % len(sizes)], b"y"))
    for offset in range(180):
        piece = await read(logs, offset, max_bytes=1)
        header = read_header(piece.records)
        assert header.base_offset <= offset <= header.last_offset
        assert len(piece.records) == header.size_bytes


async def test_the_end_is_empty_and_beyond_is_out_of_range(logs: Logs) -> None:
    await append(logs, LOG, batch(b"a"))
    assert len((await read(logs, 1)).records) == 0
    for offset in (-1, 2, 100):
        piece = await read(logs, offset)
        assert (piece.error, piece.log_start_offset, piece.high_watermark) == (Error.OFFSET_OUT_OF_RANGE, 0, 1)


async def test_an_unknown_log_is_said_to_be_unknown(logs: Logs) -> None:
    missing = LogId("missing", 0, b"3" * 16)
    assert (await append(logs, missing, batch(b"a"))).error is Error.UNKNOWN_TOPIC_OR_PARTITION
    assert (await read(logs, 0, log=missing)).error is Error.UNKNOWN_TOPIC_OR_PARTITION
    assert logs.bounds(missing) is Error.UNKNOWN_TOPIC_OR_PARTITION


async def test_only_the_first_find_may_exceed_the_limits(logs: Logs) -> None:
    data = batch(b"v" * 300)
    await append(logs, LOG, data)
    await append(logs, OTHER, data)
    pieces = await logs.read([Read(LOG, 1, 10), Read(OTHER, 0, 10), Read(LOG, 0, 10)], 10)
    assert [len(piece.records) for piece in pieces] == [0, len(data), 0]
    pieces = await logs.read([Read(LOG, 0, 1 << 20), Read(OTHER, 0, 1 << 20)], len(data) + 10)
    assert [len(piece.records) for piece in pieces] == [len(data), 0]


async def test_one_refusal_does_not_stop_the_others(logs: Logs) -> None:
    missing = LogId("missing", 0, b"3" * 16)
    outcomes = await logs.append(
        [write(LOG, batch(b"a")), write(missing, batch(b"b")), write(OTHER, batch(b"c"))]
    ).wait()
    assert [outcome.error for outcome in outcomes] == [Error.NONE, Error.UNKNOWN_TOPIC_OR_PARTITION, Error.NONE]


async def test_a_deposed_owner_is_refused(logs: Logs) -> None:
    assert (await append(logs, LOG, batch(b"a"), expect_end=0)).error is Error.NONE
    assert (await append(logs, LOG, batch(b"b"), expect_end=0)).error is Error.NOT_LEADER_OR_FOLLOWER
    assert logs.bounds(LOG) == Bounds(0, 1, 1, 1)


async def test_a_repeat_gets_its_offsets_again(logs: Logs) -> None:
    await append(logs, LOG, sent(0, b"a", b"b", at=500))
    await append(logs, LOG, batch(b"other"))
    again = await append(logs, LOG, sent(0, b"a", b"b", at=500))
    assert (again.base_offset, again.end_offset, again.duplicate, again.repeated_timestamp) == (0, 2, True, 501)
    assert logs.bounds(LOG) == Bounds(0, 3, 3, 3)


async def test_the_last_five_batches_are_recognised(logs: Logs) -> None:
    for number in range(6):
        await append(logs, LOG, sent(number, b"v"))
    assert [(await append(logs, LOG, sent(n, b"v"))).error for n in range(6)] == [
        Error.OUT_OF_ORDER_SEQUENCE_NUMBER,
        *[Error.NONE] * 5,
    ]
    assert logs.bounds(LOG) == Bounds(0, 6, 6, 6)


@pytest.mark.parametrize(
    ("then", "error"),
    [
        (sent(2, b"next"), Error.NONE),
        (sent(3, b"gap"), Error.OUT_OF_ORDER_SEQUENCE_NUMBER),
        (sent(0, b"new", epoch=1), Error.NONE),
        (sent(2, b"new", epoch=1), Error.OUT_OF_ORDER_SEQUENCE_NUMBER),
        (sent(9, b"stranger", producer=8), Error.NONE),
    ],
)
async def test_sequences_follow_each_other(logs: Logs, then: bytes, error: Error) -> None:
    await append(logs, LOG, sent(0, b"a", b"b"))
    assert (await append(logs, LOG, then)).error is error


async def test_an_old_epoch_is_refused(logs: Logs) -> None:
    await append(logs, LOG, sent(0, b"a", epoch=1))
    assert (await append(logs, LOG, sent(0, b"b", epoch=0))).error is Error.INVALID_PRODUCER_EPOCH


async def test_sequences_wrap(logs: Logs) -> None:
    await append(logs, LOG, sent(2**31 - 2, b"a", b"b"))
    assert (await append(logs, LOG, sent(0, b"c"))).error is Error.NONE
    await append(logs, OTHER, sent(2**31 - 1, b"a", b"b"))
    assert (await append(logs, OTHER, sent(1, b"c"))).error is Error.NONE


async def test_a_silent_producer_is_forgotten(logs: Logs, clock: ManualClock) -> None:
    await append(logs, LOG, sent(0, b"a", at=clock.now_ms()))
    await logs.expire_producers(clock.now_ms() + 999, 1000)
    assert (await append(logs, LOG, sent(5, b"x"))).error is Error.OUT_OF_ORDER_SEQUENCE_NUMBER
    await logs.expire_producers(clock.now_ms() + 1000, 1000)
    assert (await append(logs, LOG, sent(5, b"x"))).error is Error.NONE


async def test_an_open_transaction_holds_the_stable_offset(logs: Logs) -> None:
    await append(logs, LOG, batch(b"plain"))
    await append(logs, LOG, sent(0, b"a", b"b", transactional=True))
    await append(logs, LOG, batch(b"later"))
    assert logs.bounds(LOG) == Bounds(0, 4, 1, 4)
    assert values((await read(logs, 0, committed=True)).records) == [(0, b"plain")]
    assert len((await read(logs, 1, committed=True)).records) == 0
    await end(logs, LOG, 7, committed=False)
    piece = await read(logs, 0, committed=True)
    assert piece.last_stable_offset == 5
    assert piece.aborted == [(7, 1)]
    assert (await read(logs, 0)).aborted is None


async def test_a_committed_transaction_is_just_there(logs: Logs) -> None:
    await append(logs, LOG, sent(0, b"a", transactional=True))
    assert (await append(logs, LOG, sent(1, b"plain"))).error is Error.INVALID_TXN_STATE
    await end(logs, LOG, 7, committed=True)
    piece = await read(logs, 0, committed=True)
    assert (piece.aborted, piece.last_stable_offset) == ([], 2)


async def test_a_leader_of_an_epoch_that_is_over_is_refused(logs: Logs) -> None:
    await append(logs, LOG, batch(b"a"), leader_epoch=2)
    refused = await append(logs, LOG, batch(b"late"), leader_epoch=1)
    assert refused.error is Error.NOT_LEADER_OR_FOLLOWER
    await append(logs, LOG, batch(b"b"), leader_epoch=2)
    assert values((await read(logs, 0)).records) == [(0, b"a"), (1, b"b")]


async def test_records_are_found_by_time(logs: Logs) -> None:
    await append(logs, LOG, batch(b"a", b"b", b"c", at=1000))
    await append(logs, LOG, batch(b"d", b"e", at=3000, compression=Compression.LZ4), leader_epoch=1)
    await append(logs, LOG, batch(b"f", at=2000), leader_epoch=1)
    assert await logs.find_time(LOG, 0) == FoundTime(0, 1000, 0)
    assert await logs.find_time(LOG, 1002) == FoundTime(2, 1002, 0)
    assert await logs.find_time(LOG, 1003) == FoundTime(3, 3000, 1)
    assert await logs.find_time(LOG, 3001) == FoundTime(4, 3001, 1)
    assert await logs.find_time(LOG, 3002) is None
    assert await logs.find_max_time(LOG) == FoundTime(4, 3001, 1)
    assert await logs.find_max_time(OTHER) is None


async def test_the_largest_time_is_that_of_what_is_left(logs: Logs) -> None:
    await append(logs, LOG, batch(b"late", at=9000))
    for number in range(50):
        await append(logs, LOG, batch(b"v" * 50, at=1000 + number))
    await append(logs, LOG, batch(b"again", at=1049))
    assert await logs.find_max_time(LOG) == FoundTime(0, 9000, 0)
    await logs.trim(LOG, 1)
    assert await logs.find_max_time(LOG) == FoundTime(50, 1049, 0)
    assert await logs.find_time(LOG, 2000) is None
    await logs.trim(LOG, 52)
    assert await logs.find_max_time(LOG) is None


TIMES = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=3), min_size=1, max_size=60)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(times=TIMES, start=st.integers(0, 60), again=st.booleans())
async def test_any_time_is_found_where_looking_at_all_records_finds_it(
    tmp_path_factory: pytest.TempPathFactory, times: list[list[int]], start: int, again: bool
) -> None:
    """Over small segments with few rows in their indexes; `again`: with the indexes that a start finds.

    Nothing is of 1970: a row of zeros is an empty one in a time index, here and in Kafka.
    """
    directory = tmp_path_factory.mktemp("times")
    batches: list[list[FoundTime]] = []
    for life in range(2 if again else 1):
        async with open_embedded(directory, clock=ManualClock(), node_id=1) as logs:
            await create(logs, LOG, SMALL)
            for batch_times in times if life == 0 else times[::-1]:
                records = [Record(i, time, b"k", b"v" * 40, []) for i, time in enumerate(batch_times)]
                base = (await append(logs, LOG, build_batch(records))).base_offset
                batches.append([FoundTime(base + i, time, 0) for i, time in enumerate(batch_times)])
            first = await logs.trim(LOG, start)
            left = [batch for batch in batches if batch[-1].offset >= first]
            for wanted in range(-1, 32):
                late = (found for batch in left for found in batch if found.timestamp >= wanted)
                assert await logs.find_time(LOG, wanted) == next(
                    (found for found in late if found.offset >= first), None
                )
            latest = [max(batch, key=lambda found: found.timestamp) for batch in left]
            expected = max(latest, key=lambda found: found.timestamp, default=None)
            assert await logs.find_max_time(LOG) == expected


async def test_epochs_end_where_the_next_begins(logs: Logs) -> None:
    assert await logs.epoch_end(LOG, 5) is None
    for epoch in (1, 1, 4):
        await append(logs, LOG, batch(b"a", b"b"), leader_epoch=epoch)
    assert await logs.epoch_end(LOG, 0) is None
    assert await logs.epoch_end(LOG, 1) == EpochEnd(1, 4)
    assert await logs.epoch_end(LOG, 3) == EpochEnd(1, 4)
    assert await logs.epoch_end(LOG, 9) == EpochEnd(4, 6)


async def test_trimming_moves_the_start(logs: Logs) -> None:
    for _ in range(100):
        await append(logs, LOG, batch(b"v" * 50))
    assert await logs.trim(LOG, 60) == 60
    assert logs.bounds(LOG) == Bounds(60, 100, 100, 100)
    assert (await read(logs, 59)).error is Error.OFFSET_OUT_OF_RANGE
    assert values((await read(logs, 60)).records)[0][0] == 60
    assert await logs.trim(LOG, 10) == 60
    assert await logs.trim(LOG, 1000) == 100
    assert logs.bounds(LOG) == Bounds(100, 100, 100, 100)
    assert (await append(logs, LOG, batch(b"after"))).base_offset == 100
    assert values((await read(logs, 100)).records) == [(100, b"after")]


async def test_the_size_is_that_of_the_batches(logs: Logs) -> None:
    assert logs.size_bytes(LOG) == 0
    data = batch(b"v" * 300)
    for _ in range(20):
        await append(logs, LOG, data)
    assert logs.size_bytes(LOG) == 20 * len(data)
    await logs.trim(LOG, 20)
    assert logs.size_bytes(LOG) < 20 * len(data)
    assert logs.size_bytes(LogId("missing", 0, b"3" * 16)) == 0


async def test_a_log_made_again_is_a_new_log(logs: Logs) -> None:
    await append(logs, LOG, sent(0, b"a"))
    await delete(logs, LOG)
    assert logs.bounds(LOG) is Error.UNKNOWN_TOPIC_OR_PARTITION
    again = LOG._replace(topic_id=b"9" * 16)
    await create(logs, again, SMALL)
    assert logs.bounds(again) == Bounds(0, 0, 0, 0)
    assert (await append(logs, again, sent(5, b"b"))).error is Error.NONE
    assert logs.bounds(LOG) is Error.UNKNOWN_TOPIC_OR_PARTITION
    assert logs.bounds(OTHER) == Bounds(0, 0, 0, 0)


async def test_creating_what_exists_changes_nothing(logs: Logs) -> None:
    await append(logs, LOG, batch(b"a"))
    await create(logs, LOG, SMALL)
    assert logs.bounds(LOG) == Bounds(0, 1, 1, 1)


async def test_a_watch_wakes_for_its_logs_only(logs: Logs) -> None:
    woken: list[tuple[str, LogId]] = []
    watch = logs.watch([LOG], lambda log: woken.append(("one", log)))
    both = logs.watch([LOG, OTHER], lambda log: woken.append(("both", log)))
    await append(logs, OTHER, batch(b"a"))
    assert woken == [("both", OTHER)]
    both.close()
    await append(logs, LOG, batch(b"b"))
    await append(logs, LOG, batch(b"c"))
    assert woken == [("both", OTHER), ("one", LOG), ("one", LOG)]
    watch.close()
    await append(logs, LOG, batch(b"d"))
    assert len(woken) == 3


async def test_trimming_wakes_those_who_wait(logs: Logs) -> None:
    await append(logs, LOG, batch(b"a"))
    woken: list[LogId] = []
    logs.watch([LOG], woken.append)
    await logs.trim(LOG, 1)
    assert woken == [LOG]


def reach_of(logs: Logs, isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED) -> Reach:
    reach = logs.reach(LOG, isolation)
    assert isinstance(reach, Reach)
    return reach


@pytest.mark.parametrize("settings", [SMALL, LogSettings()])
async def test_how_much_there_is_to_read_follows_from_positions(logs: Logs, settings: LogSettings) -> None:
    """From where a read found its offset to where the reader's end lies now; unless a segment ends in between."""
    await create(logs, LOG, settings)
    sizes = [len(batch(bytes(300 * n))) for n in range(12)]
    starts = [await read(logs, 0)]
    for number in range(12):
        await append(logs, LOG, batch(bytes(300 * number)))
        starts.append(await read(logs, number + 1))
    reach = reach_of(logs)
    assert (reach.log_start_offset, reach.end_offset) == (0, 12)
    anew = [await read(logs, offset) for offset in range(12)]
    for offset in range(12):
        found = {reach.position - piece.position for piece in (starts[offset], anew[offset]) if same(piece, reach)}
        assert found <= {sum(sizes[offset:])}
    assert same(anew[11], reach)
    if settings is not SMALL:
        assert all(same(piece, reach) for piece in starts + anew)
    await logs.trim(LOG, 5)
    assert reach_of(logs) == reach._replace(log_start_offset=5)


def same(piece: Slice, reach: Reach) -> bool:
    return piece.segment == reach.segment


async def test_a_reader_of_what_is_committed_reaches_as_far_as_that(logs: Logs) -> None:
    await create(logs, LOG, LogSettings())
    plain, opening = batch(b"plain"), sent(0, b"first", transactional=True)
    await append(logs, LOG, plain)
    before = await read(logs, 0, committed=True)
    await append(logs, LOG, opening)
    await append(logs, LOG, plain)
    await append(logs, LOG, sent(0, b"second", producer=8, transactional=True))
    reach = reach_of(logs, COMMITTED)
    assert (reach.end_offset, reach.position - before.position) == (1, len(plain))
    assert reach_of(logs).end_offset == 4
    beyond = await read(logs, 2, committed=True)
    assert (beyond.segment, beyond.position) == (-1, -1)
    await end(logs, LOG, 7, committed=True)
    reach = reach_of(logs, COMMITTED)
    assert (reach.end_offset, reach.position - before.position) == (3, len(plain + opening + plain))
    await end(logs, LOG, 8, committed=True)
    assert reach_of(logs, COMMITTED) == reach_of(logs)


async def test_what_is_not_there_cannot_be_reached(logs: Logs) -> None:
    unknown = LogId("x", 0, b"x" * 16)
    assert logs.reach(unknown, COMMITTED) is Error.UNKNOWN_TOPIC_OR_PARTITION
    with pytest.raises(KafkaError) as refusal:
        await logs.epoch_end(unknown, 0)
    assert refusal.value.error is Error.UNKNOWN_TOPIC_OR_PARTITION


async def test_deleting_wakes_those_who_wait(logs: Logs) -> None:
    woken: list[LogId] = []
    logs.watch([LOG], woken.append)
    await delete(logs, LOG)
    assert woken == [LOG]
