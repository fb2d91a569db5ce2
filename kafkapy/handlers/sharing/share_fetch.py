"""ShareFetch (key 78), versions 1 to 2.

A member of a share group says what it did with records that it was given, and is given more: what it says first is
written down, then it gets what there is, or waits up to `max_wait_ms` for `min_bytes`. The request belongs to the
member's share session, which is opened with epoch 0 and closed with epoch -1 (then nothing is given, and all that the
member still has is released), and names only partitions that are new in it or acknowledged. From version 2 on a member
may ask for no more records than it says (KIP-1206), and for more time instead of records (KIP-1222). Where there are
too many sessions, the refusal comes when the wait is over, so that nobody asks in a loop.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kafkapy.delayed import Delayed
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context
from kafkapy.handlers.data.current_leader import name_leaders
from kafkapy.handlers.sharing.acknowledging import Outcomes, acknowledge, readable_log, require_group
from kafkapy.handlers.sharing.session_end import end_session, follow_connection
from kafkapy.model import LogId
from kafkapy.protocol.messages.share_fetch import ShareFetchRequest, ShareFetchResponse
from kafkapy.sharing.acquiring import Wish
from kafkapy.sharing.fetching import FetchedRecords, FetchSizes, ShareFetch
from kafkapy.sharing.sessions import FINAL_EPOCH, INITIAL_EPOCH, FetchedPartition, SessionKey, ShareSession
from kafkapy.sharing.settings import isolation_level, lock_duration_ms

TopicResponse = ShareFetchResponse.ShareFetchableTopicResponse
PartitionData = ShareFetchResponse.PartitionData

_BY_RECORD_LIMIT: Final = 1
_RENEWING_VERSION: Final = 2
_LEADER_ERRORS: Final = frozenset({Error.NOT_LEADER_OR_FOLLOWER, Error.FENCED_LEADER_EPOCH})
_RESPONSE_BYTES, _PARTITION_BYTES = 20, 60  # what an answer has beside records, about

Found = Mapping[FetchedPartition, FetchedRecords]


def refuse(request: ShareFetchRequest, refusal: KafkaError, ctx: Context) -> ShareFetchResponse:
    """The error response: as in Kafka without a text."""
    return ShareFetchResponse(error_code=refusal.error)


async def handle(request: ShareFetchRequest, ctx: Context) -> ShareFetchResponse | Delayed[ShareFetchResponse]:
    group_id, member_id = require_group(request, ctx)
    renews = ctx.api_version >= _RENEWING_VERSION and request.is_renew_ack
    if renews:
        _require_nothing_else(request)
    key, epoch = SessionKey(group_id, member_id), request.share_session_epoch
    try:
        session = _session(request, key, ctx)
    except KafkaError as refusal:
        if refusal.error is not Error.SHARE_SESSION_LIMIT_REACHED:
            raise
        return _Late(refusal, ctx.rooms.clock.monotonic() + max(request.max_wait_ms, 0) / 1000)
    wanted = list(session.is_told) if session is not None else []
    expected_epoch = session.epoch if session is not None else epoch
    outcomes: Outcomes = {}
    if _acknowledges(request):
        outcomes = await acknowledge(request, ctx, group_id, member_id)

    def packed(found: Found) -> ShareFetchResponse:
        if session is not None and session.epoch != expected_epoch:
            raise KafkaError(Error.INVALID_SHARE_SESSION_EPOCH)  # the member has gone on without this answer
        if ctx.observed is not None and ctx.observed.hold_fetch(_size(found)):
            return ShareFetchResponse(acquisition_lock_timeout_ms=lock_duration_ms(ctx.rooms.cluster.image, group_id))
        if session is not None and epoch != INITIAL_EPOCH:
            found = {
                partition: records
                for partition, records in found.items()
                if session.tells(partition, has_records=len(records.records) > 0, has_error=bool(records.error))
            }
        return _response(found, outcomes, group_id, ctx)

    if epoch == FINAL_EPOCH:
        end_session(key, ctx.rooms)
        return packed({})
    if renews:
        return packed({})
    return await _fetch(request, ctx, group_id, _rotated(wanted, epoch), packed)


async def _fetch(
    request: ShareFetchRequest, ctx: Context, group_id: str, wanted: Sequence[FetchedPartition], packed: Any
) -> ShareFetchResponse | Delayed[ShareFetchResponse]:
    refused: dict[FetchedPartition, FetchedRecords] = {}
    logs: dict[LogId, FetchedPartition] = {}
    for partition in wanted:
        log = readable_log(partition, ctx)
        if isinstance(log, Error):
            refused[partition] = FetchedRecords(error=log)
        else:
            logs[log] = partition
    max_bytes = min(request.max_bytes, ctx.rooms.config["fetch.max.bytes"])
    if ctx.observed is not None:
        max_bytes = int(min(max_bytes, ctx.observed.most_bytes()))
    if not logs or request.max_records <= 0 or max_bytes <= 0:
        response: ShareFetchResponse = packed(refused)
        return response
    fetch = ShareFetch(
        ctx.rooms.share_partitions,
        group_id,
        Wish(
            request.member_id or "",
            request.max_records,
            max(request.batch_size, 1),
            ctx.api_version >= _RENEWING_VERSION and request.share_acquire_mode == _BY_RECORD_LIMIT,
        ),
        list(logs),
        isolation_level(ctx.rooms.cluster.image, group_id),
        FetchSizes(min(request.min_bytes, max_bytes), max_bytes),
        request.max_wait_ms,
    )

    def named(found: Mapping[LogId, FetchedRecords]) -> ShareFetchResponse:
        told: ShareFetchResponse = packed({logs[log]: records for log, records in found.items()} | refused)
        return told

    waits = False
    try:
        found = await fetch.attempt()
        waits = found is None
    finally:
        if not waits:
            fetch.close()
    return fetch.then(named) if found is None else named(found)


class _Late(Delayed[Any]):
    """A refusal that is told when the wait is over."""

    def __init__(self, refusal: KafkaError, moment: float) -> None:
        super().__init__(moment)
        self._refusal = refusal

    async def attempt(self) -> Any:
        raise self._refusal


def _session(request: ShareFetchRequest, key: SessionKey, ctx: Context) -> ShareSession | None:
    """The member's session, moved on by this request; None for the one that closes it. Raises what Kafka knows."""
    sessions, epoch = ctx.rooms.share_sessions, request.share_session_epoch
    if epoch == FINAL_EPOCH:
        sessions.get(key)
        return None
    named = [
        FetchedPartition(topic.topic_id, partition.partition_index)
        for topic in request.topics
        for partition in topic.partitions
    ]
    if epoch == INITIAL_EPOCH:
        if _acknowledges(request):
            raise KafkaError(Error.INVALID_REQUEST)
        session = sessions.open(key, named)
        follow_connection(session, ctx)
        return session
    forgotten = [
        FetchedPartition(topic.topic_id, partition)
        for topic in request.forgotten_topics_data
        for partition in topic.partitions
    ]
    return sessions.proceed(key, epoch, named, forgotten)


