"""The share group protocol (KIP-932): members, epochs, where groups begin, and what other APIs make of such groups."""

import time

from cases.data import batch, produce
from cases.groups import CHANGED, SUBSCRIPTION, Commit, Heartbeat, Leave, OffsetFetch, find, join, stable, sync
from cases.topics import creatable, create
from registry import Scene, case

from kafkapy.protocol.messages import request_class

Beat = request_class(76)
Describe = request_class(77)
DescribeOffsets = request_class(90)
AlterOffsets = request_class(91)
DeleteOffsets = request_class(92)
AlterConfigs = request_class(44)
_GROUP = 32


def setup(s: Scene, group: str, partitions=4, **settings) -> None:
    """A topic, a coordinator that serves, and a group that assigns anew whenever there is a reason."""
    create(s, creatable(s.topic(), partitions))
    find(s, group)
    Resource, Config = AlterConfigs.AlterConfigsResource, AlterConfigs.AlterableConfig
    configs = {"share.assignment.interval.ms": "0"} | settings
    s.ask(
        AlterConfigs(
            resources=[
                Resource(
                    resource_type=_GROUP,
                    resource_name=group,
                    configs=[Config(name=name, config_operation=0, value=value) for name, value in configs.items()],
                )
            ]
        ),
        version=1,
        note=False,
    )
    time.sleep(0.1)  # Kafka answers before its coordinator has heard of it


def beat(s: Scene, group, member="a", epoch=0, topics=None, note=True, **fields):
    return s.ask(
        Beat(group_id=group, member_id=member, member_epoch=epoch, subscribed_topic_names=topics, **fields),
        version=1,
        note=note,
    )


def enter(s: Scene, group, member="a", note=True, **fields):
    """The first heartbeat of a member that reads the case's topic."""
    return beat(s, group, member, 0, [s.topic()], note=note, **fields)


def initialized(s: Scene, group, member="a", epoch=2, note=True):
    """Heartbeats until the share coordinator has begun, and the member has something to read; the last is noted."""
    for _ in range(500):
        answer = beat(s, group, member, epoch, note=False)
        if answer["error_code"] or answer["member_epoch"] != epoch:
            break
        time.sleep(0.02)
    return beat(s, group, member, answer["member_epoch"], [s.topic()], note=note)


def left(s: Scene, group, note=False):
    """A group that has begun, and has no members any more."""
    setup(s, group)
    enter(s, group, note=False)
    initialized(s, group, note=False)
    beat(s, group, epoch=-1, note=note)


def describe(s: Scene, *groups, **fields):
    return s.ask(Describe(group_ids=list(groups), **fields), version=1)


def begun(s: Scene, group, count):
    """Waits until the share coordinator has begun with this many partitions of the group's topic."""
    for _ in range(500):
        [found] = offsets(s, group, version=1, note=False)["groups"]
        if sum(len(topic["partitions"]) for topic in found["topics"]) == count:
            break
        time.sleep(0.02)


def offsets(s: Scene, group, topics=None, version=None, note=True):
    """Where a group is: with everything, or with these topics."""
    Group, Topic = (
        DescribeOffsets.DescribeShareGroupOffsetsRequestGroup,
        DescribeOffsets.DescribeShareGroupOffsetsRequestTopic,
    )
    asked = None
    if topics is not None:
        asked = [Topic(topic_name=name, partitions=list(numbers)) for name, numbers in topics.items()]
    return s.ask(DescribeOffsets(groups=[Group(group_id=group, topics=asked)]), version=version, note=note)


def alter(s: Scene, group, topics, note=True):
    Topic, Partition = (
        AlterOffsets.AlterShareGroupOffsetsRequestTopic,
        AlterOffsets.AlterShareGroupOffsetsRequestPartition,
    )
    asked = [
        Topic(
            topic_name=name,
            partitions=[Partition(partition_index=number, start_offset=start) for number, start in starts.items()],
        )
        for name, starts in topics.items()
    ]
    return s.ask(AlterOffsets(group_id=group, topics=asked), version=0, note=note)


def delete(s: Scene, group, *topics):
    Topic = DeleteOffsets.DeleteShareGroupOffsetsRequestTopic
    return s.ask(DeleteOffsets(group_id=group, topics=[Topic(topic_name=name) for name in topics]), version=0)


@case("ShareGroupHeartbeat", "alone: join, what is initialised, stay, say everything, join again, leave")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group)
    initialized(s, group)
    beat(s, group, epoch=3)
    beat(s, group, epoch=2)
    beat(s, group, epoch=1)
    beat(s, group, epoch=4)
    enter(s, group)
    beat(s, group, epoch=3, topics=[s.topic()], rack_id="r")
    describe(s, group)
    beat(s, group, epoch=-1)
    beat(s, group, epoch=3)
    beat(s, group, epoch=-1)
    describe(s, group)
    enter(s, group)
    describe(s, group)


