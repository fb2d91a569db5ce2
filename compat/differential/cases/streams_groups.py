"""The streams group protocol (KIP-1071): members, topologies, epochs, tasks, and what is refused in which words."""

import time

from cases.configs import GROUP, SET, change, resource
from cases.groups import find, join, sync
from cases.topics import creatable, create
from registry import Scene, case

from kafkapy.protocol.messages import request_class

Beat = request_class(88)
Describe = request_class(89)
Update = request_class(93)
ConsumerBeat = request_class(68)
List = request_class(16)
DeleteGroups = request_class(42)

NO_TASKS = {"active_tasks": [], "standby_tasks": [], "warmup_tasks": []}


def setup(s: Scene, group, partitions=2, **own):
    """A topic, a coordinator that serves, and a group that assigns at once."""
    create(s, creatable(s.topic(), partitions))
    find(s, group)
    own = {"streams.initial.rebalance.delay.ms": "0", "streams.assignment.interval.ms": "0"} | own
    quiet = Scene(s.probe, 1, s.prefix)
    change(quiet, resource(GROUP, group, *[(name, SET, value) for name, value in own.items()]))
    time.sleep(0.2)  # Kafka answers before its coordinator has heard of it


def topic_info(name, partitions=0, factor=0, **configs):
    pairs = [Beat.KeyValue(key=key.replace("_", "."), value=value) for key, value in configs.items()]
    return Beat.TopicInfo(name=name, partitions=partitions, replication_factor=factor, topic_configs=pairs)


def subtopology(name="0", sources=(), changelogs=(), sinks=(), repartitions=(), regex=(), copartitions=()):
    return Beat.Subtopology(
        subtopology_id=name,
        source_topics=list(sources),
        source_topic_regex=list(regex),
        state_changelog_topics=list(changelogs),
        repartition_sink_topics=list(sinks),
        repartition_source_topics=list(repartitions),
        copartition_groups=list(copartitions),
    )


def topology(s: Scene, *subtopologies, epoch=0):
    return Beat.Topology(epoch=epoch, subtopologies=list(subtopologies or (subtopology(sources=[s.topic()]),)))


def beat(s: Scene, group, member="a", epoch=0, note=True, version=None, **fields):
    request = Beat(group_id=group, member_id=member, member_epoch=epoch, **fields)
    answer = s.ask(request, version=s.version if version is None else version, note=False)
    for status in answer.get("status") or ():  # names stand in the order of a hash table
        status["status_detail"] = " ".join(sorted(status["status_detail"].replace(",", "").split()))
    if note:
        s.probe.trace.append(answer)
    return answer


def enter(s: Scene, group, member="a", of=None, **fields):
    """The first heartbeat of a member."""
    fields = {"rebalance_timeout_ms": 5000, "process_id": "p-" + member} | NO_TASKS | fields
    return beat(s, group, member, 0, topology=topology(s) if of is None else of, **fields)


def tasks(**owned):
    """What a member says it has: partitions by subtopology, of its active tasks."""
    lists = [Beat.TaskIds(subtopology_id=name[1:], partitions=list(numbers)) for name, numbers in owned.items()]
    return {"active_tasks": lists, "standby_tasks": [], "warmup_tasks": []}


def describe(s: Scene, *groups, version=1, **fields):
    return s.ask(Describe(group_ids=list(groups), **fields), version=version)


# --- StreamsGroupHeartbeat


@case("StreamsGroupHeartbeat", "alone: join, say what it has, stay, join again, leave")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group)
    beat(s, group, epoch=2, **tasks(_0=[0, 1]))
    beat(s, group, epoch=2)
    describe(s, group)
    enter(s, group)
    beat(s, group, epoch=2, **tasks(_0=[0]))
    beat(s, group, epoch=-1)
    describe(s, group)
    beat(s, group, epoch=2)


@case("StreamsGroupHeartbeat", "what makes no sense")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, "")
    enter(s, " ")
    enter(s, group, "")
    enter(s, group, instance_id="")
    enter(s, group, rack_id=" ")
    enter(s, group, rebalance_timeout_ms=-1)
    beat(s, group, rebalance_timeout_ms=5000, topology=topology(s))
    enter(s, group, **tasks(_0=[0]))
    beat(s, group, rebalance_timeout_ms=5000, **NO_TASKS)
    for epoch in (1, -1, -2, -3):
        beat(s, group, epoch=epoch)
    beat(s, group, epoch=-2, instance_id="i")
    beat(s, group, epoch=1, active_tasks=[])
    beat(s, group, epoch=1, topology=topology(s))
    describe(s, group)


