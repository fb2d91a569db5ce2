"""What must hold of records that were read, made into others and written again in transactions: pure, on histories.

Called by `transactions.py` with what it read, and with what the workers noted down.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Place = tuple[str, int]
"""A topic's partition."""


class Copy(NamedTuple):
    """A record that was made of another: in which transaction, how many that has in each topic, and of what."""

    transaction: str
    count: int
    partition: int
    offset: int
    key: int
    number: int

    def encode(self) -> bytes:
        return " ".join(map(str, self)).encode()

    @classmethod
    def decode(cls, value: bytes) -> "Copy":
        transaction, *numbers = value.decode().split()
        return cls(transaction, *map(int, numbers))


View = dict[Place, list[tuple[int, Copy]]]
"""What a reader saw: offsets and records, in the order in which they came."""


@dataclass
class History:
    """All that is known of a run once it is over."""

    source: Mapping[int, Sequence[bytes]]
    """By partition, the records that were to be copied: "key number"."""
    committed: View
    uncommitted: View
    journal: Mapping[str, Sequence[str]]
    """What workers noted of each transaction, in order: begin, committing, committed, aborting, aborted."""
    group: Mapping[int, int]
    """The group's committed offset by partition of the source."""
    topics: Sequence[str] = field(default_factory=list)


def violations(history: History) -> Iterator[str]:
    """Everything that does not hold, in words."""
    yield from _copied_once(history)
    yield from _whole_transactions(history)
    yield from _outcomes(history)
    yield from _order(history)
    yield from _offsets(history)
    yield from _views(history)


def _copied_once(history: History) -> Iterator[str]:
    for topic in history.topics:
        seen = Counter((copy.partition, copy.offset) for copy in _of(history.committed, topic))
        for partition, records in history.source.items():
            for offset in range(len(records)):
                if (count := seen.pop((partition, offset), 0)) != 1:
                    kind = "doubled" if count else "lost"
                    yield f"{kind}: record {partition}@{offset} is {count} times in {topic}"
        for (partition, offset), count in seen.items():
            yield f"made up: {partition}@{offset} is {count} times in {topic} and was never written"


def _whole_transactions(history: History) -> Iterator[str]:
    seen = Counter((copy.transaction, topic) for topic in history.topics for copy in _of(history.committed, topic))
    counts = {copy.transaction: copy.count for view in history.committed.values() for _, copy in view}
    for transaction, count in counts.items():
        for topic in history.topics:
            if (found := seen[transaction, topic]) != count:
                yield f"torn: of {transaction} {found} of {count} records are in {topic}"


def _outcomes(history: History) -> Iterator[str]:
    visible = {copy.transaction for view in history.committed.values() for _, copy in view}
    for transaction in visible:
        notes = history.journal.get(transaction, ())
        if "aborted" in notes or "committing" not in notes:
            yield f"seen and not committed: {transaction}, {', '.join(notes) or 'unknown'}"
    for transaction, notes in history.journal.items():
        if "committed" in notes and transaction not in visible:
            yield f"acknowledged and not seen: {transaction}"


def _order(history: History) -> Iterator[str]:
    for (topic, partition), view in history.committed.items():
        last: dict[int, int] = defaultdict(lambda: -1)
        for offset, copy in view:
            if copy.number <= last[copy.key]:
                yield f"order: key {copy.key} has {copy.number} after {last[copy.key]} at {topic}-{partition}@{offset}"
            last[copy.key] = copy.number


def _offsets(history: History) -> Iterator[str]:
    copied: dict[int, int] = defaultdict(int)
    for view in history.committed.values():
        for _, copy in view:
            copied[copy.partition] = max(copied[copy.partition], copy.offset + 1)
    for partition in history.source:
        if (committed := history.group.get(partition, 0)) != copied[partition]:
            yield f"offsets: the group is at {partition}@{committed}, what it wrote ends with {copied[partition]}"


def _views(history: History) -> Iterator[str]:
    for place, view in history.committed.items():
        everything = dict(history.uncommitted.get(place, ()))
        for offset, copy in view:
            if everything.get(offset) != copy:
                yield f"views: {place}@{offset} is {copy} for one reader and {everything.get(offset)} for the other"


def _of(view: View, topic: str) -> Iterator[Copy]:
    for (name, _), records in view.items():
        if name == topic:
            for _, copy in records:
                yield copy
