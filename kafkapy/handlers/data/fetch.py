"""Fetch (key 1), versions 4 to 18.

Reads partitions in request order within the limits; the first batch of the first partition that has any is returned
whole, however large (KIP-74). Less than `min_bytes` waits up to `max_wait_ms`. Sessions (KIP-227) make requests and
answers incremental from version 7 on; topics are named by id from version 13 on. Batches go out as they lie in the log.
Where a limit falls within a batch, the beginning of that batch is mostly left out: Kafka sends it, and clients throw it
away. It counts for `min_bytes` all the same. From version 11 on a replica that is in sync is read
like the leader, and where `replica.selector.class` says so, the leader names one in the client's rack (KIP-392). A
request that comes as a replica's is refused for each partition (NOT_LEADER_OR_FOLLOWER). A client over its quota
gets nothing, whatever was found, and no session; less is looked for where more would be over it.
"""

from collections.abc import Mapping, Sequence

from kafkapy.cluster.image import TopicInfo
from kafkapy.delayed import Delayed
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.handlers.data.current_leader import name_leaders
from kafkapy.log.fetch_session import NO_SESSION, FetchContext, News, PartitionKey, Wanted
from kafkapy.log.fetching import Diverged, Found, LogToRead, empty, fetch, refused
from kafkapy.model import IsolationLevel
from kafkapy.protocol.messages.fetch import FetchRequest, FetchResponse

PartitionData = FetchResponse.PartitionData
TopicResponse = FetchResponse.FetchableTopicResponse

_ERROR_FROM_VERSION = 7
_IDS_FROM_VERSION = 13
_STORAGE_ERROR_FROM_VERSION = 6
_REPLICA_STATE_FROM_VERSION = 15
_LEADERS_FROM_VERSION = 16
_REPLICAS_FROM_VERSION = 11
_BY_RACK = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
_LEADER_ERRORS = frozenset({Error.NOT_LEADER_OR_FOLLOWER, Error.FENCED_LEADER_EPOCH})
_RESPONSE_BYTES, _PARTITION_BYTES = 20, 60  # what an answer has beside records, about
_READ, _TOPIC = Operation.READ, ResourceType.TOPIC  # looked up here, not for every partition


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
    answers: list[Found | None] = []  # None where the log is to be read
    to_read: list[LogToRead] = []
    is_replica = _replica_id(request, ctx.api_version) >= 0
    leadership = ctx.rooms.cluster.leadership
    rack = request.rack_id
    if rack and ctx.rooms.config["replica.selector.class"] != _BY_RACK:
        rack = ""
    elsewhere: dict[PartitionKey, int] = {}
    for one in context.wanted:
        log = _log_to_read(one, ctx, is_replica=is_replica)
        if not isinstance(log, LogToRead):
            # Only what is not there at all is answered with a list of aborted transactions, an empty one.
            answers.append(refused(log, is_there=log is Error.NOT_LEADER_OR_FOLLOWER))
        elif rack and (nearer := _nearer(log, rack, ctx)) is not None:
            elsewhere[one.key] = nearer
            answers.append(_bounds_of(log, ctx))
        else:
            to_read.append(log)
            answers.append(None)

    def packed(found: Sequence[Found]) -> FetchResponse:
        following = iter(found)
        if ctx.observed is not None and ctx.observed.hold_fetch(_size(found)):
            return FetchResponse(session_id=ctx.rooms.fetch_sessions.throttled(context))
        all_found = [next(following) if answer is None else answer for answer in answers]
        return _response(context, all_found, elsewhere, ctx)

    if not to_read:
        return packed(())
    max_bytes = min(request.max_bytes, ctx.rooms.config["fetch.max.bytes"])
    if ctx.observed is not None:
        max_bytes = int(min(max_bytes, ctx.observed.most_bytes()))
    found = await fetch(
        ctx.rooms.logs,
        ctx.rooms.clock,
        leadership.of_replicas if ctx.api_version >= _REPLICAS_FROM_VERSION else leadership.of_leaders,
        to_read,
        isolation=IsolationLevel.READ_COMMITTED if request.isolation_level == 1 else IsolationLevel.READ_UNCOMMITTED,
        max_bytes=max_bytes,
        min_bytes=min(request.min_bytes, max_bytes),
        # An error of any partition is news that must not wait.
        max_wait_ms=request.max_wait_ms if len(to_read) == len(answers) else 0,
    )
    return found.then(packed) if isinstance(found, Delayed) else packed(found)


def _response(
    context: FetchContext, found: Sequence[Found], nearer: Mapping[PartitionKey, int], ctx: Context
) -> FetchResponse:
    """What the session lets be told of what was found in its partitions; `nearer`: where to read instead."""
    wanted = context.wanted
    told = context.select(
        (one.key, _news(piece, is_elsewhere=one.key in nearer)) for one, piece in zip(wanted, found, strict=True)
    )
    response = FetchResponse(session_id=context.session_id)
    elsewhere: list[tuple[PartitionData, TopicInfo, int]] = []
    last_name, last_id = None, None
    partitions: list[PartitionData] = []
    for one, piece in zip(wanted, found, strict=True):
        key = one.key
        if told is not None and key not in told:
            continue
        name, topic_id, index = key
        if topic_id != last_id or name != last_name:
            last_name, last_id = name, topic_id
            topic = TopicResponse(topic=name, topic_id=topic_id)
            partitions = topic.partitions
            response.responses.append(topic)
        data = _packed(index, piece)
        partitions.append(data)
        if nearer and key in nearer:
            data.preferred_read_replica = nearer[key]
        if data.error_code:
            if data.error_code in _LEADER_ERRORS and ctx.api_version >= _LEADERS_FROM_VERSION:
                known = ctx.rooms.cluster.image.topic_by_id(topic_id)
                if known is not None:
                    elsewhere.append((data, known, index))
            elif data.error_code == Error.KAFKA_STORAGE_ERROR and ctx.api_version < _STORAGE_ERROR_FROM_VERSION:
                data.error_code = Error.NOT_LEADER_OR_FOLLOWER  # older clients do not know that it may pass
    if elsewhere:
        name_leaders(response, elsewhere, ctx)
    return response


