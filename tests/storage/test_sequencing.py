"""Sequencing as a pure function: its verdicts, and the state that a log's own bytes give back."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from batches import batch, headers, marker, sent

from kafkapy.errors import Error
from kafkapy.records.batch import read_header, stamp
from kafkapy.storage.aborted import AbortedRow, decode_rows, encode_rows, overlapping
from kafkapy.storage.base import Origin
from kafkapy.storage.producer_snapshot import decode_snapshot, encode_snapshot
from kafkapy.storage.sequencing import (
    Accepted,
    BatchMark,
    Head,
    Producer,
    Refused,
    Repeated,
)

LAST = 2**31 - 1


def judge(head: Head, data: bytes, origin: Origin = Origin.CLIENT) -> Accepted | Repeated | Refused:
    return head.judge(headers(data), origin)


def take(head: Head, data: bytes, origin: Origin = Origin.CLIENT) -> Accepted:
    verdict = judge(head, data, origin)
    assert isinstance(verdict, Accepted), verdict
    head.take(verdict)
    return verdict


def refusal(head: Head, data: bytes, origin: Origin = Origin.CLIENT) -> Error:
    verdict = judge(head, data, origin)
    assert isinstance(verdict, Refused), verdict
    assert verdict.message
    return verdict.error


SENDS = st.lists(
    st.tuples(
        st.sampled_from([7, 7, 7, 8, -1]),
        st.sampled_from([0, 0, 0, 0, 1]),
        st.sampled_from([0, 0, 0, 0, -1, 1]),  # how far from the sequence number that is due
        st.integers(1, 2),
        st.sampled_from(["plain", "plain", "transactional", "commit", "abort"]),
    ),
    min_size=6,
    max_size=20,
)


@given(st.sampled_from([0, LAST - 2, LAST - 1]), SENDS)
@settings(max_examples=300, deadline=None)
def test_the_short_way_says_what_the_long_one_does(start: int, sends: list[tuple[int, int, int, int, str]]) -> None:
    """The verdict about a usual write is found without looking at what cannot be the case."""
    head, due = Head(), dict.fromkeys((7, 8, -1), start)
    for producer, epoch, gap, count, kind in sends:
        if kind in ("commit", "abort"):
            data, origin = marker(producer, committed=kind == "commit", epoch=epoch), Origin.COORDINATOR
        else:
            first, transactional = (due[producer] + gap) & LAST, kind == "transactional"
            records, origin = [b"v"] * count, Origin.CLIENT
            data = sent(first, *records, producer=producer, epoch=epoch, transactional=transactional)
        verdict = head.judge(headers(data), origin)
        assert verdict == head._judge_each(headers(data), origin)
        if isinstance(verdict, Accepted):
            head.take(verdict)
            if origin is Origin.CLIENT:
                due[producer] = (first + count) & LAST


def test_judging_changes_nothing() -> None:
    head = Head()
    judge(head, sent(0, b"a", transactional=True))
    assert head == Head()


def test_an_unknown_producer_may_begin_anywhere() -> None:
    for first in (0, 5, LAST):
        take(Head(), sent(first, b"a"))


def test_who_writes_without_an_epoch_may_go_on_anywhere() -> None:
    head = Head()
    for sequence in (5, 0, LAST, 9):
        take(head, sent(sequence, b"a", producer=7, epoch=-1))
    assert isinstance(judge(head, sent(9, b"a", producer=7, epoch=-1)), Repeated)
    take(head, sent(3, b"a", producer=7, epoch=0))
    assert refusal(head, sent(9, b"a", producer=7, epoch=0)) is Error.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_known_producer_begins_a_new_epoch_at_zero() -> None:
    head = Head()
    take(head, sent(3, b"a", epoch=1))
    assert refusal(head, sent(4, b"b", epoch=2)) is Error.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert refusal(head, sent(0, b"b", epoch=0)) is Error.INVALID_PRODUCER_EPOCH
    take(head, sent(0, b"b", epoch=2))
    assert refusal(head, sent(4, b"a", epoch=1)) is Error.INVALID_PRODUCER_EPOCH


@pytest.mark.parametrize(("first", "follows"), [(LAST, True), (LAST - 1, True), (LAST - 2, False)])
def test_sequences_wrap_to_zero(first: int, follows: bool) -> None:
    """Two records from 2147483647 on are 2147483647 and 0; from one less they end exactly at the edge."""
    head = Head()
    take(head, sent(first, b"a", b"b"))
    following = 1 if first == LAST else 0
    if follows:
        take(head, sent(following, b"c"))
    else:
        assert refusal(head, sent(0, b"c")) is Error.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_repeat_is_one_in_both_ends_and_the_epoch() -> None:
    head = Head(end_offset=100)
    take(head, sent(0, b"a", b"b", at=500))
    assert judge(head, sent(0, b"a", b"b")) == Repeated(100, 101, 501)
    assert refusal(head, sent(0, b"a")) is Error.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert isinstance(judge(head, sent(0, b"a", b"b", epoch=1)), Accepted)


def test_repeats_come_before_an_open_transaction_is_looked_at() -> None:
    head = Head()
    take(head, sent(0, b"a"))
    take(head, sent(1, b"b", transactional=True))
    assert judge(head, sent(0, b"a")) == Repeated(0, 0, 1000)
    assert refusal(head, sent(2, b"c")) is Error.INVALID_TXN_STATE


def test_batches_of_one_write_follow_each_other() -> None:
    head = Head()
    verdict = take(head, sent(0, b"a", b"b") + sent(2, b"c") + batch(b"plain"))
    assert (verdict.base_offset, verdict.end_offset) == (0, 4)
    assert head.producers[7].batches == (BatchMark(0, 1, 0, 1, 1001), BatchMark(2, 2, 2, 2, 1000))
    assert refusal(head, sent(3, b"d") + sent(9, b"gap")) is Error.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert head.end_offset == 4


def test_a_coordinator_writes_without_sequences_but_not_in_an_old_epoch() -> None:
    head = Head()
    take(head, sent(0, b"a", epoch=3))
    take(head, sent(-1, b"offsets", epoch=3), Origin.COORDINATOR)
    assert refusal(head, sent(-1, b"offsets", epoch=2), Origin.COORDINATOR) is Error.INVALID_PRODUCER_EPOCH


def test_a_deposed_transaction_coordinator_is_fenced() -> None:
    head = Head()
    take(head, marker(7, committed=True, coordinator=4), Origin.COORDINATOR)
    old = marker(7, committed=True, coordinator=3)
    assert refusal(head, old, Origin.COORDINATOR) is Error.TRANSACTION_COORDINATOR_FENCED


def test_a_marker_of_a_new_epoch_fences_and_lets_begin_at_zero() -> None:
    head = Head()
    take(head, sent(0, b"a", transactional=True))
    take(head, marker(7, committed=False, epoch=1), Origin.COORDINATOR)
    assert refusal(head, sent(1, b"b", transactional=True)) is Error.INVALID_PRODUCER_EPOCH
    assert refusal(head, sent(1, b"b", epoch=1)) is Error.OUT_OF_ORDER_SEQUENCE_NUMBER
    take(head, sent(0, b"b", epoch=1, transactional=True))


def test_the_oldest_open_transaction_holds_the_stable_offset() -> None:
    head = Head()
    take(head, batch(b"plain"))
    take(head, sent(0, b"a", producer=1, transactional=True))
    take(head, sent(0, b"b", producer=2, transactional=True))
    assert head.last_stable_offset == 1
    assert take(head, marker(1, committed=False), Origin.COORDINATOR).aborted == [AbortedRow(1, 1, 3, 2)]
    assert head.last_stable_offset == 2
    assert take(head, marker(2, committed=False), Origin.COORDINATOR).aborted == [AbortedRow(2, 2, 4, 5)]
    assert head.last_stable_offset == 5
    assert take(head, marker(2, committed=False), Origin.COORDINATOR).aborted == []  # nothing was open


def test_a_row_knows_what_its_own_write_began_and_ended() -> None:
    """The stable offset that a marker leaves behind, also when several batches come in one write."""
    head = Head()
    take(head, sent(0, b"a", producer=1, transactional=True))
    take(head, sent(0, b"b", producer=2, transactional=True))
    both = marker(1, committed=False) + marker(2, committed=False)
    assert take(head, both, Origin.COORDINATOR).aborted == [AbortedRow(1, 0, 2, 1), AbortedRow(2, 1, 3, 4)]
    begun = sent(0, b"c", producer=3, transactional=True) + sent(1, b"d", producer=1, transactional=True)
    take(head, begun)
    again = marker(3, committed=True) + sent(1, b"e", producer=3, transactional=True) + marker(1, committed=False)
    assert take(head, again, Origin.COORDINATOR).aborted == [AbortedRow(1, 5, 8, 7)]
    assert head.last_stable_offset == 7


def test_transactions_are_kept_in_the_order_in_which_they_began() -> None:
    head = Head()
    plain_first = sent(0, b"a", producer=1) + sent(0, b"b", producer=2, transactional=True)
    take(head, plain_first + sent(1, b"c", producer=1, transactional=True))
    assert (list(head.open_transactions), head.last_stable_offset) == ([2, 1], 1)
    take(head, marker(2, committed=True) + sent(1, b"d", producer=2, transactional=True), Origin.COORDINATOR)
    assert (list(head.open_transactions), head.last_stable_offset) == ([1, 2], 2)
    again = Head()
    again.restore(head.producers, head.end_offset)
    assert list(again.open_transactions) == [1, 2]


def test_silence_expires_producers_but_no_transaction() -> None:
    head = Head()
    take(head, sent(0, b"a", producer=1, at=1000))
    take(head, sent(0, b"a", producer=2, at=1000, transactional=True))
    head.expire(1999, 1000)
    assert head.producers.keys() == {1, 2}
    head.expire(2000, 1000)
    assert head.producers.keys() == {2}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["plain", "idempotent", "transactional", "commit", "abort"]),
        st.integers(1, 3),
        st.integers(1, 3),
    ),
    max_size=30,
)


@given(steps=STEPS, at=st.integers(0, 30))
def test_a_log_replayed_from_any_snapshot_gives_the_same_head(steps: list[tuple[str, int, int]], at: int) -> None:
    head, log, aborted = Head(), [], []
    snapshot, since = (encode_snapshot({}), 0), 0
    for number, (kind, producer, count) in enumerate(steps):
        if number == at:
            snapshot, since = (encode_snapshot(head.producers), head.end_offset), len(log)
        known = head.producers.get(producer, Producer())
        if kind in ("commit", "abort"):
            data, origin = marker(producer, committed=kind == "commit"), Origin.COORDINATOR
        elif kind == "plain":
            data, origin = batch(b"p"), Origin.CLIENT
        else:
            transactional = kind == "transactional" or known.transaction_start is not None
            data = sent(known.last_sequence + 1, *[b"v"] * count, producer=producer, transactional=transactional)
            origin = Origin.CLIENT
        verdict = take(head, data, origin)
        log.append(stamp(verdict.base_offset, read_header(data).batch_length, 0) + data[16:])
        aborted += verdict.aborted
    again = Head()
    again.restore(decode_snapshot(snapshot[0]), snapshot[1])
    rows = [again.replay(header) for data in log[since:] for header in headers(data)]
    assert again.end_offset == head.end_offset
    assert again.open_transactions == head.open_transactions
    assert [row for row in rows if row] == [row for row in aborted if row.last_offset >= snapshot[1]]
    assert again.producers == head.producers


def test_a_snapshot_keeps_all_that_repeats_are_known_by() -> None:
    head = Head()
    for number in range(7):
        take(head, sent(2 * number, b"a", b"b", producer=1, at=number))
        take(head, sent(LAST - 2 + number & LAST, b"a", producer=2))
    take(head, sent(0, b"only", producer=3))
    again = Head()
    again.restore(decode_snapshot(encode_snapshot(head.producers)), head.end_offset)
    assert again == head
    assert [isinstance(judge(again, sent(2 * n, b"a", b"b", producer=1)), Repeated) for n in range(7)] == [
        False,
        False,
        *[True] * 5,
    ]


def test_what_kafka_reads_of_a_snapshot_is_as_it_writes_it() -> None:
    """Rows of 46 bytes behind a count; what follows is ours, and covered by the CRC."""
    head = Head()
    take(head, sent(0, b"a", producer=1))
    alone = encode_snapshot(head.producers)
    assert len(alone) == 10 + 46
    take(head, sent(1, b"b", producer=1))
    assert len(encode_snapshot(head.producers)) == 10 + 46 + 4 + 2 * 32


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\x00\x01", b"\x00\x02" + bytes(8), b"\x00\x01" + bytes(8)])
def test_a_damaged_snapshot_is_a_value_error(damage: bytes) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        decode_snapshot(damage)
    whole = encode_snapshot({1: Producer(0)})
    assert decode_snapshot(whole) == {1: Producer(0)}
    for position in range(len(whole)):
        flipped = whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :]
        with pytest.raises(ValueError, match="snapshot"):
            decode_snapshot(flipped)


class Counted(Sequence[AbortedRow]):
    """Rows that count how often one is looked at."""

    def __init__(self, rows: list[AbortedRow]) -> None:
        self.rows, self.looks = rows, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        return self.rows[index]


def test_a_reader_looks_at_its_own_rows_alone() -> None:
    head, rows = Head(), []
    for number in range(10_000):
        take(head, sent(0, b"v", producer=number, transactional=True))
        rows += take(head, marker(number, committed=False), Origin.COORDINATOR).aborted
    counted = Counted(rows)
    assert [row.producer_id for row in overlapping(counted, 10_000, 10_010)] == [5000, 5001, 5002, 5003, 5004]
    assert counted.looks < 40


@given(steps=STEPS, start=st.integers(0, 40), size=st.integers(1, 20))
@example(
    steps=[("transactional", 1, 1), ("transactional", 2, 1), ("abort", 2, 1), ("abort", 1, 1)], start=0, size=1
).via("one that began before another and was aborted after it")
def test_a_reader_gets_what_overlaps_and_may_stop_where_all_has_ended(
    steps: list[tuple[str, int, int]], start: int, size: int
) -> None:
    head, rows = Head(), []
    for kind, producer, count in steps:
        if kind in ("commit", "abort"):
            rows += take(head, marker(producer, committed=kind == "commit"), Origin.COORDINATOR).aborted
        else:
            known = head.producers.get(producer, Producer())
            take(head, sent(known.last_sequence + 1, *[b"v"] * count, producer=producer, transactional=True))
    expected = [row for row in rows if row.last_offset >= start and row.first_offset < start + size]
    assert overlapping(rows, start, start + size) == sorted(expected, key=lambda row: row.first_offset)


def test_aborted_rows_are_those_that_overlap() -> None:
    rows = [AbortedRow(1, 10, 20, 5), AbortedRow(2, 5, 30, 31), AbortedRow(3, 40, 50, 51)]
    assert [row.producer_id for row in overlapping(rows, 0, 100)] == [2, 1, 3]
    assert [row.producer_id for row in overlapping(rows, 21, 40)] == [2]
    assert [row.producer_id for row in overlapping(rows, 20, 41)] == [2, 1, 3]
    assert overlapping(rows, 51, 100) == []
    assert list(decode_rows(encode_rows(rows) + b"torn")) == rows
