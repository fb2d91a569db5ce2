"""A transaction begins on a log with its coordinator's knowledge, or not at all (KIP-890)."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, append, end, headers, marker, sent

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.model import LogId
from kafkapy.records.batch import read_header
from kafkapy.records.control import ControlHeader, EndMarker
from kafkapy.storage.base import ActiveProducer, Logs, Origin
from kafkapy.storage.sequencing import Accepted, Head, Refused
from kafkapy.storage.verification import ALREADY_OPEN, Claim, Verification


def begin(head: Head, sequence: int = 0, *, epoch: int = 0, bumps: bool = False, now_ms: int = 0) -> Verification:
    verification = head.begin_verification(Claim(7, epoch, sequence, bumps), now_ms)
    assert isinstance(verification, Verification), verification
    return verification


def write(head: Head, data: bytes, verification: Verification | None = None, **options: Any) -> Error:
    """Have it judged, and taken if that is allowed."""
    verdict = head.judge(headers(data), options.get("origin", Origin.CLIENT), verification)
    if isinstance(verdict, Refused):
        return verdict.error
    assert isinstance(verdict, Accepted)
    head.take(verdict)
    return Error.NONE


def mark(head: Head, *, epoch: int = 0, coordinator: int = 0, version: int = 0, committed: bool = True) -> Error:
    header = read_header(marker(7, committed=committed, epoch=epoch, coordinator=coordinator))
    verdict = head.judge([ControlHeader.of(header, EndMarker(committed, coordinator, version))], Origin.COORDINATOR)
    if isinstance(verdict, Refused):
        return verdict.error
    assert isinstance(verdict, Accepted)
    head.take(verdict)
    return Error.NONE


def opening(sequence: int = 0, **options: Any) -> bytes:
    return sent(sequence, b"v", transactional=True, **options)


def test_the_first_batch_needs_it_and_the_others_do_not() -> None:
    head = Head()
    verification = begin(head)
    assert write(head, opening(), ALREADY_OPEN) is Error.INVALID_TXN_STATE
    assert write(head, opening(), verification) is Error.NONE
    assert head.begin_verification(Claim(7, 0, 1, False), 0) is ALREADY_OPEN
    assert write(head, opening(1), ALREADY_OPEN) is Error.NONE
    assert head.verifications == {}


def test_an_answer_that_a_marker_has_overtaken_opens_nothing() -> None:
    head = Head()
    verification = begin(head)
    assert mark(head) is Error.NONE
    assert write(head, opening(), verification) is Error.INVALID_TXN_STATE
    assert write(head, opening(), begin(head)) is Error.NONE


def test_a_transaction_that_was_open_when_asked_must_be_so_still() -> None:
    head = Head()
    write(head, opening(), begin(head))
    seen = head.begin_verification(Claim(7, 0, 1, False), 0)
    assert isinstance(seen, Verification)
    mark(head, committed=False)
    assert write(head, opening(1), seen) is Error.INVALID_TXN_STATE
    assert head.last_stable_offset == head.end_offset


def test_who_asks_again_asks_the_same_question() -> None:
    head = Head()
    assert begin(head, 3) is begin(head, 5)
    assert write(head, opening(5), begin(head, 5)) is Error.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert write(head, opening(3), begin(head, 3)) is Error.NONE


def test_the_lowest_sequence_of_the_newest_epoch_counts() -> None:
    head = Head()
    begin(head, 3)
    assert write(head, opening(9, epoch=1), begin(head, 9, epoch=1)) is Error.NONE


def test_with_an_epoch_a_transaction_it_begins_at_zero() -> None:
    """Elsewhere a producer that is not known any longer may go on where it was."""
    head = Head()
    assert write(head, opening(4), begin(head, 4, bumps=True)) is Error.OUT_OF_ORDER_SEQUENCE_NUMBER
    head = Head()
    assert write(head, opening(4), begin(head, 4)) is Error.NONE


def test_a_fenced_producer_hears_so_at_once() -> None:
    head = Head()
    mark(head, epoch=3)
    assert head.begin_verification(Claim(7, 2, 0, True), 0) is Error.INVALID_PRODUCER_EPOCH
    assert write(head, opening(epoch=2), ALREADY_OPEN) is Error.INVALID_PRODUCER_EPOCH


def test_a_repeat_is_one_without_verification() -> None:
    head = Head()
    write(head, opening(), begin(head))
    mark(head)
    verdict = head.judge(headers(opening()), Origin.CLIENT, ALREADY_OPEN)
    assert not isinstance(verdict, (Accepted, Refused))


def test_a_plain_batch_needs_none() -> None:
    head = Head()
    begin(head, 1)
    assert write(head, sent(0, b"v"), ALREADY_OPEN) is Error.NONE
    assert len(head.verifications) == 1


@pytest.mark.parametrize(("bumps", "is_kept"), [(True, True), (False, False)])
def test_the_marker_before_the_next_transaction_leaves_its_question(bumps: bool, is_kept: bool) -> None:
    """With an epoch a transaction the marker has that of the next one, which may be asked about already."""
    head = Head()
    write(head, opening(epoch=0), begin(head, bumps=bumps))
    verification = begin(head, epoch=1, bumps=bumps)
    assert mark(head, epoch=1, version=2 if bumps else 1) is Error.NONE
    expected = Error.NONE if is_kept else Error.INVALID_TXN_STATE
    assert write(head, opening(epoch=1), verification) is expected


@pytest.mark.parametrize(("version", "error"), [(0, Error.NONE), (1, Error.NONE), (2, Error.INVALID_PRODUCER_EPOCH)])
def test_a_late_marker_ends_no_later_transaction(version: int, error: Error) -> None:
    """From transaction version 2 on a marker has the epoch after that of what it ends."""
    head = Head()
    mark(head, epoch=5, version=version)
    write(head, opening(epoch=5), begin(head, epoch=5))
    assert mark(head, epoch=5, version=version) is error
    assert (head.last_stable_offset == head.end_offset) is (error is Error.NONE)
    assert mark(head, epoch=6, version=version) is Error.NONE
    assert head.last_stable_offset == head.end_offset


@pytest.mark.parametrize("version", range(4))
def test_a_marker_may_come_twice(version: int) -> None:
    """Its coordinator has not heard that it is there, and asks again."""
    head = Head()
    write(head, opening(epoch=4), begin(head, epoch=4))
    assert [mark(head, epoch=5, version=version) for _ in range(2)] == [Error.NONE] * 2
    assert mark(head, epoch=4, version=version) is Error.INVALID_PRODUCER_EPOCH


def test_the_last_epoch_has_none_behind_it() -> None:
    head, last = Head(), 2**15 - 1
    write(head, opening(epoch=last), begin(head, epoch=last))
    assert mark(head, epoch=last, version=2) is Error.NONE
    assert head.last_stable_offset == head.end_offset


def test_a_batch_after_its_transaction_was_ended_in_the_next_epoch_is_fenced() -> None:
    head = Head()
    write(head, opening(), begin(head, bumps=True))
    assert mark(head, epoch=1, version=2, committed=False) is Error.NONE
    assert write(head, opening(1), ALREADY_OPEN) is Error.INVALID_PRODUCER_EPOCH
    assert write(head, opening(0, epoch=1), begin(head, epoch=1, bumps=True)) is Error.NONE


def test_a_coordinator_is_fenced_whatever_the_version() -> None:
    head = Head()
    mark(head, coordinator=4)
    assert mark(head, epoch=1, coordinator=3, version=2) is Error.TRANSACTION_COORDINATOR_FENCED


def test_a_question_that_led_to_nothing_is_forgotten() -> None:
    head = Head()
    verification = begin(head, now_ms=100)
    head.expire(1099, 1000)
    assert begin(head, now_ms=1099) is verification
    head.expire(1100, 1000)
    assert begin(head, now_ms=1100) is not verification


async def test_stores_ask_sequencing(logs: Logs) -> None:
    claim = Claim(7, 0, 0, False)
    verification = logs.begin_verification(LOG, claim, 0)
    assert isinstance(verification, Verification)
    refused = await append(logs, LOG, opening(), verification=ALREADY_OPEN)
    assert refused.error is Error.INVALID_TXN_STATE
    assert (await append(logs, LOG, opening(), verification=verification)).error is Error.NONE
    assert logs.begin_verification(LOG, claim, 0) is ALREADY_OPEN
    await end(logs, LOG, 7, committed=True)
    assert (await append(logs, LOG, opening(1), verification=ALREADY_OPEN)).error is Error.INVALID_TXN_STATE
    missing = LogId("missing", 0, b"3" * 16)
    assert logs.begin_verification(missing, claim, 0) is Error.UNKNOWN_TOPIC_OR_PARTITION


async def test_producers_are_told_as_administrators_see_them(logs: Logs, clock: ManualClock) -> None:
    assert logs.producers(LOG) == []
    await append(logs, LOG, sent(3, b"a", b"b", at=500))
    await append(logs, LOG, sent(0, b"t", producer=8, epoch=2, at=700, transactional=True))
    await append(logs, LOG, marker(9, committed=True, epoch=1, coordinator=4), origin=Origin.COORDINATOR)
    assert logs.producers(LOG) == [
        ActiveProducer(7, 0, 4, 501, -1, -1),
        ActiveProducer(8, 2, 0, 700, -1, 2),
        ActiveProducer(9, 1, -1, 5, 4, -1),
    ]
    assert logs.producers(LogId("missing", 0, b"3" * 16)) is Error.UNKNOWN_TOPIC_OR_PARTITION