@case("ShareGroupHeartbeat", "requests that make no sense")
def _(s):
    group = s.topic("g")
    setup(s, group)
    beat(s, "")
    beat(s, "", topics=[s.topic()])
    beat(s, " ", topics=[s.topic()])
    beat(s, group, "", topics=[s.topic()])
    beat(s, group, " ", topics=[s.topic()])
    beat(s, group, "m" * 37, topics=[s.topic()])
    beat(s, group, "m" * 36)
    beat(s, group, topics=[])
    beat(s, group, topics=[s.topic()], rack_id="")
    beat(s, group, topics=[s.topic()], rack_id=" ")
    beat(s, group, epoch=-2)
    beat(s, group, epoch=-3)
    beat(s, group, epoch=1)
    beat(s, group, epoch=-1)
    describe(s, group)
    enter(s, group)
    beat(s, group, "nobody", 2)
    beat(s, group, "nobody", -1)


@case("ShareGroupHeartbeat", "members share a partition, and come and go")
def _(s):
    group = s.topic("g")
    setup(s, group, 1)
    enter(s, group, "a", note=False)
    initialized(s, group, "a", note=False)
    enter(s, group, "b")
    beat(s, group, "a", 3)
    enter(s, group, "c")
    beat(s, group, "b", 4)
    describe(s, group)
    beat(s, group, "a", -1)
    beat(s, group, "b", -1)
    beat(s, group, "c", 5)
    describe(s, group)


@case("ShareGroupHeartbeat", "how many partitions each member has, which ones hangs on the topic's id")
def _(s):
    group = s.topic("g")
    setup(s, group, 7)
    enter(s, group, "m0", note=False)
    initialized(s, group, "m0", note=False)
    for count in range(1, 10):
        enter(s, group, f"m{count}", note=False)
        sizes = []
        for number in range(count + 1):
            answer = beat(s, group, f"m{number}", 0, [s.topic()], note=False)
            sizes.append([len(topic["partitions"]) for topic in answer["assignment"]["topic_partitions"]])
        s.probe.trace.append({"sizes": sizes})


@case("ShareGroupHeartbeat", "members that read different topics, and change their minds")
def _(s):
    group = s.topic("g")
    setup(s, group, 2)
    create(s, creatable(s.topic("u"), 1))
    enter(s, group, "a", note=False)
    initialized(s, group, "a", note=False)
    beat(s, group, "b", 0, [s.topic("u")], note=False)
    for _ in range(500):
        if beat(s, group, "b", 4, note=False)["member_epoch"] != 4:
            break
        time.sleep(0.02)
    describe(s, group)
    beat(s, group, "a", 3, [s.topic("u")])
    beat(s, group, "b", 5, [s.topic("nothing")])
    describe(s, group)
    beat(s, group, "a", 6)


@case("ShareGroupDescribe", "groups that are there, that are not, and that are of other kinds")
def _(s):
    group, classic = s.topic("g"), s.topic("c")
    left(s, group)
    stable(s, classic)
    describe(s, group, s.topic("nothing"), classic, "")
    describe(s, group, include_authorized_operations=True)
    describe(s)


@case("ShareGroupHeartbeat", "groups of other kinds become none")
def _(s):
    classic, consumers, simple = s.topic("c"), s.topic("k"), s.topic("s")
    setup(s, classic)
    stable(s, classic)
    for name in (consumers, simple):
        find(s, name)
    s.ask(
        request_class(68)(
            group_id=consumers,
            member_id="m",
            member_epoch=0,
            rebalance_timeout_ms=1000,
            subscribed_topic_names=[s.topic()],
            topic_partitions=[],
        ),
        version=1,
        note=False,
    )
    commit(s, simple, -1)
    for name in (classic, consumers, simple):
        enter(s, name)
        beat(s, name, epoch=1)
        beat(s, name, epoch=-1)
        alter(s, name, {s.topic(): {0: 1}})
        delete(s, name, s.topic())
        offsets(s, name, version=1)


def commit(s: Scene, group, generation, version=9, note=False, member=""):
    Topic, Partition = Commit.OffsetCommitRequestTopic, Commit.OffsetCommitRequestPartition
    return s.ask(
        Commit(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=member,
            topics=[Topic(name=s.topic(), partitions=[Partition(partition_index=0, committed_offset=1)])],
        ),
        version=version,
        note=note,
    )


