"""Which processes are there, and where they are reached: the table `brokers`, and `storage.base.Brokers` over it.

A process has a row for as long as it renews its lease; whoever sees that one has run out removes the row, and with it
all that the process owned. Expiry is the database's clock alone. A renewal and a removal want the same row, so either
comes first, and a process whose row is gone hears so.
"""

import json
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from kafkapy.clock import Clock
from kafkapy.model import Endpoint
from kafkapy.storage.base import LiveBroker, Watch
from kafkapy.storage.shared.database import INT4, INT8, TEXT, Link, Row, Statement
from kafkapy.storage.shared.problems import DatabaseInUse

COMING: Final = "coming"
THERE: Final = "there"
LEAVING: Final = "leaving"
ALONE: Final = "alone"
"""What a process does: has a node id, and no lane yet; shares the lanes; gives its lanes away; has them all."""

_MOVED: Final = "m as (update cluster set moves = moves + 1 where exists (select from d))"

_CLAIM: Final = Statement(
    """
    insert into brokers (node_id, incarnation, host, state, expires)
    select coalesce($1, (select min(n) from generate_series(1, (select count(*) + 1 from brokers)) n
                         where not exists (select from brokers where node_id = n and expires >= now()))),
      $2, $3, $4, now() + $5 * interval '1 millisecond'
    on conflict (node_id) do update set incarnation = excluded.incarnation, host = excluded.host,
      state = excluded.state, endpoints = '[]', rack = null, expires = excluded.expires
      where brokers.expires < now() or brokers.incarnation = excluded.incarnation returning node_id
    """,
    (INT4, TEXT, TEXT, TEXT, INT8),
)

_OCCUPANT: Final = Statement(
    """
    select host, incarnation, state, (extract(epoch from expires - now()) * 1000)::bigint from brokers
    where node_id = $1
    """,
    (INT4,),
)

_OTHERS: Final = Statement(
    """
    select node_id, host, state, (extract(epoch from expires - now()) * 1000)::bigint from brokers
    where incarnation <> $1 and expires >= now() order by node_id
    """,
    (TEXT,),
)

_TELL: Final = Statement(
    f"""
    with d as (update brokers set state = $2, endpoints = $3, rack = $4 where incarnation = $1 returning node_id),
         {_MOVED} select node_id from d
    """,
    (TEXT, TEXT, TEXT, TEXT),
)

_WITHDRAW: Final = Statement(
    f"with d as (delete from brokers where incarnation = $1 returning node_id), {_MOVED} select node_id from d",
    (TEXT,),
)

_SWEEP: Final = Statement(
    f"with d as (delete from brokers where expires < now() returning node_id), {_MOVED} select node_id from d"
)

_LOOK: Final = Statement(
    """
    select node_id, incarnation, state, endpoints, rack, (extract(epoch from expires - now()) * 1000)::bigint
    from brokers order by node_id
    """
)

_PAUSE_SECONDS: Final = 0.2


class Member(NamedTuple):
    """A process that has a row, and how long its lease lasts if it is not renewed, in milliseconds."""

    node_id: int
    incarnation: str
    state: str
    broker: LiveBroker
    left_ms: int


