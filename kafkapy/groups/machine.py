"""The machine behind one partition of `__consumer_offsets`: its groups, and what they have committed.

Commands come in, decisions go out (`coordination/shard.py` says how); called by the shard's runtime only.

Invariants
 1. Groups and offsets change durably by `apply` alone. A group's fact is a snapshot of what the group's memory has
    become while it was decided, so applying one's own fact is nothing; at replay it brings the group back.
 2. Offsets never stand without a group: the first one stored, or pending, brings its group into being.
 3. A group is removed only while it is empty.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from kafkapy.coordination.shard import (
    Answer,
    Decision,
    InTransaction,
    Moment,
    SetTimer,
    Ticket,
    TransactionEnded,
)
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.classic import ClassicProtocol
from kafkapy.groups.commands import (
    UNKNOWN_MEMBER,
    CommitOffsets,
    DeleteGroups,
    DeleteOffsets,
    DescribeGroup,
    EndTransaction,
    FetchOffsets,
    ForgetTopic,
    Heartbeat,
    InitialDelayOver,
    Join,
    Joined,
    JoinExpired,
    Leave,
    ListGroups,
    MemberExpired,
    RemoveExpired,
    Sync,
    SyncExpired,
)
from kafkapy.groups.describing import described, described_consumers, listed
from kafkapy.groups.facts import Fact, GroupRemoved, GroupStored, OffsetRemoved, OffsetStored
from kafkapy.groups.group import Group, GroupState
from kafkapy.groups.modern import access
from kafkapy.groups.modern.classic_members import ClassicMembers
from kafkapy.groups.modern.commands import (
    ConsumerHeartbeat,
    DescribeConsumerGroup,
)
from kafkapy.groups.modern.consumer import ConsumerProtocol
from kafkapy.groups.modern.conversion import Conversion
from kafkapy.groups.modern.group import ConsumerGroup
from kafkapy.groups.modern.protocol import ModernGroups
from kafkapy.groups.modern.topic_hash import RacksOf, TopicHashes
from kafkapy.groups.offsets import GroupOffsets, KeyWas, Subscriber, validate_commit, validate_deletion
from kafkapy.groups.pending import OffsetKey
from kafkapy.groups.settings import GroupSettings
from kafkapy.groups.share.protocol import ShareProtocol
from kafkapy.groups.streams.protocol import StreamsProtocol

_EXPIRY_KEY = ("expiry",)


def _no_racks(replicas: Sequence[int]) -> list[str]:
    return []


def _no_consumers(group_id: str) -> KafkaError:
    return KafkaError(Error.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a consumer group.")


class GroupMachine:
    """All groups whose id falls on one partition."""

    def __init__(self, settings: GroupSettings, racks_of: RacksOf = _no_racks) -> None:
        self.groups: dict[str, Group] = {}
        self.offsets = GroupOffsets(settings)
        self._settings = settings
        self._classic = classic = ClassicProtocol(self.groups, settings)
        hashes = TopicHashes(racks_of)
        self._conversion = Conversion(self.groups, classic, settings, hashes)
        self._consumer = consumer = ConsumerProtocol(self._conversion, settings, hashes)
        self.consumers = consumer.groups
        share = ShareProtocol(settings, hashes, functools.partial(self._is_of_others, ShareProtocol.name))
        streams = StreamsProtocol(
            settings, hashes, functools.partial(self._is_of_others, StreamsProtocol.name), self._make_way_for_streams
        )
        self.streams = streams.groups
        self._modern = ModernGroups([consumer, share, streams])
        members = ClassicMembers(consumer, self._conversion, settings)
        self._of_classic_members: dict[
            type, tuple[Callable[..., None], Callable[[ConsumerGroup, Any, Ticket, Moment, Decision], None]]
        ] = {
            Join: (self._join, members.join),
            Sync: (classic.sync, members.sync),
            Heartbeat: (classic.heartbeat, members.heartbeat),
            Leave: (classic.leave, members.leave),
        }
        self._requests: dict[type, Callable[[Any, Ticket, int, Decision], None]] = {
            CommitOffsets: self._commit,
            EndTransaction: self._end_transaction,
            FetchOffsets: self._fetch,
            DeleteOffsets: self._delete_offsets,
            DescribeGroup: self._describe,
            DescribeConsumerGroup: self._describe_consumers,
            ListGroups: self._list,
            DeleteGroups: self._delete_groups,
        }
        self._timers: dict[type, Callable[[Any, int, Decision], None]] = {
            MemberExpired: classic.member_expired,
            JoinExpired: classic.join_expired,
            InitialDelayOver: classic.initial_delay_over,
            SyncExpired: classic.sync_expired,
            RemoveExpired: self._remove_expired,
        }
        self._modern_requests: dict[type, Callable[[Any, Ticket, Moment, Decision], None]] = {
            ConsumerHeartbeat: self._heartbeat,
            ForgetTopic: self._forget_topic,
            **self._modern.requests,
        }

    def decide(self, command: Any, ticket: Ticket, moment: Moment) -> Decision:
        out, now_ms = Decision(), moment.now_ms
        kind = type(command)
        if (request := self._requests.get(kind)) is not None:
            request(command, ticket, now_ms, out)
        elif (either := self._of_classic_members.get(kind)) is not None:
            to_classic, to_consumers = either
            group = self.consumers.get(command.group_id)
            if group is None or group.is_empty:
                to_classic(command, ticket, now_ms, out)
            else:
                to_consumers(group, command, ticket, moment, out)
        elif (modern := self._modern_requests.get(kind)) is not None:
            modern(command, ticket, moment, out)
        elif (timer := self._timers.get(kind)) is not None:
            timer(command, now_ms, out)
        else:
            self._modern.timers[kind](command, moment, out)
        return out

    def apply(self, fact: Any) -> None:
        if self._modern.has_fact(fact):
            if self._modern.apply(fact):
                # What holds nothing but offsets has no record of its own, and gives way.
                self.groups.pop(fact.group_id, None)
            return
        match fact:
            case OffsetStored():
                self._see_to_group(fact)
                self.offsets.store(fact)
            case OffsetRemoved():
                self.offsets.remove(fact)
            case GroupStored():
                known = self.groups.get(fact.group_id)
                if known is None or known.latest is not fact:
                    known = self.groups[fact.group_id] = Group.restored(fact)
                known.stored = fact
            case GroupRemoved():
                self.groups.pop(fact.group_id, None)
            case InTransaction(producer_id, OffsetStored() as stored):
                self._see_to_group(stored)
                self.offsets.pending.add(producer_id, stored)
            case InTransaction(_, other):
                self.apply(other)  # as in Kafka: transactions store offsets, and whatever else is there counts at once
            case TransactionEnded(producer_id, committed):
                self.offsets.end_transaction(producer_id, committed)

    def _see_to_group(self, fact: OffsetStored) -> None:
        if fact.group_id not in self.groups and self._modern.find(fact.group_id) is None:
            group = self.groups[fact.group_id] = Group(fact.group_id, fact.committed.commit_timestamp_ms)
            group.stored = group.snapshot_as_new()

    def loaded(self, moment: Moment) -> Decision:
        out, now_ms = Decision(), moment.now_ms
        for group in self.groups.values():
            self._classic.restore(group, now_ms, out)
        self._modern.restore_all(moment, out)
        self._schedule_expiry(now_ms, out)
        return out

    def snapshot(self) -> Iterator[Any]:
        groups = [group.stored for group in self.groups.values() if group.stored is not None]
        return chain(groups, list(self._modern.facts()), self.offsets.snapshot())

    def undo_of(self, fact: Any) -> tuple[Any, ...]:
        """What brings back what this one is about to replace."""
        if self._modern.has_fact(fact):
            return (self._modern.as_it_is(fact),)
        return self._undo_of(fact)

    def _undo_of(self, fact: Fact | InTransaction | TransactionEnded) -> tuple[Any, ...]:
        match fact:
            case OffsetStored(group_id, topic, partition) | InTransaction(_, OffsetStored(group_id, topic, partition)):
                was = self.offsets.as_it_is(OffsetKey(group_id, topic, partition))
                known = group_id in self.groups or self._modern.find(group_id) is not None
                return (was,) if known else (was, GroupRemoved(group_id))
            case OffsetRemoved():
                return (self.offsets.as_it_is(OffsetKey(*fact)),)
            case GroupStored() | GroupRemoved():
                group = self.groups.get(fact.group_id)
                if group is None or group.stored is None:
                    return (GroupRemoved(fact.group_id),)
                return (group.stored,)
            case InTransaction(_, other):
                return self.undo_of(other)
            case TransactionEnded(producer_id):
                return tuple(self.offsets.as_it_is(key) for key in self.offsets.pending.of_producer(producer_id))

    def revert(self, undos: Iterable[tuple[Any, ...]], error: KafkaError, moment: Moment) -> Decision:
        """Groups of which a fact is taken back are what their last one that stands says, as after a load."""
        out = Decision()
        facts = [fact for undo in undos for fact in undo]
        reverted = dict.fromkeys(fact.group_id for fact in facts if isinstance(fact, (GroupStored, GroupRemoved)))
        for group_id in reverted:
            group = self.groups.pop(group_id, None)
            if group is not None:
                self._classic.abandon(group, error, out)
        for fact in facts:
            if isinstance(fact, KeyWas):
                self.offsets.restore(fact)
            else:
                self.apply(fact)
        for group_id in reverted:
            group = self.groups.get(group_id)
            if group is not None:
                self._classic.restore(group, moment.now_ms, out)
        for group_id in dict.fromkeys(fact.group_id for fact in facts if self._modern.has_fact(fact)):
            self._modern.restore(group_id, moment, out)
        return out

    # Consumer groups, and the classic ones that they come from and go to

    def _heartbeat(self, command: ConsumerHeartbeat, ticket: Ticket, moment: Moment, out: Decision) -> None:
        group_id, epoch = command.group_id, command.member_epoch
        group = self.consumers.get(group_id)
        if group is None and epoch == 0 and self._modern.find(group_id) is None:
            classic = self.groups.get(group_id)
            group = ConsumerGroup(group_id) if classic is None else self._conversion.upgraded(classic, moment, out)
        if group is None:
            raise self._no_consumer_group(group_id, "Group" if epoch < 0 else "Consumer group")
        if epoch < 0:
            self._consumer.leave(group, command, ticket, moment, out)
            return
        self._consumer.heartbeat(group, command, ticket, moment, out)
        if group_id not in self.consumers:
            # Its facts are about to come; what is no fact is known from now on.
            new = self.consumers[group_id] = ConsumerGroup(group_id)
            new.soft = group.soft

    def _join(self, command: Join, ticket: Ticket, now_ms: int, out: Decision) -> None:
        protocol = self._modern.protocol_of(command.group_id)
        if protocol is not None:
            group = protocol.groups[command.group_id]
            if not (protocol.gives_way and group.is_empty):
                out.answers.append(Answer(ticket, Joined(Error.INCONSISTENT_GROUP_PROTOCOL, UNKNOWN_MEMBER)))
                return
            if command.member_id == UNKNOWN_MEMBER:
                out.facts += group.tombstones()
        self._classic.join(command, ticket, now_ms, out)

    def _no_consumer_group(self, group_id: str, kind: str) -> KafkaError:
        if self._is_of_others(ConsumerProtocol.name, group_id):
            return _no_consumers(group_id)
        return KafkaError(Error.GROUP_ID_NOT_FOUND, f"{kind} {group_id} not found.")

    def _is_of_others(self, protocol_name: str, group_id: str) -> bool:
        """Whether a group has this id that speaks another protocol."""
        protocol = self._modern.protocol_of(group_id)
        return group_id in self.groups if protocol is None else protocol.name != protocol_name

    def _make_way_for_streams(self, group_id: str, out: Decision) -> None:
        """A classic group without members becomes a streams group, which has its offsets."""
        classic = self.groups.get(group_id)
        if classic is not None and classic.state is GroupState.EMPTY:
            self._remove(classic, out)
        elif self._is_of_others(StreamsProtocol.name, group_id):
            raise KafkaError(Error.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a streams group.")

    # Offsets

    def _commit(self, command: CommitOffsets, ticket: Ticket, now_ms: int, out: Decision) -> None:
        group, transaction = self.groups.get(command.group_id), command.transaction
        consumers = self.consumers.get(command.group_id)
        streams = self.streams.get(command.group_id)
        if consumers is not None:
            access.validate_commit(consumers, command)
        elif streams is not None:
            streams.validate_commit(command)
        elif group is not None:
            member = validate_commit(group, command)
            if member is not None and transaction is None:
                self._classic.extend_session(group, member, now_ms, out)
        elif self._is_of_others(ConsumerProtocol.name, command.group_id):
            raise _no_consumers(command.group_id)
        elif command.generation >= 0:
            unknown = Error.GROUP_ID_NOT_FOUND if command.knows_member_epochs else Error.ILLEGAL_GENERATION
            raise KafkaError(unknown, f"Group {command.group_id} not found.")
        facts, errors = self.offsets.commit(command, now_ms)
        out.facts += facts
        if transaction is not None:
            out.producer, out.verification = transaction
        out.answers.append(Answer(ticket, errors))

    def _end_transaction(self, command: EndTransaction, ticket: Ticket, now_ms: int, out: Decision) -> None:
        out.producer, out.marker = command
        out.answers.append(Answer(ticket, Error.NONE))

    def _fetch(self, command: FetchOffsets, ticket: Ticket, now_ms: int, out: Decision) -> None:
        consumers = self.consumers.get(command.group_id)
        if consumers is not None:
            access.validate_fetch(consumers, command)
        elif (streams := self.streams.get(command.group_id)) is not None:
            streams.validate_fetch(command)
        out.answers.append(Answer(ticket, self.offsets.fetch(command)))

    def _delete_offsets(self, command: DeleteOffsets, ticket: Ticket, now_ms: int, out: Decision) -> None:
        group: Subscriber | None = self.consumers.get(command.group_id) or self.streams.get(command.group_id)
        if group is None and self._modern.find(command.group_id) is not None:
            raise _no_consumers(command.group_id)
        if group is None:
            group = classic = self._group(command.group_id)
            validate_deletion(classic)
        facts, errors = self.offsets.delete(command, group)
        out.facts += facts
        out.answers.append(Answer(ticket, errors))

    def _forget_topic(self, command: ForgetTopic, ticket: Ticket, moment: Moment, out: Decision) -> None:
        out.facts += self.offsets.forget_topic(command.topic, command.topic_id)
        self._modern.forget_topic(command.topic_id, moment, out)
        out.answers.append(Answer(ticket, None))

    def _remove_expired(self, command: RemoveExpired, now_ms: int, out: Decision) -> None:
        for group in self.groups.values():
            facts, none_left = self.offsets.expired(group, now_ms)
            out.facts += facts
            if none_left and group.state is GroupState.EMPTY:
                self._remove(group, out)
        for modern in self._modern.with_offsets():
            facts, none_left = self.offsets.expired_since(modern, -1, now_ms)
            out.facts += facts
            if none_left and modern.is_empty:
                out.facts += modern.tombstones()
        self._schedule_expiry(now_ms, out)

    def _schedule_expiry(self, now_ms: int, out: Decision) -> None:
        deadline_ms = now_ms + self._settings.offsets_retention_check_interval_ms
        out.timers.append(SetTimer(_EXPIRY_KEY, deadline_ms, RemoveExpired()))

    # Groups as administrators see them

    def _describe(self, command: DescribeGroup, ticket: Ticket, now_ms: int, out: Decision) -> None:
        out.answers.append(Answer(ticket, described(self._group(command.group_id))))

    def _describe_consumers(self, command: DescribeConsumerGroup, ticket: Ticket, now_ms: int, out: Decision) -> None:
        group = self.consumers.get(command.group_id)
        if group is None:
            raise self._no_consumer_group(command.group_id, "Group")
        out.answers.append(Answer(ticket, described_consumers(group, self._settings.consumer_assignors[0])))

    def _list(self, command: ListGroups, ticket: Ticket, now_ms: int, out: Decision) -> None:
        out.answers.append(Answer(ticket, listed(self.groups.values(), self._modern.protocols, command)))

    def _delete_groups(self, command: DeleteGroups, ticket: Ticket, now_ms: int, out: Decision) -> None:
        errors = []
        for group_id in command.group_ids:
            group, modern = self.groups.get(group_id), self._modern.find(group_id)
            if modern is not None and modern.is_empty:
                out.facts += [*self.offsets.delete_all(group_id), *modern.tombstones()]
                errors.append(Error.NONE)
            elif modern is not None:
                errors.append(Error.NON_EMPTY_GROUP)
            elif group is None:
                errors.append(Error.GROUP_ID_NOT_FOUND)
            elif group.state is not GroupState.EMPTY:
                errors.append(Error.NON_EMPTY_GROUP)
            else:
                out.facts += self.offsets.delete_all(group_id)
                self._remove(group, out)
                errors.append(Error.NONE)
        out.answers.append(Answer(ticket, errors))

    def _remove(self, group: Group, out: Decision) -> None:
        self._classic.cancel_timers(group, out)
        out.facts.append(GroupRemoved(group.group_id))

    def _group(self, group_id: str) -> Group:
        group = self.groups.get(group_id)
        if group is None:
            what = "not found" if self._modern.find(group_id) is None else "is not a classic group"
            raise KafkaError(Error.GROUP_ID_NOT_FOUND, f"Group {group_id} {what}.")
        return group
