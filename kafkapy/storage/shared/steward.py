"""Sees to it that this process has the lanes that are its to have (`rendezvous.py`), and leads only as long as it may.

Three tasks. One renews the lease, one ends it here when it was not renewed in time, one looks at who is there and who
owns what, whenever that has changed, and takes lanes or hands them over. While lanes are on their way everybody looks
often, so that a lane that is handed over is without an owner for some tens of milliseconds.
"""

import logging
from collections.abc import Sequence
from math import inf
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.storage.base import Holder
from kafkapy.storage.shared.following import Followed
from kafkapy.storage.shared.lanes import Lanes
from kafkapy.storage.shared.leases import LaneLeases
from kafkapy.storage.shared.members import LEAVING, THERE, Member, Members
from kafkapy.storage.shared.problems import DatabaseError
from kafkapy.storage.shared.rendezvous import Plan, plan
from kafkapy.storage.shared.tenure import LaneRow

_log = logging.getLogger(__name__)

_MOVING_SECONDS: Final = 0.01
_IDLE_SECONDS: Final = 0.1
_ALONE_SECONDS: Final = 0.5
"""How often it is asked whether anything has moved: while something does, among others, and without others."""

_AT_ONCE: Final = 8
"""So many lanes are loaded at a time: the first is served before the last is there."""

_RETRY_SECONDS: Final = 0.2

_READ_AGAIN_SECONDS: Final = 30.0
"""A lane that could not be read may have been mended."""

_NOTHING_TO_DO: Final = Plan(frozenset(), frozenset(), is_settled=True)


