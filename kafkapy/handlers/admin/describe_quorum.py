"""DescribeQuorum (key 55), versions 0 to 2.

Who keeps the metadata log, and how far everybody has it. There is one log and one keeper, the controller, which is the
only voter; it is reached by the listener that the client has come in on. A request names that log's only partition, and
nothing else; any other gets UNKNOWN_TOPIC_OR_PARTITION at all that it names.
"""

from kafkapy.cluster.image import METADATA_LOG
from kafkapy.errors import Error
from kafkapy.handlers.context import CLUSTER_NAME, Context
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.messages.describe_quorum import DescribeQuorumRequest, DescribeQuorumResponse

TopicData = DescribeQuorumResponse.TopicData
PartitionData = DescribeQuorumResponse.PartitionData

_NODES_FROM_VERSION = 2


async def handle(request: DescribeQuorumRequest, ctx: Context) -> DescribeQuorumResponse:
    ctx.require(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    asked = [(topic.topic_name, [part.partition_index for part in topic.partitions]) for topic in request.topics]
    if asked != [(METADATA_LOG.topic, [METADATA_LOG.partition])]:
        return DescribeQuorumResponse(
            topics=[
                TopicData(
                    topic_name=name,
                    partitions=[_refused(index, Error.UNKNOWN_TOPIC_OR_PARTITION) for index in partitions],
                )
                for name, partitions in asked
            ]
        )
    topic = TopicData(topic_name=METADATA_LOG.topic, partitions=[_quorum(ctx)])
    nodes = _nodes(ctx) if ctx.api_version >= _NODES_FROM_VERSION else []
    return DescribeQuorumResponse(topics=[topic], nodes=nodes)


def _refused(index: int, error: Error) -> PartitionData:
    return PartitionData(partition_index=index, error_code=error, error_message=error.text)


def _quorum(ctx: Context) -> PartitionData:
    keeper, epoch = ctx.rooms.cluster.leadership.holder(METADATA_LOG)
    bounds = ctx.rooms.logs.bounds(METADATA_LOG)
    if isinstance(bounds, Error):
        return _refused(METADATA_LOG.partition, Error.NOT_LEADER_OR_FOLLOWER)
    now_ms = ctx.rooms.clock.now_ms()
    voter = DescribeQuorumResponse.ReplicaState(
        replica_id=keeper,
        log_end_offset=bounds.end_offset,
        last_fetch_timestamp=now_ms,
        last_caught_up_timestamp=now_ms,
    )
    return PartitionData(
        partition_index=METADATA_LOG.partition,
        leader_id=keeper,
        leader_epoch=epoch,
        high_watermark=bounds.high_watermark,
        current_voters=[voter],
    )


def _nodes(ctx: Context) -> list[DescribeQuorumResponse.Node]:
    leadership = ctx.rooms.cluster.leadership
    broker = leadership.broker(leadership.controller_id)
    endpoint = None if broker is None else ctx.endpoint_of(broker)
    if broker is None or endpoint is None:
        return []
    listener = DescribeQuorumResponse.Listener(name=endpoint.listener, host=endpoint.host, port=endpoint.port)
    return [DescribeQuorumResponse.Node(node_id=broker.node_id, listeners=[listener])]
