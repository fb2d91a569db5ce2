"""FindCoordinator, JoinGroup, SyncGroup, Heartbeat and LeaveGroup over all their versions."""

import re
from uuid import RFC_4122, UUID

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.errors import Error
from kafkapy.handlers.context import CLUSTER_NAME, Operation, ResourceType
from kafkapy.model import format_uuid
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.heartbeat import HeartbeatRequest
from kafkapy.protocol.messages.join_group import JoinGroupRequest
from kafkapy.protocol.messages.leave_group import LeaveGroupRequest
from kafkapy.protocol.messages.sync_group import SyncGroupRequest

GROUP, TRANSACTION, SHARE = 0, 1, 2
SHARE_KEY = "g:" + format_uuid(bytes(16)) + ":0"


def join_request(member_id="", *, group="g", instance=None, **options):
    return JoinGroupRequest(
        group_id=group,
        member_id=member_id,
        group_instance_id=instance,
        session_timeout_ms=options.get("session_ms", 10_000),
        rebalance_timeout_ms=options.get("rebalance_ms", 60_000),
        protocol_type="consumer",
        protocols=[JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"meta")],
    )


def sync_request(joined, version, assignments=(), instance=None):
    return SyncGroupRequest(
        group_id="g",
        generation_id=joined.generation_id,
        member_id=joined.member_id,
        group_instance_id=instance,
        protocol_type="consumer" if version >= 5 else None,
        protocol_name="range" if version >= 5 else None,
        assignments=[
            SyncGroupRequest.SyncGroupRequestAssignment(member_id=member_id, assignment=assignment)
            for member_id, assignment in assignments
        ],
    )


async def ready(broker):
    assert (await broker.find_coordinator()).error_code == Error.NONE


async def enter(broker, version=9, **options):
    answer = await broker.ask(join_request(**options), version)
    if answer.error_code == Error.MEMBER_ID_REQUIRED:
        answer = await broker.ask(join_request(answer.member_id, **options), version)
    assert answer.error_code == Error.NONE
    return answer


@pytest.mark.parametrize("version", range(4))
async def test_a_groups_coordinator_is_this_broker(broker, version):
    await ready(broker)
    answer = await broker.ask(FindCoordinatorRequest(key="g"), version)
    assert (answer.error_code, answer.node_id, answer.host, answer.port) == (0, 1, "broker.test", 9092)
    assert answer.error_message == ("NONE" if version >= 1 else "")


@pytest.mark.parametrize("version", [4, 5, 6])
async def test_coordinators_of_many_groups_are_asked_for_at_once(broker, version):
    await ready(broker)
    answer = await broker.ask(FindCoordinatorRequest(key_type=GROUP, coordinator_keys=["a", "b"]), version)
    assert [(c.key, c.error_code, c.node_id, c.host, c.port) for c in answer.coordinators] == [
        ("a", 0, 1, "broker.test", 9092),
        ("b", 0, 1, "broker.test", 9092),
    ]


@pytest.mark.parametrize("version", range(7))
async def test_the_first_question_makes_the_offsets_topic(broker, version):
    assert broker.cluster.image.topic("__consumer_offsets") is None
    for _ in range(2):
        one = FindCoordinatorRequest(coordinator_keys=["g"]) if version >= 4 else FindCoordinatorRequest(key="g")
        answer = await broker.ask(one, version)
        [found] = answer.coordinators if version >= 4 else [answer]
        assert (found.error_code, found.node_id, found.port) == (Error.COORDINATOR_NOT_AVAILABLE, -1, -1)
    await wait_all_tasks_blocked()
    topic = broker.cluster.image.topic("__consumer_offsets")
    assert len(topic.partitions) == 50
    assert topic.config["cleanup.policy"] == ["compact"]
    await ready(broker)


async def test_the_first_question_is_answered_once_it_is_made_where_that_may_be_waited_for(open_broker):
    broker = await open_broker(kafkapy_auto_create_wait="true")
    answer = await broker.ask(FindCoordinatorRequest(key="g"), 1)
    assert (answer.error_code, answer.node_id) == (Error.NONE, 1)


async def test_before_that_a_group_is_coordinated_by_nobody(broker):
    answer = await broker.ask(join_request(), 9)
    assert answer.error_code == Error.NOT_COORDINATOR


