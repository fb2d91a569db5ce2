"""StreamsGroupDescribe (key 89), versions 0 to 1.

State, epochs, topology and members of streams groups, with what each has and is to have (KIP-1071). What is no streams
group is answered by GROUP_ID_NOT_FOUND. A group of which a topic must not be known is not described at all. Version 1
names the assignor, and asks for the description of the topology, which Kafka has from a plugin: here there is none.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from kafkapy.errors import KafkaError
from kafkapy.groups.streams.commands import StreamsGroupDescription, StreamsMemberDescription
from kafkapy.groups.streams.facts import InternalTopic, Subtopology
from kafkapy.groups.streams.tasks import Assignment, TaskOffsets, Tasks
from kafkapy.handlers.context import Context
from kafkapy.handlers.groups.describing import described, refused
from kafkapy.handlers.groups.requests import require_streams_protocol
from kafkapy.protocol.messages.streams_group_describe import StreamsGroupDescribeRequest, StreamsGroupDescribeResponse

Response = StreamsGroupDescribeResponse
Group = Response.DescribedGroup

_HIDDEN: Final = "The described group uses topics that the client is not authorized to describe."


async def handle(request: StreamsGroupDescribeRequest, ctx: Context) -> Response:
    require_streams_protocol(ctx)

    async def describe(group_id: str) -> Group:
        return _pack(await ctx.rooms.streams_groups.describe(group_id))

    return Response(groups=await described(request, ctx, Group, describe, _topics, _HIDDEN))


def refuse(request: StreamsGroupDescribeRequest, refusal: KafkaError, ctx: Context) -> Response:
    """The error response: the error at every group."""
    return Response(groups=refused(Group, request.group_ids, refusal.error))


def _pack(group: StreamsGroupDescription) -> Group:
    if group.configured is not None and group.configured.subtopologies is not None:
        subtopologies = [
            _pack_subtopology(each.spec, each.repartition_sources, each.changelogs)
            for each in group.configured.subtopologies.values()
        ]
    else:
        subtopologies = [
            _pack_subtopology(each, each.repartition_sources, each.changelogs) for each in group.topology.subtopologies
        ]
    return Group(
        group_id=group.group_id,
        group_state=group.state,
        group_epoch=group.epoch,
        assignment_epoch=group.target_epoch,
        assignor_name=group.assignor,
        topology=Response.Topology(epoch=group.topology.epoch, subtopologies=subtopologies),
        members=[_pack_member(member) for member in group.members],
    )


def _pack_subtopology(
    spec: Subtopology, repartition_sources: Iterable[InternalTopic], changelogs: Iterable[InternalTopic]
) -> Response.Subtopology:
    return Response.Subtopology(
        subtopology_id=spec.subtopology_id,
        source_topics=sorted(spec.source_topics),
        repartition_sink_topics=sorted(spec.repartition_sinks),
        repartition_source_topics=[_pack_topic(topic) for topic in sorted(repartition_sources)],
        state_changelog_topics=[_pack_topic(topic) for topic in sorted(changelogs)],
    )


def _pack_topic(topic: InternalTopic) -> Response.TopicInfo:
    return Response.TopicInfo(
        name=topic.name,
        partitions=topic.partition_count,
        replication_factor=topic.replication_factor,
        topic_configs=[Response.KeyValue(key=key, value=value) for key, value in topic.configs],
    )


def _pack_member(member: StreamsMemberDescription) -> Response.Member:
    says = member.subscription
    endpoint = says.endpoint
    return Response.Member(
        member_id=member.member_id,
        member_epoch=member.member_epoch,
        instance_id=says.instance_id,
        rack_id=says.rack_id,
        client_id=says.client_id,
        client_host=says.client_host,
        topology_epoch=says.topology_epoch,
        process_id=says.process_id,
        user_endpoint=None if endpoint is None else Response.Endpoint(host=endpoint.host, port=endpoint.port),
        client_tags=[Response.KeyValue(key=key, value=value) for key, value in says.tags],
        task_offsets=_pack_offsets(member.offsets),
        task_end_offsets=_pack_offsets(member.end_offsets),
        assignment=_pack_assignment(member.assigned.without_epochs),
        target_assignment=_pack_assignment(member.target),
    )


def _pack_offsets(offsets: TaskOffsets) -> list[Response.TaskOffset]:
    return [
        Response.TaskOffset(subtopology_id=name, partition=partition, offset=offset)
        for name, each in offsets.items()
        for partition, offset in each.items()
    ]


def _pack_assignment(assignment: Assignment) -> Response.Assignment:
    return Response.Assignment(
        active_tasks=_pack_tasks(assignment.active),
        standby_tasks=_pack_tasks(assignment.standby),
        warmup_tasks=_pack_tasks(assignment.warmup),
    )


def _pack_tasks(tasks: Tasks) -> list[Response.TaskIds]:
    return [Response.TaskIds(subtopology_id=name, partitions=sorted(numbers)) for name, numbers in tasks.items()]


def _topics(group: Group) -> Iterator[str]:
    for each in (group.topology.subtopologies or ()) if group.topology is not None else ():
        yield from each.source_topics
        yield from each.repartition_sink_topics
        yield from (topic.name for topic in each.repartition_source_topics)
        yield from (topic.name for topic in each.state_changelog_topics)
