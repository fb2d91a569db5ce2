"""DeleteTopics (key 20), versions 1 to 6.

Topics are named, or from version 6 on identified; both at once, neither, or the same one twice is an error of that
entry, and then nothing happens to the topic. A topic's logs are gone when the answer leaves, and its committed offsets
with them. A request that allows no time gets REQUEST_TIMED_OUT. A client over its quota of changes is refused
(THROTTLING_QUOTA_EXCEEDED), before version 5 only held back afterwards.
"""

from collections import Counter

from kafkapy.cluster.image import TopicInfo
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.model import ZERO_UUID
from kafkapy.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse

Result = DeleteTopicsResponse.DeletableTopicResult

_DISABLED_ERROR_FROM_VERSION = 3
_QUOTA_IS_STRICT_FROM_VERSION = 5


async def handle(request: DeleteTopicsRequest, ctx: Context) -> DeleteTopicsResponse:
    if not ctx.rooms.config["delete.topic.enable"]:
        if ctx.api_version < _DISABLED_ERROR_FROM_VERSION:
            raise KafkaError(Error.INVALID_REQUEST, "This version does not support topic deletion.")
        raise KafkaError(Error.TOPIC_DELETION_DISABLED)
    selection = _Selection(request, ctx)
    doomed = list(selection.doomed.values())
    if doomed:
        deleted = await ctx.rooms.cluster.delete_topics(
            [topic.topic_id for topic in doomed],
            timeout_ms=request.timeout_ms,
            spend=ctx.spending(_QUOTA_IS_STRICT_FROM_VERSION),
        )
        for topic, outcome in zip(doomed, deleted, strict=True):
            selection.answer(topic.name, topic.topic_id, outcome if isinstance(outcome, KafkaError) else None)
    return DeleteTopicsResponse(responses=selection.results)


class _Selection:
    """Which topics a request deletes (`doomed`, by id), and what is answered for the other entries (`results`)."""

    def __init__(self, request: DeleteTopicsRequest, ctx: Context) -> None:
        self.results: list[Result] = []
        self.doomed: dict[bytes, TopicInfo] = {}
        self._ctx = ctx
        self._image = ctx.rooms.cluster.image
        self._may_delete_all = ctx.permits(Operation.DELETE, ResourceType.CLUSTER, CLUSTER_NAME, denial_is_logged=False)
        names, ids = self._sort_out(request)
        for topic_id, count in ids.items():
            if count > 1:
                self.answer(None, topic_id, KafkaError(Error.INVALID_REQUEST, "Duplicate topic id."))
            else:
                self._choose_id(topic_id)
        for name, count in names.items():
            if count > 1:
                self.answer(name, ZERO_UUID, KafkaError(Error.INVALID_REQUEST, "Duplicate topic name."))
            else:
                self._choose_name(name, ids)

    def answer(self, name: str | None, topic_id: bytes, refusal: KafkaError | None) -> None:
        """Add the result of one entry."""
        result = Result(name=name, topic_id=topic_id)
        if refusal is not None:
            result.error_code = refusal.error
            # As in Kafka, which has a text for all but one.
            general = None if refusal.error is Error.THROTTLING_QUOTA_EXCEEDED else refusal.error.text
            result.error_message = refusal.message or general
        self.results.append(result)

    def _sort_out(self, request: DeleteTopicsRequest) -> tuple[Counter[str], Counter[bytes]]:
        """How often each name and each id stands in the request."""
        names, ids = Counter(request.topic_names), Counter[bytes]()
        for topic in request.topics:
            if topic.name is None and topic.topic_id == ZERO_UUID:
                neither = KafkaError(Error.INVALID_REQUEST, "Neither topic name nor id were specified.")
                self.answer(None, ZERO_UUID, neither)
            elif topic.name is None:
                ids[topic.topic_id] += 1
            elif topic.topic_id == ZERO_UUID:
                names[topic.name] += 1
            else:
                both = KafkaError(Error.INVALID_REQUEST, "You may not specify both topic name and topic id.")
                self.answer(topic.name, topic.topic_id, both)
        return names, ids

    def _choose_id(self, topic_id: bytes) -> None:
        topic = self._image.topic_by_id(topic_id)
        if topic is None:
            self.answer(None, topic_id, KafkaError(Error.UNKNOWN_TOPIC_ID))
        elif self._permits(Operation.DELETE, topic.name):
            self.doomed[topic_id] = topic
        else:
            name = topic.name if self._permits(Operation.DESCRIBE, topic.name) else None
            self.answer(name, topic_id, KafkaError(Error.TOPIC_AUTHORIZATION_FAILED))

    def _choose_name(self, name: str, ids: Counter[bytes]) -> None:
        topic = self._image.topic(name)
        # Who may not know of a topic does not learn whether it exists.
        if not self._permits(Operation.DESCRIBE, name):
            self.answer(name, ZERO_UUID, KafkaError(Error.TOPIC_AUTHORIZATION_FAILED))
        elif topic is None:
            self.answer(name, ZERO_UUID, KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION))
        elif not self._permits(Operation.DELETE, name):
            self.answer(name, ZERO_UUID, KafkaError(Error.TOPIC_AUTHORIZATION_FAILED))
        elif topic.topic_id in ids:
            self.doomed.pop(topic.topic_id, None)
            again = "The provided topic name maps to an ID that was already supplied."
            self.answer(name, topic.topic_id, KafkaError(Error.INVALID_REQUEST, again))
        else:
            self.doomed[topic.topic_id] = topic

    def _permits(self, operation: Operation, name: str) -> bool:
        return self._may_delete_all or self._ctx.permits(operation, ResourceType.TOPIC, name)


def refuse(request: DeleteTopicsRequest, refusal: KafkaError, ctx: Context) -> DeleteTopicsResponse:
    """The error response: the error at every topic."""
    asked = [(name, ZERO_UUID) for name in request.topic_names] + [(t.name, t.topic_id) for t in request.topics]
    return DeleteTopicsResponse(
        responses=[Result(name=name, topic_id=topic_id, error_code=refusal.error) for name, topic_id in asked]
    )
