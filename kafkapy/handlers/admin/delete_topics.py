"""DeleteTopics (key 20), versions 1 to 6.

Topics are named, or from version 6 on identified; both at once, neither, or the same one twice is an error of that
entry. A topic's logs are gone when the answer leaves, and its committed offsets with them.
"""

from collections import Counter
from collections.abc import Sequence

from kafkapy.cluster.image import TopicInfo
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.model import ZERO_UUID
from kafkapy.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse

Result = DeleteTopicsResponse.DeletableTopicResult

_DISABLED_ERROR_FROM_VERSION = 3


async def handle(request: DeleteTopicsRequest, ctx: Context) -> DeleteTopicsResponse:
    if not ctx.rooms.config["delete.topic.enable"]:
        if ctx.api_version < _DISABLED_ERROR_FROM_VERSION:
            raise KafkaError(Error.INVALID_REQUEST, "This version does not support topic deletion.")
        raise KafkaError(Error.TOPIC_DELETION_DISABLED)
    results, names, ids = _sorted_out(request)
    found: list[TopicInfo] = []
    image = ctx.rooms.cluster.image
    for topic_id in ids:
        topic = image.topic_by_id(topic_id)
        if topic is None:
            results.append(_refused(None, topic_id, KafkaError(Error.UNKNOWN_TOPIC_ID)))
        else:
            _take(topic, found, results, ctx)
    for name in names:
        topic = image.topic(name)
        if topic is None:
            results.append(_refused(name, ZERO_UUID, KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)))
        elif any(other.topic_id == topic.topic_id for other in found):
            found = [other for other in found if other.topic_id != topic.topic_id]
            twice = KafkaError(
                Error.INVALID_REQUEST, "The provided topic name maps to an ID that was already supplied."
            )
            results.append(_refused(name, topic.topic_id, twice))
        else:
            _take(topic, found, results, ctx)
    deleted = await ctx.rooms.cluster.delete_topics([topic.topic_id for topic in found]) if found else []
    for topic, outcome in zip(found, deleted, strict=True):
        if isinstance(outcome, KafkaError):
            results.append(_refused(topic.name, topic.topic_id, outcome))
        else:
            results.append(Result(name=topic.name, topic_id=topic.topic_id))
    return DeleteTopicsResponse(responses=results)


def _sorted_out(request: DeleteTopicsRequest) -> tuple[list[Result], Sequence[str], Sequence[bytes]]:
    """What is wrong by itself, and the names and ids that stand once."""
    results: list[Result] = []
    names, ids = Counter(request.topic_names), Counter[bytes]()
    for topic in request.topics:
        if topic.name is None and topic.topic_id == ZERO_UUID:
            neither = KafkaError(Error.INVALID_REQUEST, "Neither topic name nor id were specified.")
            results.append(_refused(None, ZERO_UUID, neither))
        elif topic.name is None:
            ids[topic.topic_id] += 1
        elif topic.topic_id == ZERO_UUID:
            names[topic.name] += 1
        else:
            both = KafkaError(Error.INVALID_REQUEST, "You may not specify both topic name and topic id.")
            results.append(_refused(topic.name, topic.topic_id, both))
    same_name = KafkaError(Error.INVALID_REQUEST, "Duplicate topic name.")
    same_id = KafkaError(Error.INVALID_REQUEST, "Duplicate topic id.")
    results += [_refused(name, ZERO_UUID, same_name) for name, count in names.items() if count > 1]
    results += [_refused(None, topic_id, same_id) for topic_id, count in ids.items() if count > 1]
    once = [name for name, count in names.items() if count == 1]
    return results, once, [topic_id for topic_id, count in ids.items() if count == 1]


def _take(topic: TopicInfo, found: list[TopicInfo], results: list[Result], ctx: Context) -> None:
    try:
        ctx.require(Operation.DELETE, ResourceType.TOPIC, topic.name)
    except KafkaError as refusal:
        results.append(_refused(topic.name, topic.topic_id, refusal))
    else:
        found.append(topic)


def _refused(name: str | None, topic_id: bytes, refusal: KafkaError) -> Result:
    return Result(
        name=name,
        topic_id=topic_id,
        error_code=refusal.error,
        error_message=refusal.message or refusal.error.text,
    )


def refuse(request: DeleteTopicsRequest, refusal: KafkaError, ctx: Context) -> DeleteTopicsResponse:
    """The error response: the error at every topic."""
    asked = [(name, ZERO_UUID) for name in request.topic_names] + [(t.name, t.topic_id) for t in request.topics]
    return DeleteTopicsResponse(
        responses=[
            Result(name=name, topic_id=topic_id, error_code=refusal.error, error_message=refusal.message)
            for name, topic_id in asked
        ]
    )
