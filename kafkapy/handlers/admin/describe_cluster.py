"""DescribeCluster (key 60), versions 0 to 2.

The cluster's id, controller and brokers. There is no separate controller to talk to, so a question for controllers
(version 1 on) is one for the wrong endpoint. Brokers that are fenced are told where they are asked for (version 2 on).
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context
from kafkapy.protocol.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse

_BROKERS = 1
_CONTROLLERS = 2


async def handle(request: DescribeClusterRequest, ctx: Context) -> DescribeClusterResponse:
    if request.endpoint_type == _CONTROLLERS:
        raise KafkaError(
            Error.MISMATCHED_ENDPOINT_TYPE,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
        )
    if request.endpoint_type != _BROKERS:
        raise KafkaError(Error.UNSUPPORTED_ENDPOINT_TYPE, f"Unsupported endpoint type {request.endpoint_type}")
    cluster = ctx.rooms.cluster
    response = DescribeClusterResponse(
        endpoint_type=_BROKERS,
        cluster_id=cluster.image.cluster_id,
        controller_id=cluster.leadership.controller_id,
        brokers=[
            DescribeClusterResponse.DescribeClusterBroker(
                broker_id=broker.node_id, host=endpoint.host, port=endpoint.port, rack=broker.rack
            )
            for broker in cluster.leadership.brokers()
            if (endpoint := ctx.endpoint_of(broker)) is not None
        ],
    )
    if request.include_fenced_brokers:
        response.brokers += [
            DescribeClusterResponse.DescribeClusterBroker(
                broker_id=broker.node_id, host=endpoint.host, port=endpoint.port, rack=broker.rack, is_fenced=True
            )
            for broker in cluster.image.brokers.values()
            if broker.is_fenced and (endpoint := ctx.endpoint_of(broker)) is not None
        ]
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = ctx.cluster_authorized_operations()
    return response
