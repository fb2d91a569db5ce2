"""Share fetches and acknowledgements, and what share coordinators keep (KIP-932): as their clients and brokers ask."""

import time

from cases.data import batch, produce
from cases.topics import UNKNOWN_ID, creatable, create, topic_id
from registry import Scene, case

from kafkapy.model import format_uuid
from kafkapy.protocol.messages import request_class

ShareFetch = request_class(78)
ShareAcknowledge = request_class(79)
Initialize, Read, Write, Delete, Summary = (request_class(key) for key in range(83, 88))
_STATE = (Initialize, Read, Write, Delete, Summary)
GAP, ACCEPT, RELEASE, REJECT, RENEW = range(5)
NOTHING = {"max_wait_ms": 0, "min_bytes": 0, "max_bytes": 0, "max_records": 0}


def state(s: Scene, cls, group, partitions, id_=None, version=None, note=True):
    """One of the share coordinator's APIs about partitions of the case's topic, by their numbers."""
    [topic_class] = [getattr(cls, name) for name in vars(cls) if name.endswith(("StateData", "StateSummaryData"))]
    data = [cls.PartitionData(partition=number, **fields) for number, fields in partitions.items()]
    id_ = topic_id(s, s.topic()) if id_ is None else id_
    request = cls(group_id=group, topics=[topic_class(topic_id=id_, partitions=data)])
    return s.ask(request, version=version, note=note)


def begun(s: Scene, group, partitions=2, start=0, fill=3):
    """A topic with a batch of records in each partition, where the group begins at an offset."""
    create(s, creatable(s.topic(), partitions))
    for number in range(partitions):
        if fill:
            produce(s, batch(*[b"%d" % i for i in range(fill)]), partition=number, version=9, note=False)
    id_ = topic_id(s, s.topic())
    for number in range(partitions):
        coordinator(s, f"{group}:{format_uuid(id_)}:{number}")
        for _ in range(500):
            told = {"state_epoch": 1, "start_offset": start}
            answer = state(s, Initialize, group, {number: told}, id_, version=0, note=False)
            if not answer["results"][0]["partitions"][0]["error_code"]:
                break
            time.sleep(0.02)


def coordinator(s: Scene, key):
    Find = request_class(10)
    for _ in range(500):
        answer = s.ask(Find(key_type=2, coordinator_keys=[key]), version=6, note=False)
        if not answer["coordinators"][0]["error_code"]:
            return
        time.sleep(0.02)


def sort(answer):
    """Topics come in the order of a hash table."""
    topics = answer.get("responses", [])
    for topic in topics:
        topic["partitions"].sort(key=lambda one: one["partition_index"])
    topics.sort(key=lambda topic: [(one["partition_index"], one["error_code"]) for one in topic["partitions"]])


