"""OffsetCommit (key 8), versions 2 to 10.

Stores how far a group has come, with a little metadata. Topics are named, from version 10 on identified. Topics and
partitions that do not exist are answered before the group is asked, and their neighbours are still committed; what the
group refuses, it refuses for all of them. Versions 2 to 4 may bring a retention of their own.
"""

from typing import Final, NamedTuple

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import CommitOffsets, PartitionCommit, TopicCommit
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.protocol.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse

FIRST_GROUP_NOT_FOUND_VERSION: Final = 9
FIRST_TOPIC_ID_VERSION: Final = 10

Topic = OffsetCommitRequest.OffsetCommitRequestTopic
TopicResult = OffsetCommitResponse.OffsetCommitResponseTopic
PartitionResult = OffsetCommitResponse.OffsetCommitResponsePartition


class _Prepared(NamedTuple):
    """One topic of the request: what to commit of it, and where the outcome of that goes."""

    commit: TopicCommit
    results: list[PartitionResult]


async def handle(request: OffsetCommitRequest, ctx: Context) -> OffsetCommitResponse:
    try:
        ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
    except KafkaError as refusal:
        return refuse(request, refusal, ctx)
    response = OffsetCommitResponse()
    prepared: list[_Prepared] = []
    for topic in request.topics:
        result = _prepare(topic, prepared, ctx)
        if result is not None:
            response.topics.append(result)
    if prepared:
        command = CommitOffsets(
            group_id=request.group_id,
            member_id=request.member_id,
            instance_id=request.group_instance_id,
            generation=request.generation_id_or_member_epoch,
            retention_ms=request.retention_time_ms,
            topics=[topic.commit for topic in prepared],
            knows_group_id_not_found=ctx.api_version >= FIRST_GROUP_NOT_FOUND_VERSION,
        )
        await _commit(command, prepared, ctx)
    return response


def refuse(request: OffsetCommitRequest, refusal: KafkaError, ctx: Context) -> OffsetCommitResponse:
    """The error response: the error at every partition."""
    return OffsetCommitResponse(topics=[_refused(topic, topic.name, refusal.error) for topic in request.topics])


def _prepare(topic: Topic, prepared: list[_Prepared], ctx: Context) -> TopicResult | None:
    """The topic's part of the response; what of it can be committed is added to `prepared`.

    None for a known topic of which no partition is named: Kafka leaves it out.
    """
    image = ctx.rooms.cluster.image
    if ctx.api_version >= FIRST_TOPIC_ID_VERSION:
        known = image.topic_by_id(topic.topic_id)
        if known is None:
            return _refused(topic, "", Error.UNKNOWN_TOPIC_ID)
        name = known.name
    else:
        name = topic.name
        known = image.topic(name)
    try:
        ctx.require(Operation.READ, ResourceType.TOPIC, name)
    except KafkaError as refusal:
        return _refused(topic, name, refusal.error)
    if known is None:
        return _refused(topic, name, Error.UNKNOWN_TOPIC_OR_PARTITION)
    if not topic.partitions:
        return None
    partition_count = len(known.partitions)
    result = TopicResult(name=name, topic_id=known.topic_id)
    commits: list[PartitionCommit] = []
    waiting: list[PartitionResult] = []
    for partition in topic.partitions:
        outcome = PartitionResult(partition_index=partition.partition_index)
        result.partitions.append(outcome)
        if 0 <= partition.partition_index < partition_count:
            commits.append(
                PartitionCommit(
                    partition.partition_index,
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                    partition.committed_metadata,
                )
            )
            waiting.append(outcome)
        else:
            outcome.error_code = Error.UNKNOWN_TOPIC_OR_PARTITION
    if commits:
        prepared.append(_Prepared(TopicCommit(name, known.topic_id, commits), waiting))
    return result


async def _commit(command: CommitOffsets, prepared: list[_Prepared], ctx: Context) -> None:
    try:
        outcomes = await ctx.rooms.groups.commit_offsets(command)
    except KafkaError as refusal:
        outcomes = [[refusal.error] * len(topic.results) for topic in prepared]
    for topic, errors in zip(prepared, outcomes, strict=True):
        for result, error in zip(topic.results, errors, strict=True):
            result.error_code = error


def _refused(topic: Topic, name: str, error: Error) -> TopicResult:
    partitions = [PartitionResult(partition_index=p.partition_index, error_code=error) for p in topic.partitions]
    return TopicResult(name=name, topic_id=topic.topic_id, partitions=partitions)
