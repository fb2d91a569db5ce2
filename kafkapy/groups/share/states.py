"""For which partitions a share group has state: asked for, there, or to be forgotten (KIP-932). Pure.

The state itself is the share coordinator's. The group's part is to know which partitions have some, so that only these
are assigned, and that all of it is forgotten when the group is. What is asked of the share coordinator is written down
first, and goes out with the answer (`groups/share/service.py`); what became of it comes back as a command. Owned by
`groups/share/protocol.py`.
"""

from collections.abc import Collection, Mapping

from kafkapy.coordination.shard import Decision, Moment
from kafkapy.errors import Error
from kafkapy.groups.persister import UNKNOWN_START, TopicIdPartition
from kafkapy.groups.share.commands import (
    AlterStarts,
    DeleteStates,
    InitializeStates,
    StartsAltered,
    StatesDeleted,
    StatesInitialized,
    StatesNotInitialized,
    StatesToDelete,
)
from kafkapy.groups.share.facts import StatePartitions, StatePartitionsStored, TopicState
from kafkapy.groups.share.group import ShareGroup, joined, partitions_of, without

_UNKNOWN_NAME = "<UNKNOWN>"
_NO_TOPIC = bytes(16)


class States:
    """The rules. Who was asked and did not answer is asked again after `retry_interval_ms`."""

    def __init__(self, retry_interval_ms: int) -> None:
        self._retry_interval_ms = retry_interval_ms

    def ask(
        self, group: ShareGroup, topics: Collection[str], epoch: int, moment: Moment, out: Decision
    ) -> InitializeStates | None:
        """What is to be initialised of the topics that are read; None: nothing.

        A topic that is new to the group begins where its settings say; partitions that came to it later have been there
        for nobody before, and begin at 0.
        """
        states = group.states
        is_recent = moment.now_ms - group.soft.asked_ms < self._retry_interval_ms
        missing: dict[bytes, TopicState] = {}
        starts: dict[TopicIdPartition, int] = {}
        for name in sorted(topics):
            topic = moment.image.topic(name)
            if topic is None:
                continue
            there = partitions_of(states.initialized, topic.topic_id)
            if is_recent:
                there |= partitions_of(states.initializing, topic.topic_id)
            if len(there) >= len(topic.partitions):
                continue
            missing[topic.topic_id] = TopicState(name, frozenset(range(len(topic.partitions))) - there)
            is_known = topic.topic_id in states.initialized or topic.topic_id in states.initializing
            for number in sorted(missing[topic.topic_id].partitions):
                starts[TopicIdPartition(topic.topic_id, number)] = 0 if is_known else UNKNOWN_START
        if not missing:
            return None
        self._begin(group, missing, moment, out)
        return InitializeStates(epoch, starts)

    def alter(self, group: ShareGroup, command: AlterStarts, moment: Moment, out: Decision) -> StartsAltered:
        """The group is to begin elsewhere, with those of the partitions that exist."""
        begun: dict[bytes, TopicState] = {}
        starts: dict[TopicIdPartition, int] = {}
        for name, partitions in command.topics:
            topic = moment.image.topic(name)
            if topic is None:
                continue
            known = {number: start for number, start in partitions if number < len(topic.partitions)}
            starts |= {TopicIdPartition(topic.topic_id, number): start for number, start in known.items()}
            # The share coordinator is who refuses numbers below 0, as in Kafka; noted here, they could not be deleted.
            begun[topic.topic_id] = TopicState(name, frozenset(number for number in known if number >= 0))
        if begun:
            self._begin(group, begun, moment, out)
        return StartsAltered(InitializeStates(group.epoch, starts))

    def _begin(self, group: ShareGroup, topics: Mapping[bytes, TopicState], moment: Moment, out: Decision) -> None:
        states = group.states
        initializing = joined(states.initializing, topics)
        deleting = {topic_id: name for topic_id, name in states.deleting.items() if topic_id not in initializing}
        self._store(group, StatePartitions(initializing, states.initialized, deleting), moment, out)

    def initialized(self, group: ShareGroup, command: StatesInitialized, moment: Moment, out: Decision) -> None:
        states, there = group.states, {}
        for topic_id, partitions in command.partitions.items():
            topic = moment.image.topic_by_id(topic_id)
            there[topic_id] = TopicState(_UNKNOWN_NAME if topic is None else topic.name, partitions)
        new = StatePartitions(
            without(states.initializing, command.partitions), joined(states.initialized, there), states.deleting
        )
        self._store(group, new, moment, out)

    def not_initialized(self, group: ShareGroup, command: StatesNotInitialized, moment: Moment, out: Decision) -> None:
        states = group.states
        if states.initializing:
            left = without(states.initializing, command.partitions)
            self._store(group, states._replace(initializing=left), moment, out)

    # What is to be forgotten

    def delete(self, group: ShareGroup, command: DeleteStates, moment: Moment, out: Decision) -> StatesToDelete:
        """The group is to forget these topics."""
        states = group.states
        if not group.has_states:
            return StatesToDelete([], [])
        topics: list[tuple[str, bytes, Error, str | None]] = []
        partitions: list[TopicIdPartition] = []
        initialized, deleting = dict(states.initialized), dict(states.deleting)
        for name in command.topics:
            topic = moment.image.topic(name)
            if topic is None:
                text = Error.UNKNOWN_TOPIC_OR_PARTITION.text
                topics.append((name, _NO_TOPIC, Error.UNKNOWN_TOPIC_OR_PARTITION, text))
                continue
            topic_id = topic.topic_id
            numbers: Collection[int]
            if topic_id in initialized:
                numbers = initialized.pop(topic_id).partitions
                deleting[topic_id] = name
            elif topic_id in deleting:
                numbers = range(len(topic.partitions))
            else:
                why = "There is no offset information to delete."
                topics.append((name, _NO_TOPIC, Error.UNKNOWN_TOPIC_OR_PARTITION, why))
                continue
            topics.append((name, topic_id, Error.NONE, None))
            partitions += [TopicIdPartition(topic_id, number) for number in sorted(numbers)]
        self._store(group, StatePartitions(states.initializing, initialized, deleting), moment, out)
        return StatesToDelete(topics, partitions)

    def deleted(self, group: ShareGroup, command: StatesDeleted, moment: Moment, out: Decision) -> None:
        states = group.states
        if group.has_states:
            deleting = {each: name for each, name in states.deleting.items() if each not in command.topic_ids}
            self._store(group, states._replace(deleting=deleting), moment, out)

    def delete_all(self, group: ShareGroup, moment: Moment, out: Decision) -> list[TopicIdPartition]:
        """The group is to be no more: whatever has state, or had some that may not be gone."""
        if not group.has_states:
            return []
        states = group.states
        going = joined(states.initialized, states.initializing)
        for topic_id in states.deleting:
            topic = moment.image.topic_by_id(topic_id)
            if topic is not None:
                numbers = frozenset(range(len(topic.partitions)))
                going = joined(going, {topic_id: TopicState(topic.name, numbers)})
        deleting = {topic_id: topic.name for topic_id, topic in going.items()}
        self._store(group, StatePartitions({}, {}, deleting), moment, out)
        return [
            TopicIdPartition(topic_id, number)
            for topic_id, topic in sorted(going.items())
            for number in sorted(topic.partitions)
        ]

    def forget_topic(self, group: ShareGroup, topic_id: bytes, moment: Moment, out: Decision) -> None:
        """A topic is no more; its state is forgotten by the share coordinator itself."""
        initializing, initialized, deleting = states = group.states
        if any(topic_id in topics for topics in states):
            gone = {topic_id: partitions_of(initializing, topic_id) | partitions_of(initialized, topic_id)}
            still = {each: name for each, name in deleting.items() if each != topic_id}
            left = StatePartitions(without(initializing, gone), without(initialized, gone), still)
            self._store(group, left, moment, out)

    @staticmethod
    def _store(group: ShareGroup, states: StatePartitions, moment: Moment, out: Decision) -> None:
        out.facts.append(StatePartitionsStored(group.group_id, states))
        group.soft.asked_ms = moment.now_ms
