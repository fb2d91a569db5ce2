"""Metadata (key 3), versions 0 to 13.

Which brokers there are, who leads what. Topics are asked for by name, or by id from version 12 on; null means all (in
version 0 the empty list does). A topic that does not exist is begun to be created when the broker allows it, the
request allows it and it is named. As in Kafka this answer still says that there is none (UNKNOWN_TOPIC_OR_PARTITION),
and clients ask again; with `kafkapy.auto.create.wait` it waits until the topic is ready.

Addresses are those that this client can reach: the advertised ones, or else the address it connected to. A partition
that nobody leads, or somebody who is not there, is LEADER_NOT_AVAILABLE.
"""

from collections.abc import Mapping
from functools import partial

from kafkapy.cluster.image import INTERNAL_TOPICS, TopicInfo
from kafkapy.cluster.leadership import Leadership
from kafkapy.cluster.topic_names import topic_name_problem
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.admin.creation import tell_creation
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.model import NOBODY, ZERO_UUID
from kafkapy.protocol.messages.metadata import MetadataRequest, MetadataResponse
from kafkapy.protocol.primitives import Kept

Topic = MetadataResponse.MetadataResponseTopic
Partition = MetadataResponse.MetadataResponsePartition

_TOPIC = ResourceType.TOPIC

_IDS_FROM_VERSION = 12
_ERROR_FROM_VERSION = 13


async def handle(request: MetadataRequest, ctx: Context) -> MetadataResponse:
    topics = await _topics(request, ctx)
    if request.include_topic_authorized_operations:
        topics = [_with_operations(topic, ctx) for topic in topics]
    cluster = ctx.rooms.cluster
    response = MetadataResponse(
        brokers=[
            MetadataResponse.MetadataResponseBroker(
                node_id=broker.node_id, host=endpoint.host, port=endpoint.port, rack=broker.rack
            )
            for broker in cluster.leadership.brokers()
            if (endpoint := ctx.endpoint_of(broker)) is not None
        ],
        cluster_id=cluster.image.cluster_id,
        controller_id=cluster.leadership.controller_id,
        topics=topics,
    )
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = ctx.cluster_authorized_operations()
    return response


async def _topics(request: MetadataRequest, ctx: Context) -> list[Topic]:
    """The topics asked for, each once; ids win over names, as in Kafka."""
    if request.topics is None or (ctx.api_version == 0 and not request.topics):
        cluster = ctx.rooms.cluster
        everything = cluster.leadership.kept_of_all(cluster.image.topics, _all)
        permits, describe = ctx.permits, Operation.DESCRIBE
        shown = [topic for topic in everything if permits(describe, _TOPIC, topic.name or "", denial_is_logged=False)]
        return everything if len(shown) == len(everything) else shown
    if ctx.api_version < _IDS_FROM_VERSION:
        for one in request.topics:
            if one.name is None:
                raise KafkaError(Error.INVALID_REQUEST, f"Topic name can not be null for version {ctx.api_version}")
            if one.topic_id != ZERO_UUID:
                raise KafkaError(
                    Error.INVALID_REQUEST, f"Topic IDs are not supported in requests for version {ctx.api_version}"
                )
    if any(one.name is None and one.topic_id == ZERO_UUID for one in request.topics):
        raise KafkaError(Error.INVALID_REQUEST, "A topic needs a name or an id")
    ids = dict.fromkeys(one.topic_id for one in request.topics if one.topic_id != ZERO_UUID)
    if ids:
        return [_by_id(topic_id, ctx) for topic_id in ids]
    names = [name for name in dict.fromkeys(one.name for one in request.topics) if name is not None]
    creating = request.allow_auto_topic_creation and bool(ctx.rooms.config["auto.create.topics.enable"])
    if creating:
        await _create_missing(names, ctx)
    return [_by_name(name, ctx, creating=creating) for name in names]


