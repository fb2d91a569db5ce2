"""The checker of transactions finds what it is for: a history that holds, and each way in which one may not."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "compat" / "endurance"))

from exactly_once import Copy, History, View, violations

TOPICS = ("a", "b")
DONE = ["begin", "committing", "committed"]


def history() -> History:
    """Two transactions of two records each, and one that was aborted."""
    source = {0: [b"5 0", b"5 1", b"6 0", b"5 2"]}
    rows = [
        (0, Copy("t1", 2, 0, 0, 5, 0)),
        (1, Copy("t1", 2, 0, 1, 5, 1)),
        (6, Copy("t3", 2, 0, 2, 6, 0)),
        (7, Copy("t3", 2, 0, 3, 5, 2)),
    ]
    aborted = [(3, Copy("t2", 2, 0, 2, 6, 0)), (4, Copy("t2", 2, 0, 3, 5, 2))]
    committed: View = {(topic, 0): list(rows) for topic in TOPICS}
    uncommitted: View = {(topic, 0): sorted(rows + aborted) for topic in TOPICS}
    journal = {"t1": DONE, "t2": ["begin", "aborting", "aborted"], "t3": ["begin", "committing"]}
    return History(source, committed, uncommitted, journal, {0: 4}, TOPICS)


def kinds(found: History) -> set[str]:
    return {line.partition(":")[0] for line in violations(found)}


def test_a_history_that_holds() -> None:
    assert list(violations(history())) == []


def test_a_lost_record_tears_its_transaction() -> None:
    wrong = history()
    del wrong.committed["a", 0][1]
    assert kinds(wrong) == {"lost", "torn"}


def test_a_record_that_was_copied_twice() -> None:
    wrong = history()
    for view in (wrong.committed, wrong.uncommitted):
        for topic in TOPICS:
            view[topic, 0].append((9, Copy("t4", 1, 0, 3, 5, 2)))
    wrong.journal["t4"] = DONE  # type: ignore[index]
    assert kinds(wrong) == {"doubled", "order"}


@pytest.mark.parametrize("notes", [["begin", "aborting", "aborted"], ["begin"], ["begin", "committing", "aborted"]])
def test_a_record_of_a_transaction_that_nobody_committed(notes: list[str]) -> None:
    wrong = history()
    wrong.journal["t3"] = notes  # type: ignore[index]
    assert kinds(wrong) == {"seen and not committed"}


def test_a_transaction_that_was_acknowledged_and_is_not_there() -> None:
    wrong = history()
    wrong.journal["t4"] = DONE  # type: ignore[index]
    assert kinds(wrong) == {"acknowledged and not seen"}


def test_order_within_a_key() -> None:
    wrong = history()
    for view in (wrong.committed, wrong.uncommitted):
        (first, one), (second, two), *rest = view["a", 0]
        view["a", 0] = [(first, two), (second, one), *rest]
    assert kinds(wrong) == {"order"}


def test_offsets_that_disagree() -> None:
    wrong = history()
    wrong.group[0] = 3  # type: ignore[index]
    assert kinds(wrong) == {"offsets"}


def test_readers_that_disagree() -> None:
    wrong = history()
    del wrong.uncommitted["a", 0][0]
    assert kinds(wrong) == {"views"}
