"""What share groups need beside their shard: the share coordinator, which keeps the state of their partitions, and the
ends of logs. One typed method an API, called by handlers.

A group's part is decided by its shard (`groups/share/protocol.py`); what that asks of the share coordinator goes out
here, and what became of it goes back. `node.py` runs the service in the nursery that outlives the connections.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern.core import Partitions
from kafkapy.groups.persister import UNKNOWN_COUNT, UNKNOWN_START, Persister, StateSummary, TopicIdPartition
from kafkapy.groups.service import GroupService
from kafkapy.groups.share.commands import (
    AlterStarts,
    DeleteStates,
    DescribeShareGroup,
    InitializeStates,
    ListInitialized,
    PrepareDeletion,
    ShareGroupDescription,
    ShareHeartbeat,
    ShareHeartbeatAnswer,
    StartsAltered,
    StatesDeleted,
    StatesInitialized,
    StatesNotInitialized,
    StatesToDelete,
)
from kafkapy.model import ZERO_UUID
from kafkapy.protocol.messages.list_offsets import ListOffsetsRequest

if TYPE_CHECKING:
    from kafkapy.cluster.membership import Peers
    from kafkapy.cluster.service import ClusterService

log = logging.getLogger(__name__)

_LATEST: Final = -1
_UNKNOWN_LAG: Final = -1


class PartitionProgress(NamedTuple):
    """How far a group is with a partition: -1 where that is not known. With an `error` nothing is."""

    partition: int
    start_offset: int = UNKNOWN_START
    leader_epoch: int = 0
    lag: int = _UNKNOWN_LAG
    error: Error = Error.NONE


class TopicProgress(NamedTuple):
    """How far a group is with a topic."""

    topic: str
    topic_id: bytes
    partitions: Sequence[PartitionProgress]


class TopicAltered(NamedTuple):
    """What became of a topic that a group is to begin elsewhere."""

    topic: str
    topic_id: bytes
    partitions: Sequence[tuple[int, KafkaError | None]]


class TopicForgotten(NamedTuple):
    """What became of a topic that a group is to forget. The id is known of what has, or had, state."""

    topic: str
    topic_id: bytes
    error: Error
    message: str | None


class ShareGroups:
    """The share groups of this broker."""

    def __init__(self, cluster: "ClusterService", groups: GroupService, persister: Persister, peers: "Peers") -> None:
        self._cluster = cluster
        self._groups = groups
        self._persister = persister
        self._peers = peers
        self._nursery: trio.Nursery

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask for what heartbeats call for, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def heartbeat(self, command: ShareHeartbeat) -> ShareHeartbeatAnswer:
        """ShareGroupHeartbeat. Raises as the group decides."""
        answer: ShareHeartbeatAnswer = await self._groups.ask(command.group_id, command)
        if answer.asks is not None:
            self._nursery.start_soon(self._initialize, command.group_id, answer.asks)  # nobody waits for it
        return answer

    async def describe(self, group_id: str) -> ShareGroupDescription:
        """ShareGroupDescribe for one group. Raises GROUP_ID_NOT_FOUND, INVALID_GROUP_ID."""
        _require_group_id(group_id)
        description: ShareGroupDescription = await self._groups.ask(group_id, DescribeShareGroup(group_id))
        return description

    async def describe_offsets(
        self, group_id: str, topics: Sequence[tuple[str, Sequence[int]]] | None
    ) -> list[TopicProgress]:
        """DescribeShareGroupOffsets for one group: of these topics, or of all that it has begun with."""
        image = self._cluster.image
        unknown: list[TopicProgress] = []
        asked: dict[bytes, Sequence[int]] = {}
        if topics is None:
            initialized: Partitions = await self._groups.ask(group_id, ListInitialized(group_id))
            asked |= {topic_id: numbers for topic_id, numbers in initialized.items() if image.topic_by_id(topic_id)}
        else:
            for name, numbers in topics:
                topic = image.topic(name)
                if topic is None:
                    unknown.append(TopicProgress(name, ZERO_UUID, [PartitionProgress(number) for number in numbers]))
                else:
                    asked[topic.topic_id] = numbers
        partitions = [TopicIdPartition(topic_id, number) for topic_id, numbers in asked.items() for number in numbers]
        if not partitions:
            return unknown
        summaries = await self._persister.summaries(group_id, partitions)
        ends = await self._ends(each for each, summary in summaries.items() if _has_lag(summary))
        found = []
        for topic_id, numbers in asked.items():
            topic = image.topic_by_id(topic_id)
            assert topic is not None
            found.append(
                TopicProgress(
                    topic.name,
                    topic_id,
                    [
                        _progress(number, summaries[each], ends.get(each))
                        for number in numbers
                        for each in (TopicIdPartition(topic_id, number),)
                    ],
                )
            )
        return found + unknown

    async def alter_offsets(
        self, group_id: str, topics: Sequence[tuple[str, Sequence[tuple[int, int]]]]
    ) -> list[TopicAltered]:
        """AlterShareGroupOffsets. Raises NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND for a group of another kind."""
        _require_group_id(group_id)
        altered: StartsAltered = await self._groups.ask(group_id, AlterStarts(group_id, topics))
        answers: Mapping[TopicIdPartition, KafkaError | None] = {}
        if altered.asks.starts:
            answers = await self._initialize(group_id, altered.asks, is_final=False)
        unknown = KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION, Error.UNKNOWN_TOPIC_OR_PARTITION.text)
        image, found = self._cluster.image, []
        for name, partitions in topics:
            topic = image.topic(name)
            topic_id = ZERO_UUID if topic is None else topic.topic_id
            errors = [(number, answers.get(TopicIdPartition(topic_id, number), unknown)) for number, _ in partitions]
            found.append(TopicAltered(name, topic_id, errors))
        return found

    async def delete_offsets(self, group_id: str, topics: Sequence[str]) -> list[TopicForgotten]:
        """DeleteShareGroupOffsets. Raises GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP, INVALID_GROUP_ID."""
        _require_group_id(group_id)
        deleting: StatesToDelete = await self._groups.ask(group_id, DeleteStates(group_id, topics))
        if not deleting.partitions:
            return [TopicForgotten(*topic) for topic in deleting.topics]
        failed = _by_topic_id(await self._persister.delete(group_id, deleting.partitions))
        gone = [topic_id for topic_id, problem in failed.items() if problem is None]
        if gone:
            await self._groups.ask(group_id, StatesDeleted(group_id, gone))
        found = []
        for topic in deleting.topics:
            problem = failed.get(topic[1])
            if problem is not None:
                topic = topic[0], topic[1], problem.error, problem.error.text
            found.append(TopicForgotten(*topic))
        return found

    async def forget(self, group_ids: Iterable[str]) -> dict[str, Error]:
        """Forget all that these groups have done, if they are share groups without members, before they are deleted;
        why they must not be, where they must not.
        """
        errors: dict[str, Error] = {}
        for group_id in group_ids:
            try:
                partitions: Sequence[TopicIdPartition] = await self._groups.ask(group_id, PrepareDeletion(group_id))
            except KafkaError as refusal:
                errors[group_id] = refusal.error
                continue
            if not partitions:
                continue
            for problem in (await self._persister.delete(group_id, partitions)).values():
                if problem is not None:
                    log.error("The state of share group %s is not deleted: %s", group_id, problem)
                    errors[group_id] = problem.error
        return errors

    async def _initialize(
        self, group_id: str, asks: InitializeStates, is_final: bool = True
    ) -> Mapping[TopicIdPartition, KafkaError | None]:
        """Have the share coordinator begin, and tell the group what became of that.

        `is_final`: what failed is to be asked for again by a heartbeat.
        """
        answers = await self._persister.initialize(group_id, asks.state_epoch, asks.starts)
        partitions: dict[bytes, set[int]] = {}
        for topic_id, number in answers:
            partitions.setdefault(topic_id, set()).add(number)
        answered = {topic_id: frozenset(numbers) for topic_id, numbers in partitions.items()}
        problem = next((answer for answer in answers.values() if answer is not None), None)
        command: StatesInitialized | StatesNotInitialized
        if problem is None:
            command = StatesInitialized(group_id, answered)
        else:
            level = logging.ERROR if is_final else logging.INFO  # a client that asked for it is told
            log.log(level, "State of share group %s is not initialised: %s", group_id, problem)
            command = StatesNotInitialized(group_id, answered)
        if problem is None or is_final:
            try:
                await self._groups.ask(group_id, command)
            except KafkaError as refusal:
                log.error("What was initialised for share group %s is not noted: %s", group_id, refusal)
        return answers

    async def _ends(self, partitions: Iterable[TopicIdPartition]) -> dict[TopicIdPartition, int | Error]:
        """Where these logs end for those who read all that is committed, as their leaders say."""
        image, leadership = self._cluster.image, self._cluster.leadership
        by_leader: dict[int, dict[str, list[int]]] = {}
        ids: dict[tuple[str, int], TopicIdPartition] = {}
        ends: dict[TopicIdPartition, int | Error] = {}
        for each in partitions:
            topic = image.topic_by_id(each.topic_id)
            if topic is None or each.partition >= len(topic.partitions):
                ends[each] = Error.UNKNOWN_TOPIC_OR_PARTITION
                continue
            leader = leadership.of(topic.partitions[each.partition]).leader
            by_leader.setdefault(leader, {}).setdefault(topic.name, []).append(each.partition)
            ids[topic.name, each.partition] = each
        for node_id, topics in by_leader.items():
            try:
                response = await self._peers.ask(node_id, _latest(topics))
            except KafkaError as refusal:
                ends |= {ids[name, number]: refusal.error for name in topics for number in topics[name]}
                continue
            for topic_response in response.topics:
                for answer in topic_response.partitions:
                    error = Error.of(answer.error_code)
                    end = answer.offset if error is Error.NONE else error
                    ends[ids[topic_response.name, answer.partition_index]] = end
        return ends


def _latest(topics: Mapping[str, Sequence[int]]) -> ListOffsetsRequest:
    partition = ListOffsetsRequest.ListOffsetsPartition
    return ListOffsetsRequest(
        replica_id=-1,
        topics=[
            ListOffsetsRequest.ListOffsetsTopic(
                name=name, partitions=[partition(partition_index=number, timestamp=_LATEST) for number in numbers]
            )
            for name, numbers in topics.items()
        ],
    )


def _has_lag(summary: StateSummary | KafkaError) -> bool:
    """Whether it is known what the group has done, to which the end of the log is to be compared."""
    if isinstance(summary, KafkaError):
        return False
    return summary.start_offset != UNKNOWN_START and summary.complete_count != UNKNOWN_COUNT


def _progress(number: int, summary: StateSummary | KafkaError, end: int | Error | None) -> PartitionProgress:
    if isinstance(summary, KafkaError):
        return PartitionProgress(number)  # as in Kafka: nothing is known of it, which is no error
    if end is None:
        return PartitionProgress(number, summary.start_offset, summary.leader_epoch)
    if isinstance(end, Error):
        return PartitionProgress(number, 0, error=end)
    lag = end - summary.start_offset - summary.complete_count
    return PartitionProgress(number, summary.start_offset, summary.leader_epoch, lag)


def _by_topic_id(answers: Mapping[TopicIdPartition, KafkaError | None]) -> dict[bytes, KafkaError | None]:
    """The first problem of each topic, None where there is none."""
    found: dict[bytes, KafkaError | None] = {}
    for each, problem in answers.items():
        found[each.topic_id] = found.get(each.topic_id) or problem
    return found


def _require_group_id(group_id: str) -> None:
    if not group_id:
        raise KafkaError(Error.INVALID_GROUP_ID)
