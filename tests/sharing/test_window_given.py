"""What of a share partition is given to whom, and when no more: the window and what acquires from it, step by step."""

from collections.abc import Sequence
from math import inf

import pytest

from kafkapy.errors import Error, KafkaError
from kafkapy.records.batch import BatchHeader
from kafkapy.sharing.acquiring import Wish, acquire
from kafkapy.sharing.batches import RecordState, StateBatch
from kafkapy.sharing.in_flight import Limits, StateWrite
from kafkapy.sharing.window import ACCEPT, REJECT, RELEASE, RENEW, Acknowledgement, Window
from tests.sharing.test_window_exhaustive import batch

AVAILABLE, ACKNOWLEDGED, ARCHIVED = RecordState.AVAILABLE, RecordState.ACKNOWLEDGED, RecordState.ARCHIVED
LOCK_SECONDS = 10.0
Ranges = list[tuple[int, int, int]]


class Share:
    """A window over a log, with a clock of its own."""

    def __init__(
        self, *log: BatchHeader, state: Sequence[StateBatch] = (), limit: int = 5, locks: int = 100, renews: bool = True
    ) -> None:
        self.log = list(log)
        self.limits = Limits(limit, locks, LOCK_SECONDS, renews)
        self.now = 0.0
        self.window = Window(0, state)

    def take(
        self, member: str = "m", most: int = 100, *, by_record_limit: bool = False, batch_size: int = 100
    ) -> Ranges:
        """What a fetch gives, or nothing where it would not even read."""
        window = self.window
        if not window.may_acquire(self.limits):
            return []
        offset = window.next_fetch_offset
        read = [header for header in self.log if header.last_offset >= offset]
        wish = Wish(member, most, batch_size, by_record_limit)
        return [tuple(one) for one in acquire(window, wish, offset, read, (), self.limits, self.now)]

    def begin(self, first: int, last: int, kind: int, member: str = "m") -> StateWrite | None:
        """Acknowledge, with the write under way."""
        return self.window.acknowledge(member, [Acknowledgement(first, last, [kind])], self.limits, self.now)

    def end(self, write: StateWrite | None, *, written: bool = True) -> None:
        assert write is not None
        self.window.settle(write, self.limits, self.now, written=written)

    def tell(self, first: int, last: int, kind: int, member: str = "m") -> None:
        self.end(self.begin(first, last, kind, member))

    def wait(self, seconds: float) -> None:
        """Time passes, and what comes free is written."""
        self.now += seconds
        write = self.window.expire(self.limits, self.now)
        if write is not None:
            self.end(write)

    def state(self, offset: int) -> RecordState:
        floor = self.window.floor(offset)
        assert floor is not None
        return floor.at(offset).state


# How much a member is given


def test_by_batches_a_member_gets_whole_ones_and_by_record_limit_never_more_than_it_asked_for() -> None:
    log = [batch(0, 4), batch(4, 4), batch(8, 4)]
    assert Share(*log).take(most=5) == [(0, 7, 1)]
    share = Share(*log)
    assert share.take(most=5, by_record_limit=True) == [(0, 4, 1)]
    assert share.take("other", most=4, by_record_limit=True) == [(5, 7, 1), (8, 8, 1)]
    assert share.take("third") == [(9, 11, 1)]


def test_pieces_end_where_batches_do() -> None:
    assert Share(batch(0, 4), batch(4, 4), batch(8, 4)).take(batch_size=5) == [(0, 7, 1), (8, 11, 1)]
    assert Share(batch(0, 4), batch(4, 4), batch(8, 4)).take(batch_size=4) == [(0, 3, 1), (4, 7, 1), (8, 11, 1)]
    assert Share(batch(0, 9), batch(9, 1)).take(batch_size=2) == [(0, 8, 1), (9, 9, 1)]


def test_what_is_released_of_a_batch_is_given_again_and_nothing_else_of_it() -> None:
    share = Share(batch(0, 6))
    assert share.take() == [(0, 5, 1)]
    share.tell(1, 2, RELEASE)
    share.tell(4, 4, REJECT)
    assert share.take("other") == [(1, 2, 2)]
    for offset, stranger in ((1, "m"), (0, "other")):
        with pytest.raises(KafkaError) as refusal:
            share.begin(offset, offset, ACCEPT, stranger)
        assert refusal.value.error is Error.INVALID_RECORD_STATE, "it is the other's"
    share.tell(0, 0, ACCEPT)
    assert share.window.start_offset == 1


