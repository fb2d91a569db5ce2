"""The consumer group protocol (KIP-848): members, epochs, patterns, offsets, and classic members beside them."""

import time
import uuid

from cases.groups import Commit, Leave, OffsetFetch, find, joined, sync
from cases.topics import creatable, create, topic_id
from registry import Scene, case

from kafkapy.protocol.journal.consumer_protocol import ConsumerProtocolSubscription
from kafkapy.protocol.messages import request_class

Beat = request_class(68)
Describe = request_class(69)
AlterConfigs = request_class(44)
_GROUP = 32


def setup(s: Scene, group: str, partitions=4, **settings) -> bytes:
    """A topic, a coordinator that serves, and a group that assigns anew whenever there is a reason; the topic's id."""
    create(s, creatable(s.topic(), partitions))
    find(s, group)
    Resource = AlterConfigs.AlterConfigsResource
    configs = {"consumer.assignment.interval.ms": "0"} | settings
    s.ask(
        AlterConfigs(
            resources=[
                Resource(
                    resource_type=_GROUP,
                    resource_name=group,
                    configs=[
                        AlterConfigs.AlterableConfig(name=n, config_operation=0, value=v) for n, v in configs.items()
                    ],
                )
            ]
        ),
        version=1,
        note=False,
    )
    time.sleep(0.1)  # Kafka answers before its coordinator has heard of it
    return topic_id(s, s.topic())


def beat(s: Scene, group, member="a", epoch=0, *, owned=None, topics=None, note=True, version=None, **fields):
    if owned is not None:
        owned = [Beat.TopicPartitions(topic_id=each, partitions=list(numbers)) for each, numbers in owned.items()]
    return s.ask(
        Beat(
            group_id=group,
            member_id=member,
            member_epoch=epoch,
            topic_partitions=owned,
            subscribed_topic_names=topics,
            **fields,
        ),
        version=min(s.version, 1) if version is None else version,
        note=note,
    )


def enter(s: Scene, group, member="a", **fields):
    """The first heartbeat of a member that reads the case's topic."""
    fields = {"topics": [s.topic()], "rebalance_timeout_ms": 10000, "owned": {}} | fields
    return beat(s, group, member, 0, **fields)


def given(answer):
    """What the answer assigns, as a member says that it owns it."""
    return {uuid.UUID(str(t["topic_id"])).bytes: t["partitions"] for t in answer["assignment"]["topic_partitions"]}


def describe(s: Scene, *groups, version=1, **fields):
    return s.ask(Describe(group_ids=list(groups), **fields), version=version)


def pair(s: Scene, group):
    """Two members that share the topic; their epoch, and what the first and the second have."""
    enter(s, group, "a", version=1, note=False)
    enter(s, group, "b", version=1, note=False)
    first = given(beat(s, group, "a", 2, version=1, note=False))
    beat(s, group, "a", 2, owned=first, version=1, note=False)
    second = given(beat(s, group, "b", 3, owned={}, version=1, note=False))
    return 3, first, second


@case("ConsumerGroupHeartbeat", "alone: join, stay, say everything, leave")
def _(s):
    group = s.topic("g")
    topic = setup(s, group)
    owned = given(enter(s, group))
    beat(s, group, epoch=2)
    beat(s, group, epoch=2, owned=owned)
    beat(s, group, epoch=2, owned=owned, topics=[s.topic()], rebalance_timeout_ms=20000)
    enter(s, group)
    beat(s, group, epoch=3)
    beat(s, group, epoch=1, owned={topic: [0]})
    beat(s, group, epoch=-1)
    beat(s, group, epoch=2)
    beat(s, group, epoch=-1)
    describe(s, group)
    enter(s, group)


@case("ConsumerGroupHeartbeat", "requests that make no sense")
def _(s):
    group = s.topic("g")
    setup(s, group)
    beat(s, "")
    beat(s, group, "", 1)
    beat(s, group, " ", 1)
    beat(s, group, "", -1)
    beat(s, group)
    beat(s, group, rebalance_timeout_ms=1000)
    beat(s, group, rebalance_timeout_ms=1000, owned={bytes(15) + b"7": [1]})
    beat(s, group, rebalance_timeout_ms=1000, owned={})
    beat(s, group, epoch=-2)
    beat(s, group, epoch=-3)
    beat(s, group, epoch=-2, instance_id="i")
    beat(s, group, epoch=1, instance_id=" ")
    beat(s, group, epoch=1, rack_id="")
    beat(s, group, epoch=1)
    beat(s, group, epoch=-1)
    enter(s, group, server_assignor="nobody")
    enter(s, group, topics=[])
    beat(s, group, "nobody", 2)
    beat(s, group, "nobody", 2, instance_id="i")


