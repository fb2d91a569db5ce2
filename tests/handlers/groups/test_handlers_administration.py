"""ListGroups, DescribeGroups and DeleteGroups over all their versions; the client's address; the service's hash."""

import pytest

from kafkapy.coordination.shards import partition_for
from kafkapy.errors import Error
from kafkapy.handlers.context import CLUSTER_NAME, Operation, ResourceType, Session
from kafkapy.handlers.groups.requests import client_host
from kafkapy.protocol.messages.delete_groups import DeleteGroupsRequest
from kafkapy.protocol.messages.describe_groups import DescribeGroupsRequest
from kafkapy.protocol.messages.join_group import JoinGroupRequest
from kafkapy.protocol.messages.list_groups import ListGroupsRequest
from kafkapy.protocol.messages.offset_commit import OffsetCommitRequest
from kafkapy.protocol.messages.sync_group import SyncGroupRequest

NOT_ASKED = -2147483648


async def stable_group(broker, group="live", host="127.0.0.1"):
    await broker.find_coordinator(group)
    joined = await broker.ask(
        JoinGroupRequest(
            group_id=group,
            session_timeout_ms=10_000,
            rebalance_timeout_ms=10_000,
            protocol_type="consumer",
            protocols=[JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"meta")],
        ),
        3,
        host=host,
    )
    assignment = SyncGroupRequest.SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"mine")
    await broker.ask(
        SyncGroupRequest(group_id=group, generation_id=1, member_id=joined.member_id, assignments=[assignment]),
        3,
    )
    return joined.member_id


async def simple_group(broker, group="simple"):
    await broker.find_coordinator(group)
    if broker.cluster.image.topic("t") is None:
        await broker.create_topic("t")
    kind = OffsetCommitRequest
    partition = kind.OffsetCommitRequestPartition(partition_index=0, committed_offset=1)
    topic = kind.OffsetCommitRequestTopic(name="t", partitions=[partition])
    await broker.ask(kind(group_id=group, topics=[topic]), 9)


@pytest.mark.parametrize("version", range(6))
async def test_groups_are_listed_in_every_version(broker, version, autojump_clock):
    await stable_group(broker)
    await simple_group(broker)
    answer = await broker.ask(ListGroupsRequest(), version)
    assert answer.error_code == Error.NONE
    state = {"live": "Stable", "simple": "Empty"} if version >= 4 else {"live": "", "simple": ""}
    assert {(g.group_id, g.protocol_type, g.group_state, g.group_type) for g in answer.groups} == {
        ("live", "consumer", state["live"], "classic" if version >= 5 else ""),
        ("simple", "", state["simple"], "classic" if version >= 5 else ""),
    }


async def test_a_broker_without_groups_lists_none(broker):
    answer = await broker.ask(ListGroupsRequest(), 5)
    assert (answer.error_code, answer.groups) == (Error.NONE, [])


@pytest.mark.parametrize(
    ("states", "types", "listed"),
    [
        (["stable"], [], {"live"}),
        ([" STABLE ", "Empty"], [], {"live", "simple"}),
        (["Dead"], [], set()),
        (["nonsense"], [], set()),
        ([], ["CLASSIC"], {"live", "simple"}),
        ([], ["consumer"], set()),
        (["Stable"], ["classic", "share"], {"live"}),
    ],
)
async def test_the_list_can_be_filtered(broker, states, types, listed, autojump_clock):
    await stable_group(broker)
    await simple_group(broker)
    answer = await broker.ask(ListGroupsRequest(states_filter=states, types_filter=types), 5)
    assert {group.group_id for group in answer.groups} == listed


async def test_only_groups_that_may_be_seen_are_listed(broker, autojump_clock):
    await stable_group(broker)
    await simple_group(broker)
    broker.denied[Operation.DESCRIBE, ResourceType.GROUP, "live"] = Error.GROUP_AUTHORIZATION_FAILED
    assert len((await broker.ask(ListGroupsRequest(), 5)).groups) == 2
    broker.denied[Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME] = Error.CLUSTER_AUTHORIZATION_FAILED
    assert [g.group_id for g in (await broker.ask(ListGroupsRequest(), 5)).groups] == ["simple"]