class Member:
    """A member of a share group on the scene's connection, whose session goes on by itself."""

    def __init__(self, s: Scene, group, name="m", version=None) -> None:
        self.s, self.group, self.name, self.version = s, group, name, version
        self.epoch = 0

    def fetch(self, told=None, partitions=(), epoch=None, id_=None, forgotten=(), note=True, **fields):
        """Fetch, with acknowledgements by partition: first offset, last offset, types."""
        s, cls = self.s, ShareFetch
        batches = {number: [] for number in partitions} | (told or {})
        id_ = topic_id(s, s.topic()) if id_ is None else id_
        Batch = cls.AcknowledgementBatch
        data = [
            cls.FetchPartition(
                partition_index=number,
                acknowledgement_batches=[
                    Batch(first_offset=first, last_offset=last, acknowledge_types=list(types))
                    for first, last, types in each
                ],
            )
            for number, each in batches.items()
        ]
        if forgotten:
            fields["forgotten_topics_data"] = [cls.ForgottenTopic(topic_id=id_, partitions=list(forgotten))]
        fields = {
            "max_bytes": 1 << 20,
            "min_bytes": 1,
            "max_records": 100,
            "batch_size": 100,
            "max_wait_ms": 0,
        } | fields
        asked = cls(
            group_id=self.group,
            member_id=self.name,
            share_session_epoch=self.epoch if epoch is None else epoch,
            topics=[cls.FetchTopic(topic_id=id_, partitions=data)] if data else [],
            **fields,
        )
        answer = s.ask(asked, version=self.version, note=False)
        if epoch is None:
            self.epoch += 1
        sort(answer)
        for topic in answer.get("responses", ()):
            for one in topic["partitions"]:
                one["records"] = len(one["records"] or b"")
        if note:
            s.probe.trace.append(answer)
        return answer

    def first(self, partitions=(0,), note=True, **fields):
        """Fetch until there is something: Kafka loads a partition only when it is asked for it."""
        answer = self.fetch(None, partitions, note=False, **fields)
        for _ in range(500):
            if answer["error_code"] or any(
                one["acquired_records"] or one["error_code"]
                for topic in answer["responses"]
                for one in topic["partitions"]
            ):
                break
            time.sleep(0.02)
            answer = self.fetch(note=False, **fields)
        if note:
            self.s.probe.trace.append(answer)
        return answer

    def acknowledge(self, told, epoch=None, id_=None, note=True, **fields):
        s, cls = self.s, ShareAcknowledge
        id_ = topic_id(s, s.topic()) if id_ is None else id_
        data = [
            cls.AcknowledgePartition(
                partition_index=number,
                acknowledgement_batches=[
                    cls.AcknowledgementBatch(first_offset=first, last_offset=last, acknowledge_types=list(types))
                    for first, last, types in batches
                ],
            )
            for number, batches in told.items()
        ]
        asked = cls(
            group_id=self.group,
            member_id=self.name,
            share_session_epoch=self.epoch if epoch is None else epoch,
            topics=[cls.AcknowledgeTopic(topic_id=id_, partitions=data)] if data else [],
            **fields,
        )
        answer = s.ask(asked, version=self.version, note=False)
        if epoch is None:
            self.epoch += 1
        sort(answer)
        if note:
            s.probe.trace.append(answer)
        return answer


# --- ShareFetch


@case("ShareFetch", "records are given once; accepted, released, rejected with the next fetch")
def _(s):
    group = s.topic("g")
    begun(s, group, 1)
    one, two = Member(s, group, "one"), Member(s.another(), group, "two")
    one.first()
    two.fetch(None, [0])
    one.fetch({0: [(0, 0, [ACCEPT]), (1, 1, [RELEASE]), (2, 2, [REJECT])]}, max_records=0)
    two.first(())
    two.fetch({0: [(1, 1, [ACCEPT])]})
    state(s, Summary, group, {0: {}}, version=1)


@case("ShareFetch", "sessions: none, another epoch, opened with acknowledgements, opened again, closed")
def _(s):
    group = s.topic("g")
    begun(s, group, 1)
    one = Member(s, group)
    for epoch in (1, -1, -2, 2**31 - 1):
        one.fetch(None, [0], epoch=epoch)
    one.fetch({0: [(0, 0, [ACCEPT])]}, epoch=0)
    one.first()
    for epoch in (one.epoch + 1, one.epoch + 2, -2):
        one.fetch(epoch=epoch)
    one.fetch({0: [(0, 0, [ACCEPT])]}, epoch=0)
    one.fetch({0: [(0, 1, [ACCEPT])]}, epoch=-1)
    one.fetch(epoch=-1)
    one.fetch(epoch=1)
    other = Member(s, group, "other")
    other.first()


@case("ShareFetch", "partitions and topics that are not there, join and are forgotten")
def _(s):
    group = s.topic("g")
    begun(s, group, 2)
    one = Member(s, group)
    one.first([0])
    one.fetch(None, [7])
    one.fetch(None, [-1])
    one.fetch(None, [0], id_=UNKNOWN_ID)
    one.fetch({0: [(0, 0, [ACCEPT])]}, id_=UNKNOWN_ID)
    one.fetch({7: [(0, 0, [ACCEPT])]})
    one.fetch(forgotten=[7, -1])
    one.fetch(id_=UNKNOWN_ID, forgotten=[0])
    one.fetch({1: [(0, 0, [ACCEPT])]}, max_records=0)
    one.first(())
    one.fetch(forgotten=[0, 1])


