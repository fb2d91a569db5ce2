"""Who is to have which lane: of those who are there the first in the lane's own order of them (rendezvous hashing).

Pure. All processes compute it from the same tables, so nobody assigns, and nobody is elected: who comes takes a share
of the lanes of each, who goes leaves his to the others, and no other lane moves. Who is started again has the lanes
that it had, for the order is one of node ids.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from struct import pack
from typing import Final, NamedTuple

AT_ONCE: Final = 8
"""So many lanes may be without an owner while they are handed over: each is so for some tens of milliseconds."""


class Plan(NamedTuple):
    """What a process is to do now. `is_settled`: nobody has anything to do."""

    take: frozenset[int]
    hand_over: frozenset[int]
    is_settled: bool


@lru_cache(maxsize=1 << 10)
def in_order(lane: int, node_ids: tuple[int, ...]) -> Sequence[int]:
    """These in the order in which they come to own the lane."""
    return sorted(node_ids, key=lambda node_id: _rank(lane, node_id), reverse=True)


def plan(me: int, willing: Collection[int], owners: Mapping[int, int | None]) -> Plan:
    """What `me` is to do, where `willing` are to share the lanes, and these own them; None: nobody does.

    Who is not willing gives all away, if there is anybody who takes it.
    """
    if not willing:
        return Plan(frozenset(), frozenset(), is_settled=True)
    due = {lane: max(willing, key=lambda node_id: _rank(lane, node_id)) for lane in owners}
    free = [lane for lane, owner in owners.items() if owner is None]
    misplaced = sorted(lane for lane, owner in owners.items() if owner == me != due[lane])
    return Plan(
        frozenset(lane for lane in free if due[lane] == me),
        frozenset(misplaced[: max(AT_ONCE - len(free), 0)]),
        is_settled=all(owner == due[lane] for lane, owner in owners.items()),
    )


@lru_cache(maxsize=1 << 14)
def _rank(lane: int, node_id: int) -> tuple[int, int]:
    digest = blake2b(pack(">iq", lane, node_id), digest_size=8).digest()
    return int.from_bytes(digest), node_id
