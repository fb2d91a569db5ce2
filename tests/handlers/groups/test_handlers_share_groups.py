"""The APIs of share groups, with a share coordinator that does what it is told: who may ask what, what is answered."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.errors import Error
from kafkapy.groups.persister import TopicIdPartition
from kafkapy.handlers.context import Operation, ResourceType
from kafkapy.protocol.messages.alter_share_group_offsets import AlterShareGroupOffsetsRequest
from kafkapy.protocol.messages.delete_groups import DeleteGroupsRequest
from kafkapy.protocol.messages.delete_share_group_offsets import DeleteShareGroupOffsetsRequest
from kafkapy.protocol.messages.describe_share_group_offsets import DescribeShareGroupOffsetsRequest
from kafkapy.protocol.messages.share_group_describe import ShareGroupDescribeRequest
from kafkapy.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest
from kafkapy.protocol.messages.update_features import UpdateFeaturesRequest

READ_GROUP = (Operation.READ, ResourceType.GROUP, "g")
DESCRIBE_GROUP = (Operation.DESCRIBE, ResourceType.GROUP, "g")
DELETE_GROUP = (Operation.DELETE, ResourceType.GROUP, "g")
DESCRIBE_TOPIC = (Operation.DESCRIBE, ResourceType.TOPIC, "t")
READ_TOPIC = (Operation.READ, ResourceType.TOPIC, "t")


@pytest.fixture
async def broker(open_broker):
    broker = await open_broker()
    await broker.find_coordinator()
    broker.topic_id = await broker.create_topic("t", 2)
    return broker


async def beat(broker: Any, member: str = "a", epoch: int = 0, topics: Any = ("t",), **fields: Any) -> Any:
    request = ShareGroupHeartbeatRequest(
        group_id="g",
        member_id=member,
        member_epoch=epoch,
        subscribed_topic_names=None if topics is None else list(topics),
        **fields,
    )
    return await broker.ask(request, 1)


async def begun(broker: Any) -> int:
    """A member that reads all of the topic; its epoch."""
    await beat(broker)
    await wait_all_tasks_blocked()
    await trio.sleep(2)  # more than the assignment interval, on a clock that jumps
    answer = await beat(broker, epoch=2, topics=None)
    assert [topic.partitions for topic in answer.assignment.topic_partitions] == [[0, 1]]
    return int(answer.member_epoch)


async def describe(broker: Any, **fields: Any) -> Any:
    [group] = (await broker.ask(ShareGroupDescribeRequest(group_ids=["g"], **fields), 1)).groups
    return group


async def offsets(broker: Any, topics: dict[str, list[int]] | None = None) -> Any:
    asked = DescribeShareGroupOffsetsRequest
    group = asked.DescribeShareGroupOffsetsRequestGroup(
        group_id="g",
        topics=None
        if topics is None
        else [
            asked.DescribeShareGroupOffsetsRequestTopic(topic_name=name, partitions=numbers)
            for name, numbers in topics.items()
        ],
    )
    [answer] = (await broker.ask(asked(groups=[group]), 1)).groups
    return answer


async def alter(broker: Any, starts: dict[int, int], topic: str = "t") -> Any:
    asked = AlterShareGroupOffsetsRequest
    partitions = [
        asked.AlterShareGroupOffsetsRequestPartition(partition_index=number, start_offset=start)
        for number, start in starts.items()
    ]
    topics = [asked.AlterShareGroupOffsetsRequestTopic(topic_name=topic, partitions=partitions)]
    return await broker.ask(asked(group_id="g", topics=topics), 0)


async def forget(broker: Any, *topics: str) -> Any:
    asked = DeleteShareGroupOffsetsRequest
    names = [asked.DeleteShareGroupOffsetsRequestTopic(topic_name=name) for name in topics]
    return await broker.ask(asked(group_id="g", topics=names), 0)


async def delete_group(broker: Any) -> Error:
    [result] = (await broker.ask(DeleteGroupsRequest(groups_names=["g"]), 2)).results
    return Error.of(result.error_code)


async def test_a_member_is_told_what_was_initialised_for_it(broker: Any) -> None:
    answer = await beat(broker)
    assert (answer.error_code, answer.member_epoch, answer.heartbeat_interval_ms) == (0, 2, 5_000)
    assert answer.assignment.topic_partitions == []
    assert await begun(broker) == 3
    assert set(broker.keeper.states) == {("g", TopicIdPartition(broker.topic_id, number)) for number in range(2)}
    group = await describe(broker)
    assert (group.group_state, group.group_epoch, group.assignment_epoch, group.assignor_name) == (
        "Stable",
        3,
        3,
        "simple",
    )
    [member] = group.members
    assert (member.member_id, member.client_id, member.client_host) == ("a", "client", "/127.0.0.1")
    assert [(topic.topic_name, topic.partitions) for topic in member.assignment.topic_partitions] == [("t", [0, 1])]


async def test_a_share_coordinator_that_refuses_is_asked_again(broker: Any) -> None:
    broker.keeper.refusal = Error.COORDINATOR_NOT_AVAILABLE
    await beat(broker)
    await wait_all_tasks_blocked()
    assert broker.keeper.states == {}
    broker.keeper.refusal = None
    await beat(broker, epoch=2, topics=None)
    await wait_all_tasks_blocked()
    assert len(broker.keeper.states) == 2


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"member": ""}, Error.INVALID_REQUEST),
        ({"member": "m" * 37}, Error.INVALID_REQUEST),
        ({"topics": None}, Error.INVALID_REQUEST),
        ({"topics": ()}, Error.INVALID_REQUEST),
        ({"rack_id": " "}, Error.INVALID_REQUEST),
        ({"epoch": -2}, Error.INVALID_REQUEST),
        ({"epoch": 1}, Error.GROUP_ID_NOT_FOUND),
    ],
)
async def test_heartbeats_that_make_no_sense(broker: Any, fields: dict[str, Any], error: Error) -> None:
    assert (await beat(broker, **fields)).error_code == error


async def test_rights(broker: Any) -> None:
    broker.denied = broker.rooms.denied
    await begun(broker)
    for right, error in (
        (READ_GROUP, Error.GROUP_AUTHORIZATION_FAILED),
        (DESCRIBE_TOPIC, Error.TOPIC_AUTHORIZATION_FAILED),
    ):
        broker.denied[right] = error
        answer = await beat(broker)
        assert (answer.error_code, answer.error_message) == (error, None)
        broker.denied.clear()
    broker.denied[DESCRIBE_GROUP] = Error.GROUP_AUTHORIZATION_FAILED
    assert (await describe(broker)).error_code == Error.GROUP_AUTHORIZATION_FAILED
    assert (await offsets(broker)).error_code == Error.GROUP_AUTHORIZATION_FAILED
    broker.denied.clear()
    broker.denied[DESCRIBE_TOPIC] = Error.TOPIC_AUTHORIZATION_FAILED
    hidden = await describe(broker)
    assert (hidden.error_code, hidden.members) == (Error.TOPIC_AUTHORIZATION_FAILED, [])
    assert (await offsets(broker)).topics == []
    [topic] = (await offsets(broker, {"t": [0]})).topics
    assert [each.error_code for each in topic.partitions] == [Error.TOPIC_AUTHORIZATION_FAILED]
    assert topic.topic_id == bytes(16)
    broker.denied.clear()
    await beat(broker, epoch=-1, topics=None)
    broker.denied[READ_GROUP] = Error.GROUP_AUTHORIZATION_FAILED
    assert (await alter(broker, {0: 1})).error_code == Error.GROUP_AUTHORIZATION_FAILED
    broker.denied.clear()
    broker.denied[READ_TOPIC] = Error.TOPIC_AUTHORIZATION_FAILED
    [altered] = (await alter(broker, {0: 1})).responses
    assert [each.error_code for each in altered.partitions] == [Error.TOPIC_AUTHORIZATION_FAILED]
    [forgotten] = (await forget(broker, "t")).responses
    assert (forgotten.topic_name, forgotten.error_code) == ("t", Error.TOPIC_AUTHORIZATION_FAILED)
    broker.denied.clear()
    broker.denied[DELETE_GROUP] = Error.GROUP_AUTHORIZATION_FAILED
    assert (await forget(broker, "t")).error_code == Error.GROUP_AUTHORIZATION_FAILED
    assert await delete_group(broker) is Error.GROUP_AUTHORIZATION_FAILED
    assert len(broker.keeper.states) == 2, "who was refused has changed nothing"


async def test_where_a_group_is_told_to_begin(broker: Any) -> None:
    answer = await alter(broker, {0: 5, 7: 1})
    [topic] = answer.responses
    assert topic.topic_id == broker.topic_id
    assert [(each.partition_index, each.error_code) for each in topic.partitions] == [
        (0, Error.NONE),
        (7, Error.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    [told] = (await offsets(broker)).topics
    assert [(each.partition_index, each.start_offset, each.lag) for each in told.partitions] == [(0, 5, -5)]
    [told, nowhere] = (await offsets(broker, {"nowhere": [0], "t": [0, 1]})).topics
    assert [(each.start_offset, each.error_code) for each in told.partitions] == [(5, 0), (-1, 0)]
    assert [(each.start_offset, each.error_code) for each in nowhere.partitions] == [(-1, 0)]
    await begun(broker)
    assert (await alter(broker, {0: 1})).error_code == Error.NON_EMPTY_GROUP
    assert (await forget(broker, "t")).error_code == Error.NON_EMPTY_GROUP
    assert await delete_group(broker) is Error.NON_EMPTY_GROUP


async def test_what_the_share_coordinator_refuses_is_told(broker: Any) -> None:
    await begun(broker)
    await beat(broker, epoch=-1, topics=None)
    broker.keeper.refusal = Error.COORDINATOR_LOAD_IN_PROGRESS
    [topic] = (await alter(broker, {0: 1})).responses
    assert [each.error_code for each in topic.partitions] == [Error.COORDINATOR_LOAD_IN_PROGRESS]
    [topic] = (await offsets(broker)).topics
    assert [(each.start_offset, each.lag, each.error_code) for each in topic.partitions] == [(-1, -1, 0)] * 2
    [topic] = (await forget(broker, "t")).responses
    assert (topic.error_code, topic.error_message) == (
        Error.COORDINATOR_LOAD_IN_PROGRESS,
        Error.COORDINATOR_LOAD_IN_PROGRESS.text,
    )
    assert await delete_group(broker) is Error.COORDINATOR_LOAD_IN_PROGRESS
    assert (await describe(broker)).group_state == "Empty", "a group whose state is still there is not deleted"
    broker.keeper.refusal = None
    assert await delete_group(broker) is Error.NONE
    assert broker.keeper.states == {}
    assert (await describe(broker)).error_code == Error.GROUP_ID_NOT_FOUND


async def test_a_group_forgets_a_topic(broker: Any) -> None:
    await begun(broker)
    await beat(broker, epoch=-1, topics=None)
    answers = {each.topic_name: each for each in (await forget(broker, "t", "nowhere")).responses}
    assert (answers["t"].error_code, answers["t"].topic_id) == (0, broker.topic_id)
    assert answers["nowhere"].error_code == Error.UNKNOWN_TOPIC_OR_PARTITION
    assert broker.keeper.states == {}
    assert (await offsets(broker)).topics == []


async def test_a_deleted_topic_is_no_part_of_a_group(broker: Any) -> None:
    await begun(broker)
    await broker.delete_topic(broker.topic_id)
    await wait_all_tasks_blocked()
    assert (await offsets(broker)).topics == []
    [member] = (await describe(broker)).members
    assert member.assignment.topic_partitions == []


async def test_share_groups_are_off_where_their_feature_is(broker: Any) -> None:
    updates = [UpdateFeaturesRequest.FeatureUpdateKey(feature="share.version", max_version_level=0, upgrade_type=2)]
    assert (await broker.ask(UpdateFeaturesRequest(feature_updates=updates), 1)).error_code == Error.NONE
    assert (await beat(broker)).error_code == Error.UNSUPPORTED_VERSION
    assert (await describe(broker)).error_code == Error.UNSUPPORTED_VERSION
    assert (await offsets(broker)).error_code == Error.UNSUPPORTED_VERSION
    assert (await alter(broker, {0: 1})).error_code == Error.UNSUPPORTED_VERSION
    assert (await forget(broker, "t")).error_code == Error.UNSUPPORTED_VERSION
