"""StreamsGroupHeartbeat (key 88), versions 0 to 1.

Enters a streams group, stays in it, and leaves it (KIP-1071): a member brings the application's topology, says what is
new, and is told which tasks it may run, and in statuses what is amiss. Topics that the application needs for itself are
made here, for members that may create them. Version 1 has a wider acceptable recovery lag, and tells of client tags
that are missing. With the feature `streams.version` off the answer is UNSUPPORTED_VERSION.
"""

from collections.abc import Sequence
from typing import Final

from kafkapy.cluster.image import INTERNAL_TOPICS
from kafkapy.cluster.topic_names import topic_name_problem
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.streams.commands import StreamsHeartbeat, StreamsHeartbeatAnswer
from kafkapy.groups.streams.facts import CopartitionGroup, InternalTopic, Subtopology, Topology, UserEndpoint
from kafkapy.groups.streams.senders import AWAY_EPOCH
from kafkapy.groups.streams.tasks import Assignment, TaskOffsets, Tasks
from kafkapy.groups.streams.topologies import StatusCode
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.handlers.groups.requests import client_host, require_streams_protocol
from kafkapy.protocol.messages.streams_group_heartbeat import (
    StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
)

Request = StreamsGroupHeartbeatRequest
Response = StreamsGroupHeartbeatResponse

_FIRST_WITH_TAGS: Final = 1
_REMEMBERED_HEARTBEATS: Final = 2
"""For so long it is told why a topic could not be made."""


async def handle(request: Request, ctx: Context) -> Response:
    require_streams_protocol(ctx)
    ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
    if request.topology is not None and not _may_use(request.topology, ctx):
        return Response(error_code=Error.TOPIC_AUTHORIZATION_FAILED)
    _validate(request)
    answer = await ctx.rooms.streams_groups.heartbeat(_command(request, ctx))
    response = _pack(answer)
    if answer.missing:
        _make(answer, response, ctx)
    return response


def refuse(request: Request, refusal: KafkaError, ctx: Context) -> Response:
    """The error response; what is decided before the group is asked has no text, as in Kafka."""
    told = refusal.error not in (Error.UNSUPPORTED_VERSION, Error.GROUP_AUTHORIZATION_FAILED)
    return Response(error_code=refusal.error, error_message=refusal.message if told else None)


def _may_use(topology: Request.Topology, ctx: Context) -> bool:
    """Whether the member may know of all topics. Raises STREAMS_INVALID_TOPOLOGY for what no topic may be called."""
    names = dict.fromkeys(
        name
        for each in topology.subtopologies
        for name in (
            *each.source_topics,
            *each.repartition_sink_topics,
            *(topic.name for topic in each.repartition_source_topics),
            *(topic.name for topic in each.state_changelog_topics),
        )
    )
    if prohibited := [name for name in names if name in INTERNAL_TOPICS]:
        raise KafkaError(
            Error.STREAMS_INVALID_TOPOLOGY,
            f"Use of Kafka internal topics {','.join(prohibited)} in a Kafka Streams topology is prohibited.",
        )
    if invalid := [name for name in names if topic_name_problem(name) is not None]:
        raise KafkaError(Error.STREAMS_INVALID_TOPOLOGY, f"Topic names {','.join(invalid)} are not valid topic names.")
    return all(ctx.permits(Operation.DESCRIBE, ResourceType.TOPIC, name) for name in names)


