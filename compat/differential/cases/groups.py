"""The classic group protocol and committed offsets, in sequences where state matters."""

import time

from cases.topics import UNKNOWN_ID, creatable, create, topic_id
from registry import Scene, case

from kafkapy.protocol.messages import request_class

Join = request_class(11)
Sync = request_class(14)
Heartbeat = request_class(12)
Leave = request_class(13)
Commit = request_class(8)
OffsetFetch = request_class(9)


SUBSCRIPTION = b"\x00\x00" + b"\x00\x00\x00\x00" + b"\xff\xff\xff\xff"
CHANGED = b"\x00\x00" + b"\x00\x00\x00\x01\x00\x01t" + b"\xff\xff\xff\xff"


def find(s: Scene, group, version=1, note=False):
    """Find the coordinator, and wait until it serves: a fresh node loads for a while."""
    for _ in range(500):
        answer = s.ask(request_class(10)(key=group, key_type=0), version=version, note=False)
        if answer.get("error_code") == 0:
            beat = s.ask(Heartbeat(group_id=group, generation_id=1, member_id="nobody"), version=0, note=False)
            if beat["error_code"] not in (14, 15, 16):
                return answer
        time.sleep(0.02)
    return answer


def join(
    s: Scene,
    group,
    member="",
    version=None,
    protocols=(("range", SUBSCRIPTION),),
    kind="consumer",
    timeout=10000,
    note=True,
    **fields,
):
    version = s.version if version is None else version
    if version < 5:
        fields.pop("group_instance_id", None)
    return s.ask(
        Join(
            group_id=group,
            session_timeout_ms=timeout,
            rebalance_timeout_ms=timeout,
            member_id=member,
            protocol_type=kind,
            protocols=[Join.JoinGroupRequestProtocol(name=name, metadata=data) for name, data in protocols],
            **fields,
        ),
        version=version,
        note=note,
    )


def joined(s: Scene, group, version=None, note=True, **fields):
    """Join as a new member, through the member id round if the version has it."""
    answer = join(s, group, version=version, note=note, **fields)
    if answer.get("error_code") == 79:
        answer = join(s, group, answer["member_id"], version=version, note=note, **fields)
    return answer


def sync(s: Scene, group, member, generation, assignments=(), version=None, note=True, **fields):
    version = s.version if version is None else version
    return s.ask(
        Sync(
            group_id=group,
            generation_id=generation,
            member_id=member,
            assignments=[
                Sync.SyncGroupRequestAssignment(member_id=name, assignment=data) for name, data in assignments
            ],
            **fields,
        ),
        version=version,
        note=note,
    )


def stable(s: Scene, group, **fields):
    """A group of one, joined and synced."""
    find(s, group)
    answer = joined(s, group, version=5, note=False, **fields)
    member, generation = answer["member_id"], answer["generation_id"]
    sync(s, group, member, generation, [(member, b"assigned")], version=3, note=False)
    return member, generation


@case("FindCoordinator", "groups, transactions, odd keys", first=0)
def _(s):
    find(s, s.topic("g"))
    Request = request_class(10)
    if s.version >= 4:
        s.ask(Request(key_type=0, coordinator_keys=[s.topic("g"), "other", ""]))
        s.ask(Request(key_type=0, coordinator_keys=[]))
        s.ask(Request(key_type=9, coordinator_keys=["x"]))
    else:
        s.ask(Request(key=s.topic("g")))
        s.ask(Request(key=""))
        if s.version >= 1:
            s.ask(Request(key="x", key_type=9))


@case("JoinGroup", "alone: the member id round, then leader of generation 1")
def _(s):
    find(s, s.topic("g"))
    joined(s, s.topic("g"))


@case("JoinGroup", "refusals: empty group, session timeouts, no protocol, unknown member, other kind")
def _(s):
    find(s, s.topic("g"))
    join(s, "")
    join(s, s.topic("g"), timeout=1)
    join(s, s.topic("g"), timeout=10_000_000)
    join(s, s.topic("g"), "nobody-knows")
    join(s, s.topic("g2"), protocols=())
    join(s, s.topic("g2"), kind="")
    stable(s, s.topic("g"))
    joined(s, s.topic("g"), kind="connect")
    joined(s, s.topic("g"), protocols=(("other", b""),))


