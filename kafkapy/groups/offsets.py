"""Committed offsets: kept, looked up, expired, and forgotten with their topic.

Owns the offsets of one shard, those that are pending among them; called by `groups/machine.py` only. The group gives
leave (who may commit, which topics are in use); what is stored and for how long is decided here, by Kafka's rules.
"""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple, Protocol

from kafkapy.coordination.shard import InTransaction
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import (
    CommitOffsets,
    DeleteOffsets,
    FetchOffsets,
    PartitionCommit,
    TopicOffsets,
    TopicQuery,
    UnstableOffset,
)
from kafkapy.groups.facts import NO_EXPIRY, CommittedOffset, OffsetRemoved, OffsetStored
from kafkapy.groups.group import Group, GroupState, Member
from kafkapy.groups.pending import OffsetKey, Pending, PendingOffsets
from kafkapy.groups.settings import GroupSettings
from kafkapy.model import ZERO_UUID

BROKER_RETENTION = -1

_Offsets = dict[str, dict[int, CommittedOffset]]  # topic -> partition -> offset


class KeyWas(NamedTuple):
    """All that was known of a partition's offset: what undoes whatever changes it."""

    key: OffsetKey
    committed: CommittedOffset | None
    pending: dict[int, Pending]


class Subscriber(Protocol):
    """A group of whichever kind: what it reads keeps its offsets."""

    group_id: str

    def is_subscribed_to(self, topic: str) -> bool: ...