@case("StreamsGroupHeartbeat", "topologies that make no sense")
def _(s):
    group = s.topic("g")
    setup(s, group)
    t = s.topic()
    for of in (
        topology(s, subtopology(sources=["__consumer_offsets"])),
        topology(s, subtopology(sources=[t], sinks=["a/b", ".."])),
        topology(s, subtopology(sources=[t], changelogs=[topic_info(s.topic("c"), 3)])),
        topology(s, subtopology(sources=[t], regex=["a.*"])),
        topology(s, epoch=-1),
        topology(s, subtopology(sources=[t]), subtopology(sources=[t])),
        topology(s, subtopology("")),
    ):
        enter(s, group, of=of)
    describe(s, group)


@case("StreamsGroupHeartbeat", "members that are unknown, old or ahead")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group)
    beat(s, group, "nobody", 1)
    beat(s, group, "nobody", -1)
    for epoch in (1, 3, 7):
        beat(s, group, epoch=epoch)
    beat(s, group, epoch=1, **tasks(_0=[0, 1]))
    beat(s, group, epoch=1, **tasks(_0=[7]))
    beat(s, group, epoch=2, **tasks(_7=[0]))
    beat(s, group, epoch=2, **tasks(_0=[5]))
    describe(s, group)


@case("StreamsGroupHeartbeat", "two members share the tasks, one leaves")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group)
    beat(s, group, epoch=2, **tasks(_0=[0, 1]))
    enter(s, group, "b")
    beat(s, group, epoch=2)
    beat(s, group, epoch=2, **tasks(_0=[0]))
    beat(s, group, epoch=3, **tasks(_0=[0]))
    beat(s, group, "b", 3, **NO_TASKS)
    beat(s, group, "b", 3, **tasks(_0=[1]))
    describe(s, group)
    beat(s, group, "b", -1)
    beat(s, group, epoch=3)
    describe(s, group)


@case("StreamsGroupHeartbeat", "static members go away for a while and come back, and others cannot take their place")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, instance_id="i")
    beat(s, group, epoch=2, instance_id="i", **tasks(_0=[0, 1]))
    enter(s, group, "b", instance_id="i")
    beat(s, group, "b", 2, instance_id="i")
    beat(s, group, epoch=-2, instance_id="other")
    beat(s, group, epoch=-2, instance_id="i")
    describe(s, group)
    enter(s, group, "b", instance_id="i", process_id="p-a")
    describe(s, group)
    beat(s, group, "a", 2, instance_id="i")
    beat(s, group, "b", -1, instance_id="i")
    describe(s, group)


@case("StreamsGroupHeartbeat", "topics that are missing, or have other numbers of partitions")
def _(s):
    group = s.topic("g")
    setup(s, group)
    create(s, creatable(s.topic("three"), 3))
    missing = topology(s, subtopology(sources=[s.topic(), s.topic("missing")]))
    enter(s, group, of=missing)
    beat(s, group, epoch=1)
    describe(s, group)
    beat(s, group, epoch=-1)
    other = s.topic("h")
    setup(s, other)
    together = Beat.CopartitionGroup(source_topics=[0, 1])
    enter(s, other, of=topology(s, subtopology(sources=[s.topic(), s.topic("three")], copartitions=[together])))
    describe(s, other)


@case("StreamsGroupHeartbeat", "internal topics are made")
def _(s):
    group = s.topic("g")
    setup(s, group)
    of = topology(
        s,
        subtopology("0", [s.topic()], sinks=[s.topic("re")]),
        subtopology(
            "1",
            changelogs=[topic_info(s.topic("log"), cleanup_policy="compact")],
            repartitions=[topic_info(s.topic("re"), 3)],
        ),
    )
    enter(s, group, of=of)
    for _ in range(300):
        answer = beat(s, group, epoch=s.probe.trace[-1].get("member_epoch", 1), note=False)
        if not answer["status"] or answer["member_epoch"] > 1:
            break
        time.sleep(0.05)
    enter(s, group, of=of)
    describe(s, group)


@case("StreamsGroupHeartbeat", "another topology under the same epoch, and one that is old")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, of=topology(s, epoch=2))
    enter(s, group, "b", of=topology(s, subtopology("7", [s.topic()]), epoch=2))
    enter(s, group, "b", of=topology(s, subtopology("7", [s.topic()]), epoch=1))
    enter(s, group, "b", of=topology(s, subtopology("7", [s.topic()]), epoch=3))
    describe(s, group)


