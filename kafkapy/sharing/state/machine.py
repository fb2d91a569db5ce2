"""The machine behind one partition of `__share_group_state`: the state of the share partitions that fall on it.

Commands come in, decisions go out (`coordination/shard.py` says how); called by the shard's runtime only. A write
becomes an update, which tells of what is other now, and after some hundred updates a snapshot. The log is not
compacted: what lies before the oldest of the last snapshots is redundant, and is cut off by `state/service.py`. So that
this is never far back, the state of quiet partitions is written again now and then.

Invariants
 1. The last snapshot of a partition and the updates behind it add up to its state.
 2. A state epoch that was seen is never followed by a write of an earlier one; nor is a leader epoch.
 3. What is written of one state epoch moves the start offset forward only.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from kafkapy.coordination.shard import Answer, Decision, InTransaction, Moment, SetTimer, Ticket, TransactionEnded
from kafkapy.errors import Error, KafkaError
from kafkapy.model import NO_LEADER_EPOCH
from kafkapy.sharing.batches import UNKNOWN_COUNT, UNKNOWN_START, merged
from kafkapy.sharing.state.commands import (
    Command,
    DeleteState,
    ForgetTopic,
    InitializeState,
    PartitionCommand,
    ReadState,
    ReadStateSummary,
    SnapshotCold,
    WriteState,
)
from kafkapy.sharing.state.facts import (
    Fact,
    OtherRecord,
    SharePartitionKey,
    ShareState,
    StateRemoved,
    StateSnapshotted,
    StateUpdated,
)

_NOTHING: Final = ShareState(0, 0, 0, UNKNOWN_START, UNKNOWN_COUNT)


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Names and units are those of Kafka's broker settings (`share.coordinator.*`)."""

    update_records_per_snapshot: int = 500
    cold_partition_snapshot_interval_ms: int = 300_000


class _Known(NamedTuple):
    """A partition's state, the latest epochs that were seen, how many updates lie behind its last snapshot, and the
    number of that snapshot's record among all of the log that was applied.
    """

    state: ShareState
    leader_epoch: int
    state_epoch: int
    update_count: int
    snapshot_record: int


class _Undo(NamedTuple):
    key: SharePartitionKey
    before: _Known | None