def test_by_record_limit_no_more_of_what_came_free_is_given_either() -> None:
    share = Share(batch(0, 6))
    assert share.take() == [(0, 5, 1)]
    share.tell(1, 4, RELEASE)
    assert share.take("other", most=2, by_record_limit=True) == [(1, 2, 2)]
    assert share.take("third", most=1) == [(3, 4, 2)], "by batches all of its batch"
    share = Share(batch(0, 6))
    assert share.take() == [(0, 5, 1)]
    share.tell(0, 5, RELEASE)
    assert share.take("other", most=2, by_record_limit=True) == [(0, 1, 2)], "of a batch that came free as a whole"


def test_what_lies_below_the_start_is_done_with_whatever_is_said_of_it() -> None:
    share = Share(batch(0, 1), batch(1, 2))
    assert share.take(batch_size=1) == [(0, 0, 1), (1, 2, 1)]
    share.tell(0, 0, ACCEPT)
    assert share.begin(0, 0, RELEASE) is None
    told = Acknowledgement(0, 2, [RELEASE, RELEASE, ACCEPT])
    share.end(share.window.acknowledge("m", [told], share.limits, share.now))
    assert share.take("other") == [(1, 1, 2)]


# A full window


def test_a_full_window_is_served_within_and_not_beyond_its_end() -> None:
    share = Share(batch(0, 4), batch(4, 4), locks=4)
    assert share.take() == [(0, 3, 1)]
    assert share.take("other") == [], "there is no room"
    share.tell(1, 1, RELEASE)
    assert share.take("other") == [(1, 1, 2)]
    assert share.take("third") == []
    share.tell(0, 0, ACCEPT)
    assert share.take("third") == [(4, 7, 1)], "there is room again; a batch is given whole"


def test_who_waits_for_room_is_told_of_it() -> None:
    share = Share(batch(0, 4), batch(4, 4), locks=4)
    assert share.take() == [(0, 3, 1)]
    write = share.begin(0, 3, ACCEPT)
    assert write is not None
    assert share.window.settle(write, share.limits, share.now, written=True), "there is news"


# Records that no member can cope with


@pytest.mark.parametrize("limit", [3, 5, 8])
def test_one_poison_record_takes_none_of_its_neighbours_along(limit: int) -> None:
    count, poison = 16, 5
    share, done, deliveries = Share(batch(0, count), limit=limit), set[int](), 0
    for _ in range(500):
        given = share.take()
        if not given:
            break
        first, last = given[0][0], given[-1][1]
        is_poisoned = first <= poison <= last
        if is_poisoned:
            deliveries += 1
        for begin, end, _ in given:
            share.tell(begin, end, RELEASE if is_poisoned else ACCEPT)
            done |= set() if is_poisoned else set(range(begin, end + 1))
    assert deliveries == limit
    assert done == set(range(count)) - {poison}
    assert share.window.start_offset == count


def test_lots_become_smaller_until_a_record_goes_out_alone() -> None:
    share, sizes = Share(batch(0, 8)), []
    for _ in range(5):
        given = share.take()
        sizes.append(sum(last - first + 1 for first, last, _ in given))
        for first, last, _ in given:
            share.tell(first, last, RELEASE)
    assert sizes == [8, 8, 8, 4, 1]
    assert share.window.start_offset == 1, "the first was given for the last time, alone"


def test_a_record_goes_out_alone_the_last_time_also_behind_one_that_was_given_less_often() -> None:
    share = Share(batch(0, 2))
    assert share.take() == [(0, 1, 1)]
    for count in (2, 3, 4):
        share.tell(1, 1, RELEASE)
        assert share.take() == [(1, 1, count)]
    share.tell(0, 1, RELEASE)
    assert share.take() == [(0, 0, 2)]
    assert share.take("other") == [(1, 1, 5)]


def test_a_record_goes_out_alone_the_last_time_also_before_ones_that_were_given_less_often() -> None:
    share = Share(batch(0, 8))
    assert share.take() == [(0, 7, 1)]
    for count in (2, 3, 4):
        share.tell(0, 0, RELEASE)
        assert share.take() == [(0, 0, count)]
    share.tell(0, 7, RELEASE)
    assert share.take() == [(0, 0, 5)]
    assert share.take("other") == [(1, 7, 2)]


def test_a_record_whose_members_never_come_back_is_given_up_as_well() -> None:
    share = Share(batch(0, 1), batch(1, 1), limit=2)
    assert share.take(most=1) == [(0, 0, 1)]
    share.end(share.window.release("m", share.limits))
    assert share.take(most=1) == [(0, 0, 2)]
    share.end(share.window.release("m", share.limits))
    assert share.take(most=1) == [(1, 1, 1)]