class GroupOffsets:
    """All committed offsets of a shard: group -> topic -> partition."""

    def __init__(self, settings: GroupSettings) -> None:
        self._settings = settings
        self.pending = PendingOffsets()
        self._by_group: dict[str, _Offsets] = {}
        self._unshared: set[str] | None = None
        """The groups whose offsets the last snapshot has no part in; None before there was one: all of them."""

    # Facts

    def store(self, fact: OffsetStored) -> None:
        self._put(fact)
        if self.pending:
            self.pending.overtake(OffsetKey(fact.group_id, fact.topic, fact.partition))

    def remove(self, fact: OffsetRemoved) -> None:
        self._drop(*fact)
        self.pending.remove(OffsetKey(*fact))

    def end_transaction(self, producer_id: int, committed: bool) -> None:
        for fact, position, overtaken in self.pending.end(producer_id):
            if committed and not overtaken:
                self._put(fact)
                self.pending.overtake(OffsetKey(fact.group_id, fact.topic, fact.partition), position)

    def as_it_is(self, key: OffsetKey) -> KeyWas:
        """What `restore` needs to undo any change of this offset."""
        return KeyWas(key, self.committed(*key), self.pending.about(key))

    def restore(self, was: KeyWas) -> None:
        if was.committed is not None:
            self._put(OffsetStored(*was.key, was.committed))
        else:
            self._drop(*was.key)
        self.pending.restore(was.key, was.pending)

    def _put(self, fact: OffsetStored) -> None:
        self._to_change(fact.group_id).setdefault(fact.topic, {})[fact.partition] = fact.committed

    def _drop(self, group_id: str, topic: str, partition: int) -> None:
        topics = self._to_change(group_id)
        partitions = topics.get(topic, {})
        partitions.pop(partition, None)
        if not partitions:
            topics.pop(topic, None)
        if not topics:
            self._by_group.pop(group_id, None)

    def _to_change(self, group_id: str) -> _Offsets:
        """The group's offsets, which may be changed: what a snapshot is still to read is copied first."""
        if self._unshared is None or group_id in self._unshared:
            return self._by_group.setdefault(group_id, {})
        self._unshared.add(group_id)
        shared = self._by_group.get(group_id, {})
        own = self._by_group[group_id] = {topic: partitions.copy() for topic, partitions in shared.items()}
        return own

    def committed(self, group_id: str, topic: str, partition: int) -> CommittedOffset | None:
        """What the group has committed for the partition."""
        return self._by_group.get(group_id, {}).get(topic, {}).get(partition)

    def snapshot(self) -> Iterator[OffsetStored | InTransaction]:
        """The facts behind all offsets, as they are now, whatever changes while they are read."""
        self._unshared = set()
        overtaken, undecided = self.pending.snapshot()
        return chain(overtaken, _facts_of(self._by_group.copy()), undecided)

    # Decisions

    def commit(self, command: CommitOffsets, now_ms: int) -> tuple[list[OffsetStored], list[list[Error]]]:
        """The facts of a commit that its group has let through, and an error per topic and partition."""
        expires = command.retention_ms != BROKER_RETENTION
        facts: list[OffsetStored] = []
        errors: list[list[Error]] = []
        for topic in command.topics:
            topic_errors: list[Error] = []
            for asked in topic.partitions:
                if self._is_too_large(asked.metadata):
                    topic_errors.append(Error.OFFSET_METADATA_TOO_LARGE)
                    continue
                committed = (
                    # The record that can carry an expiry has room for neither leader epoch nor topic id.
                    CommittedOffset(asked.offset, -1, asked.metadata or "", now_ms, now_ms + command.retention_ms)
                    if expires
                    else _committed(asked, now_ms, topic.topic_id)
                )
                facts.append(OffsetStored(command.group_id, topic.topic, asked.partition, committed))
                topic_errors.append(Error.NONE)
            errors.append(topic_errors)
        return facts, errors

    def fetch(self, query: FetchOffsets) -> list[TopicOffsets]:
        """What is committed. An offset that was committed to another topic of the same name counts as none."""
        group_id, known = query.group_id, self._by_group.get(query.group_id, {})
        undecided = self.pending if query.require_stable and self.pending else None
        topics = query.topics
        if topics is None:
            topics = [TopicQuery(topic, ZERO_UUID, list(partitions)) for topic, partitions in known.items()]
        found = []
        for topic, topic_id, partitions in topics:
            offsets = known.get(topic, {})
            answers: list[tuple[int, CommittedOffset | UnstableOffset | None]] = []
            for partition in partitions:
                committed = offsets.get(partition)
                if undecided and undecided.is_pending(OffsetKey(group_id, topic, partition)):
                    answers.append((partition, Error.UNSTABLE_OFFSET_COMMIT))
                elif committed is not None and _other_topic(committed.topic_id, topic_id):
                    answers.append((partition, None))
                else:
                    answers.append((partition, committed))
            found.append(TopicOffsets(topic, answers))
        return found

    def delete(self, command: DeleteOffsets, group: Subscriber) -> tuple[list[OffsetRemoved], list[Error]]:
        """The facts of a deletion, and an error per topic: a topic in use keeps its offsets."""
        group_id = command.group_id
        facts: list[OffsetRemoved] = []
        errors: list[Error] = []
        for topic, partitions in command.topics:
            if group.is_subscribed_to(topic):
                errors.append(Error.GROUP_SUBSCRIBED_TO_TOPIC)
                continue
            for partition in dict.fromkeys(partitions):
                key = OffsetKey(group_id, topic, partition)
                if self.committed(*key) is not None or self.pending.is_pending(key):
                    facts.append(OffsetRemoved(*key))
            errors.append(Error.NONE)
        return facts, errors

    def delete_all(self, group_id: str) -> list[OffsetRemoved]:
        """The facts of a group's end."""
        committed = [OffsetKey(group_id, topic, partition) for topic, partition, _ in self._of(group_id)]
        return [OffsetRemoved(*key) for key in dict.fromkeys((*committed, *self.pending.of_group(group_id)))]

    def forget_topic(self, topic: str, topic_id: bytes) -> list[OffsetRemoved]:
        """The facts of a topic's end, in every group."""
        committed = (
            OffsetStored(group_id, topic, partition, committed)
            for group_id, topics in self._by_group.items()
            for partition, committed in topics.get(topic, {}).items()
        )
        known: dict[OffsetKey, bool] = {}
        for fact in chain(committed, self.pending.facts()):
            if fact.topic == topic:
                key, is_of_it = OffsetKey(*fact[:3]), fact.committed.topic_id in (ZERO_UUID, topic_id)
                known[key] = known.get(key, True) and is_of_it
        return [OffsetRemoved(*key) for key, is_of_it in known.items() if is_of_it]

    def expired(self, group: Group, now_ms: int) -> tuple[list[OffsetRemoved], bool]:
        """The offsets that have outlived their retention, and whether none is left after them, pending or not.

        Time runs from when the group became empty; for groups without members ever, and for topics that a stable
        consumer group does not read any more, from the commit. In any other state nothing expires (KIP-211).
        """
        if not self._by_group.get(group.group_id):
            return [], not self.pending.of_group(group.group_id)
        since_empty = group.protocol_type is not None and group.state is GroupState.EMPTY
        since_commit = group.protocol_type is None or (
            group.uses_consumer_protocol and group.state is GroupState.STABLE
        )
        if not since_empty and not since_commit:
            return [], False
        return self.expired_since(group, group.state_timestamp_ms if since_empty else -1, now_ms)

    def expired_since(self, group: Subscriber, since_ms: int, now_ms: int) -> tuple[list[OffsetRemoved], bool]:
        """As `expired`, time running from one moment for all, or with -1 from each commit, as in consumer groups."""
        facts: list[OffsetRemoved] = []
        all_expired = not self.pending.of_group(group.group_id)
        for topic, partition, committed in self._of(group.group_id):
            if (
                not group.is_subscribed_to(topic)
                and self._is_expired(committed, committed.commit_timestamp_ms if since_ms == -1 else since_ms, now_ms)
                and not self.pending.is_pending(OffsetKey(group.group_id, topic, partition))
            ):
                facts.append(OffsetRemoved(group.group_id, topic, partition))
            else:
                all_expired = False
        return facts, all_expired

    def _is_expired(self, committed: CommittedOffset, start_ms: int, now_ms: int) -> bool:
        if committed.expire_timestamp_ms != NO_EXPIRY:
            return now_ms >= committed.expire_timestamp_ms
        return now_ms - start_ms >= self._settings.offsets_retention_ms

    def _is_too_large(self, metadata: str | None) -> bool:
        if metadata is None:
            return False
        # Kafka counts Java's characters: UTF-16 code units.
        return len(metadata.encode("utf-16-le", "surrogatepass")) // 2 > self._settings.offset_metadata_max_bytes

    def _of(self, group_id: str) -> Iterator[tuple[str, int, CommittedOffset]]:
        for topic, partitions in self._by_group.get(group_id, {}).items():
            for partition, committed in partitions.items():
                yield topic, partition, committed