async def _create_missing(names: list[str], ctx: Context) -> None:
    """Create what is missing and may be created. What cannot be stays missing, and that is all the client hears."""
    cluster = ctx.rooms.cluster
    missing = [
        name
        for name in names
        if cluster.image.topic(name) is None
        and not topic_name_problem(name)
        and ctx.permits(Operation.DESCRIBE, _TOPIC, name)
        and _may_create(name, ctx)
    ]
    if not missing:
        return
    if not ctx.rooms.config["kafkapy.auto.create.wait"]:
        cluster.create_in_passing(missing, partial(tell_creation, ctx=ctx))
    else:
        try:
            results = await cluster.auto_create(missing)
        except KafkaError as refusal:
            results = [refusal] * len(missing)
        for name, result in zip(missing, results, strict=True):
            tell_creation(name, result, ctx)


def _may_create(name: str, ctx: Context) -> bool:
    return ctx.permits(Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME, denial_is_logged=False) or ctx.permits(
        Operation.CREATE, _TOPIC, name
    )


def _by_id(topic_id: bytes, ctx: Context) -> Topic:
    topic = ctx.rooms.cluster.image.topic_by_id(topic_id)
    if topic is None:
        return Topic(error_code=Error.UNKNOWN_TOPIC_ID, name=None, topic_id=topic_id)
    if not ctx.permits(Operation.DESCRIBE, _TOPIC, topic.name):
        return Topic(error_code=Error.TOPIC_AUTHORIZATION_FAILED, name=None, topic_id=topic_id)
    return _existing(topic, ctx)


def _by_name(name: str, ctx: Context, *, creating: bool) -> Topic:
    if not ctx.permits(Operation.DESCRIBE, _TOPIC, name):
        return Topic(error_code=Error.TOPIC_AUTHORIZATION_FAILED, name=name)
    topic = ctx.rooms.cluster.image.topic(name)
    if topic is not None:
        return _existing(topic, ctx)
    if creating and not _may_create(name, ctx):
        error = Error.TOPIC_AUTHORIZATION_FAILED
    elif topic_name_problem(name):
        error = Error.INVALID_TOPIC_EXCEPTION
    else:
        error = Error.UNKNOWN_TOPIC_OR_PARTITION
    return Topic(error_code=error, name=name, is_internal=name in INTERNAL_TOPICS)


def _existing(topic: TopicInfo, ctx: Context) -> Topic:
    return _topic(topic, ctx.rooms.cluster.leadership)


def _all(topics: Mapping[str, TopicInfo], leadership: Leadership) -> Kept[Topic]:
    """All topics, as anybody is told of them who may know them."""
    return Kept(_topic(topic, leadership) for topic in topics.values())


def _topic(topic: TopicInfo, leadership: Leadership) -> Topic:
    return Topic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        partitions=leadership.kept(topic, _partitions),
    )


def _with_operations(topic: Topic, ctx: Context) -> Topic:
    """The same, with what the client may do there; the one that is given may be kept for others."""
    if topic.name is None or topic.error_code == Error.TOPIC_AUTHORIZATION_FAILED:
        return topic
    operations = ctx.authorized_operations(ResourceType.TOPIC, topic.name)
    return Topic(
        error_code=topic.error_code,
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        partitions=topic.partitions,
        topic_authorized_operations=operations,
    )


def _partitions(topic: TopicInfo, leadership: Leadership) -> Kept[Partition]:
    partitions = []
    for partition in topic.partitions:
        leader, leader_epoch, isr, offline, replicas = leadership.of(partition)
        partitions.append(
            Partition(
                error_code=Error.LEADER_NOT_AVAILABLE if leader == NOBODY else Error.NONE,
                partition_index=partition.log.partition,
                leader_id=leader,
                leader_epoch=leader_epoch,
                replica_nodes=list(replicas),
                isr_nodes=list(isr),
                offline_replicas=list(offline),
            )
        )
    return Kept(partitions)


def refuse(request: MetadataRequest, refusal: KafkaError, ctx: Context) -> MetadataResponse:
    """The error response: the error at every topic, and from version 13 on at the top."""
    response = MetadataResponse(
        controller_id=-1,
        topics=[
            Topic(error_code=refusal.error, name=topic.name or "", topic_id=topic.topic_id)
            for topic in request.topics or ()
        ],
    )
    if ctx.api_version >= _ERROR_FROM_VERSION:
        response.error_code = refusal.error
    return response
