"""Metadata (key 3), versions 0 to 13.

Which brokers there are, who leads what. Topics are asked for by name, or by id from version 12 on; null means all (in
version 0 the empty list does). A topic that does not exist is created when the broker allows it, the request allows it
and it is named, and is then ready before the answer leaves, so clients need no second question.

Addresses are those that this client can reach: the advertised ones, or else the address it connected to.
"""

import logging

from kafkapy.cluster.image import INTERNAL_TOPICS, METADATA_TOPIC, TopicInfo
from kafkapy.cluster.topic_names import topic_name_problem
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.model import ZERO_UUID
from kafkapy.protocol.messages.metadata import MetadataRequest, MetadataResponse

Topic = MetadataResponse.MetadataResponseTopic

_log = logging.getLogger(__name__)

_IDS_FROM_VERSION = 12
_ERROR_FROM_VERSION = 13


async def handle(request: MetadataRequest, ctx: Context) -> MetadataResponse:
    image = ctx.rooms.cluster.image
    topics: list[Topic]
    if request.topics is None or (ctx.api_version == 0 and not request.topics):
        topics = [_existing(topic) for topic in image.topics.values()]
    else:
        topics = await _asked(request, ctx)
    if request.include_topic_authorized_operations:
        for topic in topics:
            if topic.name is not None:
                topic.topic_authorized_operations = ctx.authorized_operations(ResourceType.TOPIC, topic.name)
    endpoint = ctx.rooms.advertised(ctx.session)
    response = MetadataResponse(
        brokers=[
            MetadataResponse.MetadataResponseBroker(
                node_id=broker.node_id, host=endpoint.host, port=endpoint.port, rack=broker.rack
            )
            for broker in image.brokers
        ],
        cluster_id=image.cluster_id,
        controller_id=image.controller_id,
        topics=topics,
    )
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = ctx.authorized_operations(ResourceType.CLUSTER, CLUSTER_NAME)
    return response


async def _asked(request: MetadataRequest, ctx: Context) -> list[Topic]:
    """The topics that the request names, each once; ids win over names, as in Kafka."""
    asked = request.topics or []
    if ctx.api_version < _IDS_FROM_VERSION:
        for one in asked:
            if one.name is None:
                raise KafkaError(Error.INVALID_REQUEST, f"Topic name can not be null for version {ctx.api_version}")
            if one.topic_id != ZERO_UUID:
                raise KafkaError(
                    Error.INVALID_REQUEST, f"Topic IDs are not supported in requests for version {ctx.api_version}"
                )
    if any(one.name is None and one.topic_id == ZERO_UUID for one in asked):
        raise KafkaError(Error.INVALID_REQUEST, "A topic needs a name or an id")
    ids = dict.fromkeys(one.topic_id for one in asked if one.topic_id != ZERO_UUID)
    if ids:
        return [_by_id(topic_id, ctx) for topic_id in ids]
    may_create = request.allow_auto_topic_creation and bool(ctx.rooms.config["auto.create.topics.enable"])
    names = dict.fromkeys(one.name for one in asked)
    return [await _by_name(name, ctx, may_create=may_create) for name in names if name is not None]


def _by_id(topic_id: bytes, ctx: Context) -> Topic:
    topic = ctx.rooms.cluster.image.topic_by_id(topic_id)
    if topic is None:
        return Topic(error_code=Error.UNKNOWN_TOPIC_ID, name=None, topic_id=topic_id)
    try:
        ctx.require(Operation.DESCRIBE, ResourceType.TOPIC, topic.name)
    except KafkaError as refusal:
        return Topic(error_code=refusal.error, name=None, topic_id=topic_id)
    return _existing(topic)


async def _by_name(name: str, ctx: Context, *, may_create: bool) -> Topic:
    try:
        ctx.require(Operation.DESCRIBE, ResourceType.TOPIC, name)
        topic = ctx.rooms.cluster.image.topic(name)
        if topic is None and topic_name_problem(name):
            raise KafkaError(Error.INVALID_TOPIC_EXCEPTION)
        if topic is None and may_create and name != METADATA_TOPIC:
            ctx.require(Operation.CREATE, ResourceType.TOPIC, name)
            topic = await ctx.rooms.cluster.auto_create(name)
            _log.info("created topic %s for client %s at %s", name, ctx.client_id, ctx.session.peer_host)
        if topic is None:
            raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)
    except KafkaError as refusal:
        return Topic(error_code=refusal.error, name=name, is_internal=name in INTERNAL_TOPICS)
    return _existing(topic)


def _existing(topic: TopicInfo) -> Topic:
    return Topic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        partitions=[
            MetadataResponse.MetadataResponsePartition(
                partition_index=partition.log.partition,
                leader_id=partition.leader,
                leader_epoch=partition.leader_epoch,
                replica_nodes=list(partition.replicas),
                isr_nodes=list(partition.isr),
            )
            for partition in topic.partitions
        ],
    )


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