@pytest.mark.parametrize(
    ("version", "key_type", "key", "error"),
    [
        (6, SHARE, SHARE_KEY, Error.COORDINATOR_NOT_AVAILABLE),
        (6, SHARE, "a:" + SHARE_KEY, Error.COORDINATOR_NOT_AVAILABLE),
        (5, SHARE, SHARE_KEY, Error.INVALID_REQUEST),
        (6, SHARE, "g", Error.INVALID_REQUEST),
        (6, SHARE, "g:0", Error.INVALID_REQUEST),
        (6, SHARE, "g:no-uuid:0", Error.INVALID_REQUEST),
        (6, SHARE, SHARE_KEY + "x", Error.INVALID_REQUEST),
        (6, SHARE, SHARE_KEY[1:], Error.INVALID_REQUEST),
        (6, 3, "g", Error.INVALID_REQUEST),
    ],
)
async def test_other_kinds_of_coordinators(broker, version, key_type, key, error):
    answer = await broker.ask(FindCoordinatorRequest(key_type=key_type, coordinator_keys=[key]), version)
    [coordinator] = answer.coordinators
    assert (coordinator.key, coordinator.error_code, coordinator.node_id, coordinator.host) == (key, error, -1, "")
    if error == Error.INVALID_REQUEST:  # Kafka has words for a kind that it does not know, and none for a bad key
        assert coordinator.error_message == ("" if key_type == SHARE else Error.INVALID_REQUEST.text)


@pytest.mark.parametrize("key_type", [SHARE, 9])
async def test_before_version_4_a_refusal_is_in_words(broker, key_type):
    answer = await broker.ask(FindCoordinatorRequest(key="x", key_type=key_type), 3)
    assert (answer.error_code, answer.error_message) == (Error.INVALID_REQUEST, Error.INVALID_REQUEST.text)


async def test_only_brokers_ask_who_keeps_the_state_of_share_partitions(broker):
    broker.denied[Operation.CLUSTER_ACTION, ResourceType.CLUSTER, CLUSTER_NAME] = Error.CLUSTER_AUTHORIZATION_FAILED
    [answer] = (await broker.ask(FindCoordinatorRequest(key_type=SHARE, coordinator_keys=[SHARE_KEY]), 6)).coordinators
    assert answer.error_code == Error.CLUSTER_AUTHORIZATION_FAILED


async def test_who_may_not_see_a_group_does_not_find_its_coordinator(broker):
    await ready(broker)
    broker.denied[Operation.DESCRIBE, ResourceType.GROUP, "secret"] = Error.GROUP_AUTHORIZATION_FAILED
    answer = await broker.ask(FindCoordinatorRequest(coordinator_keys=["secret", "g"]), 6)
    assert [c.error_code for c in answer.coordinators] == [Error.GROUP_AUTHORIZATION_FAILED, Error.NONE]


@pytest.mark.parametrize("version", range(10))
async def test_a_member_joins_syncs_stays_and_leaves_in_every_version(broker, version, autojump_clock):
    await ready(broker)
    joined = await enter(broker, version)
    assert (joined.generation_id, joined.leader, joined.protocol_name) == (1, joined.member_id, "range")
    assert joined.protocol_type == ("consumer" if version >= 7 else None)
    assert re.fullmatch(r"client-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", joined.member_id)
    assert [(m.member_id, m.metadata) for m in joined.members] == [(joined.member_id, b"meta")]
    sync_version = min(version, 5)
    request = sync_request(joined, sync_version, [(joined.member_id, b"mine")])
    synced = await broker.ask(request, sync_version)
    assert (synced.error_code, synced.assignment) == (Error.NONE, b"mine")
    assert synced.protocol_name == ("range" if sync_version >= 5 else None)
    heartbeat = HeartbeatRequest(group_id="g", generation_id=1, member_id=joined.member_id)
    assert (await broker.ask(heartbeat, min(version, 4))).error_code == Error.NONE
    leave_version = min(version, 5)
    identity = LeaveGroupRequest.MemberIdentity(member_id=joined.member_id)
    leave = (
        LeaveGroupRequest(group_id="g", members=[identity])
        if leave_version >= 3
        else LeaveGroupRequest(group_id="g", member_id=joined.member_id)
    )
    left = await broker.ask(leave, leave_version)
    assert left.error_code == Error.NONE
    assert [m.error_code for m in left.members] == ([0] if leave_version >= 3 else [])
    assert (await broker.ask(heartbeat, min(version, 4))).error_code == Error.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("version", [4, 6, 7, 9])
async def test_the_protocol_of_a_refused_join_is_empty_or_null(broker, version):
    await ready(broker)
    answer = await broker.ask(join_request(), version)
    assert answer.error_code == Error.MEMBER_ID_REQUIRED
    assert answer.protocol_name == (None if version >= 7 else "")
    assert (answer.generation_id, answer.leader, answer.members) == (-1, "", [])


