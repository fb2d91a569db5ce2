"""OffsetForLeaderEpoch (key 23), versions 2 to 4.

Where a leader epoch ended, so that a client can tell whether its position still lies in this log's history (KIP-101,
KIP-320). An epoch that the log does not know is answered with -1 for both, without an error.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.log.offsets import LogAtEpoch, find_epoch_end
from kafkapy.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)

TopicResult = OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult
PartitionResult = OffsetForLeaderEpochResponse.EpochEndOffset


async def handle(request: OffsetForLeaderEpochRequest, ctx: Context) -> OffsetForLeaderEpochResponse:
    response = OffsetForLeaderEpochResponse()
    is_broker = ctx.permits(Operation.CLUSTER_ACTION, ResourceType.CLUSTER, CLUSTER_NAME, denial_is_logged=False)
    for topic in request.topics:
        results = []
        for asked in topic.partitions:
            try:
                if not is_broker:
                    ctx.require(Operation.DESCRIBE, ResourceType.TOPIC, topic.topic)
                partition = ctx.rooms.cluster.image.partition(topic.topic, asked.partition)
                if partition is None:
                    raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)
                leader_epoch = ctx.rooms.cluster.leadership.epoch(partition.log)
                if leader_epoch is None:
                    raise KafkaError(Error.NOT_LEADER_OR_FOLLOWER)
                log = LogAtEpoch(partition.log, leader_epoch, asked.current_leader_epoch)
                end = await find_epoch_end(ctx.rooms.logs, log, asked.leader_epoch)
            except KafkaError as refusal:
                results.append(PartitionResult(partition=asked.partition, error_code=refusal.error))
            else:
                results.append(
                    PartitionResult(partition=asked.partition, leader_epoch=end.leader_epoch, end_offset=end.end_offset)
                )
        response.topics.append(TopicResult(topic=topic.topic, partitions=results))
    return response


def refuse(request: OffsetForLeaderEpochRequest, refusal: KafkaError, ctx: Context) -> OffsetForLeaderEpochResponse:
    """The error response: the error at every partition."""
    return OffsetForLeaderEpochResponse(
        topics=[
            TopicResult(
                topic=topic.topic,
                partitions=[
                    PartitionResult(partition=asked.partition, error_code=refusal.error) for asked in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