class Steward:
    """Of a process among others."""

    def __init__(
        self, members: Members, lanes: Lanes, leases: LaneLeases, followed: Followed, clock: Clock, ttl_ms: int
    ) -> None:
        self._members = members
        self._lanes = lanes
        self._tenure = lanes.tenure
        self._leases = leases
        self._followed = followed
        self._clock = clock
        self._ttl_seconds = ttl_ms / 1000
        lanes.lost = self.look_again
        self._moves = -1
        self._look_again = trio.Event()
        self._look_at = -inf
        self._read_again_at = inf
        self._calm_at = -inf
        self._is_gone = False
        self._is_settled = False
        self._is_alone = False
        self._has_takers = False
        self._is_acting = False
        self._turned = trio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew)
            nursery.start_soon(self._end_in_time)
            nursery.start_soon(self._watch)
            nursery.start_soon(self._act)

    def _note_trouble(self) -> None:
        """The database was out of reach: others may have found it so, and get the time to renew their leases."""
        self._calm_at = self._clock.monotonic() + self._ttl_seconds

    def look_again(self) -> None:
        """Something is other than it was believed to be."""
        self._look_again.set()

    async def settled(self) -> None:
        """Return once every lane is where it is to be."""
        await self._turn()
        while not self._is_settled:
            await self._turned.wait()

    async def _turn(self) -> None:
        """Return once everything was looked at that is so now."""
        while self._is_acting:
            await self._turned.wait()
        self.look_again()
        await self._turned.wait()

    async def leave(self) -> None:
        """Hand everything over, and return when that is so. Raises DatabaseError."""
        await self._members.tell(LEAVING)
        await self._clock.sleep(2 * _IDLE_SECONDS)  # until all of them look often
        await self._turn()
        while self._has_takers and (self._tenure.owned or not self._is_settled):
            await self._turned.wait()

    # -- the lease

    async def _renew(self) -> None:
        is_said = False
        while True:
            began = self._clock.monotonic()
            until = began + self._ttl_seconds / 3
            try:
                if not self._is_gone and await self._tenure.renew():
                    self._leases.extend(began + 0.9 * self._ttl_seconds)
                    is_said = False
                else:
                    await self._return()
                    continue
            except DatabaseError as failure:
                if not is_said:
                    _log.warning("the lease could not be renewed, which is tried again: %s", failure)
                is_said = True
                self._note_trouble()
                until = min(until, self._clock.monotonic() + _RETRY_SECONDS)
            await self._clock.sleep_until(until)

    async def _return(self) -> None:
        """Others took this process for gone: it begins anew."""
        if not self._is_gone:
            _log.warning("this process stood still, or the database was out of reach, for longer than its lease lasts")
        self._is_gone = True
        self._leases.expire()
        for lane in list(self._tenure.owned.values()):
            self._lanes.forget(lane)
        await self._members.return_()
        self._is_gone = False
        self.look_again()

    async def _end_in_time(self) -> None:
        while True:
            until, extended = self._leases.until, self._leases.extended
            if until == -inf:
                await extended.wait()
            else:
                await self._clock.sleep_until(until)
                if self._clock.monotonic() >= self._leases.until > -inf:
                    _log.warning("the lease was not renewed in time: nothing is led until it is")
                    self._leases.expire()

    # -- lanes

    async def _watch(self) -> None:
        is_there = True
        while True:
            try:
                moves = await self._followed.poll()
                if moves != self._moves or self._clock.monotonic() >= self._look_at:
                    self._moves = moves
                    self.look_again()
                is_there = True
            except DatabaseError as failure:
                if is_there:
                    _log.warning("what other processes do is not heard of for now: %s", failure)
                self._note_trouble()
                is_there = False
            await self._clock.sleep(self._pause() if is_there else _IDLE_SECONDS)

    def _pause(self) -> float:
        if not self._is_settled:
            return _MOVING_SECONDS
        return min(
            _ALONE_SECONDS if self._is_alone else _IDLE_SECONDS, max(self._look_at - self._clock.monotonic(), 0.005)
        )

    async def _act(self) -> None:
        while True:
            await self._look_again.wait()
            self._look_again = trio.Event()
            self._is_acting = True
            try:
                await self._step()
            except DatabaseError as failure:
                _log.warning("lanes could not be taken or handed over, which is tried again: %s", failure)
                self.look_again()
                await self._clock.sleep(_RETRY_SECONDS)
            self._is_acting = False
            self._turned.set()
            self._turned = trio.Event()

    async def _step(self) -> None:
        self._is_settled = False
        members = await self._members.look(sweep=self._clock.monotonic() >= self._calm_at)
        rows = await self._tenure.look()
        todo = self._considered(members, rows)
        own, owned = self._members.incarnation, self._tenure.owned
        if astray := [row.number for row in rows if row.owner == own and row.number not in {*owned, *todo.take}]:
            # A statement that took them, or that let them go, was lost; and they are not ours to have.
            self.look_again()
            await self._tenure.release(astray)
        if todo.take:
            self.look_again()
            lanes = await self._tenure.take(todo.take)
            for first in range(0, len(lanes), _AT_ONCE):
                await self._lanes.gain(lanes[first : first + _AT_ONCE])
        if todo.hand_over:
            self.look_again()
            parting = [self._tenure.owned[number] for number in sorted(todo.hand_over)]
            try:
                await self._lanes.part(parting)
                await self._tenure.release([lane.number for lane in parting])
            finally:  # where that is not so, they are found astray
                for lane in parting:
                    self._lanes.forget(lane)
        self._is_settled = todo.is_settled

    def _considered(self, members: Sequence[Member], rows: Sequence[LaneRow]) -> Plan:
        """Take note of who is there and what they have; what is to be done about it."""
        own, me, owned = self._members.incarnation, self._members.node_id, self._tenure.owned
        others = [member for member in members if member.incarnation != own]
        self._is_alone = not others
        self._has_takers = any(member.state == THERE for member in others)
        now = self._clock.monotonic()
        is_to_read_again = now >= self._read_again_at
        if is_to_read_again:
            self._read_again_at = inf
        elif self._read_again_at == inf and any(lane.damage is not None for lane in owned.values()):
            self._read_again_at = now + _READ_AGAIN_SECONDS
        self._look_at = min([now + member.left_ms / 1000 for member in others], default=inf)
        self._look_at = min(self._look_at, self._read_again_at)
        node_ids = {member.incarnation: member.node_id for member in members}
        holders, owners = {}, dict[int, int | None]()
        for number, owner, epoch, _ in rows:
            lane = owned.get(number)
            is_held = lane is not None and owner == own and lane.epoch == epoch
            if lane is not None and lane.damage is not None and is_to_read_again:
                is_held = False
            if lane is not None and not is_held:
                self._lanes.forget(lane)
            node_id = me if is_held else None if owner in (None, own) else node_ids.get(owner)
            owners[number] = node_id
            if node_id is not None:
                holders[number] = Holder(node_id, epoch)
        self._leases.show(holders)
        if own not in node_ids:
            return _NOTHING_TO_DO  # which the next renewal hears, too
        return plan(me, [member.node_id for member in members if member.state == THERE], owners)
