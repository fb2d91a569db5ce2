"""Fetch (key 1), versions 4 to 18.

Reads partitions in request order within the limits; the first batch of the first partition that has any is returned
whole, however large (KIP-74). Less than `min_bytes` waits up to `max_wait_ms`. Sessions (KIP-227) make requests and
answers incremental from version 7 on; topics are named by id from version 13 on. Batches go out as they lie in the log.
There is one replica of everything, so no other replica is ever preferred, and a request that comes as a replica's is
refused for each partition (NOT_LEADER_OR_FOLLOWER).
"""

from collections.abc import Sequence

from kafkapy.cluster.image import TopicInfo
from kafkapy.delayed import Delayed
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.log.fetch_session import NO_SESSION, FetchContext, News, PartitionKey, Wanted
from kafkapy.log.fetching import Result, Target, fetch
from kafkapy.model import IsolationLevel
from kafkapy.protocol.messages.fetch import FetchRequest, FetchResponse

PartitionData = FetchResponse.PartitionData
TopicResponse = FetchResponse.FetchableTopicResponse

_ERROR_FROM_VERSION = 7
_IDS_FROM_VERSION = 13
_ZSTD_FROM_VERSION = 10
_REPLICA_STATE_FROM_VERSION = 15
_READ, _TOPIC = Operation.READ, ResourceType.TOPIC  # looked up here, not for every partition
_NOTHING_READ = Result()


async def handle(request: FetchRequest, ctx: Context) -> FetchResponse | Delayed[FetchResponse]:
    try:
        context = ctx.rooms.fetch_sessions.open(
            session_id=request.session_id,
            epoch=request.session_epoch,
            wanted=_wanted(request),
            forgotten=[
                PartitionKey(topic.topic, topic.topic_id, partition)
                for topic in request.forgotten_topics_data
                for partition in topic.partitions
            ],
            api_version=ctx.api_version,
            now_ms=ctx.rooms.clock.now_ms(),
        )
    except KafkaError as refusal:
        return FetchResponse(error_code=refusal.error, session_id=NO_SESSION)
    outcomes: list[tuple[PartitionKey, Result]] = []
    targets: list[Target] = []
    places: list[int] = []
    is_replica = _replica_id(request, ctx.api_version) >= 0
    for one in context.wanted:
        target = _target(one, ctx, is_replica=is_replica)
        if isinstance(target, Target):
            places.append(len(outcomes))
            targets.append(target)
            outcomes.append((one.key, _NOTHING_READ))
        else:
            # Only what is not there at all is answered with a list of aborted transactions, an empty one.
            unread = target is Error.NOT_LEADER_OR_FOLLOWER
            outcomes.append((one.key, Result(target, aborted=None if unread else ())))

    def packed(results: Sequence[Result]) -> FetchResponse:
        for place, result in zip(places, results, strict=True):
            outcomes[place] = (outcomes[place][0], result)
        return _response(context, outcomes)

    if not targets:
        return packed(())
    # An error of any partition is news that must not wait.
    results = await _fetch(
        request, targets, ctx, max_wait_ms=request.max_wait_ms if len(targets) == len(outcomes) else 0
    )
    return results.then(packed) if isinstance(results, Delayed) else packed(results)


async def _fetch(
    request: FetchRequest, targets: Sequence[Target], ctx: Context, *, max_wait_ms: int
) -> list[Result] | Delayed[list[Result]]:
    committed = request.isolation_level == 1
    max_bytes = min(request.max_bytes, ctx.rooms.config["fetch.max.bytes"])
    return await fetch(
        ctx.rooms.logs,
        targets,
        isolation=IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED,
        max_bytes=max_bytes,
        min_bytes=min(request.min_bytes, max_bytes),
        max_wait_ms=max_wait_ms,
    )