@case("JoinGroup", "the member joins again with the same and with other metadata")
def _(s):
    member, _ = stable(s, s.topic("g"))
    join(s, s.topic("g"), member)
    answer = join(s, s.topic("g"), member, protocols=(("range", CHANGED), ("roundrobin", b"x")))
    sync(s, s.topic("g"), member, answer.get("generation_id", -1), [(member, b"a")], version=3)


@case("JoinGroup", "static members: again with the id, without, fenced", first=5)
def _(s):
    find(s, s.topic("g"))
    first = joined(s, s.topic("g"), group_instance_id="static-1")
    member, generation = first["member_id"], first["generation_id"]
    sync(s, s.topic("g"), member, generation, [(member, b"x")], version=3)
    second = join(s, s.topic("g"), group_instance_id="static-1")
    join(s, s.topic("g"), member, group_instance_id="static-1")
    s.ask(
        Heartbeat(group_id=s.topic("g"), generation_id=generation, member_id=member, group_instance_id="static-1"),
        version=3,
    )
    s.ask(
        Heartbeat(
            group_id=s.topic("g"), generation_id=generation, member_id=second["member_id"], group_instance_id="static-1"
        ),
        version=3,
    )
    join(s, s.topic("g"), "unknown", group_instance_id="static-2")


def join_request(group, member, **fields):
    protocols = [Join.JoinGroupRequestProtocol(name="range", metadata=SUBSCRIPTION)]
    return Join(
        group_id=group,
        session_timeout_ms=10000,
        rebalance_timeout_ms=10000,
        member_id=member,
        protocol_type="consumer",
        protocols=protocols,
        **fields,
    )


def described(s: Scene, group):
    """What DescribeGroups says of the group, without ids that depend on who came first."""
    answer = s.ask(s.make("DescribeGroups", groups=[group]), version=5, note=False)["groups"][0]
    s.probe.trace.append({"state": answer["group_state"], "members": len(answer["members"])})


@case("JoinGroup", "a second member: a rebalance, its refusals on the way, and the first one leaves")
def _(s):
    group = s.topic("g")
    create(s, creatable(s.topic()))
    first, generation = stable(s, group)
    other = s.another()
    second = join(other, group, version=5, note=False)["member_id"]
    other.probe.send_only(join_request(group, second), s.version)
    while (
        s.ask(Heartbeat(group_id=group, generation_id=generation, member_id=first), version=3, note=False)["error_code"]
        == 0
    ):
        pass  # until the second one's request has arrived
    s.ask(Heartbeat(group_id=group, generation_id=generation, member_id=first), version=3)
    described(s, group)
    sync(s, group, first, generation, version=3)
    commit(s, group, 3, generation=generation, member=first, version=8)
    leader = join(s, group, first, note=False)
    leader["members"].sort(key=lambda member: member["member_id"] == second)  # Kafka's order is that of a hash table
    s.probe.trace.append(leader)
    other.probe.answer(11, s.version)
    described(s, group)
    s.ask(Heartbeat(group_id=group, generation_id=leader["generation_id"], member_id=first), version=3)
    commit(s, group, 4, generation=leader["generation_id"], member=first, version=8)
    commit(s, group, 4, version=8)
    other.probe.send_only(Sync(group_id=group, generation_id=leader["generation_id"], member_id=second), 3)
    sync(s, group, first, leader["generation_id"], [(second, b"theirs"), (first, b"mine")], version=3)
    other.probe.answer(14, 3)
    described(s, group)
    s.ask(Leave(group_id=group, members=[Leave.MemberIdentity(member_id=first)]), version=3)
    described(s, group)
    s.ask(Heartbeat(group_id=group, generation_id=leader["generation_id"], member_id=second), version=3)
    join(other, group, second)
    described(s, group)
    s.ask(Leave(group_id=group, members=[Leave.MemberIdentity(member_id=second)]), version=3)
    described(s, group)
    offsets(s, group, [s.topic()], version=7)
    other.probe.close()


