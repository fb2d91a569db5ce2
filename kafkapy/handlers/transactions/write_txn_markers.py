"""WriteTxnMarkers (key 27), versions 1 to 2.

Sent by transaction coordinators, and by administrators to end a transaction that hangs: ends a producer's transaction
on partitions that are led here. What it has committed for groups is decided by the marker of their coordinator. Each
partition is answered by itself, and of each producer once. Version 2 says by which transaction version's rules a
marker is judged.
"""

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import EndTransaction
from kafkapy.groups.service import OFFSETS_TOPIC
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.log.markers import MarkerToWrite, write_markers
from kafkapy.model import LogId
from kafkapy.protocol.messages.write_txn_markers import WriteTxnMarkersRequest, WriteTxnMarkersResponse
from kafkapy.records.control import EndMarker

MarkerResult = WriteTxnMarkersResponse.WritableTxnMarkerResult
TopicResult = WriteTxnMarkersResponse.WritableTxnMarkerTopicResult
PartitionResult = WriteTxnMarkersResponse.WritableTxnMarkerPartitionResult

# A coordinator does not expect to hear of groups: as with other partitions it is to come back, and look for the leader.
_NOT_THERE_YET = {Error.COORDINATOR_NOT_AVAILABLE, Error.COORDINATOR_LOAD_IN_PROGRESS, Error.NOT_COORDINATOR}


async def handle(request: WriteTxnMarkersRequest, ctx: Context) -> WriteTxnMarkersResponse:
    if not ctx.permits(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME, denial_is_logged=False):
        ctx.require(Operation.CLUSTER_ACTION, ResourceType.CLUSTER, CLUSTER_NAME)
    if any(marker.producer_id < 0 or marker.producer_epoch < 0 for marker in request.markers):
        raise KafkaError(Error.UNKNOWN_SERVER_ERROR, "a marker without a producer")  # as Kafka has it
    response, results = _begun(request, Error.NONE)
    wanted: list[MarkerToWrite] = []
    written: list[PartitionResult] = []
    of_groups: list[tuple[LogId, EndTransaction]] = []
    decided: list[PartitionResult] = []
    image, leadership = ctx.rooms.cluster.image, ctx.rooms.cluster.leadership
    for marker, topic, result in results:
        end = EndMarker(marker.transaction_result, marker.coordinator_epoch, marker.transaction_version)
        partition = image.partition(topic, result.partition_index)
        if partition is None:
            result.error_code = Error.UNKNOWN_TOPIC_OR_PARTITION
        elif (epoch := leadership.epoch(partition.log)) is None:
            result.error_code = Error.NOT_LEADER_OR_FOLLOWER
        elif topic == OFFSETS_TOPIC:
            producer = ProducerEpoch(marker.producer_id, marker.producer_epoch)
            of_groups.append((partition.log, EndTransaction(producer, end)))
            decided.append(result)
        else:
            wanted.append(MarkerToWrite(partition.log, epoch, marker.producer_id, marker.producer_epoch, end))
            written.append(result)
    timeout_ms = ctx.rooms.config["request.timeout.ms"]
    if wanted:
        errors = await write_markers(ctx.rooms.logs, ctx.rooms.clock, wanted, timeout_ms=timeout_ms)
        for result, error in zip(written, errors, strict=True):
            result.error_code = error
    if of_groups:
        for result, error in zip(decided, await ctx.rooms.groups.end_transactions(of_groups), strict=True):
            result.error_code = Error.NOT_LEADER_OR_FOLLOWER if error in _NOT_THERE_YET else error
    return response


Begun = tuple[WriteTxnMarkersRequest.WritableTxnMarker, str, PartitionResult]


def _begun(request: WriteTxnMarkersRequest, error: Error) -> tuple[WriteTxnMarkersResponse, list[Begun]]:
    """A response with this error for each partition, a result a producer, and what each of its partitions answers."""
    results: list[Begun] = []
    producers: dict[int, dict[str, dict[int, PartitionResult]]] = {}
    for marker in request.markers:
        for topic in marker.topics:
            partitions = producers.setdefault(marker.producer_id, {}).setdefault(topic.name, {})
            for index in topic.partition_indexes:
                result = partitions.setdefault(index, PartitionResult(partition_index=index, error_code=error))
                results.append((marker, topic.name, result))
    markers = [
        MarkerResult(
            producer_id=producer_id,
            topics=[TopicResult(name=name, partitions=list(found.values())) for name, found in topics.items() if found],
        )
        for producer_id, topics in producers.items()
    ]
    return WriteTxnMarkersResponse(markers=[marker for marker in markers if marker.topics]), results


def refuse(request: WriteTxnMarkersRequest, refusal: KafkaError, ctx: Context) -> WriteTxnMarkersResponse:
    """The error response: the error at every partition."""
    return _begun(request, refusal.error)[0]