def _response(context: FetchContext, outcomes: Sequence[tuple[PartitionKey, Result]]) -> FetchResponse:
    """What the session lets be told of these outcomes."""
    told = context.select((key, _news(result)) for key, result in outcomes)
    response = FetchResponse(session_id=context.session_id)
    last: TopicResponse | None = None
    for key, result in outcomes:
        if told is not None and key not in told:
            continue
        if last is None or last.topic_id != key.topic_id or last.topic != key.topic:
            last = TopicResponse(topic=key.topic, topic_id=key.topic_id)
            response.responses.append(last)
        last.partitions.append(_packed(key.partition, result))
    return response


def _wanted(request: FetchRequest) -> list[Wanted]:
    return [
        Wanted(
            PartitionKey(topic.topic, topic.topic_id, partition.partition),
            partition.fetch_offset,
            partition.partition_max_bytes,
            partition.current_leader_epoch,
            partition.last_fetched_epoch,
            partition.log_start_offset,
        )
        for topic in request.topics
        for partition in topic.partitions
    ]


def _target(wanted: Wanted, ctx: Context, *, is_replica: bool) -> Target | Error:
    key, fetch_offset, max_bytes, current_leader_epoch, last_fetched_epoch, _ = wanted
    image, index = ctx.rooms.cluster.image, key.partition
    topic: TopicInfo | None
    if ctx.api_version >= _IDS_FROM_VERSION:
        topic = image.topic_by_id(key.topic_id)
        if topic is None:
            return Error.UNKNOWN_TOPIC_ID
    else:
        topic = image.topic(key.topic)
    try:
        ctx.require(_READ, _TOPIC, topic.name if topic else key.topic)
    except KafkaError as refusal:
        return refusal.error
    if topic is None or not 0 <= index < len(topic.partitions):
        return Error.UNKNOWN_TOPIC_OR_PARTITION
    if is_replica:
        return Error.NOT_LEADER_OR_FOLLOWER
    if ctx.api_version < _ZSTD_FROM_VERSION and topic.config["compression.type"] == "zstd":
        return Error.UNSUPPORTED_COMPRESSION_TYPE
    partition = topic.partitions[index]
    return Target(
        partition.log, partition.leader_epoch, fetch_offset, max_bytes, current_leader_epoch, last_fetched_epoch
    )


def _replica_id(request: FetchRequest, api_version: int) -> int:
    if api_version < _REPLICA_STATE_FROM_VERSION:
        return request.replica_id
    return request.replica_state.replica_id if request.replica_state is not None else -1


def _news(result: Result) -> News:
    return News(
        has_records=len(result.records) > 0,
        high_watermark=result.high_watermark,
        log_start_offset=result.log_start_offset,
        error=result.error,
        diverges=result.diverging is not None,
    )


def _packed(index: int, result: Result) -> PartitionData:
    data = PartitionData(
        partition_index=index,
        error_code=result.error,
        high_watermark=result.high_watermark,
        last_stable_offset=result.last_stable_offset,
        log_start_offset=result.log_start_offset,
        records=result.records,  # type: ignore[arg-type]  # of a region, encoding asks the length and no more
    )
    if result.aborted is None:
        data.aborted_transactions = None
    else:
        data.aborted_transactions = [
            FetchResponse.AbortedTransaction(producer_id=row.producer_id, first_offset=row.first_offset)
            for row in result.aborted
        ]
    if result.diverging is not None:
        data.diverging_epoch = FetchResponse.EpochEndOffset(
            epoch=result.diverging.leader_epoch, end_offset=result.diverging.end_offset
        )
    return data


def refuse(request: FetchRequest, refusal: KafkaError, ctx: Context) -> FetchResponse:
    """The error response: the response's own error, or before version 7 the error at every partition."""
    if ctx.api_version >= _ERROR_FROM_VERSION:
        return FetchResponse(error_code=refusal.error, session_id=NO_SESSION)
    return FetchResponse(
        responses=[
            TopicResponse(
                topic=topic.topic,
                partitions=[_packed(partition.partition, Result(refusal.error)) for partition in topic.partitions],
            )
            for topic in request.topics
        ]
    )
