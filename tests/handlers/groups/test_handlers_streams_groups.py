"""The heartbeat of streams groups as a request: what makes sense, who may send it, and the topics that it has made."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.errors import Error
from kafkapy.groups.streams.topologies import StatusCode
from kafkapy.handlers.context import CLUSTER_NAME, Operation, ResourceType
from kafkapy.protocol.messages.streams_group_heartbeat import StreamsGroupHeartbeatRequest as Request

HEARTBEAT_SECONDS = 5
NO_TASKS: dict[str, Any] = {"active_tasks": [], "standby_tasks": [], "warmup_tasks": []}
SOME_TASKS = [Request.TaskIds(subtopology_id="0", partitions=[0])]


@pytest.fixture
async def broker(open_broker: Any) -> Any:
    """With the topic t, which has two partitions, and groups that assign at once."""
    broker = await open_broker(group_streams_initial_rebalance_delay_ms="0")
    await broker.find_coordinator()
    await broker.create_topic("t", 2)
    return broker


def internal(name: str, partitions: int = 0, **configs: str) -> Request.TopicInfo:
    pairs = [Request.KeyValue(key=key.replace("_", "."), value=value) for key, value in configs.items()]
    return Request.TopicInfo(name=name, partitions=partitions, replication_factor=0, topic_configs=pairs)


def topology(
    *sources: str,
    sinks: Sequence[str] = (),
    repartitions: Sequence[Any] = (),
    changelogs: Sequence[Any] = (),
    patterns: Sequence[str] = (),
) -> Request.Topology:
    subtopology = Request.Subtopology(
        subtopology_id="0",
        source_topics=list(sources or ("t",)),
        source_topic_regex=list(patterns),
        state_changelog_topics=list(changelogs),
        repartition_sink_topics=list(sinks),
        repartition_source_topics=list(repartitions),
        copartition_groups=[],
    )
    return Request.Topology(epoch=0, subtopologies=[subtopology])


async def beat(broker: Any, epoch: int, **fields: Any) -> Any:
    return await broker.ask(Request(group_id="g", member_id="a", member_epoch=epoch, **fields), 1)


async def join(broker: Any, **fields: Any) -> Any:
    fields = {"rebalance_timeout_ms": 5_000, "process_id": "p", "topology": topology()} | NO_TASKS | fields
    return await beat(broker, 0, **fields)


def told(answer: Any, code: StatusCode = StatusCode.MISSING_INTERNAL_TOPICS) -> str:
    """What is said under this status; "" where it is not given."""
    return "".join(each.status_detail for each in answer.status or () if each.status_code == code)


# What makes sense


@pytest.mark.parametrize(
    "fields",
    [
        {"rebalance_timeout_ms": -1},
        {"topology": None},
        {"active_tasks": SOME_TASKS},
        {"standby_tasks": SOME_TASKS},
        {"warmup_tasks": SOME_TASKS},
        dict.fromkeys(NO_TASKS),
        {"topology": topology(patterns=["t.*"])},
        {"rack_id": " "},
        {"instance_id": ""},
    ],
    ids=lambda fields: ",".join(fields),
)
async def test_who_joins_with_too_little_or_too_much_is_no_member(broker: Any, fields: dict[str, Any]) -> None:
    assert (await join(broker, **fields)).error_code == Error.INVALID_REQUEST
    assert (await beat(broker, -1)).error_code == Error.GROUP_ID_NOT_FOUND


async def test_a_member_that_is_there_brings_no_topology_and_tells_of_all_its_tasks_or_of_none(broker: Any) -> None:
    joined = await join(broker)
    assert (joined.error_code, [each.partitions for each in joined.active_tasks]) == (0, [[0, 1]])
    epoch, tasks = joined.member_epoch, joined.active_tasks
    refused: list[dict[str, Any]] = [{"topology": topology()}, {"active_tasks": tasks}]
    for fields in [*refused, *({name: []} for name in NO_TASKS)]:
        assert (await beat(broker, epoch, **fields)).error_code == Error.INVALID_REQUEST
    for fields in ({}, NO_TASKS | {"active_tasks": tasks}):
        assert (await beat(broker, epoch, **fields)).error_code == Error.NONE


@pytest.mark.parametrize("epoch", [-2, -3])
async def test_only_a_static_member_goes_for_a_while(broker: Any, epoch: int) -> None:
    joined = await join(broker)
    assert (await beat(broker, epoch)).error_code == Error.INVALID_REQUEST
    assert (await beat(broker, joined.member_epoch)).error_code == Error.NONE


@pytest.mark.parametrize(
    "wrong",
    [
        topology("__consumer_offsets"),
        topology(sinks=["a/b"]),
        topology(repartitions=[internal("..")]),
        topology(changelogs=[internal("x" * 250)]),
        topology(changelogs=[internal("g-log", 3)]),
    ],
)
async def test_what_no_topic_may_be_is_an_invalid_topology(broker: Any, wrong: Request.Topology) -> None:
    assert (await join(broker, topology=wrong)).error_code == Error.STREAMS_INVALID_TOPOLOGY
    assert (await beat(broker, -1)).error_code == Error.GROUP_ID_NOT_FOUND


# Rights


@pytest.mark.parametrize("hidden", ["t", "g-sink", "g-source", "g-log"])
async def test_who_may_not_know_of_each_topic_is_no_member(broker: Any, hidden: str) -> None:
    needs = topology(sinks=["g-sink"], repartitions=[internal("g-source", 2)], changelogs=[internal("g-log")])
    broker.denied[Operation.DESCRIBE, ResourceType.TOPIC, hidden] = Error.TOPIC_AUTHORIZATION_FAILED
    assert (await join(broker, topology=needs)).error_code == Error.TOPIC_AUTHORIZATION_FAILED
    assert (await beat(broker, -1)).error_code == Error.GROUP_ID_NOT_FOUND


async def test_topics_are_made_for_who_may_create_them_only(broker: Any) -> None:
    broker.denied[Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME] = Error.CLUSTER_AUTHORIZATION_FAILED
    broker.denied[Operation.CREATE, ResourceType.TOPIC, "g-log"] = Error.TOPIC_AUTHORIZATION_FAILED
    joined = await join(broker, topology=topology(changelogs=[internal("g-log")]))
    assert told(joined).endswith("; Unauthorized to CREATE on topics g-log.")
    await wait_all_tasks_blocked()
    assert broker.cluster.image.topic("g-log") is None
    del broker.denied[Operation.CREATE, ResourceType.TOPIC, "g-log"]
    await beat(broker, joined.member_epoch)
    await wait_all_tasks_blocked()
    assert broker.cluster.image.topic("g-log") is not None


# Topics that an application needs for itself


async def test_the_topics_that_are_missing_are_made_as_the_application_wants_them(broker: Any) -> None:
    joined = await join(broker, topology=topology(changelogs=[internal("g-log", cleanup_policy="compact")]))
    assert told(joined) == "Internal topics are missing: g-log"
    assert joined.active_tasks == []
    await wait_all_tasks_blocked()
    made = broker.cluster.image.topic("g-log")
    assert (len(made.partitions), made.config["cleanup.policy"]) == (2, ["compact"])
    await trio.sleep(2)  # more than the assignment interval, on a clock that jumps
    answer = await beat(broker, joined.member_epoch)
    assert [each.partitions for each in answer.active_tasks] == [[0, 1]]
    assert told(answer) == ""


async def test_why_a_topic_could_not_be_made_is_told_for_two_heartbeats(broker: Any) -> None:
    joined = await join(broker, topology=topology(changelogs=[internal("g-log", cleanup_policy="nonsense")]))
    assert "Creation failed" not in told(joined)
    await wait_all_tasks_blocked()
    for pause in (0, HEARTBEAT_SECONDS, HEARTBEAT_SECONDS - 0.5):
        await trio.sleep(pause)
        assert "; Creation failed: g-log (" in told(await beat(broker, joined.member_epoch))
    await trio.sleep(1)
    assert "Creation failed" not in told(await beat(broker, joined.member_epoch)), "it is tried once more"
    await wait_all_tasks_blocked()
    assert "; Creation failed: g-log (" in told(await beat(broker, joined.member_epoch))