async def test_version_0_rebalances_within_the_session_timeout(broker, nursery, autojump_clock):
    await ready(broker)
    silent = await enter(broker, 0, session_ms=30_000)
    start = trio.current_time()
    late = await enter(broker, 3, session_ms=30_000, rebalance_ms=1_000)
    assert trio.current_time() - start == pytest.approx(30.0, abs=0.1)
    assert [member.member_id for member in late.members] == [late.member_id] != [silent.member_id]


async def test_a_static_members_id_begins_with_its_instance_id(broker, autojump_clock):
    await ready(broker)
    joined = await enter(broker, 5, instance="pod-7")
    assert joined.member_id.startswith("pod-7-")
    assert joined.members[0].group_instance_id == "pod-7"


async def test_a_client_without_a_name_gets_an_id_all_the_same(broker):
    await ready(broker)
    answer = await broker.ask(join_request(), 9, client_id=None)
    assert answer.member_id.startswith("-")


async def test_followers_wait_for_the_leaders_assignment(broker, nursery, autojump_clock):
    await ready(broker)
    first = await enter(broker)
    await broker.ask(sync_request(first, 5, [(first.member_id, b"all")]), 5)
    answers = {}

    async def consumer(member_id):
        joined = await broker.ask(join_request(member_id), 9)
        shares = [(m.member_id, m.member_id.encode()) for m in joined.members]
        answers[joined.member_id] = await broker.ask(sync_request(joined, 5, shares), 5)

    promised = (await broker.ask(join_request(), 9)).member_id
    nursery.start_soon(consumer, promised)
    await wait_all_tasks_blocked()
    heartbeat = HeartbeatRequest(group_id="g", generation_id=1, member_id=first.member_id)
    assert (await broker.ask(heartbeat, 4)).error_code == Error.REBALANCE_IN_PROGRESS
    nursery.start_soon(consumer, first.member_id)
    await trio.sleep(1)
    assert {m: a.assignment for m, a in answers.items()} == {m: m.encode() for m in (first.member_id, promised)}


async def test_sync_from_version_5_on_must_name_its_protocol(broker, autojump_clock):
    await ready(broker)
    joined = await enter(broker)
    request = sync_request(joined, 4)
    assert (await broker.ask(request, 5)).error_code == Error.INCONSISTENT_GROUP_PROTOCOL
    assert (await broker.ask(sync_request(joined, 5), 5)).error_code == Error.NONE


@pytest.mark.parametrize("session_ms", [5_999, 1_800_001])
async def test_session_timeouts_have_bounds(broker, session_ms):
    await ready(broker)
    answer = await broker.ask(join_request("m", session_ms=session_ms), 9)
    assert (answer.error_code, answer.member_id) == (Error.INVALID_SESSION_TIMEOUT, "m")


@pytest.mark.parametrize("session_ms", [6_000, 1_800_000])
async def test_session_timeouts_may_be_at_their_bounds(broker, session_ms):
    await ready(broker)
    assert (await broker.ask(join_request(session_ms=session_ms), 9)).error_code == Error.MEMBER_ID_REQUIRED


async def test_a_member_id_ends_with_a_random_uuid(broker):
    """A real one, in every one of its digits."""
    await ready(broker)
    answers = [await broker.ask(join_request(), 9, client_id="app") for _ in range(400)]
    found = [UUID(answer.member_id.removeprefix("app-")) for answer in answers]
    assert {(uuid.version, uuid.variant) for uuid in found} == {(4, RFC_4122)}
    digits = [len(set(column)) for column in zip(*(uuid.hex for uuid in found), strict=True)]
    assert digits == [16] * 12 + [1] + [16] * 3 + [4] + [16] * 15
    assert [answer.member_id for answer in answers] == [f"app-{uuid}" for uuid in found]


async def test_a_group_needs_a_name(broker):
    await ready(broker)
    assert (await broker.ask(join_request(group=""), 9)).error_code == Error.INVALID_GROUP_ID
    for request, version in (
        (SyncGroupRequest(group_id=""), 4),
        (HeartbeatRequest(group_id=""), 4),
        (LeaveGroupRequest(group_id=""), 5),
    ):
        assert (await broker.ask(request, version)).error_code == Error.INVALID_GROUP_ID


