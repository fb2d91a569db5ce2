"""The checker of share groups finds what it is for: histories that hold, and each way in which one may not."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "compat" / "endurance"))

from shared_records import read, violations

ACCEPT, RELEASE, REJECT = 1, 2, 3
LIMIT = 5


def member(begun: float, *takes: tuple[float, int, int, int, bool]) -> list[dict[str, Any]]:
    """What a member notes: when it was given which offset for which time, what it said of that, and was it told so."""
    lines: list[dict[str, Any]] = [{"at": begun, "begun": True}]
    for at, offset, count, kind, told in takes:
        lines.append({"at": at, "given": [[0, offset, count]]})
        lines.append({"at": at, "telling": [[0, offset, kind]]})
        lines += [{"at": at + 0.5, "told": [0]}] * told
    return lines


def kinds(*members: list[dict[str, Any]], end: int = 1, kills: Any = (), letters: Any = None) -> list[str]:
    found = violations(read(members), {0: end}, LIMIT, kills, letters)
    return [line.partition(":")[0] for line in found]


def renewing(at: float, until: float, *then: dict[str, Any]) -> list[dict[str, Any]]:
    """What a member notes that is given offset 0 at 1, and holds on to it."""
    return [
        {"at": 0, "begun": True},
        {"at": 1, "given": [[0, 0, 1]]},
        {"at": at, "renewed": [[0, 0, 1]], "until": until},
        *then,
    ]


@pytest.mark.parametrize(
    "members",
    [
        [member(0, (1, 0, 1, ACCEPT, True))],
        [member(0, (1, 0, 1, RELEASE, True), (2, 0, 2, REJECT, True))],
        [member(0, (1, 0, 1, ACCEPT, False)), member(0, (2, 0, 2, ACCEPT, True))],
        [member(0, *((float(count), 0, count, RELEASE, True) for count in range(1, LIMIT + 1)))],
        [member(0, (1, 0, 2, ACCEPT, True)), member(0, (3, 0, 1, ACCEPT, False))],  # it had lain in its hands
    ],
)
def test_histories_that_hold(members: list[Any]) -> None:
    assert kinds(*members) == []


def test_what_was_done_with_comes_again() -> None:
    first = member(0, (1, 0, 1, ACCEPT, True))
    assert kinds(first, member(0, (2, 0, 2, ACCEPT, True))) == ["again"]
    assert kinds(first, member(2, (3, 0, 1, RELEASE, True))) == ["again"], "of a member that came later"
    assert kinds(member(0, (1, 0, 1, REJECT, True)), member(0, (2, 0, 2, RELEASE, False))) == ["again"]


def test_a_record_is_lost() -> None:
    assert kinds(member(0), end=1) == ["lost"]
    assert kinds(member(0, (1, 0, 1, RELEASE, True))) == ["lost"]
    assert kinds(member(0, (1, 1, 1, ACCEPT, True)), end=2) == ["lost"]


def test_a_record_is_given_too_often() -> None:
    often = [(float(count), 0, count, RELEASE, True) for count in range(1, LIMIT + 2)]
    assert kinds(member(0, *often)) == ["count", "count"]
    again = [(float(at), 0, LIMIT, RELEASE, True) for at in range(LIMIT + 2)]
    assert kinds(member(0, *again), kills=[0.5]) == ["count"]
    assert kinds(member(0, *again), kills=[0.5, 0.6]) == []


def test_a_record_that_is_not_there() -> None:
    assert kinds(member(0, (1, 7, 1, ACCEPT, True)), end=0) == ["nonsense"]


def test_a_record_that_a_member_holds_on_to_is_given_to_another() -> None:
    there = {"at": 9.0, "given": [[0, 1, 1]]}
    other = member(0, (3, 0, 2, ACCEPT, True))
    assert "stolen" in kinds(renewing(2, 4, there), other)
    assert "stolen" not in kinds(renewing(2, 2.5, there), other), "its time was over"
    assert "stolen" not in kinds(renewing(2, 4), other), "it may have been killed"
    assert "stolen" not in kinds(renewing(2, 4, there), other, kills=[2.5])


def test_what_is_given_up_is_in_the_queue() -> None:
    rejected = member(0, (1, 0, 1, REJECT, True))
    assert kinds(rejected, letters=set()) == ["no letter"]
    assert kinds(rejected, letters={(0, 0)}) == []
    given_up = member(0, *((float(count), 0, count, RELEASE, True) for count in range(1, LIMIT + 1)))
    assert kinds(given_up, letters=set()) == ["no letter"]
    assert kinds(member(0, (1, 0, 1, ACCEPT, True)), letters=set()) == []
