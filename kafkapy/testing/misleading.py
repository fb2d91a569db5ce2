"""Has an answer name another broker than it should: as the leader of partitions, or as a coordinator."""

from typing import Any


def mislead(answer: Any, node_id: int, address: tuple[str, int] | None) -> None:
    """Have an answer to Metadata, DescribeTopicPartitions or FindCoordinator send its reader to that broker.

    It is at this address; without one, an address that stands in the answer stays.
    """
    if hasattr(answer, "coordinators"):
        for found in answer.coordinators or [answer]:  # one alone, in older versions
            if not found.error_code:
                found.node_id = node_id
                found.host, found.port = address or (found.host, found.port)
        return
    for topic in answer.topics:
        for partition in topic.partitions:
            partition.leader_id = node_id