def _wanted(request: FetchRequest) -> list[Wanted]:
    """Each partition once, with what was said of it last."""
    wanted: dict[PartitionKey, Wanted] = {}
    for topic in request.topics:
        for partition in topic.partitions:
            key = PartitionKey(topic.topic, topic.topic_id, partition.partition)
            wanted[key] = Wanted(
                key,
                partition.fetch_offset,
                partition.partition_max_bytes,
                partition.current_leader_epoch,
                partition.last_fetched_epoch,
                partition.log_start_offset,
            )
    return list(wanted.values())


def _log_to_read(wanted: Wanted, ctx: Context, *, is_replica: bool) -> LogToRead | Error:
    (name, topic_id, index), fetch_offset, max_bytes, current_leader_epoch, last_fetched_epoch, _ = wanted
    image = ctx.rooms.cluster.image
    topic: TopicInfo | None
    if is_replica and not ctx.permits(Operation.CLUSTER_ACTION, ResourceType.CLUSTER, CLUSTER_NAME):
        return Error.TOPIC_AUTHORIZATION_FAILED
    if ctx.api_version >= _IDS_FROM_VERSION:
        topic = image.topic_by_id(topic_id)
        if topic is None:
            return Error.UNKNOWN_TOPIC_ID
    else:
        topic = image.topic(name)
    if not is_replica and not ctx.permits(_READ, _TOPIC, topic.name if topic else name):
        return Error.TOPIC_AUTHORIZATION_FAILED
    if topic is None or not 0 <= index < len(topic.partitions):
        return Error.UNKNOWN_TOPIC_OR_PARTITION
    if is_replica:
        return Error.NOT_LEADER_OR_FOLLOWER
    return LogToRead(topic.partitions[index].log, fetch_offset, max_bytes, current_leader_epoch, last_fetched_epoch)


def _nearer(wanted: LogToRead, rack: str, ctx: Context) -> int | None:
    """The replica that the client is to read from instead of this leader."""
    cluster = ctx.rooms.cluster
    partition = cluster.image.partition(wanted.log.topic, wanted.log.partition)
    if partition is None or cluster.leadership.epoch(wanted.log) is None:
        return None
    return cluster.leadership.preferred_replica(partition, rack)


def _bounds_of(wanted: LogToRead, ctx: Context) -> Found:
    bounds = ctx.rooms.logs.bounds(wanted.log)
    if isinstance(bounds, Error):
        return refused(bounds)
    return empty(bounds)


def _replica_id(request: FetchRequest, api_version: int) -> int:
    if api_version < _REPLICA_STATE_FROM_VERSION:
        return request.replica_id
    return request.replica_state.replica_id if request.replica_state is not None else -1


def _size(found: Sequence[Found]) -> int:
    """About how many bytes an answer with this has."""
    pieces = [piece for piece in found if not isinstance(piece, Diverged) and piece.size_bytes]
    return _RESPONSE_BYTES + sum(_PARTITION_BYTES + piece.size_bytes for piece in pieces)


def _news(found: Found, *, is_elsewhere: bool = False) -> News:
    if isinstance(found, Diverged):
        return News(False, found.bounds.high_watermark, found.bounds.log_start_offset, diverges=True)
    return News(found.size_bytes > 0 or is_elsewhere, found.high_watermark, found.log_start_offset, found.error)


def _packed(index: int, found: Found) -> PartitionData:
    if isinstance(found, Diverged):
        return _packed_divergence(index, found)
    records, high_watermark, last_stable_offset, log_start_offset, aborted, error, region, _, _ = found
    return PartitionData(
        partition_index=index,
        error_code=error,
        high_watermark=high_watermark,
        last_stable_offset=last_stable_offset,
        log_start_offset=log_start_offset,
        aborted_transactions=None
        if aborted is None
        else [
            FetchResponse.AbortedTransaction(producer_id=row.producer_id, first_offset=row.first_offset)
            for row in aborted
        ],
        records=records if region is None else region,  # type: ignore[arg-type]  # encoding asks its length and no more
    )


def _packed_divergence(index: int, found: Diverged) -> PartitionData:
    end, bounds = found
    return PartitionData(
        partition_index=index,
        high_watermark=bounds.high_watermark,
        last_stable_offset=bounds.last_stable_offset,
        log_start_offset=bounds.log_start_offset,
        aborted_transactions=None,
        records=b"",
        diverging_epoch=FetchResponse.EpochEndOffset(epoch=end.leader_epoch, end_offset=end.end_offset),
    )


def refuse(request: FetchRequest, refusal: KafkaError, ctx: Context) -> FetchResponse:
    """The error response: the response's own error, or before version 7 the error at every partition."""
    if ctx.api_version >= _ERROR_FROM_VERSION:
        return FetchResponse(error_code=refusal.error, session_id=NO_SESSION)
    return FetchResponse(
        responses=[
            TopicResponse(
                topic=topic.topic,
                partitions=[_packed(partition.partition, refused(refusal.error)) for partition in topic.partitions],
            )
            for topic in request.topics
        ]
    )
