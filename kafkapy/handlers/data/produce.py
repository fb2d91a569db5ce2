"""Produce (key 0), versions 3 to 13.

Topics come by name, by id in version 13. Versions 0 to 2 are advertised and refused (`old_produce.py`). Each partition
is answered by itself, and once: where it is named twice, the last batch counts. With acks=0 there is no answer; an
error then closes the connection, as in Kafka, so that the producer notices. With the first batch of a transaction its
coordinator is asked before it is appended, from version 12 on to add the partition, and the connection's next requests
wait for that (`transactional_produce.py`). A single node has nobody to wait for, so acks=1 and acks=all are the same.
Where the store has yet to make a batch durable, the answer waits for that, for the request's timeout at most
(REQUEST_TIMED_OUT), and the connection's next Produce requests begin meanwhile.
"""

from collections.abc import Sequence
from functools import partial

from kafkapy.cluster.image import TopicInfo
from kafkapy.delayed import Delayed
from kafkapy.errors import CloseConnection, Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.data.current_leader import name_leaders
from kafkapy.handlers.data.transactional_produce import verify
from kafkapy.log.appending import AppendResult, BatchToAppend, append
from kafkapy.log.request_batches import is_transactional
from kafkapy.protocol.messages.produce import ProduceRequest, ProduceResponse

TopicData = ProduceRequest.TopicProduceData
PartitionResponse = ProduceResponse.PartitionProduceResponse
TopicResponse = ProduceResponse.TopicProduceResponse
Place = tuple[list[PartitionResponse], int]
"""Where an answer goes: among those of its topic, and of which partition it is."""
Elsewhere = tuple[PartitionResponse, TopicInfo, int]
"""The answer of a partition that is led by another broker, and which it is."""

_IDS_FROM_VERSION = 13
_LEADERS_FROM_VERSION = 10
_NONE, _WRITE, _TOPIC = Error.NONE, Operation.WRITE, ResourceType.TOPIC  # looked up here, not with every request


async def handle(request: ProduceRequest, ctx: Context) -> ProduceResponse | Delayed[ProduceResponse] | None:
    responses: list[TopicResponse] = []
    batches: list[BatchToAppend] = []
    waiting: list[Place] = []
    whole_error = _whole_error(request, ctx)
    leadership = ctx.rooms.cluster.leadership
    elsewhere: list[Elsewhere] = []
    for topic_data in _merged(request.topic_data):
        topic, topic_error = _resolve(topic_data, ctx)
        partition_responses: list[PartitionResponse] = []
        responses.append(
            TopicResponse(name=topic_data.name, topic_id=topic_data.topic_id, partition_responses=partition_responses)
        )
        partitions = () if topic is None or topic.is_internal or whole_error else topic.partitions
        for partition_data in topic_data.partition_data:
            index = partition_data.index
            if topic is not None and 0 <= index < len(partitions):
                partition = partitions[index]
                log = partition.log
                leader_epoch = leadership.epoch(log)
                if leader_epoch is None:
                    error = Error.NOT_LEADER_OR_FOLLOWER
                    answer = PartitionResponse(index=index, error_code=error, base_offset=-1)
                    partition_responses.append(answer)
                    elsewhere.append((answer, topic, index))
                    continue
                batches.append(
                    BatchToAppend(
                        log,
                        topic.config,
                        leader_epoch,
                        leadership.in_sync_count(partition),
                        len(partition.replicas),
                        partition_data.records,
                    )
                )
                waiting.append((partition_responses, index))
            else:
                error = topic_error or _partition_error(topic, index, whole_error)
                partition_responses.append(PartitionResponse(index=index, error_code=error, base_offset=-1))

    if request.transactional_id is not None and batches:
        batches, refused = await verify(request.transactional_id, batches, ctx)
        for number, result in refused.items():
            partition_responses, index = waiting[number]
            partition_responses.append(_partition_packed(index, result))
        waiting = [place for number, place in enumerate(waiting) if number not in refused]

    results: Sequence[AppendResult] = ()
    if batches:
        appended = await append(
            ctx.rooms.logs,
            ctx.rooms.clock,
            ctx.rooms.turns,
            batches,
            acks=request.acks,
            api_version=ctx.api_version,
            timeout_ms=request.timeout_ms,
        )
        if isinstance(appended, Delayed):
            return appended.then(partial(_packed, responses, waiting, elsewhere, ctx))
        results = appended
    response = _packed(responses, waiting, elsewhere, ctx, results)
    if request.acks == 0:
        failed = next((p for t in responses for p in t.partition_responses if p.error_code), None)
        if failed is not None:
            raise CloseConnection(f"produce with acks=0 failed with error {failed.error_code}")
        return None
    return response


