"""A share coordinator that keeps what it is told in memory, and refuses what it is told to refuse."""

from collections.abc import Mapping, Sequence

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.persister import UNKNOWN_START, StateSummary, TopicIdPartition


class Keeper:
    """`Persister` for tests. `refusal`, if any, is the answer to all that is asked."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, TopicIdPartition], StateSummary] = {}
        self.refusal: Error | None = None

    def _problem(self) -> KafkaError | None:
        return None if self.refusal is None else KafkaError(self.refusal, self.refusal.text)

    async def initialize(
        self, group_id: str, state_epoch: int, starts: Mapping[TopicIdPartition, int]
    ) -> Mapping[TopicIdPartition, KafkaError | None]:
        if self.refusal is None:
            for each, start in starts.items():
                count = -1 if start == UNKNOWN_START else 0
                self.states[group_id, each] = StateSummary(state_epoch, 0, start, count)
        return dict.fromkeys(starts, self._problem())

    async def delete(
        self, group_id: str, partitions: Sequence[TopicIdPartition]
    ) -> Mapping[TopicIdPartition, KafkaError | None]:
        if self.refusal is None:
            for each in partitions:
                self.states.pop((group_id, each), None)
        return dict.fromkeys(partitions, self._problem())

    async def summaries(
        self, group_id: str, partitions: Sequence[TopicIdPartition]
    ) -> Mapping[TopicIdPartition, StateSummary | KafkaError]:
        nothing = StateSummary(0, 0, UNKNOWN_START, -1)
        problem = self._problem()
        return {each: problem or self.states.get((group_id, each), nothing) for each in partitions}
