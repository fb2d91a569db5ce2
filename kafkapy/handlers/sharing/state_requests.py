"""What the five APIs of the share coordinator have in common: each partition is a command and has an answer of its own.

Only brokers ask them (CLUSTER_ACTION), mostly for one partition at a time.
"""

from collections.abc import Callable
from typing import Any

from kafkapy.errors import KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages import response_class
from kafkapy.sharing.state.commands import PartitionCommand
from kafkapy.sharing.state.facts import SharePartitionKey

CommandOf = Callable[[SharePartitionKey, Any], PartitionCommand]


async def answered(request: Any, ctx: Context, command_of: CommandOf, pack: Callable[[Any, Any], None]) -> Any:
    """The response: what `pack` makes of the answers to the commands, an error where there is none.

    As in Kafka the response is empty for a group without a name, and when a topic comes without partitions.
    """
    ctx.require(Operation.CLUSTER_ACTION, ResourceType.CLUSTER, CLUSTER_NAME)
    cls: Any = response_class(ctx.api_key)
    response = cls()
    if not request.group_id or any(not topic.partitions for topic in request.topics):
        return response
    for topic in request.topics:
        results = []
        for partition in topic.partitions:
            result = cls.PartitionResult(partition=partition.partition)
            key = SharePartitionKey(request.group_id, topic.topic_id, partition.partition)
            try:
                pack(result, await ctx.rooms.share_state.ask(command_of(key, partition)))
            except KafkaError as refusal:
                result.error_code, result.error_message = refusal.error, refusal.message or refusal.error.text
            results.append(result)
        response.results.append(_topic_result(cls)(topic_id=topic.topic_id, partitions=results))
    return response


def refused(request: Any, refusal: KafkaError, ctx: Context) -> Any:
    """The error response: the error at every partition."""
    cls: Any = response_class(ctx.api_key)
    message = refusal.message or refusal.error.text
    return cls(
        results=[
            _topic_result(cls)(
                topic_id=topic.topic_id,
                partitions=[
                    cls.PartitionResult(partition=partition.partition, error_code=refusal.error, error_message=message)
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def nothing_more(result: Any, answer: Any) -> None:
    """There is nothing to be told but that it is done."""


def _topic_result(cls: Any) -> Any:
    """What stands for a topic in this response: the APIs have names of their own for it."""
    [name] = [name for name in vars(cls) if name.endswith(("StateResult", "StateSummaryResult"))]
    return getattr(cls, name)
