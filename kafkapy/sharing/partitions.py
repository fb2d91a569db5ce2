"""The share partitions that this broker leads: loaded when first fetched from, kept while their group is in session
here.

A partition's window (`window.py`) decides at once; what it wants written is written in order, one write at a time, and
what came meanwhile goes with the next one. A member's acknowledgement is answered when its write has ended. What the
group gives up goes into its dead-letter queue in the same manner, if it has one: behind the write that says so, and
before the one that says that it is over. One clock wakes what members held for too long. Called by the handlers of
ShareFetch and ShareAcknowledge; `node.py` runs it.

Invariants
 1. While a partition has something to write it stays: whoever loads it next finds all that members were told, and
    what has yet to be put into a dead-letter queue.
 2. Whoever waits for a partition is woken after it has changed, never in between.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import trio

from kafkapy.clock import Clock
from kafkapy.errors import Error, KafkaError
from kafkapy.log.offsets import EARLIEST, LATEST, LogAtEpoch, find_offset
from kafkapy.model import IsolationLevel, LogId
from kafkapy.sharing.archiving import archived, left_over
from kafkapy.sharing.batches import UNKNOWN_START
from kafkapy.sharing.dead_letters import DeadLetterQueues
from kafkapy.sharing.in_flight import DeadLetter, Limits, StateWrite
from kafkapy.sharing.partition import SharePartition, Writing
from kafkapy.sharing.persister import SharePersister
from kafkapy.sharing.settings import limits, offset_reset
from kafkapy.sharing.state.commands import ReadState, WriteState
from kafkapy.sharing.state.facts import SharePartitionKey, ShareState
from kafkapy.sharing.window import Acknowledgement, Window
from kafkapy.storage.base import Logs
from kafkapy.timers import Timers

if TYPE_CHECKING:
    from kafkapy.cluster.service import ClusterService

_log = logging.getLogger(__name__)

_TOLD: Final = {
    Error.NOT_COORDINATOR: Error.COORDINATOR_NOT_AVAILABLE,
    Error.COORDINATOR_NOT_AVAILABLE: Error.COORDINATOR_NOT_AVAILABLE,
    Error.COORDINATOR_LOAD_IN_PROGRESS: Error.COORDINATOR_NOT_AVAILABLE,
    Error.BROKER_NOT_AVAILABLE: Error.COORDINATOR_NOT_AVAILABLE,
    Error.GROUP_ID_NOT_FOUND: Error.GROUP_ID_NOT_FOUND,
    Error.UNKNOWN_TOPIC_OR_PARTITION: Error.UNKNOWN_TOPIC_OR_PARTITION,
    Error.FENCED_LEADER_EPOCH: Error.NOT_LEADER_OR_FOLLOWER,
    Error.FENCED_STATE_EPOCH: Error.NOT_LEADER_OR_FOLLOWER,
}
"""What a member hears of a refusal of the share coordinator, as in Kafka; UNKNOWN_SERVER_ERROR of any other."""

_IS_OVER: Final = frozenset({Error.NOT_LEADER_OR_FOLLOWER, Error.GROUP_ID_NOT_FOUND, Error.UNKNOWN_TOPIC_OR_PARTITION})
"""After these what is known of a partition is of no use: it is loaded anew, if it is still led here."""

_LOADING: Final = KafkaError(Error.LEADER_NOT_AVAILABLE)


class SharePartitions:
    """All of this broker."""

    def __init__(
        self,
        cluster: "ClusterService",
        logs: Logs,
        persister: SharePersister,
        queues: DeadLetterQueues,
        clock: Clock,
    ) -> None:
        self.logs = logs
        self.clock = clock
        self._cluster = cluster
        self._persister = persister
        self._queues = queues
        self._partitions: dict[SharePartitionKey, SharePartition] = {}
        self._waiting: dict[SharePartitionKey, dict[Callable[[], None], None]] = {}
        self._unused: set[str] = set()  # groups whose partitions are to go once nothing of them is being written
        self._alarms: Timers[SharePartition, None] = Timers()
        self._wake = trio.Event()
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Free what was held for too long, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                self._expire()
                self._wake = trio.Event()
                with self.clock.until(self._alarms.next):
                    await self._wake.wait()

    def __len__(self) -> int:
        return len(self._partitions)

    def limits_of(self, group_id: str) -> Limits:
        """What the group may do with a partition now."""
        return limits(self._cluster.image, group_id)

    # Partitions

    def get(self, group_id: str, log: LogId) -> SharePartition:
        """The group's share of this log; it may be loading still.

        Raises NOT_LEADER_OR_FOLLOWER, and errors as of `Logs.bounds`, where this broker does not lead it.
        """
        self._unused.discard(group_id)
        key = SharePartitionKey(group_id, log.topic_id, log.partition)
        leader_epoch = self._cluster.leadership.epoch(log)
        partition = self._partitions.get(key)
        if partition is not None:
            if partition.leader_epoch == leader_epoch:
                return partition
            self.drop(partition)
        if leader_epoch is None:
            bounds = self.logs.bounds(log)
            raise KafkaError(bounds if isinstance(bounds, Error) else Error.NOT_LEADER_OR_FOLLOWER)
        if self._nursery is None:
            raise _LOADING
        partition = self._partitions[key] = SharePartition(key, log, leader_epoch)
        self._nursery.start_soon(self._load, partition)
        return partition

    def drop(self, partition: SharePartition) -> None:
        """Forget what is known of it: it is led elsewhere, reset, or deleted."""
        partition.is_over = True
        self._alarms.forget(partition)
        if self._partitions.get(partition.key) is partition:
            del self._partitions[partition.key]
        self.wake(partition.key)

    def on_topic_deleted(self, topic_id: bytes) -> None:
        """Its partitions are no more."""
        for partition in [each for each in self._partitions.values() if each.key.topic_id == topic_id]:
            self.drop(partition)

    def on_group_unused(self, group_id: str) -> None:
        """No member of the group has a session here any longer: its partitions can be loaded again when one has."""
        self._unused.add(group_id)
        self._drop_unused(group_id)

    def _drop_unused(self, group_id: str) -> None:
        mine = [each for each in self._partitions.values() if each.key.group_id == group_id]
        if not any(partition.is_busy for partition in mine):
            self._unused.discard(group_id)
            for partition in mine:
                self.drop(partition)

    async def _load(self, partition: SharePartition) -> None:
        try:
            state: ShareState = await self._persister.ask(ReadState(partition.key, partition.leader_epoch))
            start_offset = state.start_offset
            if start_offset == UNKNOWN_START:
                start_offset = await self._first_offset(partition)
            partition.state_epoch = state.state_epoch
            partition.window = Window(start_offset, state.batches)
            self._bury(partition, left_over(partition.window, self.limits_of(partition.key.group_id).delivery_count))
        except KafkaError as refusal:
            partition.failure = _told(refusal)
        except ValueError as nonsense:
            partition.failure = KafkaError(Error.UNKNOWN_SERVER_ERROR, f"the state of {partition.key}: {nonsense}")
        if partition.failure is not None:
            _log.warning("share partition %s could not be loaded: %s", partition.key, partition.failure)
            self.drop(partition)
        self.wake(partition.key)

    async def _first_offset(self, partition: SharePartition) -> int:
        """Where a group begins that has no offset yet."""
        reset = offset_reset(self._cluster.image, partition.key.group_id)
        log = LogAtEpoch(partition.log, partition.leader_epoch)
        if isinstance(reset, str):
            mark = EARLIEST if reset == "earliest" else LATEST
        else:
            mark = max(self.clock.now_ms() - round(reset.total_seconds() * 1000), 0)
        found = await find_offset(self.logs, log, mark, IsolationLevel.READ_UNCOMMITTED)
        if found.offset < 0:  # all records are older; in Kafka the group could not begin then
            found = await find_offset(self.logs, log, LATEST, IsolationLevel.READ_UNCOMMITTED)
        return found.offset

    # Who waits

    def await_change(self, key: SharePartitionKey, wake: Callable[[], None]) -> None:
        """Call `wake` each time that there may be more to be acquired of this partition, until `await_no_more`."""
        self._waiting.setdefault(key, {})[wake] = None

    def await_no_more(self, key: SharePartitionKey, wake: Callable[[], None]) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.pop(wake, None)
            if not waiting:
                del self._waiting[key]

    def end_read(self, partition: SharePartition) -> None:
        """A fetch has read, and acquired what it wanted: it is the turn of those that came meanwhile."""
        is_wanted, partition.is_read, partition.is_wanted = partition.is_wanted, False, False
        if is_wanted:
            self.wake(partition.key)

    def wake(self, key: SharePartitionKey) -> None:
        """There may be more to be acquired."""
        for wake in list(self._waiting.get(key, ())):
            wake()

    # What members do

    async def acknowledge(
        self, group_id: str, member_id: str, told: Mapping[LogId, Sequence[Acknowledgement]]
    ) -> dict[LogId, KafkaError | None]:
        """What a member did with records of these logs; the refusal of each, or None where it is written down."""
        outcomes: dict[LogId, KafkaError | None] = {}
        under_way: dict[LogId, Writing] = {}
        now, group_limits = self.clock.monotonic(), self.limits_of(group_id)
        for log, acknowledgements in told.items():
            partition = self._partitions.get(SharePartitionKey(group_id, log.topic_id, log.partition))
            window = None if partition is None else partition.window
            outcomes[log] = None
            if partition is None or window is None:
                outcomes[log] = KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION, Error.UNKNOWN_TOPIC_OR_PARTITION.text)
                continue
            try:
                write = window.acknowledge(member_id, acknowledgements, group_limits, now)
            except KafkaError as refusal:
                outcomes[log] = refusal
                write = None
            if write is not None:
                under_way[log] = self._write(partition, write)
            self.set_alarm(partition)  # which a renewal moves
        for log, writing in under_way.items():
            outcomes[log] = await writing.wait()
        return outcomes

    def release(self, group_id: str, member_id: str, partitions: Iterable[tuple[bytes, int]]) -> None:
        """The member's session is over: what it was given of these partitions may be given to others."""
        group_limits = self.limits_of(group_id)
        for topic_id, index in partitions:
            partition = self._partitions.get(SharePartitionKey(group_id, topic_id, index))
            if partition is not None and partition.window is not None:
                write = partition.window.release(member_id, group_limits)
                if write is not None:
                    self._write(partition, write)

    # Time, and what is written

    def set_alarm(self, partition: SharePartition) -> None:
        """Look at the partition when its window asks for it."""
        if partition.window is None or partition.is_over:
            return
        deadline = partition.window.next_deadline
        due = self._alarms.deadline_of(partition)
        if deadline < (self._alarms.next if due is None else due):
            self._wake.set()
        if due is None or deadline < due:
            self._alarms.set(partition, deadline, None)

    def _expire(self) -> None:
        now = self.clock.monotonic()
        while (due := self._alarms.pop_due(now)) is not None:
            partition = due[0]
            if partition.window is not None:
                write = partition.window.expire(self.limits_of(partition.key.group_id), now)
                if write is not None:
                    self._write(partition, write)
                    self.wake(partition.key)
                self.set_alarm(partition)

    def _write(self, partition: SharePartition, write: StateWrite) -> Writing:
        writing = Writing(write)
        partition.writes.append(writing)
        if not partition.is_writing:
            assert self._nursery is not None
            partition.is_writing = True
            self._nursery.start_soon(self._write_all, partition)
        return writing

    async def _write_all(self, partition: SharePartition) -> None:
        """Write down what there is to be written, and settle it."""
        window, group_id = partition.window, partition.key.group_id
        assert window is not None
        while partition.writes:
            writes, partition.writes = partition.writes, []
            error = await self._persist(partition, window, writes)
            now, is_news, group_limits = self.clock.monotonic(), False, self.limits_of(group_id)
            letters: list[DeadLetter] = []
            for writing in writes:
                is_news |= window.settle(writing.write, group_limits, now, written=error is None)
                if error is None or not writing.write.settles:
                    letters += writing.write.letters
                writing.end(error)
            if error is not None and error.error in _IS_OVER:
                self.drop(partition)
            elif is_news:
                self.wake(partition.key)
            self._bury(partition, letters)
            self.set_alarm(partition)
        partition.is_writing = False
        if group_id in self._unused:
            self._drop_unused(group_id)

    def _bury(self, partition: SharePartition, letters: Sequence[DeadLetter]) -> None:
        """Have these put into the dead-letter queue, unless whoever has the partition next does so."""
        if letters and not partition.is_over:
            partition.letters += letters
            if not partition.is_burying:
                assert self._nursery is not None
                partition.is_burying = True
                self._nursery.start_soon(self._bury_all, partition)

    async def _bury_all(self, partition: SharePartition) -> None:
        window = partition.window
        assert window is not None
        while partition.letters and not partition.is_over:
            letters, partition.letters = partition.letters, []
            await self._queues.write(partition.key.group_id, partition.log, letters)
            if not partition.is_over:
                self._write(partition, archived(window, letters))
        partition.is_burying = False

    async def _persist(self, partition: SharePartition, window: Window, writes: Sequence[Writing]) -> KafkaError | None:
        batches = [batch for writing in writes for batch in writing.write.batches]
        try:
            await self._persister.ask(
                WriteState(
                    partition.key,
                    partition.state_epoch,
                    partition.leader_epoch,
                    window.start_offset,
                    window.complete_count,
                    tuple(batches),
                )
            )
        except KafkaError as refusal:
            _log.warning("the state of share partition %s could not be written: %s", partition.key, refusal)
            return _told(refusal)
        return None


def _told(refusal: KafkaError) -> KafkaError:
    return KafkaError(_TOLD.get(refusal.error, Error.UNKNOWN_SERVER_ERROR), refusal.message)
