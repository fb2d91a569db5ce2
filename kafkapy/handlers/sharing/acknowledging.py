"""What members acknowledge with ShareFetch and with ShareAcknowledge: checked, and handed to the share partitions.

As in Kafka a partition with one bad batch is refused as a whole (INVALID_REQUEST), and the others are not.
"""

from collections.abc import Iterable
from typing import Any, Final

from kafkapy.cluster.image import TopicInfo
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.model import LogId
from kafkapy.sharing.sessions import FetchedPartition
from kafkapy.sharing.window import RENEW, Acknowledgement

_RENEWING_VERSION: Final = 2
MAX_MEMBER_ID_LENGTH: Final = 36

Outcomes = dict[FetchedPartition, KafkaError | None]
"""The refusal of each partition, or None where what was acknowledged is written down."""


def require_group(request: Any, ctx: Context) -> tuple[str, str]:
    """The group and the member that ask. Raises GROUP_AUTHORIZATION_FAILED, INVALID_REQUEST."""
    group_id: str = request.group_id or ""
    member_id: str = request.member_id or ""
    if not ctx.rooms.cluster.image.kinds.features.get("share.version", 1):
        raise KafkaError(Error.UNSUPPORTED_VERSION)
    ctx.require(Operation.READ, ResourceType.GROUP, group_id)
    if not 0 < len(member_id) <= MAX_MEMBER_ID_LENGTH:
        raise KafkaError(Error.INVALID_REQUEST, "Invalid member id in the request.")
    return group_id, member_id


def readable_log(partition: FetchedPartition, ctx: Context) -> LogId | Error:
    """The log behind a partition that the client may read, or why it is not to be had."""
    topic: TopicInfo | None = ctx.rooms.cluster.image.topic_by_id(partition.topic_id)
    if topic is None:
        return Error.UNKNOWN_TOPIC_ID
    if not ctx.permits(Operation.READ, ResourceType.TOPIC, topic.name):
        return Error.TOPIC_AUTHORIZATION_FAILED
    if not 0 <= partition.partition < len(topic.partitions):
        return Error.UNKNOWN_TOPIC_OR_PARTITION
    return topic.partitions[partition.partition].log


async def acknowledge(request: Any, ctx: Context, group_id: str, member_id: str) -> Outcomes:
    """What became of all that the request acknowledges; partitions without any are left out, but for errors."""
    outcomes: Outcomes = {}
    told: dict[LogId, list[Acknowledgement]] = {}
    partitions: dict[LogId, FetchedPartition] = {}
    allows_renewal = ctx.api_version >= _RENEWING_VERSION and request.is_renew_ack
    for topic in request.topics:
        for data in topic.partitions:
            partition = FetchedPartition(topic.topic_id, data.partition_index)
            log = readable_log(partition, ctx)
            if log is Error.UNKNOWN_TOPIC_ID:
                outcomes[partition] = KafkaError(Error.UNKNOWN_TOPIC_ID)
            elif not _are_in_order(data.acknowledgement_batches, allows_renewal=allows_renewal, ctx=ctx):
                outcomes[partition] = KafkaError(Error.INVALID_REQUEST)
            elif isinstance(log, Error):
                outcomes[partition] = KafkaError(log)
            elif data.acknowledgement_batches:
                partitions[log] = partition
                told[log] = [
                    Acknowledgement(batch.first_offset, batch.last_offset, batch.acknowledge_types)
                    for batch in data.acknowledgement_batches
                ]
            else:
                outcomes[partition] = None
    if not told:
        return {partition: refusal for partition, refusal in outcomes.items() if refusal is not None}
    answers = await ctx.rooms.share_partitions.acknowledge(group_id, member_id, told)
    return outcomes | {partitions[log]: refusal for log, refusal in answers.items()}


def _are_in_order(batches: Iterable[Any], *, allows_renewal: bool, ctx: Context) -> bool:
    last = -1
    greatest = RENEW if ctx.api_version >= _RENEWING_VERSION else RENEW - 1
    for batch in batches:
        types = batch.acknowledge_types
        if (
            not last <= batch.first_offset <= batch.last_offset
            or not types
            or (len(types) > 1 and batch.last_offset - batch.first_offset != len(types) - 1)
            or min(types) < 0
            or max(types) > greatest
            or (not allows_renewal and RENEW in types)
        ):
            return False
        last = batch.last_offset
    return True