def validate_commit(group: Group, command: CommitOffsets) -> Member | None:
    """Whether this member may commit now: the member, or None for one who commits outside of group membership.

    Raises UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION, or REBALANCE_IN_PROGRESS between join and sync. A
    transaction may be committed then, too, and whoever names no member is believed: old producers know of none.
    """
    in_transaction = command.transaction is not None
    if command.generation < 0 and group.state is GroupState.EMPTY:
        return None
    if command.generation < 0 and not command.member_id and command.instance_id is None:
        if in_transaction:
            return None
        raise KafkaError(Error.UNKNOWN_MEMBER_ID)  # outsiders commit to a group without members only
    member = group.validate_member(command.member_id, command.instance_id)
    if command.generation != group.generation:
        raise KafkaError(Error.ILLEGAL_GENERATION)
    if group.state is GroupState.COMPLETING_REBALANCE and not in_transaction:
        raise KafkaError(Error.REBALANCE_IN_PROGRESS)
    return member


def validate_deletion(group: Group) -> None:
    """Offsets of a group with members can be deleted only where its subscription is known. Raises NON_EMPTY_GROUP."""
    if group.state is not GroupState.EMPTY and not group.uses_consumer_protocol:
        raise KafkaError(Error.NON_EMPTY_GROUP)


def _facts_of(offsets: dict[str, _Offsets]) -> Iterator[OffsetStored]:
    for group_id, topics in offsets.items():
        for topic, partitions in topics.items():
            for partition, committed in partitions.items():
                yield OffsetStored(group_id, topic, partition, committed)


def _committed(asked: PartitionCommit, now_ms: int, topic_id: bytes) -> CommittedOffset:
    return CommittedOffset(asked.offset, asked.leader_epoch, asked.metadata or "", now_ms, NO_EXPIRY, topic_id)


def _other_topic(committed: bytes, asked: bytes) -> bool:
    return committed != asked and ZERO_UUID not in (committed, asked)
