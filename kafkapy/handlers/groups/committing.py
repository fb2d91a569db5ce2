"""What OffsetCommit and TxnOffsetCommit do alike: which of the topics and partitions in a request can be committed.

What does not exist is answered before the group is asked, and its neighbours are still committed.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import PartitionCommit, TopicCommit
from kafkapy.handlers.context import Context, Operation, ResourceType


class Results(NamedTuple):
    """What an API's answers are made of: for a topic, and for a partition."""

    topic: Any
    partition: Any


class _Prepared(NamedTuple):
    """One topic of the request: what to commit of it, and where the outcome of that goes."""

    commit: TopicCommit
    results: list[Any]


class Preparation:
    """The topics of a request, and their part of the response."""

    def __init__(self, results: Results) -> None:
        self.answers: list[Any] = []
        self._results = results
        self._prepared: list[_Prepared] = []

    @property
    def commits(self) -> list[TopicCommit]:
        """What can be committed."""
        return [prepared.commit for prepared in self._prepared]

    def add(self, topic: Any, ctx: Context, *, by_id: bool) -> None:
        """Take one topic of the request, which names it or, with `by_id`, identifies it.

        A known topic of which no partition is named has no answer: Kafka leaves it out.
        """
        image = ctx.rooms.cluster.image
        if by_id:
            known = image.topic_by_id(topic.topic_id)
            if known is None:
                self.refuse(topic, "", Error.UNKNOWN_TOPIC_ID)
                return
            name = known.name
        else:
            name = topic.name
            known = image.topic(name)
        try:
            ctx.require(Operation.READ, ResourceType.TOPIC, name)
        except KafkaError as refusal:
            self.refuse(topic, name, refusal.error)
            return
        if known is None:
            self.refuse(topic, name, Error.UNKNOWN_TOPIC_OR_PARTITION)
        elif topic.partitions:
            self._prepare(topic, name, known.topic_id, len(known.partitions))

    def _prepare(self, topic: Any, name: str, topic_id: bytes, partition_count: int) -> None:
        answer = self._answer(name, topic_id)
        prepared = _Prepared(TopicCommit(name, topic_id, commits := []), [])
        for partition in topic.partitions:
            result = self._results.partition(partition_index=partition.partition_index)
            answer.partitions.append(result)
            if 0 <= partition.partition_index < partition_count:
                commits.append(
                    PartitionCommit(
                        partition.partition_index,
                        partition.committed_offset,
                        partition.committed_leader_epoch,
                        partition.committed_metadata,
                    )
                )
                prepared.results.append(result)
            else:
                result.error_code = Error.UNKNOWN_TOPIC_OR_PARTITION
        if commits:
            self._prepared.append(prepared)

    def refuse(self, topic: Any, name: str, error: Error) -> None:
        """Answer the error at each partition of the topic."""
        answer = self._answer(name, topic.topic_id)
        answer.partitions += [
            self._results.partition(partition_index=partition.partition_index, error_code=error)
            for partition in topic.partitions
        ]

    def _answer(self, name: str, topic_id: bytes) -> Any:
        answer = self._results.topic(name=name, topic_id=topic_id)
        self.answers.append(answer)
        return answer

    def fill_in(self, outcomes: Sequence[Sequence[Error]] | Error) -> None:
        """What came of the commits: for each topic and partition, or the same for all."""
        for number, prepared in enumerate(self._prepared):
            for place, result in enumerate(prepared.results):
                result.error_code = outcomes if isinstance(outcomes, Error) else outcomes[number][place]