@pytest.mark.parametrize("version", range(7))
async def test_a_group_is_described_in_every_version(broker, version, autojump_clock):
    member_id = await stable_group(broker)
    answer = await broker.ask(DescribeGroupsRequest(groups=["live"]), version)
    [group] = answer.groups
    assert (group.error_code, group.group_id, group.group_state) == (0, "live", "Stable")
    assert (group.protocol_type, group.protocol_data) == ("consumer", "range")
    [member] = group.members
    assert (member.member_id, member.group_instance_id) == (member_id, None)
    assert (member.client_id, member.client_host) == ("client", "/127.0.0.1")
    assert (member.member_metadata, member.member_assignment) == (b"meta", b"mine")
    assert group.authorized_operations == NOT_ASKED


async def test_what_may_be_done_with_a_group_is_told_when_asked(broker, autojump_clock):
    await stable_group(broker)
    request = DescribeGroupsRequest(groups=["live", "nowhere"], include_authorized_operations=True)
    answer = await broker.ask(request, 6)
    read, delete, describe = 1 << 3, 1 << 6, 1 << 8
    assert answer.groups[0].authorized_operations & (read | delete | describe) == read | delete | describe
    assert answer.groups[1].authorized_operations == NOT_ASKED


async def test_a_group_that_is_not_there_is_dead(broker):
    await broker.find_coordinator()
    [old] = (await broker.ask(DescribeGroupsRequest(groups=["g"]), 5)).groups
    assert (old.error_code, old.group_state, old.members) == (Error.NONE, "Dead", [])
    [new] = (await broker.ask(DescribeGroupsRequest(groups=["g"]), 6)).groups
    assert (new.error_code, new.group_state) == (Error.GROUP_ID_NOT_FOUND, "Dead")
    assert new.error_message == "Group g not found."


async def test_errors_of_a_description_stand_in_the_group(broker):
    [group] = (await broker.ask(DescribeGroupsRequest(groups=["g"]), 6)).groups
    assert (group.error_code, group.group_state) == (Error.NOT_COORDINATOR, "")
    await broker.find_coordinator()
    broker.denied[Operation.DESCRIBE, ResourceType.GROUP, "g"] = Error.GROUP_AUTHORIZATION_FAILED
    answer = await broker.ask(DescribeGroupsRequest(groups=["g", "h"]), 6)
    assert [g.error_code for g in answer.groups] == [Error.GROUP_AUTHORIZATION_FAILED, Error.GROUP_ID_NOT_FOUND]


@pytest.mark.parametrize("version", range(3))
async def test_groups_are_deleted_in_every_version(broker, version, autojump_clock):
    await stable_group(broker)
    await simple_group(broker)
    broker.denied[Operation.DELETE, ResourceType.GROUP, "secret"] = Error.GROUP_AUTHORIZATION_FAILED
    names = ["live", "simple", "nowhere", "simple", "secret"]
    answer = await broker.ask(DeleteGroupsRequest(groups_names=names), version)
    assert {r.group_id: r.error_code for r in answer.results} == {
        "live": Error.NON_EMPTY_GROUP,
        "simple": Error.NONE,
        "nowhere": Error.GROUP_ID_NOT_FOUND,
        "secret": Error.GROUP_AUTHORIZATION_FAILED,
    }
    assert len(answer.results) == 4
    assert [g.group_id for g in (await broker.ask(ListGroupsRequest(), 5)).groups] == ["live"]


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ("127.0.0.1", "/127.0.0.1"),
        ("::1", "/0:0:0:0:0:0:0:1"),
        ("fe80::1:2%eth0", "/fe80:0:0:0:0:0:1:2"),
        ("::ffff:10.0.0.7", "/10.0.0.7"),
    ],
)
def test_a_clients_address_looks_as_java_shows_it(peer, shown):
    assert client_host(Session("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 9092, peer, 50_000)) == shown


@pytest.mark.parametrize(
    ("group_id", "java_hash"),
    [
        ("", 0),
        ("a", 97),
        ("my-consumer-group", None),
        ("polygenelubricants", -(2**31)),
        ("ünïcödé", None),
        ("𝄞", None),
    ],
)
def test_groups_fall_on_the_partitions_that_java_would_choose(group_id, java_hash):
    if java_hash is None:
        java_hash = 0
        units = group_id.encode("utf-16-be")
        for high, low in zip(units[::2], units[1::2], strict=True):
            java_hash = (java_hash * 31 + high * 256 + low + 2**31) % 2**32 - 2**31
    positive = 0 if java_hash == -(2**31) else abs(java_hash)
    assert partition_for(group_id, 50) == positive % 50
