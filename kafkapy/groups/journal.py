"""Group facts as records of `__consumer_offsets`, in Kafka's own formats.

A key begins with two bytes that name the record type, a value with two bytes of version; a null value is a tombstone.
Written: what Kafka writes. Read: every version of those records, and the offset key of Kafka before 0.9. Those of
consumer groups stand in `groups/modern/journal.py`, those of share groups in `groups/share/journal.py`; those of group
types that are not coordinated here are left alone.
Source: KIP-98 and Kafka's coordinator record schemas.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from kafkapy.coordination.shard import Entry
from kafkapy.groups.facts import (
    NO_EXPIRY,
    CommittedOffset,
    Fact,
    GroupRemoved,
    GroupStored,
    MemberSnapshot,
    OffsetRemoved,
    OffsetStored,
)
from kafkapy.groups.modern import journal as modern
from kafkapy.groups.modern.facts import CONSUMER_FACTS
from kafkapy.groups.share import journal as share
from kafkapy.groups.share.facts import SHARE_FACTS
from kafkapy.groups.streams import journal as streams
from kafkapy.groups.streams.facts import STREAMS_FACTS
from kafkapy.protocol.journal.group_metadata import GroupMetadataKey, GroupMetadataValue
from kafkapy.protocol.journal.legacy_offset_commit import LegacyOffsetCommitKey, LegacyOffsetCommitValue
from kafkapy.protocol.journal.offset_commit import OffsetCommitKey, OffsetCommitValue

GROUP_METADATA_VERSION: Final = 3  # Kafka reads 4 and writes 3, and tools that read its log know no other
OFFSET_COMMIT_VERSION: Final = 4
EXPIRING_OFFSET_COMMIT_VERSION: Final = 1  # the only one with room for an expiry


class GroupJournal:
    """Encodes and decodes the facts of `groups/facts.py`, and those of the newer protocols."""

    def encode(self, fact: Any) -> Sequence[Entry]:
        encode = _ENCODERS.get(type(fact))
        return _encode(fact) if encode is None else encode(fact)

    def decode(self, entry: Entry) -> Any:
        if entry.key is None or len(entry.key) < 2:
            return None
        decoder = _DECODERS.get(int.from_bytes(entry.key[:2], "big"))
        return None if decoder is None else decoder(entry.key, entry.value)


def _encode(fact: Fact) -> Sequence[Entry]:
    match fact:
        case OffsetStored(group_id, topic, partition, committed):
            return [Entry(_offset_key(group_id, topic, partition), _offset_value(committed))]
        case OffsetRemoved(group_id, topic, partition):
            return [Entry(_offset_key(group_id, topic, partition), None)]
        case GroupStored():
            return [Entry(_group_key(fact.group_id), _group_value(fact))]
        case GroupRemoved(group_id):
            return [Entry(_group_key(group_id), None)]


def _group_key(group_id: str) -> bytes:
    out = bytearray(GroupMetadataKey.RECORD_TYPE.to_bytes(2, "big"))
    GroupMetadataKey(group=group_id).encode(0, out)
    return bytes(out)


def _group_value(fact: GroupStored) -> bytes:
    value = GroupMetadataValue(
        protocol_type=fact.protocol_type or "",
        generation=fact.generation,
        protocol=fact.protocol_name,
        leader=fact.leader_id,
        current_state_timestamp=fact.state_timestamp_ms,
        members=[
            GroupMetadataValue.MemberMetadata(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                rebalance_timeout=member.rebalance_timeout_ms,
                session_timeout=member.session_timeout_ms,
                subscription=member.subscription,
                assignment=member.assignment,
            )
            for member in fact.members
        ],
    )
    out = bytearray(GROUP_METADATA_VERSION.to_bytes(2, "big"))
    value.encode(GROUP_METADATA_VERSION, out)
    return bytes(out)


def _decode_group(key: bytes, value: bytes | None) -> Fact:
    group_id = GroupMetadataKey.decode(0, key, 2)[0].group
    if value is None:
        return GroupRemoved(group_id)
    message, _ = GroupMetadataValue.decode(int.from_bytes(value[:2], "big"), value, 2)
    return GroupStored(
        group_id,
        message.protocol_type or None,
        message.protocol,
        message.generation,
        message.leader,
        message.current_state_timestamp,
        tuple(
            MemberSnapshot(
                member.member_id,
                member.group_instance_id,
                member.client_id,
                member.client_host,
                member.session_timeout if member.rebalance_timeout == -1 else member.rebalance_timeout,
                member.session_timeout,
                bytes(member.subscription),
                bytes(member.assignment),
            )
            for member in message.members
        ),
    )


def _offset_key(group_id: str, topic: str, partition: int) -> bytes:
    out = bytearray(OffsetCommitKey.RECORD_TYPE.to_bytes(2, "big"))
    OffsetCommitKey(group=group_id, topic=topic, partition=partition).encode(0, out)
    return bytes(out)


def _offset_value(committed: CommittedOffset) -> bytes:
    expires = committed.expire_timestamp_ms != NO_EXPIRY
    version = EXPIRING_OFFSET_COMMIT_VERSION if expires else OFFSET_COMMIT_VERSION
    value = OffsetCommitValue(
        offset=committed.offset,
        leader_epoch=committed.leader_epoch,
        metadata=committed.metadata,
        commit_timestamp=committed.commit_timestamp_ms,
        expire_timestamp=committed.expire_timestamp_ms,
        topic_id=committed.topic_id,
    )
    out = bytearray(version.to_bytes(2, "big"))
    value.encode(version, out)
    return bytes(out)


def _decode_offset(key: bytes, value: bytes | None) -> Fact:
    name, _ = OffsetCommitKey.decode(0, key, 2)
    if value is None:
        return OffsetRemoved(name.group, name.topic, name.partition)
    message, _ = OffsetCommitValue.decode(int.from_bytes(value[:2], "big"), value, 2)
    committed = CommittedOffset(
        message.offset,
        message.leader_epoch,
        message.metadata,
        message.commit_timestamp,
        message.expire_timestamp,
        message.topic_id,
    )
    return OffsetStored(name.group, name.topic, name.partition, committed)


def _decode_legacy_offset(key: bytes, value: bytes | None) -> Fact:
    name, _ = LegacyOffsetCommitKey.decode(0, key, 2)
    if value is None:
        return OffsetRemoved(name.group, name.topic, name.partition)
    message, _ = LegacyOffsetCommitValue.decode(int.from_bytes(value[:2], "big"), value, 2)
    committed = CommittedOffset(message.offset, -1, message.metadata, message.commit_timestamp)
    return OffsetStored(name.group, name.topic, name.partition, committed)


_ENCODERS: dict[type, Callable[[Any], Sequence[Entry]]] = {
    **dict.fromkeys(CONSUMER_FACTS, modern.encode),
    **dict.fromkeys(SHARE_FACTS, share.encode),
    **dict.fromkeys(STREAMS_FACTS, streams.encode),
}
"""By the types of facts of the newer protocols."""

_DECODERS: dict[int, Callable[[bytes, bytes | None], Any]] = {
    **modern.DECODERS,
    **share.DECODERS,
    **streams.DECODERS,
    LegacyOffsetCommitKey.RECORD_TYPE: _decode_legacy_offset,
    OffsetCommitKey.RECORD_TYPE: _decode_offset,
    GroupMetadataKey.RECORD_TYPE: _decode_group,
}
