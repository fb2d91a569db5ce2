"""The group coordinator's door: one typed method an API, called by handlers.

Each asks the shard of its group, one of those that `coordination/shards.py` runs on `__consumer_offsets`. `node.py`
runs the service (`run`) in the nursery that outlives the connections.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from kafkapy.clock import Clock
from kafkapy.coordination.runtime import Shard
from kafkapy.coordination.shard import ShardType
from kafkapy.coordination.shards import Shards, partition_for
from kafkapy.coordination.waiting import Waiting
from kafkapy.delayed import Delayed
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import (
    CommitOffsets,
    DeleteGroups,
    DeleteOffsets,
    DescribeGroup,
    EndTransaction,
    FetchOffsets,
    ForgetTopic,
    GroupDescription,
    Heartbeat,
    Join,
    Joined,
    Leave,
    ListedGroup,
    ListGroups,
    Sync,
    Synced,
    TopicOffsets,
)
from kafkapy.groups.journal import GroupJournal
from kafkapy.groups.machine import GroupMachine
from kafkapy.groups.modern.commands import (
    ConsumerGroupDescription,
    ConsumerHeartbeat,
    ConsumerHeartbeatAnswer,
    DescribeConsumerGroup,
)
from kafkapy.groups.settings import GroupSettings
from kafkapy.model import LogId, TopicPartition, format_uuid, random_uuid
from kafkapy.records.batch import Compression
from kafkapy.storage.base import Leases, Logs

if TYPE_CHECKING:
    from kafkapy.cluster.image import TopicInfo
    from kafkapy.cluster.service import ClusterService
    from kafkapy.config.layers import BrokerConfig

OFFSETS_TOPIC: Final = "__consumer_offsets"


class GroupService:
    """All groups of this broker."""

    def __init__(
        self, cluster: "ClusterService", logs: Logs, leases: Leases, clock: Clock, config: "BrokerConfig"
    ) -> None:
        self._cluster = cluster
        self._settings = GroupSettings.of(config)
        self._shards = Shards(
            OFFSETS_TOPIC,
            "group coordinator",
            ShardType(functools.partial(GroupMachine, self._settings, self._racks_of), GroupJournal()),
            logs,
            leases,
            clock,
            lambda: cluster.image,
            Compression(config["offsets.topic.compression.codec"]),
        )
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` once every shard with a past is on its way."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._shards.run)
            task_status.started()

    def on_topic_deleted(self, topic: "TopicInfo") -> None:
        """Forget what was committed for the topic."""
        if topic.name != OFFSETS_TOPIC and self._nursery is not None:
            for shard in self._shards.running():
                self._nursery.start_soon(self._forget_topic, shard, ForgetTopic(topic.name, topic.topic_id))

    # One method an API

    async def coordinating_log(self, group_id: str) -> LogId:
        """The log whose leader coordinates the group: the offsets topic comes into being when first needed.

        Raises as of `ClusterService.ensure_internal_topic`.
        """
        if self._cluster.image.topic(OFFSETS_TOPIC) is None:
            await self._cluster.ensure_internal_topic(OFFSETS_TOPIC)
        return self.log_of(group_id)

    def log_of(self, group_id: str) -> LogId:
        """The log whose leader coordinates the group. Raises NOT_COORDINATOR as long as there is no offsets topic."""
        return self._shards.log_of(group_id)

    def offsets_partition(self, group_id: str) -> TopicPartition:
        """Where the group's offsets go, be it that there is no such topic yet."""
        image = self._cluster.image
        topic = image.topic(OFFSETS_TOPIC)
        count = image.config["offsets.topic.num.partitions"] if topic is None else len(topic.partitions)
        return TopicPartition(OFFSETS_TOPIC, partition_for(group_id, count))

    async def join(self, command: Join) -> Joined | Delayed[Joined]:
        """JoinGroup: the answer comes when the next generation begins, or at once with an error in it."""
        if not command.group_id:
            return Joined(Error.INVALID_GROUP_ID, command.member_id)
        settings = self._settings
        if not settings.min_session_timeout_ms <= command.session_timeout_ms <= settings.max_session_timeout_ms:
            return Joined(Error.INVALID_SESSION_TIMEOUT, command.member_id)
        if not command.member_id:
            prefix = command.instance_id if command.instance_id is not None else command.client_id
            command = command._replace(
                new_member_id=f"{prefix}-{_new_uuid()}", new_consumer_id=format_uuid(random_uuid())
            )
        shard = await self._shards.of(command.group_id)
        joined: Joined | Delayed[Joined] = shard.submit(command)
        return joined

    async def sync(self, command: Sync) -> Synced | Delayed[Synced]:
        """SyncGroup: the answer comes when the leader has brought the assignment."""
        _require_group_id(command.group_id)
        shard = await self._shards.of(command.group_id)
        synced: Synced | Delayed[Synced] = shard.submit(command)
        return synced

    async def heartbeat(self, command: Heartbeat) -> None:
        """Heartbeat: raises REBALANCE_IN_PROGRESS when the member must join again."""
        _require_group_id(command.group_id)
        try:
            await (await self._shards.of(command.group_id)).execute(command)
        except KafkaError as refusal:
            # A member must not give up its place because its group is only being loaded.
            if refusal.error is not Error.COORDINATOR_LOAD_IN_PROGRESS:
                raise

    async def consumer_heartbeat(self, command: ConsumerHeartbeat) -> ConsumerHeartbeatAnswer:
        """ConsumerGroupHeartbeat. Raises UNSUPPORTED_ASSIGNOR, and as the group decides."""
        if command.assignor is not None and command.assignor not in self._settings.consumer_assignors:
            supported = ", ".join(self._settings.consumer_assignors)
            raise KafkaError(
                Error.UNSUPPORTED_ASSIGNOR,
                f"ServerAssignor {command.assignor} is not supported. Supported assignors: {supported}.",
            )
        if not command.member_id:
            command = command._replace(new_member_id=format_uuid(random_uuid()))
        answer: ConsumerHeartbeatAnswer = await (await self._shards.of(command.group_id)).execute(command)
        return answer

    async def leave(self, command: Leave) -> list[Error]:
        """LeaveGroup: an error a leaver."""
        _require_group_id(command.group_id)
        shard = await self._shards.of(command.group_id)
        try:
            errors: list[Error] = await shard.execute(command)
        except KafkaError as refusal:
            if refusal.error is not Error.UNKNOWN_MEMBER_ID:
                raise
            return [Error.UNKNOWN_MEMBER_ID] * len(command.members)
        return errors

    async def commit_offsets(self, command: CommitOffsets) -> list[list[Error]]:
        """OffsetCommit: an error a partition, topic by topic. The group id may be empty."""
        shard = await self._shards.of(command.group_id)
        errors: list[list[Error]] = await shard.execute(command)
        return errors

    async def end_transactions(self, wanted: Sequence[tuple[LogId, EndTransaction]]) -> list[Error]:
        """Write the markers of transactions to partitions of the offsets topic, each of which decides what was pending
        there; `errors[i]` answers `wanted[i]`.
        """
        begun: list[Any] = []
        for log, command in wanted:  # all of them before the first is waited for, so that they share a write
            try:
                begun.append((await self._shards.at(log)).submit(command))
            except KafkaError as refusal:
                begun.append(refusal.error)
        errors = []
        for answer in begun:
            try:
                errors.append(await answer.wait() if isinstance(answer, Waiting) else answer)
            except KafkaError as refusal:
                errors.append(refusal.error)
        return errors

    async def fetch_offsets(self, command: FetchOffsets) -> list[TopicOffsets]:
        """OffsetFetch for one group. An unknown group has committed nothing. The group id may be empty."""
        shard = await self._shards.of(command.group_id)
        offsets: list[TopicOffsets] = await shard.execute(command)
        return offsets

    async def delete_offsets(self, command: DeleteOffsets) -> list[Error]:
        """OffsetDelete: an error a topic."""
        _require_group_id(command.group_id)
        shard = await self._shards.of(command.group_id)
        errors: list[Error] = await shard.execute(command)
        return errors

    async def describe_group(self, group_id: str) -> GroupDescription:
        """DescribeGroups for one group. Raises GROUP_ID_NOT_FOUND."""
        shard = await self._shards.of(group_id)
        description: GroupDescription = await shard.execute(DescribeGroup(group_id))
        return description

    async def describe_consumer_group(self, group_id: str) -> ConsumerGroupDescription:
        """ConsumerGroupDescribe for one group. Raises GROUP_ID_NOT_FOUND, INVALID_GROUP_ID."""
        _require_group_id(group_id)
        shard = await self._shards.of(group_id)
        description: ConsumerGroupDescription = await shard.execute(DescribeConsumerGroup(group_id))
        return description

    async def ask(self, group_id: str, command: Any) -> Any:
        """A command of one of the newer protocols, to the shard of its group; raises as it decides."""
        return await (await self._shards.of(group_id)).execute(command)

    async def list_groups(self, command: ListGroups) -> list[ListedGroup]:
        """ListGroups: every group of this broker. Raises COORDINATOR_LOAD_IN_PROGRESS while one may be missing."""
        listed: list[ListedGroup] = []
        for shard in self._shards.running():
            await self._shards.wait_loaded(shard)
            try:
                listed += await shard.execute(command)
            except KafkaError as refusal:
                if refusal.error is not Error.NOT_COORDINATOR:  # its groups are another's by now
                    raise
        return listed

    async def delete_groups(self, group_ids: Sequence[str]) -> dict[str, Error]:
        """DeleteGroups: an error a group, each named once."""
        errors: dict[str, Error] = {}
        for group_id in group_ids:
            try:
                shard = await self._shards.of(group_id)
                [errors[group_id]] = await shard.execute(DeleteGroups([group_id]))
            except KafkaError as refusal:
                errors[group_id] = refusal.error
        return errors

    def _racks_of(self, replicas: Sequence[int]) -> list[str]:
        brokers = map(self._cluster.leadership.broker, replicas)
        return sorted(broker.rack for broker in brokers if broker is not None and broker.rack is not None)

    async def _forget_topic(self, shard: Shard, command: ForgetTopic) -> None:
        try:
            await self._shards.wait_loaded(shard)
            await shard.execute(command)
        except KafkaError:
            # As in Kafka, best effort: offsets of a topic that is gone harm nobody, and expire.
            return


def _new_uuid() -> str:
    """A random UUID's text (RFC 9562, version 4), without the milliseconds that importing `uuid` takes."""
    digits = random_uuid().hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _require_group_id(group_id: str) -> None:
    if not group_id:
        raise KafkaError(Error.INVALID_GROUP_ID)