def _validate(request: Request) -> None:
    """Raises INVALID_REQUEST for what makes no sense, STREAMS_INVALID_TOPOLOGY; in Kafka's order and words."""
    topology, epoch = request.topology, request.member_epoch
    if topology is not None and any(each.source_topic_regex for each in topology.subtopologies):
        raise _invalid("Regular expressions for source topics are not supported yet.")
    for name, text in (("MemberId", request.member_id), ("GroupId", request.group_id)):
        if not text.strip():
            raise _invalid(f"{name} can't be empty.")
    for name, optional in (("InstanceId", request.instance_id), ("RackId", request.rack_id)):
        if optional is not None and not optional.strip():
            raise _invalid(f"{name} can't be empty.")
    tasks = (
        ("ActiveTasks", request.active_tasks),
        ("StandbyTasks", request.standby_tasks),
        ("WarmupTasks", request.warmup_tasks),
    )
    if epoch == 0:
        if request.rebalance_timeout_ms == -1:
            raise _invalid("RebalanceTimeoutMs must be provided in first request.")
        for name, lists in tasks:
            if lists is None or lists:
                raise _invalid(f"{name} must be empty when (re-)joining.")
        if topology is None:
            raise _invalid("Topology must be non-null when (re-)joining.")
        _validate_topology(topology)
    elif epoch == AWAY_EPOCH:
        if request.instance_id is None:
            raise _invalid("InstanceId can't be null.")
    elif epoch < AWAY_EPOCH:
        raise _invalid(f"MemberEpoch is {epoch}, but must be greater than or equal to -2.")
    if any(lists is not None for _, lists in tasks) and any(lists is None for _, lists in tasks):
        raise _invalid("If one task-type is non-null, all must be non-null.")
    if epoch != 0 and topology is not None:
        raise _invalid("Topology can only be provided when (re-)joining.")


def _validate_topology(topology: Request.Topology) -> None:
    for each in topology.subtopologies:
        for topic in each.state_changelog_topics:
            if topic.partitions != 0:
                raise KafkaError(
                    Error.STREAMS_INVALID_TOPOLOGY,
                    f"Changelog topic {topic.name} must have an undefined partition count, but it is set to "
                    f"{topic.partitions}.",
                )
    # In Kafka these are failures that nobody foresaw, and have no better error.
    if topology.epoch < 0:
        raise KafkaError(Error.UNKNOWN_SERVER_ERROR, "Topology epoch must be non-negative.")
    ids = [each.subtopology_id for each in topology.subtopologies]
    if len(set(ids)) != len(ids):
        raise KafkaError(Error.UNKNOWN_SERVER_ERROR, "Subtopologies must have different ids.")


def _invalid(why: str) -> KafkaError:
    return KafkaError(Error.INVALID_REQUEST, why)


def _command(request: Request, ctx: Context) -> StreamsHeartbeat:
    endpoint, tags = request.user_endpoint, request.client_tags
    return StreamsHeartbeat(
        group_id=request.group_id,
        member_id=request.member_id,
        member_epoch=request.member_epoch,
        endpoint_epoch=request.endpoint_information_epoch,
        instance_id=request.instance_id,
        rack_id=request.rack_id,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        topology=None if request.topology is None else _topology(request.topology),
        claimed=_claimed(request),
        process_id=request.process_id,
        endpoint=None if endpoint is None else UserEndpoint(endpoint.host, endpoint.port),
        tags=None if tags is None else tuple(sorted({tag.key: tag.value for tag in tags}.items())),
        offsets=_offsets(request.task_offsets),
        end_offsets=_offsets(request.task_end_offsets),
        shuts_down=request.shutdown_application,
        client_id=ctx.client_id or "",
        client_host=client_host(ctx.session),
        knows_client_tags=ctx.api_version >= _FIRST_WITH_TAGS,
    )


def _topology(topology: Request.Topology) -> Topology:
    return Topology(
        topology.epoch,
        tuple(
            sorted(
                Subtopology(
                    each.subtopology_id,
                    tuple(each.source_topics),
                    tuple(each.source_topic_regex),
                    _internal_topics(each.state_changelog_topics),
                    tuple(each.repartition_sink_topics),
                    _internal_topics(each.repartition_source_topics),
                    tuple(
                        CopartitionGroup(
                            tuple(group.source_topics),
                            tuple(group.source_topic_regex),
                            tuple(group.repartition_source_topics),
                        )
                        for group in each.copartition_groups
                    ),
                )
                for each in topology.subtopologies
            )
        ),
    )