@case("JoinGroup", "protocols: the one that all members know, and the refusal when there is none")
def _(s):
    group = s.topic("g")
    find(s, group)
    both = (("cooperative-sticky", b"1"), ("range", SUBSCRIPTION))
    first = joined(s, group, protocols=both, version=5, note=False)
    sync(s, group, first["member_id"], first["generation_id"], [(first["member_id"], b"")], version=3, note=False)
    joined(s, group, protocols=(("roundrobin", SUBSCRIPTION),))
    joined(s, group, protocols=(("range", SUBSCRIPTION),), kind="other")
    join(s, group, first["member_id"], protocols=(("roundrobin", SUBSCRIPTION),))
    join(s, group, first["member_id"], protocols=both)


@case("LeaveGroup", "static members by instance id, right and wrong, and their neighbours", first=3)
def _(s):
    group = s.topic("g")
    stable(s, group, group_instance_id="static")
    M = Leave.MemberIdentity
    for members in (
        [M(member_id="nobody", group_instance_id="static")],
        [M(member_id="", group_instance_id="unknown"), M(member_id="", group_instance_id="static")],
        [M(member_id="", group_instance_id="static")],
    ):
        s.ask(Leave(group_id=group, members=members))
        described(s, group)


@case("Heartbeat", "static members: the instance id with the right, the wrong and no member id", first=3)
def _(s):
    group = s.topic("g")
    member, generation = stable(s, group, group_instance_id="static")
    for name, instance in ((member, "static"), ("nobody", "static"), ("", "static"), (member, "unknown")):
        s.ask(Heartbeat(group_id=group, generation_id=generation, member_id=name, group_instance_id=instance))


@case("SyncGroup", "static members, fenced; an assignment for a member that is not there", first=3)
def _(s):
    group = s.topic("g")
    find(s, group)
    answer = joined(s, group, group_instance_id="static", version=5, note=False)
    member, generation = answer["member_id"], answer["generation_id"]
    good = {"protocol_type": "consumer", "protocol_name": "range"} if s.version >= 5 else {}
    sync(s, group, "nobody", generation, group_instance_id="static", **good)
    sync(s, group, member, generation, group_instance_id="unknown", **good)
    sync(s, group, member, generation, [("nobody", b"a"), (member, b"b")], group_instance_id="static", **good)


@case("FindCoordinator", "many keys at once, of each type; the same twice", first=4)
def _(s):
    find(s, s.topic("g"))
    Request = request_class(10)
    s.ask(Request(key_type=0, coordinator_keys=[s.topic("a"), s.topic("b"), s.topic("a")]))
    s.ask(Request(key_type=2, coordinator_keys=["group:not-an-id:0"]))
    s.ask(Request(key_type=-1, coordinator_keys=["x"]))


@case("DescribeGroups", "nothing asked, the same twice, one that died, one with commits alone")
def _(s):
    create(s, creatable(s.topic()))
    find(s, s.topic("g"))
    commit(s, s.topic("simple"), 5, version=8, note=False)
    member, _ = stable(s, s.topic("g"))
    s.ask(Leave(group_id=s.topic("g"), members=[Leave.MemberIdentity(member_id=member)]), version=3, note=False)
    s.ask(s.make("DescribeGroups", groups=[]))
    s.ask(s.make("DescribeGroups", groups=[s.topic("simple"), s.topic("simple")]))
    s.ask(s.make("DescribeGroups", groups=[s.topic("g")]))


@case("SyncGroup", "the leader's assignment comes back; wrong generation, member, protocol, group")
def _(s):
    find(s, s.topic("g"))
    answer = joined(s, s.topic("g"), version=5, note=False)
    member, generation = answer["member_id"], answer["generation_id"]
    good = {"protocol_type": "consumer", "protocol_name": "range"} if s.version >= 5 else {}
    sync(s, s.topic("g"), member, generation + 1, **good)
    sync(s, s.topic("g"), "nobody", generation, **good)
    sync(s, s.topic("missing"), member, generation, **good)
    sync(s, "", member, generation, **good)
    if s.version >= 5:
        sync(s, s.topic("g"), member, generation, protocol_type="consumer", protocol_name="other")
        sync(s, s.topic("g"), member, generation, protocol_type="connect", protocol_name="range")
    sync(s, s.topic("g"), member, generation, [(member, b"assigned")], **good)
    sync(s, s.topic("g"), member, generation, **good)