@case("ShareFetch", "no group, no member, long names")
def _(s):
    group = s.topic("g")
    begun(s, group, 1)
    for name in ("", "m" * 36, "m" * 37):
        Member(s, group, name).fetch(None, [0], max_records=0)
    Member(s, "", s.topic()[-36:]).fetch(None, [0], max_records=0)
    Member(s, s.topic("nobody")).first(max_wait_ms=500)


@case("ShareFetch", "how much: batches are whole or not, and of what size")
def _(s):
    group = s.topic("g")
    begun(s, group, 1)
    for _ in range(4):
        produce(s, batch(b"a", b"b", b"c"), version=9, note=False)
    modes = (0, 1) if s.version >= 2 else (0,)
    for mode in modes:
        for number, (most, size) in enumerate(((1, 100), (4, 100), (100, 4), (100, 1), (-1, 1))):
            group = s.topic(f"g{mode}{number}")
            id_ = topic_id(s, s.topic())
            coordinator(s, f"{group}:{format_uuid(id_)}:0")
            state(s, Initialize, group, {0: {"state_epoch": 1, "start_offset": 0}}, version=0, note=False)
            member = Member(s, group, "m")
            if most > 0:
                member.first(max_records=most, batch_size=size, share_acquire_mode=mode)
            member.fetch(max_records=most, batch_size=size, share_acquire_mode=mode)


@case("ShareFetch", "more time, and nothing else then", first=2)
def _(s):
    group = s.topic("g")
    begun(s, group, 1)
    one = Member(s, group)
    one.first()
    for name in NOTHING:
        one.fetch({0: [(0, 2, [RENEW])]}, epoch=99, is_renew_ack=True, **NOTHING | {name: 1})
    one.fetch({0: [(0, 2, [RENEW])]}, is_renew_ack=True)
    one.fetch({0: [(0, 2, [RENEW])]}, is_renew_ack=True, **NOTHING)
    one.fetch({0: [(0, 0, [RENEW]), (1, 2, [ACCEPT])]}, is_renew_ack=True, **NOTHING)
    one.fetch({0: [(0, 0, [RENEW])]})
    settings(s, group, {"share.renew.acknowledge.enable": "false"})
    one.fetch({0: [(0, 0, [RENEW])]}, is_renew_ack=True, **NOTHING)


def settings(s: Scene, group, values):
    Alter = request_class(44)
    configs = [Alter.AlterableConfig(name=name, config_operation=0, value=value) for name, value in values.items()]
    resource = Alter.AlterConfigsResource(resource_type=32, resource_name=group, configs=configs)
    s.ask(Alter(resources=[resource]), version=1, note=False)
    time.sleep(0.1)  # Kafka answers before its coordinator has heard of it


# --- ShareAcknowledge


@case("ShareAcknowledge", "each type, too early, too late, twice, of another member")
def _(s):
    group = s.topic("g")
    begun(s, group, 1, fill=8)
    one, two = Member(s, group, "one"), Member(s.another(), group, "two")
    one.first()
    two.fetch(None, [0])
    two.acknowledge({0: [(0, 0, [ACCEPT])]})
    one.acknowledge({0: [(0, 0, [ACCEPT])]})
    one.acknowledge({0: [(0, 0, [ACCEPT])]})
    two.acknowledge({0: [(0, 0, [ACCEPT])]})
    one.acknowledge({0: [(2, 2, [RELEASE]), (3, 3, [REJECT]), (4, 4, [GAP])]})
    one.acknowledge({0: [(2, 2, [ACCEPT])]})
    one.acknowledge({0: [(3, 3, [ACCEPT])]})
    one.acknowledge({0: [(1, 2, [ACCEPT])]})
    one.acknowledge({0: [(5, 9, [ACCEPT])]})
    one.acknowledge({0: [(8, 9, [ACCEPT])]})
    one.acknowledge({0: [(5, 7, [ACCEPT, RELEASE, REJECT])]})
    one.acknowledge({0: [(1, 1, [ACCEPT])]})
    state(s, Summary, group, {0: {}}, version=1)
    state(s, Read, group, {0: {"leader_epoch": 0}}, version=0)


