"""What is asked of the streams groups of this broker, and the making of the topics that their applications need.

Each question goes to the shard of the group (`groups/service.py`). Internal topics are made behind the heartbeat that
found them missing; why one could not be made is told by the next ones, who try again when that is forgotten.
`node.py` runs the service in the nursery that outlives the connections.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import trio

from kafkapy.clock import Clock
from kafkapy.cluster.machine import NewTopic
from kafkapy.cluster.placement import DEFAULT
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.service import GroupService
from kafkapy.groups.streams.commands import (
    DescribeStreamsGroup,
    StreamsGroupDescription,
    StreamsHeartbeat,
    StreamsHeartbeatAnswer,
)
from kafkapy.groups.streams.facts import InternalTopic

if TYPE_CHECKING:
    from kafkapy.cluster.service import ClusterService

log = logging.getLogger(__name__)

_REMEMBERED: Final = 1000
"""Topics that could not be made, of which it is told why; with more, the first of them are forgotten."""


class StreamsGroups:
    """The streams groups of this broker."""

    def __init__(self, cluster: "ClusterService", groups: GroupService, clock: Clock) -> None:
        self._cluster = cluster
        self._groups = groups
        self._clock = clock
        self._being_made: set[str] = set()
        self._failed: dict[str, tuple[str, int]] = {}
        self._nursery: trio.Nursery

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make the topics that heartbeats call for, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def heartbeat(self, command: StreamsHeartbeat) -> StreamsHeartbeatAnswer:
        """StreamsGroupHeartbeat. Raises as the group decides."""
        answer: StreamsHeartbeatAnswer = await self._groups.ask(command.group_id, command)
        return answer

    async def describe(self, group_id: str) -> StreamsGroupDescription:
        """StreamsGroupDescribe for one group. Raises GROUP_ID_NOT_FOUND, INVALID_GROUP_ID."""
        if not group_id:
            raise KafkaError(Error.INVALID_GROUP_ID)
        description: StreamsGroupDescription = await self._groups.ask(group_id, DescribeStreamsGroup(group_id))
        return description

    def make(self, topics: Mapping[str, InternalTopic], remember_ms: int) -> None:
        """Have these made, unless they are being made, or could not be not so long ago; nobody waits for it."""
        now_ms = self._clock.now_ms()
        wanted = [
            topic for name, topic in topics.items() if name not in self._being_made and not self._why(name, now_ms)
        ]
        if wanted:
            self._being_made.update(topic.name for topic in wanted)
            self._nursery.start_soon(self._make, wanted, remember_ms)

    def failures(self, names: Iterable[str]) -> dict[str, str]:
        """Why these could not be made, of those of which that is known."""
        now_ms = self._clock.now_ms()
        return {name: why for name in names if (why := self._why(name, now_ms))}

    def _why(self, name: str, now_ms: int) -> str:
        why, until_ms = self._failed.get(name, ("", 0))
        return why if now_ms < until_ms else ""

    async def _make(self, topics: list[InternalTopic], remember_ms: int) -> None:
        names = [topic.name for topic in topics]
        new = [
            NewTopic(
                topic.name,
                topic.partition_count,
                topic.replication_factor or DEFAULT,
                overrides=dict(topic.configs),
            )
            for topic in topics
        ]
        try:
            refusals = await self._cluster.have_created(new)
        except KafkaError as refusal:
            refusals = dict.fromkeys(names, refusal)
        finally:
            self._being_made.difference_update(names)
        until_ms = self._clock.now_ms() + remember_ms
        for name in names:
            self._failed.pop(name, None)
        for name, why in refusals.items():
            if why.error is not Error.TOPIC_ALREADY_EXISTS:  # somebody else was faster
                log.warning("Internal topic %s of a streams application is not made: %s", name, why)
                self._failed[name] = (why.message or why.error.text, until_ms)
        while len(self._failed) > _REMEMBERED:
            del self._failed[next(iter(self._failed))]