@case("SyncGroup", "protocol fields left out", first=5)
def _(s):
    find(s, s.topic("g"))
    answer = joined(s, s.topic("g"), version=5, note=False)
    sync(s, s.topic("g"), answer["member_id"], answer["generation_id"], [])


@case("Heartbeat", "stable, wrong generation, member, group")
def _(s):
    member, generation = stable(s, s.topic("g"))
    for group, number, name in (
        (s.topic("g"), generation, member),
        (s.topic("g"), generation + 1, member),
        (s.topic("g"), generation, "nobody"),
        (s.topic("missing"), generation, member),
        ("", generation, member),
    ):
        s.ask(Heartbeat(group_id=group, generation_id=number, member_id=name))


@case("LeaveGroup", "known, unknown, again; several at once")
def _(s):
    member, _ = stable(s, s.topic("g"))
    if s.version < 3:
        for group, name in (
            (s.topic("g"), "nobody"),
            (s.topic("g"), member),
            (s.topic("g"), member),
            (s.topic("missing"), "x"),
        ):
            s.ask(Leave(group_id=group, member_id=name))
    else:
        M = Leave.MemberIdentity
        s.ask(Leave(group_id=s.topic("g"), members=[M(member_id="nobody"), M(member_id=member)]))
        s.ask(Leave(group_id=s.topic("g"), members=[M(member_id=member)]))
        s.ask(Leave(group_id=s.topic("missing"), members=[M(member_id="x")]))
        s.ask(Leave(group_id=s.topic("g"), members=[]))
        s.ask(Leave(group_id=s.topic("g"), members=[M(member_id="", group_instance_id="static")]))


@case("DescribeGroups", "stable, missing, empty name")
def _(s):
    stable(s, s.topic("g"))
    s.ask(s.make("DescribeGroups", groups=[s.topic("g"), s.topic("missing"), ""]))
    if s.version >= 3:
        s.ask(s.make("DescribeGroups", groups=[s.topic("g")], include_authorized_operations=True))


@case("ListGroups", "by state and type")
def _(s):
    stable(s, s.topic("g"))

    def ask(**fields):
        answer = s.ask(s.make("ListGroups", **fields), note=False)
        answer["groups"] = [group for group in answer["groups"] if group["group_id"].startswith(s.prefix)]
        s.probe.trace.append(answer)

    ask()
    if s.version >= 4:
        ask(states_filter=["Stable"])
        ask(states_filter=["stable"])
        ask(states_filter=["Empty"])
        ask(states_filter=["NoSuch"])
    if s.version >= 5:
        ask(types_filter=["classic"])
        ask(types_filter=["Classic"])
        ask(types_filter=["consumer"])
        ask(types_filter=["nosuch"])


def commit(
    s: Scene,
    group,
    offset,
    name=None,
    partition=0,
    generation=-1,
    member="",
    metadata="",
    version=None,
    note=True,
    epoch=-1,
    **fields,
):
    version = s.version if version is None else version
    one = Commit.OffsetCommitRequestPartition(
        partition_index=partition,
        committed_offset=offset,
        committed_metadata=metadata,
        committed_leader_epoch=epoch if version >= 6 else -1,
    )
    if version >= 10:
        topic = Commit.OffsetCommitRequestTopic(topic_id=topic_id(s, name or s.topic()), partitions=[one])
    else:
        topic = Commit.OffsetCommitRequestTopic(name=name or s.topic(), partitions=[one])
    return s.ask(
        Commit(group_id=group, generation_id_or_member_epoch=generation, member_id=member, topics=[topic], **fields),
        version=version,
        note=note,
    )


def offsets(s: Scene, group, names, version=None, stable_only=False, partitions=(0,)):
    version = s.version if version is None else version
    if version < 8:
        topics = (
            None
            if names is None
            else [OffsetFetch.OffsetFetchRequestTopic(name=n, partition_indexes=list(partitions)) for n in names]
        )
        fields = {"require_stable": stable_only} if version >= 7 else {}
        return s.ask(OffsetFetch(group_id=group, topics=topics, **fields), version=version)
    T = OffsetFetch.OffsetFetchRequestTopics
    if names is None:
        topics = None
    elif version >= 10:
        topics = [T(topic_id=topic_id(s, n), partition_indexes=list(partitions)) for n in names]
    else:
        topics = [T(name=n, partition_indexes=list(partitions)) for n in names]
    wanted = OffsetFetch.OffsetFetchRequestGroup(group_id=group, topics=topics)
    return s.ask(OffsetFetch(groups=[wanted], require_stable=stable_only), version=version)