class ShareStateMachine:
    """All share partitions that fall on one partition of the state topic."""

    def __init__(self, settings: StateSettings) -> None:
        self._settings = settings
        self._known: dict[SharePartitionKey, _Known] = {}  # in the order of their last snapshots
        self._record_count = 0

    @property
    def needed_record_count(self) -> int:
        """So many records at the end of the log are needed; all before them are redundant."""
        for known in self._known.values():
            return self._record_count - known.snapshot_record
        return 0

    def decide(self, command: Command, ticket: Ticket, moment: Moment) -> Decision:
        match command:
            case SnapshotCold():
                return self._snapshot_cold(moment.now_ms)
            case ForgetTopic(topic_id):
                gone: list[Fact] = [StateRemoved(key) for key in self._known if key.topic_id == topic_id]
                return Decision(gone, [Answer(ticket, True)])
        if command.key.partition < 0:
            raise KafkaError(Error.INVALID_REQUEST, "The partition id cannot be a negative number.")
        _require_epochs(command)
        known = self._known.get(command.key)
        match command:
            case InitializeState(key, state_epoch, start_offset):
                if known is not None and state_epoch < known.state_epoch:
                    raise KafkaError(Error.FENCED_STATE_EPOCH)
                _require_topic(key, moment)
                snapshot_epoch = 0 if known is None else known.state.snapshot_epoch + 1
                complete_count = UNKNOWN_COUNT if start_offset == UNKNOWN_START else 0
                state = ShareState(
                    snapshot_epoch, state_epoch, 0, start_offset, complete_count, (), moment.now_ms, moment.now_ms
                )
                return Decision([StateSnapshotted(key, state)], [Answer(ticket, True)])
            case DeleteState(key):
                _require_topic(key, moment)
                return Decision([] if known is None else [StateRemoved(key)], [Answer(ticket, True)])
            case ReadStateSummary(key):
                _require_topic(key, moment)
                return Decision(answers=[Answer(ticket, _NOTHING if known is None else known.state)])
            case ReadState():
                return self._read(command, known, ticket, moment)
            case WriteState():
                return self._write(command, known, ticket, moment)

    def _read(self, command: ReadState, known: _Known | None, ticket: Ticket, moment: Moment) -> Decision:
        if known is None:
            raise KafkaError(Error.INVALID_REQUEST, "Read operation on uninitialized share partition not allowed.")
        if known.leader_epoch > command.leader_epoch:
            raise KafkaError(Error.FENCED_LEADER_EPOCH)
        _require_topic(command.key, moment)
        state = known.state
        facts: list[Fact] = []
        if command.leader_epoch != known.leader_epoch:
            update = StateUpdated(
                command.key, state.snapshot_epoch, command.leader_epoch, state.start_offset, state.complete_count, ()
            )
            facts.append(self._record_of(update, known, moment.now_ms))
        return Decision(facts, [Answer(ticket, state)])

    def _write(self, command: WriteState, known: _Known | None, ticket: Ticket, moment: Moment) -> Decision:
        if known is None:
            raise KafkaError(Error.INVALID_REQUEST, "Write operation on uninitialized share partition not allowed.")
        if command.leader_epoch < known.leader_epoch:
            raise KafkaError(Error.FENCED_LEADER_EPOCH)
        if command.state_epoch < known.state_epoch:
            raise KafkaError(Error.FENCED_STATE_EPOCH)
        _require_topic(command.key, moment)
        if any(not 0 <= batch.first_offset <= batch.last_offset for batch in command.batches):
            raise KafkaError(Error.INVALID_REQUEST, "A batch begins before 0, or ends before it begins.")
        before, start_offset, count = known.state, command.start_offset, command.complete_count
        if start_offset <= before.start_offset:  # writes may come out of order, and are none without a start
            count = max(before.complete_count, count if start_offset == before.start_offset else UNKNOWN_COUNT)
            start_offset = before.start_offset
        update = StateUpdated(
            command.key,
            before.snapshot_epoch,
            before.leader_epoch,
            start_offset,
            count,
            merged((), command.batches, start_offset),
        )
        return Decision([self._record_of(update, known, moment.now_ms)], [Answer(ticket, True)])

    def _record_of(self, update: StateUpdated, known: _Known, now_ms: int) -> Fact:
        """The update, or in its turn the snapshot that has it in it."""
        if known.update_count < self._settings.update_records_per_snapshot:
            return update
        state = _updated(known.state, update)
        return StateSnapshotted(
            update.key,
            state._replace(snapshot_epoch=known.state.snapshot_epoch + 1, created_ms=now_ms, written_ms=now_ms),
        )

    def _snapshot_cold(self, now_ms: int) -> Decision:
        """Write the state of partitions again whose last snapshot is old; but not if all of them were quiet before."""
        interval_ms = self._settings.cold_partition_snapshot_interval_ms
        facts: list[Fact] = []
        if any(known.state.created_ms == known.state.written_ms for known in self._known.values()):
            facts += [
                StateSnapshotted(key, state._replace(snapshot_epoch=state.snapshot_epoch + 1, written_ms=now_ms))
                for key, (state, *_) in self._known.items()
                if now_ms - state.written_ms >= interval_ms
            ]
        return Decision(facts, timers=[SetTimer(SnapshotCold, now_ms + interval_ms, SnapshotCold())])

    def apply(self, fact: Fact | OtherRecord | InTransaction | TransactionEnded) -> None:
        number = self._record_count
        self._record_count += 1
        if isinstance(fact, OtherRecord | InTransaction | TransactionEnded):
            return  # nobody's transaction has anything to say here
        key = fact.key
        before = self._known.get(key)
        match fact:
            case StateSnapshotted(_, state):
                leader_epoch, state_epoch = state.leader_epoch, state.state_epoch
                if before is not None:
                    del self._known[key]  # so that it stands last
                    leader_epoch = max(leader_epoch, before.leader_epoch)
                    state_epoch = max(state_epoch, before.state_epoch)
                self._known[key] = _Known(state, leader_epoch, state_epoch, 0, number)
            case StateUpdated():
                if before is None:  # its snapshot is not there any more: as in Kafka, this begins it
                    before = _Known(_NOTHING._replace(snapshot_epoch=fact.snapshot_epoch), 0, 0, 0, number)
                self._known[key] = before._replace(
                    state=_updated(before.state, fact),
                    leader_epoch=max(before.leader_epoch, fact.leader_epoch),
                    update_count=before.update_count + 1,
                )
            case StateRemoved():
                self._known.pop(key, None)

    def undo_of(self, fact: Fact) -> _Undo:
        return _Undo(fact.key, self._known.get(fact.key))

    def revert(self, undos: Iterable[_Undo], error: KafkaError, moment: Moment) -> Decision:
        for key, before in undos:
            self._record_count -= 1
            self._known.pop(key, None)
            if before is not None:
                self._known[key] = before
        in_order = sorted(self._known.items(), key=lambda item: item[1].snapshot_record)
        self._known = dict(in_order)
        return Decision()

    def loaded(self, moment: Moment) -> Decision:
        pause_ms = self._settings.cold_partition_snapshot_interval_ms
        return Decision(timers=[SetTimer(SnapshotCold, moment.now_ms + pause_ms, SnapshotCold())])

    def snapshot(self) -> Iterator[Fact]:
        known = [(key, known.state) for key, known in self._known.items()]
        return (StateSnapshotted(key, state) for key, state in known)


def _updated(state: ShareState, update: StateUpdated) -> ShareState:
    """The state after the update. Writes of a leader may come out of order: then the larger start is the later one."""
    count = update.complete_count
    start_offset = update.start_offset
    if start_offset == UNKNOWN_START or start_offset < state.start_offset:
        start_offset = state.start_offset
        if update.start_offset != UNKNOWN_START:
            count = state.complete_count
    return state._replace(
        leader_epoch=state.leader_epoch if update.leader_epoch == NO_LEADER_EPOCH else update.leader_epoch,
        start_offset=start_offset,
        complete_count=count,
        batches=merged(state.batches, update.batches, start_offset),
    )


def _require_topic(key: SharePartitionKey, moment: Moment) -> None:
    topic = moment.image.topic_by_id(key.topic_id)
    if topic is None or key.partition >= len(topic.partitions):
        raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)


def _require_epochs(command: PartitionCommand) -> None:
    """Raises INVALID_REQUEST for an epoch below 0."""
    match command:
        case WriteState(_, state_epoch, leader_epoch):
            pass
        case ReadState(_, leader_epoch):
            state_epoch = 0
        case InitializeState(_, state_epoch):
            leader_epoch = 0
        case _:
            return
    if leader_epoch < 0:
        raise KafkaError(Error.INVALID_REQUEST, "The leader epoch cannot be a negative number.")
    if state_epoch < 0:
        raise KafkaError(Error.INVALID_REQUEST, "The state epoch cannot be a negative number.")
