"""The checker of failovers finds what it is for, and tells each pause once, by what it came from."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "compat"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "compat" / "endurance"))

from churn import Entry
from failover import judge_writer, pauses
from producing import PARTITION_COUNT

COUNT = 2 * PARTITION_COUNT


def journal() -> list[Entry]:
    acked = [Entry(0.1 * number, "acked", [str(number), str(number // PARTITION_COUNT)]) for number in range(COUNT)]
    return [*acked, Entry(9.0, "sent", [str(COUNT)])]


def topic() -> dict[int, list[tuple[int, int]]]:
    return {index: [(0, index), (1, index + PARTITION_COUNT)] for index in range(PARTITION_COUNT)}


def test_what_holds_is_not_complained_of() -> None:
    assert judge_writer("w", journal(), topic()) == []


@pytest.mark.parametrize(
    "records",
    [
        [(0, 1)],  # lost
        [(0, 1), (1, 1), (2, 7)],  # doubled
        [(0, 7), (1, 1)],  # reordered
        [(0, 1), (2, 7)],  # elsewhere than it was acknowledged
    ],
)
def test_each_way_to_be_wrong_is_found(records: list[tuple[int, int]]) -> None:
    assert judge_writer("w", journal(), topic() | {1: records})


def test_what_failed_or_was_never_answered_is_wrong() -> None:
    failed = [Entry(8.0, "failed", ["3", "timed", "out"])]
    assert judge_writer("w", failed + journal(), topic())
    assert judge_writer("w", journal()[1:], topic())
    assert judge_writer("w", journal()[:-1], topic())


def test_a_pause_is_that_of_the_event_within_it_or_else_before_it() -> None:
    events = [(10.0, "killed"), (13.0, "back"), (20.0, "killed")]
    seen = {
        0: [9.0, 9.9, 12.0, 12.5, 14.5, 15.0, 21.0],  # across the first kill, the return, the second kill
        1: [9.0, 10.5, 11.0, 19.0, 22.5],  # all else is longer: from 11 on it waited for the return
    }
    assert pauses(events, seen) == {"killed": [pytest.approx(2.1), 6.0], "back": [8.0]}


def test_before_the_first_event_nothing_counts() -> None:
    assert pauses([(10.0, "killed")], {0: [1.0, 9.0, 10.5]}) == {"killed": [1.5]}
