"""The group coordinator's door: one typed method an API, called by handlers.

Finds the shard by Kafka's hash of the group id and runs one shard for each partition of `__consumer_offsets` that this
broker leads, from when it is gained to when it is lost: those with something to remember at once, the others when first
asked. `broker.py` runs the service (`run`) in the nursery that outlives the connections.

Invariants
 1. A log has one shard at most; a shard writes under the leader epoch with which its log was gained.
 2. A partition that cannot be read is its groups' trouble alone: they hear NOT_COORDINATOR, as in Kafka, until the
    broker is started again or the partition is lost.
"""

import functools
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from kafkapy.clock import Clock
from kafkapy.coordination.replaying import DamagedLog
from kafkapy.coordination.runtime import Shard, ShardLog
from kafkapy.coordination.shard import ShardType
from kafkapy.delayed import Delayed
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import (
    CommitOffsets,
    DeleteGroups,
    DeleteOffsets,
    DescribeGroup,
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
from kafkapy.groups.settings import GroupSettings
from kafkapy.model import LogId
from kafkapy.records.batch import Compression
from kafkapy.storage.base import Leases, Logs

if TYPE_CHECKING:
    from kafkapy.cluster.image import TopicInfo
    from kafkapy.cluster.service import ClusterService
    from kafkapy.config.layers import BrokerConfig

_log = logging.getLogger(__name__)

OFFSETS_TOPIC: Final = "__consumer_offsets"

# A caller waits this long for a shard that is being replayed before it hears COORDINATOR_LOAD_IN_PROGRESS; clients
# come back after 100 ms by themselves, so this only spares the usual, short replay a round trip.
LOAD_PATIENCE_SECONDS: Final = 2.0


class GroupService:
    """All groups of this broker."""

    def __init__(
        self, cluster: "ClusterService", logs: Logs, leases: Leases, clock: Clock, config: "BrokerConfig"
    ) -> None:
        self._cluster = cluster
        self._logs = logs
        self._leases = leases
        self._clock = clock
        self._settings = GroupSettings.of(config)
        self._compression = Compression(config["offsets.topic.compression.codec"])
        self._shard_type = ShardType(functools.partial(GroupMachine, self._settings), GroupJournal())
        self._shards: dict[LogId, Shard] = {}
        self._scopes: dict[LogId, trio.CancelScope] = {}
        self._unreadable: set[LogId] = set()
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` once every shard with a past is on its way."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            watch = self._leases.watch(self._gained, self._lost)
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                watch.close()

    def on_topic_deleted(self, topic: "TopicInfo") -> None:
        """Forget what was committed for the topic."""
        if topic.name != OFFSETS_TOPIC and self._nursery is not None:
            for shard in list(self._shards.values()):
                self._nursery.start_soon(self._forget_topic, shard, ForgetTopic(topic.name, topic.topic_id))

    # One method an API

    async def coordinating_log(self, group_id: str) -> LogId:
        """The log whose leader coordinates the group: the offsets topic comes into being when first needed."""
        if self._cluster.image.topic(OFFSETS_TOPIC) is None:
            await self._cluster.ensure_internal_topic(OFFSETS_TOPIC)
        return self._log_of(group_id)

    async def join(self, command: Join) -> Joined | Delayed[Joined]:
        """JoinGroup: the answer comes when the next generation begins, or at once with an error in it."""
        if not command.group_id:
            return Joined(Error.INVALID_GROUP_ID, command.member_id)
        settings = self._settings
        if not settings.min_session_timeout_ms <= command.session_timeout_ms <= settings.max_session_timeout_ms:
            return Joined(Error.INVALID_SESSION_TIMEOUT, command.member_id)
        if not command.member_id:
            prefix = command.instance_id if command.instance_id is not None else command.client_id
            command = command._replace(new_member_id=f"{prefix}-{_new_uuid()}")
        shard = await self._shard_of(command.group_id)
        joined: Joined | Delayed[Joined] = shard.submit(command)
        return joined

    async def sync(self, command: Sync) -> Synced | Delayed[Synced]:
        """SyncGroup: the answer comes when the leader has brought the assignment."""
        _require_group_id(command.group_id)
        shard = await self._shard_of(command.group_id)
        synced: Synced | Delayed[Synced] = shard.submit(command)
        return synced

    async def heartbeat(self, command: Heartbeat) -> None:
        """Heartbeat: raises REBALANCE_IN_PROGRESS when the member must join again."""
        _require_group_id(command.group_id)
        try:
            await (await self._shard_of(command.group_id)).execute(command)
        except KafkaError as refusal:
            # A member must not give up its place because its group is only being loaded.
            if refusal.error is not Error.COORDINATOR_LOAD_IN_PROGRESS:
                raise

    async def leave(self, command: Leave) -> list[Error]:
        """LeaveGroup: an error a leaver."""
        _require_group_id(command.group_id)
        shard = await self._shard_of(command.group_id)
        try:
            errors: list[Error] = await shard.execute(command)
        except KafkaError as refusal:
            if refusal.error is not Error.UNKNOWN_MEMBER_ID:
                raise
            return [Error.UNKNOWN_MEMBER_ID] * len(command.members)
        return errors

    async def commit_offsets(self, command: CommitOffsets) -> list[list[Error]]:
        """OffsetCommit: an error a partition, topic by topic. The group id may be empty."""
        shard = await self._shard_of(command.group_id)
        errors: list[list[Error]] = await shard.execute(command)
        return errors

    async def fetch_offsets(self, command: FetchOffsets) -> list[TopicOffsets]:
        """OffsetFetch for one group. An unknown group has committed nothing. The group id may be empty."""
        shard = await self._shard_of(command.group_id)
        offsets: list[TopicOffsets] = await shard.execute(command)
        return offsets

    async def delete_offsets(self, command: DeleteOffsets) -> list[Error]:
        """OffsetDelete: an error a topic."""
        _require_group_id(command.group_id)
        shard = await self._shard_of(command.group_id)
        errors: list[Error] = await shard.execute(command)
        return errors

    async def describe_group(self, group_id: str) -> GroupDescription:
        """DescribeGroups for one group. Raises GROUP_ID_NOT_FOUND."""
        shard = await self._shard_of(group_id)
        description: GroupDescription = await shard.execute(DescribeGroup(group_id))
        return description

    async def list_groups(self, command: ListGroups) -> list[ListedGroup]:
        """ListGroups: every group of this broker. Raises COORDINATOR_LOAD_IN_PROGRESS while one may be missing."""
        listed: list[ListedGroup] = []
        for shard in list(self._shards.values()):
            await self._wait_loaded(shard)
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
                shard = await self._shard_of(group_id)
                [errors[group_id]] = await shard.execute(DeleteGroups([group_id]))
            except KafkaError as refusal:
                errors[group_id] = refusal.error
        return errors

    # Shards

    def _gained(self, logs: Sequence[LogId]) -> None:
        for log in logs:
            if log.topic == OFFSETS_TOPIC:
                self._start_with_a_past(log)

    def _lost(self, logs: Sequence[LogId]) -> None:
        for log in logs:
            self._unreadable.discard(log)
            if log in self._scopes:
                self._scopes[log].cancel()

    def _start_with_a_past(self, log: LogId) -> None:
        bounds = self._logs.bounds(log)
        if not isinstance(bounds, Error) and bounds.end_offset > 0:
            self._start(log)

    def _log_of(self, group_id: str) -> LogId:
        topic = self._cluster.image.topic(OFFSETS_TOPIC)
        if topic is None:
            raise KafkaError(Error.NOT_COORDINATOR)
        return topic.partitions[partition_for(group_id, len(topic.partitions))].log

    async def _shard_of(self, group_id: str) -> Shard:
        log = self._log_of(group_id)
        shard = self._shards.get(log)
        if shard is None:
            if log in self._unreadable:
                raise KafkaError(Error.NOT_COORDINATOR, f"{log} cannot be read")
            if isinstance(self._logs.bounds(log), Error):
                raise KafkaError(Error.COORDINATOR_NOT_AVAILABLE)  # the topic is just coming into being
            shard = self._start(log)
        if not shard.loaded:
            await self._wait_loaded(shard)
        return shard

    async def _wait_loaded(self, shard: Shard) -> None:
        with self._clock.until(self._clock.monotonic() + LOAD_PATIENCE_SECONDS):
            await shard.wait_loaded()

    def _start(self, log: LogId) -> Shard:
        epoch = self._leases.epoch(log)
        if epoch is None:
            raise KafkaError(Error.NOT_COORDINATOR)
        if self._nursery is None:
            raise KafkaError(Error.COORDINATOR_NOT_AVAILABLE)
        shard = self._shards[log] = Shard(
            f"group coordinator {log.partition}",
            self._shard_type,
            ShardLog(self._logs, log, epoch, self._compression),
            self._clock,
            lambda: self._cluster.image,
        )
        scope = self._scopes[log] = trio.CancelScope()
        self._nursery.start_soon(self._run_shard, log, shard, scope)
        return shard

    async def _run_shard(self, log: LogId, shard: Shard, scope: trio.CancelScope) -> None:
        ended_by_itself = False
        try:
            with scope:
                await shard.run()
        except DamagedLog as damage:
            _log.error("%s cannot coordinate: %s; `kafkapy check` says more", shard.name, damage)
            self._unreadable.add(log)
        except KafkaError as failure:
            # The log may go while it is read, or its disk fail: whoever asks next has it tried again.
            _log.error("%s cannot coordinate: %s", shard.name, failure)
        else:
            ended_by_itself = not scope.cancelled_caught
        finally:
            if self._shards.get(log) is shard:
                del self._shards[log], self._scopes[log]
        if ended_by_itself and self._leases.epoch(log) is not None:
            self._start_with_a_past(log)  # somebody else wrote to it, but it is ours: read what

    async def _forget_topic(self, shard: Shard, command: ForgetTopic) -> None:
        try:
            await self._wait_loaded(shard)
            await shard.execute(command)
        except KafkaError:
            # As in Kafka, best effort: offsets of a topic that is gone harm nobody, and expire.
            return


@functools.lru_cache(maxsize=4096)
def partition_for(group_id: str, partition_count: int) -> int:
    """The partition of the offsets topic that a group belongs to: Java's string hash, made positive."""
    hash_code = 0
    encoded = group_id.encode("utf-16-be", "surrogatepass")
    for position in range(0, len(encoded), 2):
        hash_code = (31 * hash_code + (encoded[position] << 8 | encoded[position + 1])) & 0xFFFFFFFF
    if hash_code >= 1 << 31:
        hash_code = (1 << 32) - hash_code
    return (0 if hash_code == 1 << 31 else hash_code) % partition_count


def _new_uuid() -> str:
    """A random UUID's text (RFC 9562, version 4), without the milliseconds that importing `uuid` takes."""
    random = bytearray(os.urandom(16))
    random[6] = random[6] & 0x0F | 0x40
    random[8] = random[8] & 0x3F | 0x80
    digits = random.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _require_group_id(group_id: str) -> None:
    if not group_id:
        raise KafkaError(Error.INVALID_GROUP_ID)
