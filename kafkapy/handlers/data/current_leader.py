"""Tells a client that asked the wrong broker, or believes in an old epoch, who leads (KIP-951).

The leader stands with each partition, and where it is reached once in the response, so that the client needs no
Metadata before it asks again. Called by Produce and Fetch.
"""

from collections.abc import Iterable
from typing import Any

from kafkapy.cluster.image import TopicInfo
from kafkapy.handlers.context import Context


def name_leaders(response: Any, partitions: Iterable[tuple[Any, TopicInfo, int]], ctx: Context) -> None:
    """Put the leaders into the response. `partitions`: a partition's part of it, its topic, and its index there."""
    leadership = ctx.rooms.cluster.leadership
    message = type(response)
    leaders = {}
    for answer, topic, index in partitions:
        leader, epoch, *_ = leadership.of(topic.partitions[index])
        answer.current_leader = message.LeaderIdAndEpoch(leader_id=leader, leader_epoch=epoch)
        leaders[leader] = leadership.broker(leader)
    for node_id, broker in leaders.items():
        endpoint = None if broker is None else ctx.endpoint_of(broker)
        if broker is not None and endpoint is not None:
            response.node_endpoints.append(
                message.NodeEndpoint(node_id=node_id, host=endpoint.host, port=endpoint.port, rack=broker.rack)
            )