# Writes that fail


def test_a_write_that_fails_when_the_time_is_over_gives_up_what_was_given_too_often() -> None:
    share = Share(batch(0, 2), limit=2)
    assert share.take() == [(0, 1, 1)]
    write = share.begin(0, 1, ACCEPT)
    share.wait(LOCK_SECONDS)
    assert share.take("other") == [], "what becomes of it is being written"
    share.end(write, written=False)
    assert share.take("other") == [(0, 1, 2)]
    write = share.begin(0, 1, ACCEPT, "other")
    share.wait(LOCK_SECONDS)
    share.end(write, written=False)
    assert share.take("third") == []
    assert share.window.start_offset == 2, "given up, so the group goes on"
    assert share.window.next_deadline == inf, "nobody looks at it any more"


def test_a_write_that_fails_in_time_leaves_the_record_with_its_member() -> None:
    share = Share(batch(0, 2), batch(2, 1))
    assert share.take(most=1) == [(0, 1, 1)]
    write = share.begin(0, 0, RELEASE)
    assert share.take("other") == [(2, 2, 1)], "records in transition are passed over"
    share.end(write, written=False)
    share.tell(0, 1, ACCEPT)
    assert share.window.start_offset == 2


# Records that are not there


def test_batches_that_compaction_took_do_not_hold_the_start() -> None:
    share = Share(batch(0, 3), batch(3, 3), batch(6, 2))
    assert share.take() == [(0, 7, 1)]
    share.tell(0, 4, RELEASE)
    share.tell(5, 7, ACCEPT)
    del share.log[0]
    assert share.take() == [(3, 4, 2)]
    share.tell(3, 4, ACCEPT)
    assert share.window.start_offset == 8


def test_a_log_that_lacks_its_first_records_is_begun_where_it_begins() -> None:
    share = Share(batch(3, 2), batch(9, 1))
    assert share.take() == [(3, 9, 1)], "what is missing between is acknowledged as gaps by the member"
    share.tell(3, 9, ACCEPT)
    assert share.window.start_offset == 10


# After a reload


def test_what_a_state_says_nothing_of_is_given_once() -> None:
    state = [StateBatch(2, 3, ACKNOWLEDGED, 1), StateBatch(6, 7, AVAILABLE, 1), StateBatch(9, 9, ARCHIVED, 1)]
    share = Share(batch(0, 6), batch(6, 6), state=state)
    assert share.take() == [(0, 1, 1), (4, 5, 1), (6, 7, 2), (8, 8, 1), (10, 11, 1)]
    assert share.take("other") == []
    for first, last in ((0, 1), (4, 8), (10, 11)):
        share.tell(first, last, ACCEPT)
    assert share.window.start_offset == 12


def test_the_start_does_not_pass_what_a_state_says_nothing_of() -> None:
    share = Share(batch(0, 6), state=[StateBatch(0, 1, ACKNOWLEDGED, 1), StateBatch(4, 5, ACKNOWLEDGED, 1)])
    assert share.window.start_offset == 2
    assert share.take() == [(2, 3, 1)]
    share.tell(2, 3, ACCEPT)
    assert share.window.start_offset == 6


def test_what_a_state_says_nothing_of_and_compaction_took_does_not_hold_the_start() -> None:
    share = Share(batch(4, 2), state=[StateBatch(2, 3, ACKNOWLEDGED, 1)])
    assert share.take() == [(4, 5, 1)]
    share.tell(4, 5, ACCEPT)
    assert share.window.start_offset == 6


def test_what_is_missing_in_a_state_is_given_bit_by_bit() -> None:
    state = [StateBatch(2, 3, ACKNOWLEDGED, 1), StateBatch(6, 7, ACKNOWLEDGED, 1)]
    share, given = Share(batch(0, 10), state=state), list[int]()
    for _ in range(10):
        for first, last, count in share.take(most=1, by_record_limit=True):
            assert count == 1
            given += range(first, last + 1)
    assert given == [0, 1, 4, 5, 8, 9]


# More time


def test_where_renewals_are_not_wanted_they_are_refused_and_nothing_changes() -> None:
    share = Share(batch(0, 2), renews=False)
    assert share.take() == [(0, 1, 1)]
    share.now = LOCK_SECONDS / 2
    for last in (1, 0):  # a whole batch, and one record of it
        with pytest.raises(KafkaError) as refusal:
            share.begin(0, last, RENEW)
        assert refusal.value.error is Error.INVALID_RECORD_STATE
    share.wait(LOCK_SECONDS / 2)
    assert share.take("other")[0][2] == 2, "its time was over as before"
