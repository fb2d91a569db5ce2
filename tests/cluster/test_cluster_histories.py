"""The cluster machine under arbitrary histories, beside a model that fits on a page; and every history replayed."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kafkapy.cluster.journal import MetadataJournal
from kafkapy.cluster.machine import (
    AllocateProducerIds,
    ClusterMachine,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    NewPartitions,
    NewTopic,
)
from kafkapy.config.layers import BrokerConfig
from kafkapy.coordination.shard import Entry, Moment
from kafkapy.errors import Error, KafkaError

NAMES = st.sampled_from(["a", "b", "c.d", "c_d", "not legal", ""])
COUNTS = st.integers(-2, 4)
OVERRIDES = st.dictionaries(
    st.sampled_from(["retention.ms", "cleanup.policy", "no.such"]), st.sampled_from(["1", "compact", None]), max_size=2
)


class Histories(RuleBasedStateMachine):
    """`model` holds what was answered: name -> (id, number of partitions, overrides)."""

    def __init__(self) -> None:
        super().__init__()
        self.config = BrokerConfig.load()
        self.machine = self.fresh()
        self.log: list[Entry] = []
        self.model: dict[str, tuple[bytes, int, dict[str, str]]] = {}
        self.ids_given = 0
        self.producer_ids: set[int] = set()

    def fresh(self) -> ClusterMachine:
        return ClusterMachine("cluster", self.config)

    def new_id(self) -> bytes:
        self.ids_given += 1
        return self.ids_given.to_bytes(16)

    def do(self, command: Any) -> Any:
        decision = self.machine.decide(command, 1, Moment(0))
        journal = MetadataJournal()
        for fact in decision.facts:
            self.log += journal.encode(fact)
            self.machine.apply(fact)
        [answer] = decision.answers
        return answer.value

    @rule(
        topics=st.lists(st.tuples(NAMES, COUNTS, st.integers(-2, 2), OVERRIDES), max_size=3, unique_by=lambda t: t[0]),
        validate_only=st.booleans(),
    )
    def create(self, topics: list, validate_only: bool) -> None:
        wanted = [NewTopic(name, count, factor, overrides=overrides) for name, count, factor, overrides in topics]
        results = self.do(CreateTopics(wanted, [self.new_id() for _ in wanted], validate_only))
        for topic, result in zip(wanted, results, strict=True):
            if isinstance(result, KafkaError):
                continue
            assert topic.name not in self.model
            assert len(result.partitions) == max(topic.partition_count, 1)
            if not validate_only:
                self.model[topic.name] = (result.topic_id, len(result.partitions), dict(result.overrides))

    @rule(name=NAMES, count=COUNTS, validate_only=st.booleans())
    def grow(self, name: str, count: int, validate_only: bool) -> None:
        [result] = self.do(CreatePartitions([NewPartitions(name, count)], validate_only))
        grows = name in self.model and count > self.model[name][1]
        assert isinstance(result, KafkaError) != grows
        if grows and not validate_only:
            topic_id, _, overrides = self.model[name]
            self.model[name] = (topic_id, count, overrides)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        topic_id = self.model.pop(name, (b"an unknown topic",))[0]
        [result] = self.do(DeleteTopics([topic_id]))
        assert isinstance(result, KafkaError) == (topic_id == b"an unknown topic")

    @rule(name=NAMES, count=st.integers(1, 3))
    def have_it_refused_by_the_log(self, name: str, count: int) -> None:
        """Facts that the log refused are taken back, the last one first, and nothing of them is left."""
        topic = self.model.get(name)
        commands = [
            CreateTopics([NewTopic("d", overrides={"retention.ms": "1"})], [self.new_id()]),
            CreatePartitions([NewPartitions(name, topic[1] + count)]) if topic else AllocateProducerIds(),
            DeleteTopics([topic[0]]) if topic else AllocateProducerIds(),
        ]
        undos = []
        for command in commands:
            for fact in self.machine.decide(command, 1, Moment(0)).facts:
                undos.append(self.machine.undo_of(fact))
                self.machine.apply(fact)
        self.machine.revert(reversed(undos), KafkaError(Error.NOT_COORDINATOR), Moment(0))

    @rule()
    def start_from_a_snapshot(self) -> None:
        old, self.machine = self.machine, self.fresh()
        for fact in old.snapshot():
            [entry] = MetadataJournal().encode(fact)
            self.machine.apply(MetadataJournal().decode(entry))

    @rule()
    def allocate(self) -> None:
        block = set(self.do(AllocateProducerIds()))
        assert not block & self.producer_ids
        self.producer_ids |= block

    @rule()
    def restart(self) -> None:
        self.machine = self.fresh()
        for entry in self.log:
            fact = MetadataJournal().decode(entry)
            assert fact is not None
            self.machine.apply(fact)

    @invariant()
    def the_image_is_what_was_answered(self) -> None:
        image = self.machine.state.advance().new
        seen = {
            topic.name: (topic.topic_id, len(topic.partitions), dict(topic.overrides))
            for topic in image.topics.values()
        }
        assert seen == self.model
        for topic in image.topics.values():
            assert image.topic_by_id(topic.topic_id) is topic
            assert [partition.log for partition in topic.partitions] == [
                (topic.name, index, topic.topic_id) for index in range(len(topic.partitions))
            ]

    @invariant()
    def names_collide_only_if_made_together(self) -> None:
        if "c.d" in self.model and "c_d" in self.model:
            first, second = (int.from_bytes(self.model[name][0]) for name in ("c.d", "c_d"))
            assert abs(first - second) <= 2


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