@case("ShareGroupDescribe", "what other APIs make of a share group, with members and without")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, note=False)
    initialized(s, group, note=False)
    for members in (1, 0):
        if not members:
            beat(s, group, epoch=-1, note=False)
        join(s, group, version=5)
        join(s, group, "a", version=5, protocols=[("range", SUBSCRIPTION), ("other", CHANGED)])
        sync(s, group, "a", 3, version=3)
        s.ask(Heartbeat(group_id=group, generation_id=3, member_id="a"), version=3)
        s.ask(Leave(group_id=group, members=[Leave.MemberIdentity(member_id="a")]), version=3)
        for version in (2, 8, 9):
            commit(s, group, -1, version, note=True)
            commit(s, group, 3, version, note=True, member="a")
        Topic = OffsetFetch.OffsetFetchRequestTopic
        s.ask(OffsetFetch(group_id=group, topics=[Topic(name=s.topic(), partition_indexes=[0])]), version=5)
        s.ask(OffsetFetch(group_id=group, topics=None), version=5)
        OffsetDelete = request_class(47)
        DeleteTopic, DeletePartition = (
            OffsetDelete.OffsetDeleteRequestTopic,
            OffsetDelete.OffsetDeleteRequestPartition,
        )
        s.ask(
            OffsetDelete(
                group_id=group,
                topics=[DeleteTopic(name=s.topic(), partitions=[DeletePartition(partition_index=0)])],
            ),
            version=0,
        )
        s.ask(request_class(15)(groups=[group]), version=5)
        s.ask(request_class(15)(groups=[group]), version=6)
        s.ask(request_class(69)(group_ids=[group]), version=1)
        for epoch in (0, 3, -1):
            s.ask(
                request_class(68)(
                    group_id=group,
                    member_id="m",
                    member_epoch=epoch,
                    rebalance_timeout_ms=1000,
                    subscribed_topic_names=[s.topic()],
                    topic_partitions=[],
                ),
                version=1,
            )
        listed(s, group)
        if members:
            s.ask(request_class(42)(groups_names=[group]), version=2)
    s.ask(request_class(42)(groups_names=[group, group, s.topic("nothing")]), version=2)
    listed(s, group)
    describe(s, group)
    offsets(s, group, version=1)


def listed(s: Scene, group):
    """How the list names the group, by each filter that is about it."""
    List = request_class(16)
    for filters in ({}, {"types_filter": ["share"]}, {"types_filter": ["Share"], "states_filter": ["empty"]}):
        answer = s.ask(List(**filters), version=5, note=False)
        s.probe.trace.append({"listed": [each for each in answer["groups"] if each["group_id"] == group]})


@case("DescribeShareGroupOffsets", "a group that has begun, one that has not, and topics that are not there")
def _(s):
    group = s.topic("g")
    left(s, group)
    offsets(s, group)
    offsets(s, group, {})
    offsets(s, group, {s.topic(): [0, 3], s.topic("nothing"): [0]})
    offsets(s, group, {s.topic("nothing"): [0]})
    offsets(s, s.topic("nobody"))
    offsets(s, s.topic("nobody"), {s.topic(): [0]})
    offsets(s, "")
    s.ask(DescribeOffsets(groups=[]))


@case("DescribeShareGroupOffsets", "a group that was told where to begin")
def _(s):
    group = s.topic("g")
    setup(s, group)
    for number in range(3):
        produce(s, batch(b"%d" % number), version=9, note=False)
    alter(s, group, {s.topic(): {0: 1, 2: 7}}, note=False)
    offsets(s, group)
    offsets(s, group, {s.topic(): [0, 1, 2]})


@case("AlterShareGroupOffsets", "groups that are not there, that have members, and nonsense")
def _(s):
    group = s.topic("g")
    setup(s, group)
    alter(s, "", {s.topic(): {0: 1}})
    alter(s, group, {})
    listed(s, group)
    alter(s, group, {s.topic("nothing"): {0: 1}})
    listed(s, group)
    alter(s, group, {s.topic(): {0: 2, 1: 0, 4: 1}, s.topic("nothing"): {0: 1}})
    listed(s, group)
    describe(s, group)
    offsets(s, group, version=1)
    alter(s, group, {s.topic(): {0: 1}})
    offsets(s, group, version=1)
    enter(s, group)
    begun(s, group, 4)
    alter(s, group, {s.topic(): {0: 1}})
    beat(s, group, epoch=-1)
    alter(s, group, {s.topic(): {0: 5}})
    offsets(s, group, version=1)


@case("DeleteShareGroupOffsets", "of what has begun, of what has not, with members, and twice")
def _(s):
    group = s.topic("g")
    setup(s, group)
    create(s, creatable(s.topic("u"), 1))
    delete(s, "", s.topic())
    delete(s, group, s.topic())
    enter(s, group, note=False)
    initialized(s, group, note=False)
    delete(s, group, s.topic())
    beat(s, group, epoch=-1, note=False)
    delete(s, group)
    delete(s, group, s.topic("nothing"), s.topic("u"))
    delete(s, group, s.topic())
    offsets(s, group, version=1)
    delete(s, group, s.topic(), s.topic())
    enter(s, group)
    initialized(s, group, epoch=5)
    offsets(s, group, version=1)
