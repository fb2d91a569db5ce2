"""Client quotas: what may be asked and told of them, and what comes of being over one."""

import time

from cases.data import Fetch, Produce, batch, produce
from cases.topics import CreateTopics, creatable, create
from registry import Scene, case

from kafkapy.protocol.messages import request_class

DescribeClientQuotas, AlterClientQuotas = request_class(48), request_class(49)
CreatePartitions, DeleteTopics = request_class(37), request_class(20)
EXACT, DEFAULT, SPECIFIED = 0, 1, 2
RATE, NEW = "producer_byte_rate", "connection_creation_rate"


def entry(entity, *limits):
    ops = [AlterClientQuotas.OpData(key=key, value=value or 0.0, remove=value is None) for key, value in limits]
    parts = [AlterClientQuotas.EntityData(entity_type=kind, entity_name=name) for kind, name in entity]
    return AlterClientQuotas.EntryData(entity=parts, ops=ops)


def alter(s: Scene, *entries, validate_only=False, version=None, note=True):
    request = AlterClientQuotas(entries=list(entries), validate_only=validate_only)
    return s.ask(request, version=s.version if version is None else version, note=note)


def describe(s: Scene, *components, strict=False, version=None):
    parts = [
        DescribeClientQuotas.ComponentData(entity_type=kind, match_type=match, match=name)
        for kind, match, name in components
    ]
    time.sleep(0.2)  # Kafka answers before its own broker has heard of a change
    return s.ask(
        DescribeClientQuotas(components=parts, strict=strict), version=s.version if version is None else version
    )


def user(s: Scene, suffix="u"):
    return ("user", s.topic(suffix))


@case("AlterClientQuotas", "set, changed, taken away, only tried")
def _(s):
    mine = [user(s)]
    alter(s, entry(mine, (RATE, 1000.0), ("request_percentage", 12.5)))
    describe(s, ("user", EXACT, s.topic("u")), version=1)
    alter(s, entry(mine, (RATE, 2000.0), ("request_percentage", None), ("consumer_byte_rate", None)))
    alter(s, entry(mine, (RATE, 3000.0)), validate_only=True)
    describe(s, ("user", EXACT, s.topic("u")), version=1)
    alter(s, entry(mine, (RATE, None)))
    describe(s, ("user", EXACT, s.topic("u")), version=1)
    alter(s)


@case("AlterClientQuotas", "entities that there are not")
def _(s):
    for entity in (
        [],
        [("host", "a")],
        [("", "a")],
        [("user", "")],
        [("client-id", "")],
        [("ip", "")],
        [("ip", "10.1.2.3"), user(s)],
        [("ip", None), ("client-id", None)],
        [("ip", "not an address")],
        [user(s), ("user", s.topic("v"))],
        [user(s), ("group", "g")],
    ):
        alter(s, entry(entity, (NEW if entity and entity[0][0] == "ip" else RATE, 10.0)))
    describe(s, ("user", EXACT, s.topic("v")), version=1)
    alter(s, entry([user(s, "v")], (RATE, None)), note=False)


@case("AlterClientQuotas", "limits that there are not")
def _(s):
    address = [("ip", "10.1.2.3")]
    for entity, key, value in (
        ([user(s)], "no_such_rate", 1.0),
        ([user(s)], "", 1.0),
        ([user(s)], NEW, 1.0),
        (address, RATE, 1.0),
        (address, NEW, 0.0),
        (address, NEW, 1.5),
        (address, NEW, 2.0**31),
        ([user(s)], RATE, 0.0),
        ([user(s)], RATE, -1.0),
        ([user(s)], RATE, 1.5),
        ([user(s)], RATE, 1.0000001),
        ([user(s)], RATE, 1e30),
        ([user(s)], RATE, float("inf")),
        ([user(s)], RATE, float("-inf")),
        ([user(s)], "request_percentage", float("nan")),
        ([user(s)], "no_such_rate", float("nan")),
        ([user(s)], "request_percentage", 0.0),
        ([user(s)], "request_percentage", 1e300),
        ([user(s)], "controller_mutation_rate", 0.1),
    ):
        alter(s, entry(entity, (key, value)))
    alter(s, entry([user(s)], ("no_such_rate", None)))
    describe(s, ("user", EXACT, s.topic("u")), version=1)
    everything = (RATE, "request_percentage", "controller_mutation_rate")
    alter(s, entry([user(s)], *((key, None) for key in everything)), note=False)


@case("AlterClientQuotas", "named twice, and one of several refused")
def _(s):
    alter(s, entry([user(s)], (RATE, 1.0), (RATE, 2.0)))
    alter(s, entry([user(s)], (RATE, 1.0)), entry([user(s)], (RATE, 2.0)))
    describe(s, ("user", EXACT, s.topic("u")), version=1)
    alter(s, entry([user(s)], ("no_such_rate", 1.0)), entry([user(s, "v")], (RATE, 2.0)))
    alter(s, entry([user(s, "v"), ("client-id", None)], (RATE, 1.0)), entry([user(s, "v")], (RATE, 3.0)))
    describe(s, ("user", EXACT, s.topic("v")), version=1)
    for entity in ([user(s)], [user(s, "v")], [user(s, "v"), ("client-id", None)]):
        alter(s, entry(entity, (RATE, None)), note=False)