@case("ConsumerGroupHeartbeat", "two members: nothing is assigned before it is given up")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, "a")
    enter(s, group, "b")
    describe(s, group)
    beat(s, group, "b", 3)
    kept = given(beat(s, group, "a", 2))
    describe(s, group)
    beat(s, group, "a", 2)
    beat(s, group, "a", 2, owned=kept)
    beat(s, group, "b", 3, owned={})
    describe(s, group)
    beat(s, group, "a", -1)
    beat(s, group, "b", 3)
    describe(s, group)


@case("ConsumerGroupHeartbeat", "range, and members that want different assignors")
def _(s):
    group = s.topic("g")
    setup(s, group, 5)
    enter(s, group, "a", server_assignor="range")
    enter(s, group, "b", server_assignor="uniform")
    describe(s, group)
    enter(s, group, "c", server_assignor="uniform")
    describe(s, group)


@case("ConsumerGroupHeartbeat", "static members: away and back, in use, fenced")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, "a", instance_id="i")
    enter(s, group, "b", instance_id="i")
    beat(s, group, "a", -2, instance_id="i")
    describe(s, group)
    enter(s, group, "b", instance_id="i")
    beat(s, group, "a", 2, instance_id="i")
    beat(s, group, "b", 2, instance_id="i")
    beat(s, group, "b", 2)
    describe(s, group)
    beat(s, group, "a", -1, instance_id="i")
    beat(s, group, "b", -1, instance_id="i")
    describe(s, group)


@case(
    "ConsumerGroupHeartbeat",
    "patterns: looked up behind the first heartbeat, invalid ones, and gone with the last member",
    first=1,
)
def _(s):
    group = s.topic("g")
    setup(s, group)
    pattern = s.topic(".*").replace("-.*", "-t.*")
    enter(s, group, topics=None, subscribed_topic_regex="(")
    enter(s, group, topics=None, subscribed_topic_regex="")
    enter(s, group, "p", topics=None, subscribed_topic_regex=pattern)
    for _ in range(100):
        answer = beat(s, group, "p", 2, note=False)
        if answer["error_code"] == 110:
            answer = beat(s, group, "p", 3, note=False)
        if answer.get("assignment"):
            break
        time.sleep(0.02)
    describe(s, group)
    enter(s, group, "q", topics=[s.topic()], subscribed_topic_regex=pattern)
    beat(s, group, "p", -1)
    beat(s, group, "q", -1)
    describe(s, group)


@case("ConsumerGroupHeartbeat", "a subscription that changes, and topics that are not there")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, topics=[s.topic("none")])
    owned = given(beat(s, group, epoch=2, topics=[s.topic(), s.topic("none")], owned={}))
    beat(s, group, epoch=3, topics=[s.topic("none")], owned=owned)
    describe(s, group)
    beat(s, group, epoch=3, owned={})
    beat(s, group, epoch=4, owned={})
    describe(s, group)


@case("ConsumerGroupDescribe", "groups of each kind, and none")
def _(s):
    group = s.topic("g")
    setup(s, group)
    joined(s, s.topic("classic"), version=5, note=False)
    pair(s, group)
    describe(s, group, s.topic("classic"), s.topic("none"), version=s.version)
    describe(s, "", version=s.version)
    describe(s, group, version=s.version, include_authorized_operations=True)


@case("DescribeGroups", "a consumer group is no classic one")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, note=False)
    s.ask(request_class(15)(groups=[group]))


@case("ListGroups", "consumer groups, by type and by state", first=4)
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, note=False)
    for fields in ({}, {"states_filter": ["stable"]}, {"types_filter": ["Consumer"]}, {"types_filter": ["classic"]}):
        if s.version < 5 and "types_filter" in fields:
            continue
        answer = s.ask(request_class(16)(**fields), note=False)
        s.probe.trace.append([entry for entry in answer["groups"] if entry["group_id"] == group])


@case("DeleteGroups", "a consumer group with a member, and without")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, note=False)
    s.ask(request_class(42)(groups_names=[group]))
    beat(s, group, "a", -1, version=1, note=False)
    s.ask(request_class(42)(groups_names=[group]))
    describe(s, group)


def commit_as(s: Scene, group, member, epoch, partition=0, instance=None):
    one = Commit.OffsetCommitRequestPartition(partition_index=partition, committed_offset=5)
    named = {"topic_id": topic_id(s, s.topic())} if s.version >= 10 else {"name": s.topic()}
    s.ask(
        Commit(
            group_id=group,
            member_id=member,
            generation_id_or_member_epoch=epoch,
            group_instance_id=instance,
            topics=[Commit.OffsetCommitRequestTopic(**named, partitions=[one])],
        )
    )


