"""Share state as records of `__share_group_state`, in Kafka's own format (KIP-932, KIP-1226).

A key begins with two bytes that name the record type, a value with two bytes of version, which is 0. A null value of a
snapshot's key is a tombstone.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from kafkapy.coordination.shard import Entry
from kafkapy.protocol.journal.share_snapshot import ShareSnapshotKey, ShareSnapshotValue
from kafkapy.protocol.journal.share_update import ShareUpdateKey, ShareUpdateValue
from kafkapy.sharing.batches import StateBatch
from kafkapy.sharing.state.facts import (
    Fact,
    OtherRecord,
    SharePartitionKey,
    ShareState,
    StateRemoved,
    StateSnapshotted,
    StateUpdated,
)

_VERSION: Final = 0


class ShareStateJournal:
    """Encodes and decodes the facts of `state/facts.py`."""

    def encode(self, fact: Fact) -> Sequence[Entry]:
        match fact:
            case StateSnapshotted(key, state):
                return [Entry(_key(ShareSnapshotKey, key), _value(_snapshot(state)))]
            case StateUpdated(key):
                return [Entry(_key(ShareUpdateKey, key), _value(_update(fact)))]
            case StateRemoved(key):
                return [Entry(_key(ShareSnapshotKey, key), None)]

    def decode(self, entry: Entry) -> Fact | OtherRecord:
        raw, value = entry
        if raw is None or len(raw) < 2:
            return OtherRecord()
        match int.from_bytes(raw[:2], "big"):
            case ShareSnapshotKey.RECORD_TYPE:
                key = _read_key(ShareSnapshotKey, raw)
                if value is None:
                    return StateRemoved(key)
                return StateSnapshotted(key, _state(_read_value(ShareSnapshotValue, value)))
            case ShareUpdateKey.RECORD_TYPE if value is not None:
                told = _read_value(ShareUpdateValue, value)
                return StateUpdated(
                    _read_key(ShareUpdateKey, raw),
                    told.snapshot_epoch,
                    told.leader_epoch,
                    told.start_offset,
                    told.delivery_complete_count,
                    _batches(told.state_batches),
                )
        return OtherRecord()


def _key(cls: Any, key: SharePartitionKey) -> bytes:
    out = bytearray(cls.RECORD_TYPE.to_bytes(2, "big"))
    cls(group_id=key.group_id, topic_id=key.topic_id, partition=key.partition).encode(0, out)
    return bytes(out)


def _read_key(cls: Any, raw: bytes) -> SharePartitionKey:
    message, _ = cls.decode(0, raw, 2)
    return SharePartitionKey(message.group_id, message.topic_id, message.partition)


def _value(message: Any) -> bytes:
    out = bytearray(_VERSION.to_bytes(2, "big"))
    message.encode(_VERSION, out)
    return bytes(out)


def _read_value(cls: Any, value: bytes) -> Any:
    return cls.decode(int.from_bytes(value[:2], "big"), value, 2)[0]


def _snapshot(state: ShareState) -> ShareSnapshotValue:
    return ShareSnapshotValue(
        snapshot_epoch=state.snapshot_epoch,
        state_epoch=state.state_epoch,
        leader_epoch=state.leader_epoch,
        start_offset=state.start_offset,
        delivery_complete_count=state.complete_count,
        create_timestamp=state.created_ms,
        write_timestamp=state.written_ms,
        state_batches=[
            ShareSnapshotValue.StateBatch(
                first_offset=batch.first_offset,
                last_offset=batch.last_offset,
                delivery_state=batch.delivery_state,
                delivery_count=batch.delivery_count,
            )
            for batch in state.batches
        ],
    )


def _update(fact: StateUpdated) -> ShareUpdateValue:
    return ShareUpdateValue(
        snapshot_epoch=fact.snapshot_epoch,
        leader_epoch=fact.leader_epoch,
        start_offset=fact.start_offset,
        delivery_complete_count=fact.complete_count,
        state_batches=[
            ShareUpdateValue.StateBatch(
                first_offset=batch.first_offset,
                last_offset=batch.last_offset,
                delivery_state=batch.delivery_state,
                delivery_count=batch.delivery_count,
            )
            for batch in fact.batches
        ],
    )


def _state(value: ShareSnapshotValue) -> ShareState:
    return ShareState(
        value.snapshot_epoch,
        value.state_epoch,
        value.leader_epoch,
        value.start_offset,
        value.delivery_complete_count,
        _batches(value.state_batches),
        value.create_timestamp,
        value.write_timestamp,
    )


def _batches(batches: Iterable[Any]) -> tuple[StateBatch, ...]:
    return tuple(
        StateBatch(batch.first_offset, batch.last_offset, batch.delivery_state, batch.delivery_count)
        for batch in batches
    )