@case("ShareAcknowledge", "batches that make no sense")
def _(s):
    group = s.topic("g")
    begun(s, group, 2)
    one = Member(s, group)
    one.first([0])
    one.first([1])
    for batches in (
        [(2, 1, [ACCEPT])],
        [(-1, 1, [ACCEPT])],
        [(1, 2, [ACCEPT]), (0, 0, [ACCEPT])],
        [(0, 2, [ACCEPT]), (1, 1, [ACCEPT])],
        [(0, 1, [ACCEPT]), (1, 2, [ACCEPT])],
        [(0, 1, [])],
        [(0, 2, [ACCEPT, ACCEPT])],
        [(0, 0, [ACCEPT, ACCEPT])],
        [(0, 0, [4])],
        [(0, 0, [5])],
        [(0, 0, [-1])],
        [(0, 0, [127])],
        [(0, 0, [ACCEPT]), (1, 1, [5])],
        [],
    ):
        one.acknowledge({0: batches})
    one.acknowledge({0: [(0, 0, [5])], 1: [(0, 0, [ACCEPT])]})
    one.acknowledge({0: [(0, 2, [ACCEPT])]})


@case("ShareAcknowledge", "sessions: none, epoch 0, another epoch, closed with and without acknowledgements")
def _(s):
    group = s.topic("g")
    begun(s, group, 1)
    one = Member(s, group)
    for epoch in (0, 1, -1, -2):
        one.acknowledge({0: [(0, 0, [ACCEPT])]}, epoch=epoch)
    one.first()
    for epoch in (0, one.epoch + 1, -2):
        one.acknowledge({0: [(0, 0, [ACCEPT])]}, epoch=epoch)
    one.acknowledge({})
    one.acknowledge({0: [(0, 0, [ACCEPT])]}, epoch=-1)
    one.acknowledge({}, epoch=-1)
    one.acknowledge({}, epoch=1)
    two = Member(s, group, "two")
    two.first()
    two.acknowledge({}, epoch=-1)


@case("ShareAcknowledge", "topics and partitions that are not there, names that are none")
def _(s):
    group = s.topic("g")
    begun(s, group, 2)
    one = Member(s, group)
    one.first([0])
    one.acknowledge({7: [(0, 0, [ACCEPT])], -1: [(0, 0, [ACCEPT])]})
    one.acknowledge({7: [(0, 0, [5])]})
    one.acknowledge({0: [(0, 0, [ACCEPT])]}, id_=UNKNOWN_ID)
    one.acknowledge({0: [(0, 0, [5])]}, id_=UNKNOWN_ID)
    one.acknowledge({1: [(0, 0, [ACCEPT])]})
    for name in ("", "m" * 36, "m" * 37):
        Member(s, group, name).acknowledge({0: [(0, 0, [ACCEPT])]}, epoch=1)
    Member(s, "", s.topic()[-36:]).acknowledge({0: [(0, 0, [ACCEPT])]}, epoch=1)


@case("ShareAcknowledge", "more time", first=2)
def _(s):
    group = s.topic("g")
    begun(s, group, 1)
    one = Member(s, group)
    one.first()
    one.acknowledge({0: [(0, 2, [RENEW])]})
    one.acknowledge({0: [(0, 2, [RENEW])]}, is_renew_ack=True)
    one.acknowledge({0: [(0, 0, [RENEW]), (1, 1, [ACCEPT])]}, is_renew_ack=True)
    one.acknowledge({0: [(1, 1, [RENEW])]}, is_renew_ack=True)
    settings(s, group, {"share.renew.acknowledge.enable": "false"})
    one.acknowledge({0: [(0, 0, [RENEW])]}, is_renew_ack=True)
    one.acknowledge({0: [(0, 0, [ACCEPT]), (2, 2, [ACCEPT])]}, is_renew_ack=True)
    state(s, Summary, group, {0: {}}, version=1)


