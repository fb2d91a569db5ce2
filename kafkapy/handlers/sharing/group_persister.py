"""What share groups ask of the share coordinators (`groups/persister.py`), asked of them: each partition by itself.

Partitions of different coordinators, or of different logs, do not wait for each other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio

from kafkapy.errors import KafkaError
from kafkapy.groups.persister import StateSummary, TopicIdPartition
from kafkapy.sharing.persister import SharePersister
from kafkapy.sharing.state.commands import DeleteState, InitializeState, PartitionCommand, ReadStateSummary
from kafkapy.sharing.state.facts import SharePartitionKey

_AT_A_TIME: Final = 100


class GroupPersister:
    """`groups.persister.Persister` over the share coordinators."""

    def __init__(self, persister: SharePersister) -> None:
        self._persister = persister

    async def initialize(
        self, group_id: str, state_epoch: int, starts: Mapping[TopicIdPartition, int]
    ) -> Mapping[TopicIdPartition, KafkaError | None]:
        answers = await self._ask(
            {
                partition: InitializeState(SharePartitionKey(group_id, *partition), state_epoch, start)
                for partition, start in starts.items()
            }
        )
        return _refusals(answers)

    async def delete(
        self, group_id: str, partitions: Sequence[TopicIdPartition]
    ) -> Mapping[TopicIdPartition, KafkaError | None]:
        answers = await self._ask(
            {partition: DeleteState(SharePartitionKey(group_id, *partition)) for partition in partitions}
        )
        return _refusals(answers)

    async def summaries(
        self, group_id: str, partitions: Sequence[TopicIdPartition]
    ) -> Mapping[TopicIdPartition, StateSummary | KafkaError]:
        answers = await self._ask(
            {partition: ReadStateSummary(SharePartitionKey(group_id, *partition)) for partition in partitions}
        )
        return {
            partition: answer
            if isinstance(answer, KafkaError)
            else StateSummary(answer.state_epoch, answer.leader_epoch, answer.start_offset, answer.complete_count)
            for partition, answer in answers.items()
        }

    async def _ask(self, commands: Mapping[TopicIdPartition, PartitionCommand]) -> dict[TopicIdPartition, Any]:
        answers: dict[TopicIdPartition, Any] = {}
        waiting = list(commands.items())
        while waiting:
            now, waiting = waiting[:_AT_A_TIME], waiting[_AT_A_TIME:]
            async with trio.open_nursery() as nursery:
                for partition, command in now:
                    nursery.start_soon(self._ask_one, partition, command, answers)
        return answers

    async def _ask_one(
        self, partition: TopicIdPartition, command: PartitionCommand, answers: dict[TopicIdPartition, Any]
    ) -> None:
        try:
            answers[partition] = await self._persister.ask(command)
        except KafkaError as refusal:
            answers[partition] = refusal


def _refusals(answers: Mapping[TopicIdPartition, Any]) -> dict[TopicIdPartition, KafkaError | None]:
    return {partition: answer if isinstance(answer, KafkaError) else None for partition, answer in answers.items()}