@case("DescribeClientQuotas", "by names, defaults and types, strictly or not")
def _(s):
    mine, app = user(s), ("client-id", s.topic("c"))
    entities = ([mine], [mine, app], [mine, ("client-id", None)], [app])
    alter(s, *(entry(entity, (RATE, 5.0), ("consumer_byte_rate", 6.0)) for entity in entities), version=1, note=False)
    for strict in (False, True):
        describe(s, ("user", EXACT, mine[1]), strict=strict)
        describe(s, ("user", EXACT, mine[1]), ("client-id", SPECIFIED, None), strict=strict)
        describe(s, ("user", EXACT, mine[1]), ("client-id", DEFAULT, None), strict=strict)
        describe(s, ("user", DEFAULT, None), strict=strict)
        describe(s, ("client-id", EXACT, app[1]), strict=strict)
        describe(s, ("client-id", EXACT, app[1]), ("user", SPECIFIED, None), strict=strict)
        describe(s, ("ip", SPECIFIED, None), strict=strict)
    describe(s, strict=True)
    for entity in entities:
        alter(s, entry(entity, (RATE, None), ("consumer_byte_rate", None)), version=1, note=False)


@case("DescribeClientQuotas", "filters that there are not")
def _(s):
    describe(s, ("", SPECIFIED, None))
    describe(s, ("group", SPECIFIED, None))
    describe(s, ("user", EXACT, None))
    describe(s, ("user", EXACT, ""))
    describe(s, ("user", DEFAULT, "u"))
    describe(s, ("user", SPECIFIED, "u"))
    describe(s, ("user", 3, None))
    describe(s, ("user", SPECIFIED, None), ("user", EXACT, "u"))
    describe(s, ("user", SPECIFIED, None), ("ip", SPECIFIED, None))


def limited(s: Scene, key, value) -> Scene:
    """A connection of a client of its own, which is held to a limit that acts."""
    client = s.another()
    client.probe.client_id = s.topic("client")
    alter(s, entry([("client-id", client.probe.client_id)], (key, value)), version=1, note=False)
    time.sleep(0.5)  # Kafka answers before its own broker has heard of it
    return client


def ask(s: Scene, request, version=None) -> None:
    """Ask, and note whether the answer says that the client is held back, and whether it is heard only after that."""
    began = time.monotonic()
    answer = s.ask(request, version=s.version if version is None else version)
    told = answer["throttle_time_ms"]
    s.ask(s.make("ApiVersions"), version=0, note=False)
    waited = (time.monotonic() - began) * 1000
    s.probe.trace.append({"told": told > 0, "held back": waited >= told > 0})


@case("Produce", "over a quota", versions=(3, 12))
def _(s):
    create(s, creatable(s.topic()), note=False)
    client = limited(s, RATE, 10_000.0)
    for size in (50_000, 55_000):
        partitions = [Produce.PartitionProduceData(index=0, records=batch(bytes(size)))]
        data = [Produce.TopicProduceData(name=s.topic(), partition_data=partitions)]
        ask(client, Produce(acks=-1, timeout_ms=5000, topic_data=data))


@case("Fetch", "over a quota", versions=(4, 12))
def _(s):
    create(s, creatable(s.topic()), note=False)
    for _ in range(3):
        produce(s, batch(bytes(52_000)), version=9, note=False)
    client = limited(s, "consumer_byte_rate", 10_000.0)
    for offset in range(3):
        partitions = [Fetch.FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1)]
        topics = [Fetch.FetchTopic(topic=s.topic(), partitions=partitions)]
        ask(client, Fetch(max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, topics=topics))


@case("CreateTopics", "over a quota of changes", first=5)
def _(s):
    client = limited(s, "controller_mutation_rate", 2.0)
    for names, partitions in (("a", 21), ("b", 3), ("cd", 1)):
        topics = [creatable(s.topic(name), partitions) for name in names]
        ask(client, CreateTopics(topics=topics, timeout_ms=10_000))


@case("CreatePartitions", "over a quota of changes", first=2)
def _(s):
    create(s, creatable(s.topic("a")), creatable(s.topic("b")), note=False)
    client = limited(s, "controller_mutation_rate", 2.0)
    for name, count in (("a", 25), ("b", 2), ("b", 3)):
        topic = CreatePartitions.CreatePartitionsTopic(name=s.topic(name), count=count, assignments=None)
        ask(client, CreatePartitions(topics=[topic], timeout_ms=10_000))


@case("DeleteTopics", "over a quota of changes", first=4, last=5)
def _(s):
    create(s, creatable(s.topic("a"), 23), creatable(s.topic("b")), creatable(s.topic("c")), note=False)
    client = limited(s, "controller_mutation_rate", 2.0)
    for name in "abc":
        ask(client, DeleteTopics(topic_names=[s.topic(name)], timeout_ms=10_000))
