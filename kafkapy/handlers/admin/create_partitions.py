"""CreatePartitions (key 37), versions 0 to 3.

Topics only grow. Every topic that was asked for is listed in the answer; one that stands twice is refused. When the
answer leaves, the new partitions can be written and read. A client over its quota of changes is refused
(THROTTLING_QUOTA_EXCEEDED), before version 3 only held back afterwards.
"""

from collections import Counter

from kafkapy.cluster.machine import NewPartitions
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsResponse

Result = CreatePartitionsResponse.CreatePartitionsTopicResult

_QUOTA_IS_STRICT_FROM_VERSION = 3


async def handle(request: CreatePartitionsRequest, ctx: Context) -> CreatePartitionsResponse:
    counts = Counter(topic.name for topic in request.topics)
    twice = KafkaError(Error.INVALID_REQUEST, "Duplicate topic name.")
    results = [_result(name, twice) for name, count in counts.items() if count > 1]
    wanted: list[NewPartitions] = []
    for topic in request.topics:
        if counts[topic.name] > 1:
            continue
        if not ctx.permits(Operation.ALTER, ResourceType.TOPIC, topic.name):
            results.append(_result(topic.name, KafkaError(Error.TOPIC_AUTHORIZATION_FAILED)))
            continue
        assignments = None
        if topic.assignments is not None:
            assignments = [assignment.broker_ids for assignment in topic.assignments]
        wanted.append(NewPartitions(topic.name, topic.count, assignments))
    if wanted:
        grown = await ctx.rooms.cluster.create_partitions(
            wanted,
            validate_only=request.validate_only,
            timeout_ms=request.timeout_ms,
            spend=ctx.spending(_QUOTA_IS_STRICT_FROM_VERSION),
        )
        for asked, outcome in zip(wanted, grown, strict=True):
            results.append(_result(asked.name, outcome if isinstance(outcome, KafkaError) else None))
    return CreatePartitionsResponse(results=results)


def _result(name: str, refusal: KafkaError | None) -> Result:
    if refusal is None:
        return Result(name=name)
    return Result(name=name, error_code=refusal.error, error_message=refusal.message)


def refuse(request: CreatePartitionsRequest, refusal: KafkaError, ctx: Context) -> CreatePartitionsResponse:
    """The error response: the error at every topic."""
    return CreatePartitionsResponse(results=[_result(topic.name, refusal) for topic in request.topics])