def _internal_topics(topics: Sequence[Request.TopicInfo]) -> tuple[InternalTopic, ...]:
    return tuple(
        InternalTopic(
            each.name,
            each.partitions,
            each.replication_factor,
            tuple((config.key, config.value) for config in each.topic_configs),
        )
        for each in topics
    )


def _claimed(request: Request) -> Assignment | None:
    active, standby, warmup = request.active_tasks, request.standby_tasks, request.warmup_tasks
    if active is None or standby is None or warmup is None:
        return None
    return Assignment(_tasks(active), _tasks(standby), _tasks(warmup))


def _tasks(lists: Sequence[Request.TaskIds]) -> Tasks:
    return {each.subtopology_id: frozenset(each.partitions) for each in lists}


def _offsets(reported: Sequence[Request.TaskOffset] | None) -> TaskOffsets | None:
    if reported is None:
        return None
    found: dict[str, dict[int, int]] = {}
    for each in reported:
        offsets = found.setdefault(each.subtopology_id, {})
        if each.partition in offsets:
            raise _invalid(
                f"Task offsets contain a duplicate entry for subtopology {each.subtopology_id} and partition "
                f"{each.partition}."
            )
        offsets[each.partition] = each.offset
    return found


def _pack(answer: StreamsHeartbeatAnswer) -> Response:
    response = Response(
        member_id=answer.member_id,
        member_epoch=answer.member_epoch,
        heartbeat_interval_ms=answer.heartbeat_interval_ms,
        acceptable_recovery_lag=answer.acceptable_recovery_lag,
        task_offset_interval_ms=answer.task_offset_interval_ms,
        status=[Response.Status(status_code=each.code, status_detail=each.detail) for each in answer.statuses],
        endpoint_information_epoch=answer.endpoint_epoch,
    )
    if answer.assigned is not None:
        assigned = answer.assigned.without_epochs
        response.active_tasks = _task_lists(assigned.active)
        response.standby_tasks = _task_lists(assigned.standby)
        response.warmup_tasks = _task_lists(assigned.warmup)
    if answer.endpoints is not None:
        response.partitions_by_user_endpoint = [
            Response.EndpointToPartitions(
                user_endpoint=Response.Endpoint(host=each.endpoint.host, port=each.endpoint.port),
                active_partitions=_partitions(each.active),
                standby_partitions=_partitions(each.standby),
            )
            for each in answer.endpoints
        ]
    return response


def _task_lists(tasks: Tasks) -> list[Response.TaskIds]:
    return [Response.TaskIds(subtopology_id=name, partitions=sorted(numbers)) for name, numbers in tasks.items()]


def _partitions(topics: Sequence[tuple[str, Sequence[int]]]) -> list[Response.TopicPartition]:
    return [Response.TopicPartition(topic=name, partitions=list(numbers)) for name, numbers in topics]


def _make(answer: StreamsHeartbeatAnswer, response: Response, ctx: Context) -> None:
    """Have the missing topics made, if the member may create them; its status tells why that is not so."""
    groups, details = ctx.rooms.streams_groups, ""
    if not ctx.permits(Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME, denial_is_logged=False):
        denied = [name for name in answer.missing if not ctx.permits(Operation.CREATE, ResourceType.TOPIC, name)]
        if denied:
            details = f"; Unauthorized to CREATE on topics {', '.join(denied)}."
    if not details:
        groups.make(answer.missing, _REMEMBERED_HEARTBEATS * answer.heartbeat_interval_ms)
        if failed := groups.failures(answer.missing):
            reasons = ", ".join(f"{name} ({why})" for name, why in failed.items())
            details = f"; Creation failed: {reasons}."
    for status in response.status or ():
        if status.status_code == StatusCode.MISSING_INTERNAL_TOPICS:
            status.status_detail += details
