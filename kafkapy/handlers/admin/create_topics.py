"""CreateTopics (key 19), versions 2 to 7.

Each topic is answered by itself; one that is refused does not stop the others. A name that stands twice in one request
is refused. From version 5 on the answer carries what the topic became: partitions, replicas, every setting with its
source. When the answer leaves, the topic can be written and read. Creation takes no time worth a timeout.
"""

from collections import Counter

from kafkapy.cluster.image import TopicInfo
from kafkapy.cluster.machine import NewTopic
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse

Result = CreateTopicsResponse.CreatableTopicResult


async def handle(request: CreateTopicsRequest, ctx: Context) -> CreateTopicsResponse:
    counts = Counter(topic.name for topic in request.topics)
    refused: list[Result] = []
    wanted: list[NewTopic] = []
    for topic in request.topics:
        if counts[topic.name] > 1:
            continue
        try:
            ctx.require(Operation.CREATE, ResourceType.TOPIC, topic.name)
        except KafkaError as refusal:
            refused.append(_refused(topic.name, refusal))
            continue
        wanted.append(
            NewTopic(
                topic.name,
                topic.num_partitions,
                topic.replication_factor,
                [(assignment.partition_index, assignment.broker_ids) for assignment in topic.assignments],
                {config.name: config.value for config in topic.configs},
            )
        )
    twice = KafkaError(Error.INVALID_REQUEST, "Duplicate topic name.")
    refused += [_refused(name, twice) for name, count in counts.items() if count > 1]
    created = []
    if wanted:
        try:
            created = await ctx.rooms.cluster.create_topics(wanted, validate_only=request.validate_only)
        except KafkaError as refusal:
            created = [refusal] * len(wanted)
    results = [
        _created(result) if isinstance(result, TopicInfo) else _refused(topic.name, result)
        for topic, result in zip(wanted, created, strict=True)
    ]
    return CreateTopicsResponse(topics=results + refused)


def _created(topic: TopicInfo) -> Result:
    return Result(
        name=topic.name,
        topic_id=topic.topic_id,
        error_message=None,
        num_partitions=len(topic.partitions),
        replication_factor=topic.replication_factor,
        configs=[
            CreateTopicsResponse.CreatableTopicConfigs(
                name=config.name,
                value=config.value,
                read_only=config.read_only,
                config_source=config.source,
                is_sensitive=config.sensitive,
            )
            for config in sorted(topic.config.describe())
        ],
    )


def _refused(name: str, refusal: KafkaError) -> Result:
    return Result(name=name, error_code=refusal.error, error_message=refusal.message or refusal.error.text)


def refuse(request: CreateTopicsRequest, refusal: KafkaError, ctx: Context) -> CreateTopicsResponse:
    """The error response: the error at every topic."""
    return CreateTopicsResponse(topics=[_refused(topic.name, refusal) for topic in request.topics])