def _merged(topics: list[TopicData]) -> list[TopicData]:
    """Each topic once, and each of its partitions once, with what came for it last, as in Kafka."""
    if len(topics) == 1 and len(topics[0].partition_data) == 1:
        return topics
    merged: dict[tuple[str, bytes], dict[int, ProduceRequest.PartitionProduceData]] = {}
    for topic in topics:
        partitions = merged.setdefault((topic.name, topic.topic_id), {})
        for partition in topic.partition_data:
            partitions[partition.index] = partition
    return [
        TopicData(name=name, topic_id=topic_id, partition_data=list(partitions.values()))
        for (name, topic_id), partitions in merged.items()
    ]


def _whole_error(request: ProduceRequest, ctx: Context) -> Error:
    """What is wrong with the request as a whole, and so with each of its partitions; KafkaError where it has a text."""
    for topic in request.topic_data:
        for partition in topic.partition_data:
            if partition.records is None:
                raise CloseConnection("a produce request without records")
            if is_transactional(partition.records) and not _may_transact(request.transactional_id, ctx):
                raise KafkaError(Error.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    return _NONE if request.acks in (-1, 0, 1) else Error.INVALID_REQUIRED_ACKS


def _may_transact(transactional_id: str | None, ctx: Context) -> bool:
    return transactional_id is not None and ctx.permits(_WRITE, ResourceType.TRANSACTIONAL_ID, transactional_id)


def _resolve(topic_data: TopicData, ctx: Context) -> tuple[TopicInfo | None, Error]:
    """The topic, or none and the error that all its partitions get; neither when each is unknown by itself."""
    image = ctx.rooms.cluster.image
    if ctx.api_version >= _IDS_FROM_VERSION:
        topic = image.topic_by_id(topic_data.topic_id)
        if topic is None:
            return None, Error.UNKNOWN_TOPIC_ID
    else:
        topic = image.topic(topic_data.name)
    try:
        ctx.require(_WRITE, _TOPIC, topic.name if topic else topic_data.name)
    except KafkaError as refusal:
        return None, refusal.error
    return topic, _NONE


def _partition_error(topic: TopicInfo | None, index: int, whole_error: Error) -> Error:
    """Why nothing is appended to this partition."""
    if topic is None or not 0 <= index < len(topic.partitions):
        return Error.UNKNOWN_TOPIC_OR_PARTITION
    # What stands in an internal topic's logs is read back as facts: only coordinators write them.
    return whole_error or Error.INVALID_TOPIC_EXCEPTION


def _packed(
    responses: list[TopicResponse],
    waiting: Sequence[Place],
    elsewhere: Sequence[Elsewhere],
    ctx: Context,
    results: Sequence[AppendResult],
) -> ProduceResponse:
    """The response, with what became of the batches in its place."""
    for (partition_responses, index), result in zip(waiting, results, strict=True):
        partition_responses.append(_partition_packed(index, result))
    response = ProduceResponse(responses=responses)
    if elsewhere and ctx.api_version >= _LEADERS_FROM_VERSION:
        name_leaders(response, elsewhere, ctx)
    return response


def _partition_packed(index: int, result: AppendResult) -> PartitionResponse:
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
                        error_message=refusal.message,
                    )
                    for partition in topic.partition_data
                ],
            )
            for topic in request.topic_data
        ]
    )
