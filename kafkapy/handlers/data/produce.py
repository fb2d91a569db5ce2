"""Produce (key 0), versions 3 to 13.

Topics come by name, by id in version 13. Versions 0 to 2 are advertised and refused (`old_produce.py`). Each partition
is answered by itself. With acks=0 there is no answer; an error then closes the connection, as in Kafka, so that the
producer notices. Transactional batches are refused until there are transactions: without a transactional id as in
Kafka, with one by INVALID_TXN_STATE. A single node has nobody to wait for, so acks=1 and acks=all are the same, and the
timeout never passes.
"""

from kafkapy.cluster.image import PartitionInfo, TopicInfo
from kafkapy.errors import CloseConnection, Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.log.appending import Result, Target, append, is_transactional
from kafkapy.protocol.messages.produce import ProduceRequest, ProduceResponse

PartitionResponse = ProduceResponse.PartitionProduceResponse
TopicResponse = ProduceResponse.TopicProduceResponse

_IDS_FROM_VERSION = 13


async def handle(request: ProduceRequest, ctx: Context) -> ProduceResponse | None:
    responses: list[TopicResponse] = []
    targets: list[Target] = []
    waiting: list[tuple[TopicResponse, int]] = []
    whole_error = _whole_error(request)
    for topic_data in request.topic_data:
        topic, refusal = _resolve(topic_data, ctx)
        response = TopicResponse(name=topic_data.name, topic_id=topic_data.topic_id)
        responses.append(response)
        for partition_data in topic_data.partition_data:
            index = partition_data.index
            partition = _partition(topic, index)
            error = Error.NONE
            if refusal is not None:
                error = refusal.error
            elif partition is None:
                error = Error.UNKNOWN_TOPIC_OR_PARTITION
            elif whole_error is not Error.NONE:
                error = whole_error
            elif topic is not None and topic.is_internal:
                # What stands in these logs is read back as facts: only coordinators write them.
                error = Error.INVALID_TOPIC_EXCEPTION
            if error is not Error.NONE or topic is None or partition is None:
                response.partition_responses.append(PartitionResponse(index=index, error_code=error, base_offset=-1))
                continue
            target = Target(
                partition.log,
                topic.config,
                partition.leader_epoch,
                len(partition.isr),
                len(partition.replicas),
                partition_data.records,
            )
            targets.append(target)
            waiting.append((response, index))
    if targets:
        results = await append(ctx.rooms.logs, ctx.rooms.clock, targets, acks=request.acks, api_version=ctx.api_version)
        for (response, index), result in zip(waiting, results, strict=True):
            response.partition_responses.append(_packed(index, result))
    if request.acks == 0:
        failed = next((p for t in responses for p in t.partition_responses if p.error_code), None)
        if failed is not None:
            raise CloseConnection(f"produce with acks=0 failed with error {failed.error_code}")
        return None
    return ProduceResponse(responses=responses)


def _whole_error(request: ProduceRequest) -> Error:
    """What is wrong with the request as a whole, and so with each of its partitions."""
    if request.acks not in (-1, 0, 1):
        return Error.INVALID_REQUIRED_ACKS
    for topic in request.topic_data:
        for partition in topic.partition_data:
            if partition.records is None:
                raise CloseConnection("a produce request without records")
            if request.transactional_id is None and is_transactional(partition.records):
                return Error.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    return Error.NONE


def _resolve(topic_data: ProduceRequest.TopicProduceData, ctx: Context) -> tuple[TopicInfo | None, KafkaError | None]:
    image = ctx.rooms.cluster.image
    if ctx.api_version >= _IDS_FROM_VERSION:
        topic = image.topic_by_id(topic_data.topic_id)
        if topic is None:
            return None, KafkaError(Error.UNKNOWN_TOPIC_ID)
    else:
        topic = image.topic(topic_data.name)
    try:
        ctx.require(Operation.WRITE, ResourceType.TOPIC, topic.name if topic else topic_data.name)
    except KafkaError as refusal:
        return None, refusal
    return topic, None


def _partition(topic: TopicInfo | None, index: int) -> PartitionInfo | None:
    return topic.partitions[index] if topic is not None and 0 <= index < len(topic.partitions) else None


def _packed(index: int, result: Result) -> PartitionResponse:
    response = PartitionResponse(
        index=index,
        error_code=result.error,
        base_offset=result.base_offset,
        log_append_time_ms=result.log_append_time_ms,
        log_start_offset=result.log_start_offset,
        error_message=result.message,
    )
    if result.record_errors:
        response.record_errors = [
            ProduceResponse.BatchIndexAndErrorMessage(batch_index=e.position, batch_index_error_message=e.message)
            for e in result.record_errors
        ]
    return response


def refuse(request: ProduceRequest, refusal: KafkaError, ctx: Context) -> ProduceResponse:
    """The error response: the error at every partition. A producer with acks=0 hears nothing, and is cut off."""
    if request.acks == 0:
        raise CloseConnection(f"produce with acks=0 failed with error {refusal.error}")
    return ProduceResponse(
        responses=[
            TopicResponse(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[
                    PartitionResponse(
                        index=partition.index,
                        error_code=refusal.error,
                        base_offset=-1,
                        error_message=refusal.message or refusal.error.text,
                    )
                    for partition in topic.partition_data
                ],
            )
            for topic in request.topic_data
        ]
    )