class Members:
    """The processes of the cluster, this one among them. `live` and `watch` are those of `storage.base.Brokers`."""

    node_id: int

    def __init__(self, link: Link, clock: Clock, ttl_ms: int) -> None:
        self.incarnation = os.urandom(8).hex()
        """A name for this run of this process."""
        self._link = link
        self._clock = clock
        self._ttl_ms = ttl_ms
        self._told: tuple[str, LiveBroker | None] = (COMING, None)
        self._live: tuple[LiveBroker, ...] = ()
        self._watches: list[_Watch] = []

    # -- this one

    async def claim(self, node_id: int | None, *, alone: bool = False) -> int:
        """Have a row, with this node id or the first that is free, and return it. `alone`: no other may have one.

        A process that was killed may seem to be there, until its lease has run out. Raises DatabaseInUse,
        DatabaseError.
        """
        state = ALONE if alone else COMING
        self._told = state, None
        first_seen = None
        while not (rows := await self._claim(node_id, state)):
            if node_id is None:
                continue  # somebody else took it
            for host, incarnation, theirs, left_ms in await self._link.run(_OCCUPANT, node_id):
                if first_seen is not None and first_seen[0] == incarnation and left_ms > first_seen[1]:
                    raise DatabaseInUse(_told(node_id, host, _why_not(theirs, alone=alone)))
                first_seen = incarnation, left_ms
            await self._clock.sleep(_PAUSE_SECONDS)
        [(self.node_id,)] = rows
        await self._find_room(alone=alone)
        return self.node_id

    async def _claim(self, node_id: int | None, state: str) -> list[Row]:
        return await self._link.run(_CLAIM, node_id, self.incarnation, socket.gethostname(), state, self._ttl_ms)

    async def _find_room(self, *, alone: bool) -> None:
        """Wait for those who cannot be there together with this one to be gone, if they do not renew their leases."""
        until = None
        while True:
            others = [row for row in await self._link.run(_OTHERS, self.incarnation) if alone or row[2] == ALONE]
            if not others:
                return
            now, left_ms = self._clock.monotonic(), max(left_ms for *_, left_ms in others)
            until = until or now + (left_ms + self._ttl_ms / 10) / 1000
            if now >= until:
                await self._link.run(_WITHDRAW, self.incarnation)
                number, host, theirs, _ = others[0]
                raise DatabaseInUse(_told(number, host, _why_not(theirs, alone=alone)))
            await self._clock.sleep(_PAUSE_SECONDS)
            await self._renew_claim()

    async def _renew_claim(self) -> None:
        await self._link.run(RENEW, self.incarnation, self._ttl_ms)

    async def tell(self, state: str, broker: LiveBroker | None = None) -> None:
        """Say what this process is about, and where it is reached. Raises DatabaseError."""
        self._told = state, broker or self._told[1]
        state, told = self._told
        endpoints, rack = ((), None) if told is None else (told.endpoints, told.rack)
        await self._link.run(_TELL, self.incarnation, state, json.dumps([list(each) for each in endpoints]), rack)

    async def return_(self) -> None:
        """Be there again, after the lease had run out and somebody noticed. Raises DatabaseInUse, DatabaseError."""
        state, broker = self._told
        while not await self._claim(self.node_id, state):
            for host, incarnation, _, left_ms in await self._link.run(_OCCUPANT, self.node_id):
                if incarnation != self.incarnation and left_ms >= 0:
                    raise DatabaseInUse(_told(self.node_id, host, "this process stood still for too long"))
        await self.tell(state, broker)

    async def withdraw(self) -> None:
        """Be there no more. Raises DatabaseError."""
        await self._link.run(_WITHDRAW, self.incarnation)

    # -- all

    async def look(self, *, sweep: bool) -> list[Member]:
        """Those who are there now; `sweep`: without those whose leases have run out. Raises DatabaseError."""
        members = [_member(row) for row in await self._link.run(_LOOK)]
        if sweep and any(member.left_ms < 0 for member in members):
            await self._link.run(_SWEEP)
            members = [_member(row) for row in await self._link.run(_LOOK)]
        live = tuple(member.broker for member in members if member.broker.endpoints)
        if live != self._live:
            self._live = live
            for watch in list(self._watches):
                watch.wake()
        return members

    def live(self) -> Sequence[LiveBroker]:
        return self._live

    def watch(self, wake: Callable[[], None]) -> Watch:
        return _Watch(self._watches, wake)


RENEW: Final = Statement(
    """
    with b as (update brokers set expires = now() + $2 * interval '1 millisecond' where incarnation = $1
               returning incarnation)
    select l.lane, l.epoch, l.seq from b left join lanes l on l.owner = b.incarnation
    """,
    (TEXT, INT8),
)
"""No row: the process is taken for gone. Else its lanes, or one row without a lane."""


class _Watch:
    """One who wants to know who comes and goes."""

    def __init__(self, watches: "list[_Watch]", wake: Callable[[], None]) -> None:
        self._watches = watches
        self.wake = wake
        watches.append(self)

    def close(self) -> None:
        self._watches.remove(self)


def _why_not(state: str, *, alone: bool) -> str:
    if state == ALONE:
        return "it does not share it"
    return "this one would not share it" if alone else "node.id must be another one"


def _told(node_id: int, host: str, why_not: str) -> str:
    return f"broker {node_id} on {host} has the cluster in this database: {why_not}"


def _member(row: Row) -> Member:
    node_id, incarnation, state, endpoints, rack, left_ms = row
    try:
        told = tuple(Endpoint(*each) for each in json.loads(endpoints))
    except (ValueError, TypeError):
        told = ()  # damaged, or of another version: it has its lanes, and cannot be reached
    return Member(node_id, incarnation, state, LiveBroker(node_id, rack, told), left_ms)