@case("StreamsGroupHeartbeat", "endpoints, tags, offsets and a shutdown")
def _(s):
    group = s.topic("g")
    setup(s, group)
    tags = [Beat.KeyValue(key="zone", value="z")]
    endpoint = Beat.Endpoint(host="here", port=80)
    enter(s, group, client_tags=tags, user_endpoint=endpoint, rack_id="r")
    offsets = [Beat.TaskOffset(subtopology_id="0", partition=1, offset=5)]
    beat(s, group, epoch=2, task_offsets=offsets, task_end_offsets=offsets, **tasks(_0=[0, 1]))
    beat(s, group, epoch=2, task_offsets=offsets * 2)
    beat(s, group, epoch=2, endpoint_information_epoch=1)
    describe(s, group)
    enter(s, group, "b")
    beat(s, group, "b", 3, shutdown_application=True)
    beat(s, group, epoch=2)


@case("StreamsGroupHeartbeat", "client tags that are missing, standbys, too many members")
def _(s):
    group = s.topic("g")
    setup(s, group, **{"streams.rack.aware.assignment.tags": "zone,rack", "streams.num.standby.replicas": "1"})
    log = topology(s, subtopology("0", [s.topic()], changelogs=[topic_info(s.topic("log"))]))
    create(s, creatable(s.topic("log"), 2, configs={"cleanup.policy": "compact"}))
    time.sleep(0.5)  # Kafka's coordinator hears of it later than its clients
    enter(s, group, of=log, client_tags=[Beat.KeyValue(key="zone", value="z")])
    beat(s, group, epoch=2, **tasks(_0=[0, 1]))
    enter(s, group, "b", of=log)
    describe(s, group)


# --- StreamsGroupDescribe


@case("StreamsGroupDescribe", "groups that are there, that are not, and that are of other kinds")
def _(s):
    group, classic, consumer = s.topic("g"), s.topic("classic"), s.topic("consumer")
    setup(s, group)
    enter(s, group, version=1)
    find(s, classic)
    member = join(s, classic, version=3, note=False)["member_id"]
    sync(s, classic, member, 1, version=1, note=False)
    find(s, consumer)
    subscribed = [s.topic()]
    s.ask(
        ConsumerBeat(
            group_id=consumer,
            member_id="c",
            member_epoch=0,
            rebalance_timeout_ms=5000,
            subscribed_topic_names=subscribed,
            topic_partitions=[],
        ),
        version=1,
        note=False,
    )
    version = s.version
    describe(s, group, s.topic("missing"), "", classic, consumer, version=version)
    describe(s, group, group, version=version)
    describe(s, version=version)
    describe(s, group, version=version, include_authorized_operations=True)
    enter(s, classic, version=1)
    enter(s, consumer, version=1)
    beat(s, classic, epoch=1, version=1)
    beat(s, consumer, epoch=1, version=1)
    beat(s, classic, epoch=-1, version=1)


@case("StreamsGroupDescribe", "what other APIs make of a streams group")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, version=1)
    join(s, group, version=3)
    s.ask(
        ConsumerBeat(
            group_id=group,
            member_id="c",
            member_epoch=0,
            rebalance_timeout_ms=5000,
            subscribed_topic_names=[s.topic()],
            topic_partitions=[],
        ),
        version=1,
    )
    s.ask(DeleteGroups(groups_names=[group]), version=2)
    for states, types in (([], ["streams"]), (["stable"], ["Streams"]), (["NotReady"], ["streams"])):
        answer = s.ask(List(states_filter=states, types_filter=types), version=5, note=False)
        s.probe.trace.append([each for each in answer["groups"] if each["group_id"] == group])
    beat(s, group, epoch=-1, version=1)
    s.ask(DeleteGroups(groups_names=[group]), version=2)
    describe(s, group, version=s.version)


# --- StreamsGroupTopologyDescriptionUpdate


@case("StreamsGroupTopologyDescriptionUpdate", "of a group, of none, of members that are none")
def _(s):
    group = s.topic("g")
    setup(s, group)
    enter(s, group, version=1)
    node = Update.TopologyDescriptionNode(name="n", node_type=0, source_topics=[s.topic()])
    one = Update.TopologyDescriptionSubtopology(subtopology_id="0", nodes=[node])
    for name, member, epoch in ((group, "a", 0), (group, "nobody", 0), (s.topic("missing"), "a", 7), ("", "", -1)):
        description = Update.TopologyDescription(subtopologies=[one], global_stores=[])
        s.ask(Update(group_id=name, member_id=member, topology_epoch=epoch, topology_description=description))
