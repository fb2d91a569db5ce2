"""What must hold of records that a share group was given: pure, on what its members noted down.

Called by `sharing.py`; `taking.py` and `renewing.py` write the journals.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple

Place = tuple[int, int]
"""Partition and offset."""

ACCEPT, RELEASE, REJECT = 1, 2, 3


class Given(NamedTuple):
    """A record in a member's hands: when, for which time, and since when there is this member."""

    at: float
    count: int
    begun: float


class Renewed(NamedTuple):
    """A record that a member has for longer, which it knows since `at`: for which time it was given, until when it has
    it at least, and when the member was last seen to have it.
    """

    at: float
    count: int
    until: float
    seen: float


@dataclass
class Record:
    """All that members noted of a record."""

    given: list[Given] = field(default_factory=list)
    done: list[Given] = field(default_factory=list)
    """Accepted or rejected, and told so: `at` is when the broker's answer was there."""
    may_be_done: bool = False
    """Somebody was about to say so."""
    may_be_accepted: bool = False
    is_rejected: bool = False
    """Rejected, and told so."""
    renewed: list[Renewed] = field(default_factory=list)


def read(journals: Iterable[Sequence[Mapping[str, Any]]]) -> dict[Place, Record]:
    """What the journals of all members say, each line as `taking.py` wrote it."""
    records: dict[Place, Record] = defaultdict(Record)
    for lines in journals:
        begun, counts, telling = 0.0, dict[Place, int](), list[tuple[int, int, int]]()
        for line, following in zip_longest(lines, lines[1:]):
            at = line["at"]
            if "begun" in line:
                begun = at
            elif "given" in line:
                for partition, offset, count in line["given"]:
                    counts[partition, offset] = count
                    records[partition, offset].given.append(Given(at, count, begun))
            elif "telling" in line:
                telling = line["telling"]
                for partition, offset, kind in telling:
                    records[partition, offset].may_be_done |= kind != RELEASE
                    records[partition, offset].may_be_accepted |= kind == ACCEPT
            elif "renewed" in line:
                seen = at if following is None else following["at"]
                for partition, offset, count in line["renewed"]:
                    records[partition, offset].renewed.append(Renewed(at, count, line["until"], seen))
            else:
                for partition, offset, kind in telling:
                    if kind != RELEASE and partition in line["told"]:
                        done = Given(at, counts[partition, offset], begun)
                        records[partition, offset].done.append(done)
                        records[partition, offset].is_rejected |= kind == REJECT
    return dict(records)


def violations(
    records: Mapping[Place, Record],
    ends: Mapping[int, int],
    limit: int,
    kills: Sequence[float],
    letters: Collection[Place] | None = None,
) -> Iterator[str]:
    """Everything that does not hold, in words: `ends` are those of the partitions, all of which the group is done with,
    `kills` when the broker was killed, `letters` what stands in the dead-letter queue, where there is one.

    A member that is killed takes along what it was given and had not noted: of a record's last two deliveries one may
    be missing. A broker that is killed forgets deliveries that nothing was said of.
    """
    for partition, end in ends.items():
        for offset in range(end):
            place = (partition, offset)
            record = records.get(place)
            if record is None:
                yield f"lost: nobody was ever given {place}"
                continue
            counts = [given.count for given in record.given]
            if not 1 <= min(counts) <= max(counts) <= limit:
                yield f"count: {place} was given for the times {sorted(counts)}, of {limit}"
            if len(counts) > limit + len(kills):
                yield f"count: {place} was given {len(counts)} times"
            if not record.may_be_done and max(counts) < limit - 1:
                yield f"lost: nobody is done with {place}, which was given for the times {sorted(counts)}"
            if letters is not None and place not in letters:
                if not record.may_be_done:
                    yield f"no letter: {place} was given up, and is not in the queue"
                elif record.is_rejected and not record.may_be_accepted:
                    yield f"no letter: {place} was rejected, and is not in the queue"
            for renewed in record.renewed:
                held_until = min(renewed.until, renewed.seen)
                for given in record.given:
                    is_other = given.count > renewed.count and renewed.at < given.at < held_until
                    if is_other and not any(renewed.at - 1 < kill < given.at for kill in kills):
                        yield f"stolen: {place} was renewed at {renewed.at:.3f}, and was given at {given.at:.3f}"
            for done in record.done:
                for given in record.given:
                    if given.at > done.at and (given.count > done.count or given.begun > done.at):
                        yield f"again: {place} was done with at {done.at:.3f}, and was given at {given.at:.3f}"
    for place in records:
        if place[1] >= ends.get(place[0], 0):
            yield f"nonsense: {place} was given, and is not there"