@case("OffsetCommit", "outside a group, within, wrong generation and member")
def _(s):
    create(s, creatable(s.topic()))
    find(s, s.topic("g"))
    commit(s, s.topic("simple"), 5, metadata="note")
    member, generation = stable(s, s.topic("g"))
    commit(s, s.topic("g"), 7, generation=generation, member=member)
    commit(s, s.topic("g"), 8, generation=generation + 1, member=member)
    commit(s, s.topic("g"), 8, generation=generation, member="nobody")
    commit(s, s.topic("g"), 8)
    commit(s, s.topic("none"), 8, generation=3, member="x")
    commit(s, "", 8)


@case("OffsetCommit", "unknown topic and partition, long metadata, odd offsets")
def _(s):
    create(s, creatable(s.topic()))
    find(s, s.topic("g"))
    if s.version < 10:
        commit(s, s.topic("g"), 5, name=s.topic("missing"))
    else:
        one = Commit.OffsetCommitRequestPartition(partition_index=0, committed_offset=5)
        s.ask(
            Commit(
                group_id=s.topic("g"), topics=[Commit.OffsetCommitRequestTopic(topic_id=UNKNOWN_ID, partitions=[one])]
            )
        )
    commit(s, s.topic("g"), 5, partition=9)
    commit(s, s.topic("g"), 5, metadata="m" * 4097)
    commit(s, s.topic("g"), 5, metadata="m" * 4096)
    commit(s, s.topic("g"), -1)
    commit(s, s.topic("g"), -7)
    offsets(s, s.topic("g"), [s.topic()], version=5)


@case("OffsetCommit", "the same partition twice, nothing at all, a topic without partitions, null metadata")
def _(s):
    create(s, creatable(s.topic(), 2))
    find(s, s.topic("g"))
    P, T = Commit.OffsetCommitRequestPartition, Commit.OffsetCommitRequestTopic
    named = {"topic_id": topic_id(s, s.topic())} if s.version >= 10 else {"name": s.topic()}
    first, second = (P(partition_index=0, committed_offset=offset) for offset in (5, 6))
    s.ask(Commit(group_id=s.topic("g"), topics=[T(partitions=[first, second], **named)]))
    s.ask(Commit(group_id=s.topic("g"), topics=[T(partitions=[second], **named), T(partitions=[first], **named)]))
    s.ask(Commit(group_id=s.topic("g"), topics=[]))
    s.ask(Commit(group_id=s.topic("g"), topics=[T(partitions=[], **named)]))
    s.ask(
        Commit(group_id=s.topic("g"), topics=[T(partitions=[P(committed_offset=9, committed_metadata=None)], **named)])
    )
    offsets(s, s.topic("g"), [s.topic()], version=5, partitions=(0, 1))


@case("OffsetCommit", "of a static member: fenced, unknown", first=7)
def _(s):
    group = s.topic("g")
    create(s, creatable(s.topic()))
    member, generation = stable(s, group, group_instance_id="static")
    for name, instance in ((member, "static"), ("nobody", "static"), (member, "unknown"), (member, None)):
        commit(s, group, 5, generation=generation, member=name, group_instance_id=instance)


@case("OffsetCommit", "between join and sync")
def _(s):
    create(s, creatable(s.topic()))
    find(s, s.topic("g"))
    answer = joined(s, s.topic("g"), version=5, note=False)
    commit(s, s.topic("g"), 5, generation=answer["generation_id"], member=answer["member_id"])


@case("OffsetFetch", "committed, not committed, unknown, all")
def _(s):
    create(s, creatable(s.topic(), 2), creatable(s.topic("u")))
    find(s, s.topic("g"))
    commit(s, s.topic("g"), 5, metadata="note", version=8, note=False, epoch=0)
    offsets(s, s.topic("g"), [s.topic()], partitions=(0, 1, 7))
    offsets(s, s.topic("nogroup"), [s.topic()])
    if s.version < 10:
        offsets(s, s.topic("g"), [s.topic("missing")])
    if s.version >= 2:
        offsets(s, s.topic("g"), None)
        offsets(s, s.topic("nogroup"), None)
    offsets(s, s.topic("g"), [])
    offsets(s, "", [s.topic()])
    if s.version >= 7:
        offsets(s, s.topic("g"), [s.topic()], stable_only=True)