async def test_who_may_not_read_a_group_is_kept_out(broker):
    await ready(broker)
    broker.denied[Operation.READ, ResourceType.GROUP, "g"] = Error.GROUP_AUTHORIZATION_FAILED
    joined = await broker.ask(join_request("m"), 9)
    assert (joined.error_code, joined.member_id) == (Error.GROUP_AUTHORIZATION_FAILED, "")
    for request, version in (
        (SyncGroupRequest(group_id="g"), 4),
        (HeartbeatRequest(group_id="g"), 4),
        (LeaveGroupRequest(group_id="g"), 5),
    ):
        assert (await broker.ask(request, version)).error_code == Error.GROUP_AUTHORIZATION_FAILED


async def test_leaving_an_unknown_group_is_an_error_of_each_member(broker):
    await ready(broker)
    members = [LeaveGroupRequest.MemberIdentity(member_id="m", group_instance_id="i")]
    left = await broker.ask(LeaveGroupRequest(group_id="g", members=members), 5)
    assert left.error_code == Error.NONE
    assert [(m.member_id, m.group_instance_id, m.error_code) for m in left.members] == [
        ("m", "i", Error.UNKNOWN_MEMBER_ID)
    ]
    left = await broker.ask(LeaveGroupRequest(group_id="g", member_id="m"), 2)
    assert left.error_code == Error.UNKNOWN_MEMBER_ID


async def test_a_group_lives_on_after_a_restart(broker, open_broker, autojump_clock):
    await ready(broker)
    joined = await enter(broker)
    await broker.ask(sync_request(joined, 5, [(joined.member_id, b"mine")]), 5)
    again = await open_broker()
    heartbeat = HeartbeatRequest(group_id="g", generation_id=1, member_id=joined.member_id)
    assert (await again.ask(heartbeat, 4)).error_code == Error.NONE
    assert (await again.ask(sync_request(joined, 5), 5)).assignment == b"mine"


async def test_a_group_of_a_deleted_offsets_topic_starts_anew(broker, autojump_clock):
    await ready(broker)
    joined = await enter(broker)
    await broker.delete_topic(broker.cluster.image.topic("__consumer_offsets").topic_id)
    heartbeat = HeartbeatRequest(group_id="g", generation_id=1, member_id=joined.member_id)
    assert (await broker.ask(heartbeat, 4)).error_code == Error.NOT_COORDINATOR
    await ready(broker)
    assert (await broker.ask(heartbeat, 4)).error_code == Error.UNKNOWN_MEMBER_ID
    assert (await enter(broker)).generation_id == 1


async def asked(broker, nursery, request, version):
    """Ask, and return the list that the answer will be put into."""
    answers = []

    async def ask():
        answers.append(await broker.ask(request, version))

    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    assert not answers
    return answers


@pytest.mark.parametrize("version", [3, 6, 7, 9])
async def test_who_waits_to_join_is_told_that_the_coordinator_moves(open_broker, nursery, version):
    broker = await open_broker(group_initial_rebalance_delay_ms="3000")
    await ready(broker)
    member_id = (await broker.ask(join_request(), version)).member_id if version >= 4 else ""
    answers = await asked(broker, nursery, join_request(member_id), version)
    broker.logs.leases.lose([await broker.groups.coordinating_log("g")])
    await wait_all_tasks_blocked()
    [joined] = answers
    assert (joined.error_code, joined.member_id, joined.generation_id) == (Error.NOT_COORDINATOR, "", -1)
    assert joined.protocol_name == (None if version >= 7 else "")


async def test_who_waits_to_join_is_fenced_by_another_of_its_name(open_broker, nursery):
    broker = await open_broker(group_initial_rebalance_delay_ms="3000")
    await ready(broker)
    answers = await asked(broker, nursery, join_request(instance="pod"), 9)
    await asked(broker, nursery, join_request(instance="pod"), 9)
    assert [answer.error_code for answer in answers] == [Error.FENCED_INSTANCE_ID]


async def test_who_waits_for_an_assignment_is_told_of_the_next_rebalance(broker, nursery, autojump_clock):
    await ready(broker)
    leader = await enter(broker)
    promised = (await broker.ask(join_request(), 9)).member_id
    joining = await asked(broker, nursery, join_request(promised), 9)
    await enter(broker, member_id=leader.member_id)
    await wait_all_tasks_blocked()
    answers = await asked(broker, nursery, sync_request(joining[0], 5), 5)
    nursery.start_soon(enter, broker)
    await wait_all_tasks_blocked()
    assert [answer.error_code for answer in answers] == [Error.REBALANCE_IN_PROGRESS]
