"""The shards of one internal topic: one for each of its partitions that this broker leads.

Called by the coordinators' services (groups, transactions), which find the shard of a group, or of a transactional id,
by Kafka's hash of it. A shard runs from when its log is gained to when it is lost: those with something to remember at
once, the others when first asked.

Invariants
 1. A log has one shard at most; a shard writes under the leader epoch with which its log was gained.
 2. A partition that cannot be read is the trouble of those alone whom it coordinates: they hear NOT_COORDINATOR, as in
    Kafka, until the broker is started again or the partition is lost.
"""

import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import trio

from kafkapy.clock import Clock
from kafkapy.coordination.replaying import DamagedLog
from kafkapy.coordination.runtime import Shard, ShardLog
from kafkapy.coordination.shard import ShardType
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.records.batch import Compression
from kafkapy.storage.base import Leases, Logs

_log = logging.getLogger(__name__)

# A caller waits this long for a shard that is being replayed before it hears COORDINATOR_LOAD_IN_PROGRESS; clients
# come back after 100 ms by themselves, so this only spares the usual, short replay a round trip.
LOAD_PATIENCE_SECONDS: Final = 2.0


class Shards:
    """One topic's. `name` is what its coordinator is called in the log; `image` tells the cluster as it is known here.

    `beside`, where given, is run beside each shard, and told the leader epoch; it returns once the shard is over.
    """

    def __init__(
        self,
        topic: str,
        name: str,
        shard_type: ShardType,
        logs: Logs,
        leases: Leases,
        clock: Clock,
        image: Callable[[], Any],
        compression: Compression = Compression.NONE,
        beside: Callable[[Shard, int], Awaitable[None]] | None = None,
    ) -> None:
        self._topic = topic
        self._name = name
        self._type = shard_type
        self._logs = logs
        self._leases = leases
        self._clock = clock
        self._image = image
        self._compression = compression
        self._beside = beside
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

    def running(self) -> list[Shard]:
        """Those that are there now, loaded or not."""
        return list(self._shards.values())

    def log_of(self, key: str) -> LogId:
        """The log whose leader coordinates what has this key. Raises NOT_COORDINATOR as long as there is no topic."""
        topic = self._image().topic(self._topic)
        if topic is None:
            raise KafkaError(Error.NOT_COORDINATOR)
        log: LogId = topic.partitions[partition_for(key, len(topic.partitions))].log
        return log

    async def of(self, key: str) -> Shard:
        """The shard that coordinates what has this key, as of `at`."""
        return await self.at(self.log_of(key))

    async def at(self, log: LogId) -> Shard:
        """The shard on this log; a short load is waited for.

        Raises NOT_COORDINATOR when the log is another broker's, COORDINATOR_NOT_AVAILABLE while it comes into being.
        """
        shard = self._shards.get(log)
        if shard is None:
            if log in self._unreadable:
                raise KafkaError(Error.NOT_COORDINATOR, f"{log} cannot be read")
            if (bounds := self._logs.bounds(log)) is Error.NOT_LEADER_OR_FOLLOWER:
                raise KafkaError(Error.NOT_COORDINATOR)
            if isinstance(bounds, Error):
                raise KafkaError(Error.COORDINATOR_NOT_AVAILABLE)  # the topic is just coming into being
            epoch = self._leases.epoch(log)
            if epoch is None:
                raise KafkaError(Error.NOT_COORDINATOR)
            shard = self._start(log, epoch)
        elif self._leases.epoch(log) is None:
            raise KafkaError(Error.NOT_COORDINATOR)  # the lease has run out, and nothing has run since
        if not shard.loaded:
            await self.wait_loaded(shard)
        return shard

    async def wait_loaded(self, shard: Shard) -> None:
        """Wait a little for a shard that is being loaded."""
        with self._clock.until(self._clock.monotonic() + LOAD_PATIENCE_SECONDS):
            await shard.wait_loaded()

    def _gained(self, logs: Sequence[LogId]) -> None:
        for log in logs:
            if log.topic == self._topic:
                self._start_with_a_past(log)

    def _lost(self, logs: Sequence[LogId]) -> None:
        for log in logs:
            self._unreadable.discard(log)
            if log in self._scopes:
                self._scopes[log].cancel()

    def _start_with_a_past(self, log: LogId) -> None:
        bounds, epoch = self._logs.bounds(log), self._leases.epoch(log)
        if epoch is not None and not isinstance(bounds, Error) and bounds.end_offset > 0:
            self._start(log, epoch)  # of a lease that is over again it is heard, as of the next one

    def _start(self, log: LogId, epoch: int) -> Shard:
        if self._nursery is None:
            raise KafkaError(Error.COORDINATOR_NOT_AVAILABLE)
        shard = self._shards[log] = Shard(
            f"{self._name} {log.partition}",
            self._type,
            ShardLog(self._logs, log, epoch, self._compression),
            self._clock,
            self._image,
        )
        scope = self._scopes[log] = trio.CancelScope()
        self._nursery.start_soon(self._run_shard, log, shard, scope)
        if self._beside is not None:
            self._nursery.start_soon(self._beside, shard, epoch)
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
        if ended_by_itself:
            self._start_with_a_past(log)  # somebody else wrote to it, but it is ours: read what


@functools.lru_cache(maxsize=4096)
def partition_for(key: str, partition_count: int) -> int:
    """The partition of a coordinator's topic that a key belongs to: Java's string hash, made positive."""
    hash_code = java_hash(key)
    if hash_code >= 1 << 31:
        hash_code = (1 << 32) - hash_code
    return (0 if hash_code == 1 << 31 else hash_code) % partition_count


def java_hash(text: str) -> int:
    """Java's hash of a string, unsigned."""
    hash_code = 0
    encoded = text.encode("utf-16-be", "surrogatepass")
    for position in range(0, len(encoded), 2):
        hash_code = (31 * hash_code + (encoded[position] << 8 | encoded[position + 1])) & 0xFFFFFFFF
    return hash_code