def _acknowledges(request: ShareFetchRequest) -> bool:
    return any(partition.acknowledgement_batches for topic in request.topics for partition in topic.partitions)


def _require_nothing_else(request: ShareFetchRequest) -> None:
    """A member that needs more time may not wait for records meanwhile."""
    wrong = {
        "maxBytes": request.max_bytes,
        "minBytes": request.min_bytes,
        "maxRecords": request.max_records,
        "maxWaitMs": request.max_wait_ms,
    }
    text = "".join(f"{name} must be set to 0, " for name, value in wrong.items() if value)
    if text:
        raise KafkaError(Error.INVALID_REQUEST, text + "if isRenewAck is true.")


def _rotated(wanted: Sequence[FetchedPartition], epoch: int) -> list[FetchedPartition]:
    """Another partition comes first each time."""
    at = epoch % len(wanted) if wanted and epoch > 0 else 0
    return [*wanted[at:], *wanted[:at]]


def _size(found: Found) -> int:
    """About how many bytes an answer with this has."""
    pieces = [len(piece.records) for piece in found.values() if len(piece.records)]
    return _RESPONSE_BYTES + sum(_PARTITION_BYTES + size for size in pieces)


def _response(found: Found, outcomes: Outcomes, group_id: str, ctx: Context) -> ShareFetchResponse:
    image = ctx.rooms.cluster.image
    response = ShareFetchResponse(acquisition_lock_timeout_ms=lock_duration_ms(image, group_id))
    topics: dict[bytes, TopicResponse] = {}
    elsewhere: list[tuple[Any, Any, int]] = []
    nothing = FetchedRecords()
    for partition in [*found, *(each for each in outcomes if each not in found)]:
        topic_id, index = partition
        records, acquired, error = found.get(partition, nothing)
        data = PartitionData(
            partition_index=index,
            error_code=error,
            records=records,
            acquired_records=[
                ShareFetchResponse.AcquiredRecords(first_offset=first, last_offset=last, delivery_count=count)
                for first, last, count in acquired
            ],
        )
        refusal = outcomes.get(partition)
        if refusal is not None:
            data.acknowledge_error_code = refusal.error
            data.acknowledge_error_message = refusal.message or None
        topic = image.topic_by_id(topic_id)
        if error in _LEADER_ERRORS and topic is not None:
            elsewhere.append((data, topic, index))
        if topic_id not in topics:
            topics[topic_id] = TopicResponse(topic_id=topic_id)
            response.responses.append(topics[topic_id])
        topics[topic_id].partitions.append(data)
    if elsewhere:
        name_leaders(response, elsewhere, ctx)
    return response