@case("OffsetFetch", "several groups; member ids", first=8)
def _(s):
    create(s, creatable(s.topic()))
    find(s, s.topic("g"))
    commit(s, s.topic("g"), 5, version=8, note=False)
    G = OffsetFetch.OffsetFetchRequestGroup
    s.ask(OffsetFetch(groups=[G(group_id=s.topic("g"), topics=None), G(group_id=s.topic("h"), topics=None)]))
    s.ask(OffsetFetch(groups=[]))
    if s.version >= 9:
        s.ask(OffsetFetch(groups=[G(group_id=s.topic("g"), topics=None, member_id="x", member_epoch=3)]))


@case("OffsetDelete", "of a simple group, a missing group, a subscribed group, a missing topic")
def _(s):
    Request = request_class(47)
    create(s, creatable(s.topic(), 2))
    find(s, s.topic("g"))
    commit(s, s.topic("g"), 5, version=8, note=False)

    def drop(group, name, *partitions):
        P = Request.OffsetDeleteRequestPartition
        topic = Request.OffsetDeleteRequestTopic(
            name=name, partitions=[P(partition_index=index) for index in partitions]
        )
        s.ask(Request(group_id=group, topics=[topic]))

    drop(s.topic("g"), s.topic(), 0, 1, 9)
    drop(s.topic("missing"), s.topic(), 0)
    drop(s.topic("g"), s.topic("missing"), 0)
    drop("", s.topic(), 0)
    subscription = (
        b"\x00\x00\x00\x00\x00\x01" + len(s.topic()).to_bytes(2, "big") + s.topic().encode() + b"\xff\xff\xff\xff"
    )
    stable(s, s.topic("sub"), protocols=(("range", subscription),))
    drop(s.topic("sub"), s.topic(), 0)


@case("OffsetDelete", "the same twice, nothing, and of a group that left")
def _(s):
    Request = request_class(47)
    T, P = Request.OffsetDeleteRequestTopic, Request.OffsetDeleteRequestPartition
    create(s, creatable(s.topic(), 2))
    member, generation = stable(s, s.topic("g"))
    commit(s, s.topic("g"), 5, generation=generation, member=member, version=8, note=False)
    s.ask(Request(group_id=s.topic("g"), topics=[]))
    s.ask(Request(group_id=s.topic("g"), topics=[T(name=s.topic(), partitions=[P(partition_index=0)])]))
    s.ask(Leave(group_id=s.topic("g"), members=[Leave.MemberIdentity(member_id=member)]), version=3, note=False)
    twice = [P(partition_index=0), P(partition_index=0), P(partition_index=1)]
    s.ask(Request(group_id=s.topic("g"), topics=[T(name=s.topic(), partitions=twice)]))
    offsets(s, s.topic("g"), [s.topic()], version=7)


@case("DeleteGroups", "missing, busy, empty, by empty name")
def _(s):
    create(s, creatable(s.topic()))
    stable(s, s.topic("busy"))
    find(s, s.topic("g"))
    commit(s, s.topic("g"), 5, version=8, note=False)
    s.ask(s.make("DeleteGroups", groups_names=[s.topic("missing"), s.topic("busy"), s.topic("g"), ""]))
    s.ask(s.make("DeleteGroups", groups_names=[s.topic("g")]))
    s.ask(s.make("DeleteGroups", groups_names=[]))


@case("DeleteGroups", "offsets go with the topic")
def _(s):
    create(s, creatable(s.topic()))
    find(s, s.topic("g"))
    commit(s, s.topic("g"), 5, version=8, note=False)
    s.ask(request_class(20)(topic_names=[s.topic()], timeout_ms=5000), version=5, note=False)
    everything = OffsetFetch(group_id=s.topic("g"), topics=None)
    for _ in range(200):  # Kafka forgets them a moment after it has answered
        if not s.ask(everything, version=7, note=False)["topics"]:
            break
    s.ask(everything, version=7)
