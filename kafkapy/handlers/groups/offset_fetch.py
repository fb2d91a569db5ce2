"""OffsetFetch (key 9), versions 1 to 10.

Reads committed offsets: of the partitions asked for, or with null topics (version 2 on) of all. Nothing committed is
offset -1 without an error, whether or not the group exists. Version 8 and later ask for many groups at once, version
10 identifies topics instead of naming them. Errors of a group stand in the group, or in the response before version 8;
version 1 has room for them in its partitions only. With `require_stable` (version 7 on) an offset that an open
transaction may change is answered by UNSTABLE_OFFSET_COMMIT (KIP-447). Members of consumer groups say who they are from
version 9 on, and must be in the epoch that they were told last.
"""

from collections.abc import Sequence
from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import FetchOffsets, TopicOffsets, TopicQuery
from kafkapy.groups.facts import CommittedOffset
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.model import NO_LEADER_EPOCH, ZERO_UUID
from kafkapy.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchResponse

FIRST_TOP_LEVEL_ERROR_VERSION: Final = 2
FIRST_BATCHED_VERSION: Final = 8
FIRST_TOPIC_ID_VERSION: Final = 10

Group = OffsetFetchRequest.OffsetFetchRequestGroup
Topic = OffsetFetchRequest.OffsetFetchRequestTopics
GroupResult = OffsetFetchResponse.OffsetFetchResponseGroup
TopicResult = OffsetFetchResponse.OffsetFetchResponseTopics
PartitionResult = OffsetFetchResponse.OffsetFetchResponsePartitions

_NOTHING = CommittedOffset(-1)


async def handle(request: OffsetFetchRequest, ctx: Context) -> OffsetFetchResponse:
    groups = _groups(request, ctx)
    return _response([await _fetch(group, request.require_stable, ctx) for group in groups], ctx)


def refuse(request: OffsetFetchRequest, refusal: KafkaError, ctx: Context) -> OffsetFetchResponse:
    """The error response: the error at every group, or where it stands before there were many."""
    return _response([_refused_group(group, refusal.error, ctx) for group in _groups(request, ctx)], ctx)


def _groups(request: OffsetFetchRequest, ctx: Context) -> Sequence[Group]:
    """The groups asked for; before version 8 there is one."""
    if ctx.api_version >= FIRST_BATCHED_VERSION:
        return request.groups
    topics = request.topics
    return [
        Group(
            group_id=request.group_id,
            topics=None
            if topics is None
            else [Topic(name=t.name, partition_indexes=t.partition_indexes) for t in topics],
        )
    ]


def _response(results: list[GroupResult], ctx: Context) -> OffsetFetchResponse:
    if ctx.api_version >= FIRST_BATCHED_VERSION:
        return OffsetFetchResponse(groups=results)
    [result] = results
    return OffsetFetchResponse(
        error_code=result.error_code,
        topics=[
            OffsetFetchResponse.OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponse.OffsetFetchResponsePartition(
                        partition_index=partition.partition_index,
                        committed_offset=partition.committed_offset,
                        committed_leader_epoch=partition.committed_leader_epoch,
                        metadata=partition.metadata,
                        error_code=partition.error_code,
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in result.topics
        ],
    )


async def _fetch(group: Group, require_stable: bool, ctx: Context) -> GroupResult:
    try:
        ctx.require(Operation.DESCRIBE, ResourceType.GROUP, group.group_id)
        if group.topics is None:
            topics = await _fetch_all(_query(group, None, require_stable), ctx)
        else:
            topics = await _fetch_topics(group, group.topics, require_stable, ctx)
    except KafkaError as refusal:
        return _refused_group(group, refusal.error, ctx)
    return GroupResult(group_id=group.group_id, topics=topics)


def _refused_group(group: Group, error: Error, ctx: Context) -> GroupResult:
    if ctx.api_version >= FIRST_TOP_LEVEL_ERROR_VERSION:
        return GroupResult(group_id=group.group_id, error_code=error)
    topics = [_refused(topic, topic.name, error) for topic in group.topics or ()]
    return GroupResult(group_id=group.group_id, topics=topics)


def _query(group: Group, topics: Sequence[TopicQuery] | None, require_stable: bool) -> FetchOffsets:
    return FetchOffsets(group.group_id, topics, require_stable, group.member_id, group.member_epoch)


async def _fetch_all(query: FetchOffsets, ctx: Context) -> list[TopicResult]:
    """All that the principal may know of; a topic that is gone has no id to be named by."""
    image = ctx.rooms.cluster.image
    results = []
    for found in await ctx.rooms.groups.fetch_offsets(query):
        if ctx.permits(Operation.DESCRIBE, ResourceType.TOPIC, found.topic):
            known = image.topic(found.topic)
            if known is not None or ctx.api_version < FIRST_TOPIC_ID_VERSION:
                results.append(_pack(found, ZERO_UUID if known is None else known.topic_id))
    return results


async def _fetch_topics(group: Group, topics: Sequence[Topic], require_stable: bool, ctx: Context) -> list[TopicResult]:
    queries: list[TopicQuery] = []
    refused: list[TopicResult] = []
    for topic in topics:
        name = topic.name
        if ctx.api_version >= FIRST_TOPIC_ID_VERSION:
            known = ctx.rooms.cluster.image.topic_by_id(topic.topic_id)
            if known is None:
                refused.append(_refused(topic, "", Error.UNKNOWN_TOPIC_ID))
                continue
            name = known.name
        try:
            ctx.require(Operation.DESCRIBE, ResourceType.TOPIC, name)
            queries.append(TopicQuery(name, topic.topic_id, topic.partition_indexes))
        except KafkaError as refusal:
            refused.append(_refused(topic, name, refusal.error))
    found = await ctx.rooms.groups.fetch_offsets(_query(group, queries, require_stable))
    return [_pack(offsets, query.topic_id) for offsets, query in zip(found, queries, strict=True)] + refused


def _pack(offsets: TopicOffsets, topic_id: bytes) -> TopicResult:
    partitions = []
    for partition, found in offsets.partitions:
        error, committed = (found, None) if isinstance(found, Error) else (Error.NONE, found)
        offset, leader_epoch, metadata, *_ = committed or _NOTHING
        partitions.append(
            PartitionResult(
                partition_index=partition,
                committed_offset=offset,
                committed_leader_epoch=leader_epoch,
                metadata=metadata,
                error_code=error,
            )
        )
    return TopicResult(name=offsets.topic, topic_id=topic_id, partitions=partitions)


def _refused(topic: Topic, name: str, error: Error) -> TopicResult:
    partitions = [
        PartitionResult(
            partition_index=partition, committed_offset=-1, committed_leader_epoch=NO_LEADER_EPOCH, error_code=error
        )
        for partition in topic.partition_indexes
    ]
    return TopicResult(name=name, topic_id=topic.topic_id, partitions=partitions)