@case("OffsetCommit", "by members of a consumer group, in their epoch, before, and after", first=7)
def _(s):
    group = s.topic("g")
    setup(s, group)
    epoch, first, second = pair(s, group)
    kept, others = next(iter(first.values()))[0], next(iter(second.values()))[0]
    commit_as(s, group, "a", epoch, kept)
    commit_as(s, group, "a", epoch, others)
    commit_as(s, group, "a", epoch - 1, kept)
    commit_as(s, group, "a", epoch - 1, others)
    commit_as(s, group, "a", epoch + 1, kept)
    commit_as(s, group, "nobody", epoch, kept)
    commit_as(s, group, "", -1, kept)


@case("OffsetFetch", "by members of a consumer group, in their epoch and out of it", first=9)
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, note=False)
    Group, Topic = OffsetFetch.OffsetFetchRequestGroup, OffsetFetch.OffsetFetchRequestTopics
    named = {"topic_id": topic_id(s, s.topic())} if s.version >= 10 else {"name": s.topic()}
    for member, epoch in ((None, -1), ("a", 2), ("a", 1), ("a", 3), ("a", -1), ("nobody", 2), ("", -1)):
        topics = [Topic(**named, partition_indexes=[0])]
        s.ask(OffsetFetch(groups=[Group(group_id=group, member_id=member, member_epoch=epoch, topics=topics)]))


def metadata(s: Scene, owned=()):
    """What a consumer says of itself in the classic protocol."""
    out = bytearray(b"\x00\x01")
    owns = ConsumerProtocolSubscription.TopicPartition(topic=s.topic(), partitions=list(owned))
    ConsumerProtocolSubscription(topics=[s.topic()], owned_partitions=[owns] if owned else []).encode(1, out)
    return bytes(out)


@case("JoinGroup", "to a consumer group, and back to a classic one when the others leave", first=5)
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, "new", version=1)
    mine = {"protocols": [("range", metadata(s))]}
    answer = joined(s, group, note=False, **mine)
    member, epoch = answer["member_id"], answer["generation_id"]
    s.probe.trace.append({**answer, "member_id": ""})
    kept = given(beat(s, group, "new", 2, version=1, owned=None))
    beat(s, group, "new", 2, version=1, owned=kept)
    s.probe.trace.append(alive(s, group, member, epoch))
    again = joined(s, group, member=member, note=False, **mine)
    s.probe.trace.append({**again, "member_id": ""})
    answer = sync(s, group, member, again["generation_id"], version=3, note=False)
    s.probe.trace.append({**answer, "assignment": bool(answer["assignment"])})  # it has the topic's name in it
    sync(s, group, member, again["generation_id"] + 1, version=3)
    sync(s, group, "new", again["generation_id"], version=3)
    joined(s, group, note=True, kind="other", **mine)
    beat(s, group, "new", -1, version=1)
    s.probe.trace.append(alive(s, group, member, again["generation_id"]))
    describe(s, group)


def alive(s: Scene, group, member, generation):
    Heartbeat = request_class(12)
    return s.ask(Heartbeat(group_id=group, generation_id=generation, member_id=member), version=3, note=False)


@case("LeaveGroup", "members of both kinds, of a consumer group", first=3)
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, "a", version=1, note=False)
    enter(s, group, "b", version=1, note=False, instance_id="i")
    M = Leave.MemberIdentity
    s.ask(
        Leave(
            group_id=group,
            members=[
                M(member_id="a"),
                M(member_id="nobody"),
                M(member_id="x", group_instance_id="i"),
                M(member_id="", group_instance_id="i"),
            ],
        )
    )
    describe(s, group)


@case("ConsumerGroupHeartbeat", "to a classic group: empty, of consumers, of others")
def _(s):
    group = s.topic("g")
    setup(s, group)
    joined(s, s.topic("other"), version=5, note=False, kind="connect")
    enter(s, s.topic("other"))
    answer = joined(s, group, version=5, note=False, protocols=[("range", metadata(s))])
    member = answer["member_id"]
    sync(s, group, member, 1, [(member, b"\x00\x01" + bytes(4) + b"\xff" * 4)], version=3, note=False)
    answer = enter(s, group, "new", note=False)
    s.probe.trace.append({**answer, "assignment": None})  # who gets what hangs on the other's id
    s.probe.trace.append(alive(s, group, member, 1))
