"""CreateTopics (key 19), versions 2 to 7.

Each topic is answered by itself; one that is refused does not stop the others. A name that stands twice in one request
is refused. From version 5 on the answer carries what the topic became: partitions, replicas, every setting with its
source. When the answer leaves, the topic can be written and read. A request that allows no time gets REQUEST_TIMED_OUT.
A client over its quota of changes is refused (THROTTLING_QUOTA_EXCEEDED), before version 6 only held back afterwards.
"""

from collections import Counter

from kafkapy.cluster.image import TopicInfo
from kafkapy.cluster.machine import NewTopic
from kafkapy.cluster.service import TopicResult
from kafkapy.config.describing import describe_topic
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.admin.creation import tell_creation
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.model import METADATA_TOPIC
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse

Result = CreateTopicsResponse.CreatableTopicResult

_QUOTA_IS_STRICT_FROM_VERSION = 6


async def handle(request: CreateTopicsRequest, ctx: Context) -> CreateTopicsResponse:
    counts = Counter(topic.name for topic in request.topics)
    may_create_all = ctx.permits(Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME, denial_is_logged=False)
    twice = KafkaError(Error.INVALID_REQUEST, "Duplicate topic name.")
    refused = [_refused(name, twice) for name, count in counts.items() if count > 1]
    wanted: list[NewTopic] = []
    for topic in request.topics:
        if counts[topic.name] > 1:
            continue
        if (
            topic.name == METADATA_TOPIC
            or may_create_all
            or ctx.permits(Operation.CREATE, ResourceType.TOPIC, topic.name)
        ):
            wanted.append(_new_topic(topic))
        else:
            denied = KafkaError(Error.TOPIC_AUTHORIZATION_FAILED, "Authorization failed.")
            refused.append(_refused(topic.name, denied))
    created: list[TopicResult] = []
    if wanted:
        created = await ctx.rooms.cluster.create_topics(
            wanted,
            validate_only=request.validate_only,
            timeout_ms=request.timeout_ms,
            spend=ctx.spending(_QUOTA_IS_STRICT_FROM_VERSION),
        )
        if not request.validate_only and ctx.session.peer_host:  # a broker that asks for a client tells of it itself
            for result in created:
                if isinstance(result, TopicInfo):  # who is refused hears so
                    tell_creation(result.name, result, ctx)
    results = [
        _created(result, ctx) if isinstance(result, TopicInfo) else _refused(topic.name, result)
        for topic, result in zip(wanted, created, strict=True)
    ]
    return CreateTopicsResponse(topics=results + refused)


def _new_topic(topic: CreateTopicsRequest.CreatableTopic) -> NewTopic:
    return NewTopic(
        topic.name,
        topic.num_partitions,
        topic.replication_factor,
        [(assignment.partition_index, assignment.broker_ids) for assignment in topic.assignments],
        {config.name: config.value for config in topic.configs},
    )


def _created(topic: TopicInfo, ctx: Context) -> Result:
    result = Result(name=topic.name, topic_id=topic.topic_id, error_message=None)
    if not ctx.permits(Operation.DESCRIBE_CONFIGS, ResourceType.TOPIC, topic.name, denial_is_logged=False):
        result.topic_config_error_code = Error.TOPIC_AUTHORIZATION_FAILED
        return result
    result.num_partitions = len(topic.partitions)
    result.replication_factor = topic.replication_factor
    result.configs = [
        CreateTopicsResponse.CreatableTopicConfigs(
            name=config.name,
            value=config.value,
            read_only=config.read_only,
            config_source=config.source,
            is_sensitive=config.sensitive,
        )
        for config in sorted(describe_topic(topic.config))
    ]
    return result


def _refused(name: str, refusal: KafkaError) -> Result:
    return Result(name=name, error_code=refusal.error, error_message=refusal.message)


def refuse(request: CreateTopicsRequest, refusal: KafkaError, ctx: Context) -> CreateTopicsResponse:
    """The error response: the error at every topic."""
    return CreateTopicsResponse(topics=[_refused(topic.name, refusal) for topic in request.topics])