# --- The share coordinator


@case("InitializeShareGroupState", "begun, begun again, fenced, nonsense")
def _(s):
    group = s.topic("g")
    begun(s, group, 1, start=5, fill=0)
    for epoch, start in ((1, 7), (0, 8), (3, -1), (2, 1), (-1, 4), (4, -2), (4, 0)):
        state(s, Initialize, group, {0: {"state_epoch": epoch, "start_offset": start}})
        state(s, Summary, group, {0: {}}, version=1)
    state(s, Read, group, {0: {"leader_epoch": 0}}, version=0)


@case("ReadShareGroupState", "leaders that come and go")
def _(s):
    group = s.topic("g")
    begun(s, group, 1, start=5, fill=0)
    for epoch in (0, 2, 1, 2, -1, 3):
        state(s, Read, group, {0: {"leader_epoch": epoch}})
    state(s, Summary, group, {0: {}}, version=1)


@case("WriteShareGroupState", "what adds up, and who is refused")
def _(s):
    group = s.topic("g")
    begun(s, group, 1, fill=0)
    Batch = Write.StateBatch

    def write(*batches, start=-1, epoch=1, leader=0, count=0):
        told = [
            Batch(first_offset=first, last_offset=last, delivery_state=kind, delivery_count=deliveries)
            for first, last, kind, deliveries in batches
        ]
        fields = {"state_epoch": epoch, "leader_epoch": leader, "start_offset": start, "state_batches": told}
        if s.version >= 1:
            fields["delivery_complete_count"] = count
        state(s, Write, group, {0: fields})
        state(s, Read, group, {0: {"leader_epoch": 0}}, version=0)
        state(s, Summary, group, {0: {}}, version=1)

    write((0, 9, 0, 1), start=0)
    write((3, 4, 2, 1), count=2)
    write((3, 5, 0, 1), (6, 6, 4, 2), count=3)
    write((0, 3, 2, 1), start=4, count=1)
    write((10, 12, 0, 1), (14, 15, 0, 1), start=2, count=9)
    write((10, 15, 2, 2), start=-1)
    write(start=20)
    write((30, 31, 0, 1), epoch=0)
    write((30, 31, 0, 1), epoch=2)
    write((30, 31, 0, 1), leader=-1)
    write((30, 31, 0, 1), leader=5)
    write((40, 41, 0, 1), leader=4)


@case("DeleteShareGroupState", "what is there, what is not, twice")
def _(s):
    group = s.topic("g")
    begun(s, group, 2, fill=0)
    state(s, Delete, group, {0: {}, 1: {}})
    state(s, Delete, group, {0: {}})
    state(s, Read, group, {0: {"leader_epoch": 0}}, version=0)
    state(s, Write, group, {0: {"state_epoch": 1, "leader_epoch": 0, "start_offset": 0}}, version=0)
    state(s, Summary, group, {0: {}}, version=1)
    state(s, Initialize, group, {0: {"state_epoch": 0, "start_offset": 3}}, version=0)
    state(s, Summary, group, {0: {}}, version=1)


@case("ReadShareGroupStateSummary", "of what was begun, and of what was not")
def _(s):
    group = s.topic("g")
    begun(s, group, 2, start=4, fill=0)
    state(s, Summary, group, {0: {"leader_epoch": 0}, 1: {"leader_epoch": 3}})
    state(s, Summary, s.topic("nobody"), {0: {}})


for _cls in _STATE:

    @case(_cls.__name__.removesuffix("Request"), "groups, topics and partitions that are not there")
    def _(s, cls=_cls):
        group = s.topic("g")
        begun(s, group, 1, fill=0)
        state(s, cls, "", {0: {}})
        state(s, cls, group, {})
        state(s, cls, group, {0: {}}, UNKNOWN_ID)
        state(s, cls, group, {0: {}}, bytes(16))
        state(s, cls, group, {7: {}})
        state(s, cls, group, {-1: {}})
        s.ask(cls(group_id=group, topics=[]))
