"""Dead-letter queues of share groups (KIP-1191): what goes into them, what they are called, who may have one."""

import time

from cases.configs import BROKER, DELETE, GROUP, SET, TOPIC, change, described, resource
from cases.data import Fetch, produce
from cases.sharing import ACCEPT, GAP, REJECT, RELEASE, Initialize, Member, Read, Summary, begun, coordinator, state
from cases.topics import creatable, create, topic_id
from registry import Scene, case

from kafkapy.model import format_uuid
from kafkapy.protocol.messages import request_class, response_class
from kafkapy.records.batch import Compression, walk
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record, read_records

NAME, COPY = "errors.deadletterqueue.topic.name", "errors.deadletterqueue.copy.record.enable"
PERMITTED = "errors.deadletterqueue.group.enable"
CREATES, PREFIX = "errors.deadletterqueue.auto.create.topics.enable", "errors.deadletterqueue.topic.name.prefix"


def queue(s: Scene, partitions=1, **configs):
    """A topic that may be a queue; its name."""
    name = "dlq." + s.topic("q")
    create(s, creatable(name, partitions, configs={PERMITTED: "true"} | configs), note=False)
    return name


def settings(s: Scene, kind, name, *changes):
    change(Scene(s.probe, 1, s.prefix), resource(kind, name, *changes))


def read(s: Scene, name, partition):
    """All that is in the log; raw."""
    one = Fetch.FetchPartition(partition=partition, fetch_offset=0, partition_max_bytes=1 << 20)
    request = Fetch(
        max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, topics=[Fetch.FetchTopic(topic=name, partitions=[one])]
    )
    answer, _ = response_class(1).decode(12, memoryview(s.probe.exchange(request, 12)))
    return answer.responses[0].partitions[0]


def letters(s: Scene, name, count, partition=0):
    """Waits for so many records of a queue, and tells what they say; how many go with one batch is chance."""
    for _ in range(400):
        data = read(s, name, partition).records or b""
        headers = [(header, data[at : at + header.size_bytes]) for at, header in walk(data)]
        records = [record for _, batch in headers for record in read_records(batch)]
        if len(records) >= count:
            break
        time.sleep(0.02)
    s.probe.trace.append(
        {
            "batches": sorted({(each.codec, each.has_producer, each.is_log_append_time) for each, _ in headers}),
            "is_new": all(abs(record.timestamp / 1000 - time.time()) < 100 for record in records),
        }
    )
    for record in records:
        s.probe.trace.append(
            {
                "offset": record.offset,
                "key_in_it": None if record.key is None else record.key.decode(),
                "value_in_it": None if record.value is None else record.value.decode(),
                "headers": [[f"{key}={(value or b'').decode()}"] for key, value in record.headers],
            }
        )


def settled(s: Scene, group, count):
    """Waits until the group is done with so many records; up to where that is written as its start is chance."""
    for _ in range(400):
        answer = state(s, Summary, group, {0: {}}, version=1, note=False)
        [found] = answer["results"][0]["partitions"]
        done = found["start_offset"] + found["delivery_complete_count"]
        if done >= count:
            break
        time.sleep(0.02)
    read = state(s, Read, group, {0: {"leader_epoch": 0}}, version=0, note=False)
    [found] = read["results"][0]["partitions"]
    last = [found["state_batches"][-1][key] for key in ("last_offset", "delivery_state", "delivery_count")]
    s.probe.trace.append({"done": done, "last": last})


def fill(s: Scene, count=4, **options):
    now_ms = int(time.time() * 1000)  # older records would not stay
    records = [
        Record(i, now_ms, None if i == 1 else b"k%d" % i, None if i == 2 else b"v%d" % i, [("own", b"header")])
        for i in range(count)
    ]
    produce(s, build_batch(records, **options), version=9, note=False)


def member(s: Scene, group, own, **options):
    """One that has been given a batch of records of a group with these settings."""
    begun(s, group, 1, fill=0)
    fill(s, **options)
    settings(s, GROUP, group, *[(name, SET, value) for name, value in own.items()])
    one = Member(s, group, version=2)
    one.first()
    return one


@case("IncrementalAlterConfigs", "a share group: its dead-letter queue", first=1)
def _(s):
    group = s.topic("g")
    for changes in (
        [(NAME, SET, "__internal")],
        [(NAME, SET, "_one")],
        [(NAME, SET, "no such prefix")],
        [(NAME, SET, "not/a/topic")],
        [(NAME, SET, " ")],
        [(NAME, SET, "dlq." + s.topic())],
        [(COPY, SET, "perhaps")],
        [(COPY, SET, "TRUE")],
        [(NAME, SET, "")],
        [(NAME, DELETE, None), (COPY, DELETE, None)],
    ):
        change(s, resource(GROUP, group, *changes))
        described(s, GROUP, group, NAME, COPY)


@case("IncrementalAlterConfigs", "a broker: dead-letter queues", first=1)
def _(s):
    for changes in (
        [(PREFIX, SET, "")],
        [(PREFIX, SET, "__")],
        [(PREFIX, SET, "a/b")],
        [(PREFIX, DELETE, None)],
        [(CREATES, SET, "x")],
        [(CREATES, SET, "true")],
        [(CREATES, DELETE, None)],
        [(NAME, SET, "dlq.x")],
    ):
        change(s, resource(BROKER, "", *changes))
        described(s, BROKER, "1", PREFIX, CREATES)


@case("IncrementalAlterConfigs", "a topic: whether it may be a dead-letter queue", first=1)
def _(s):
    create(s, creatable(s.topic(), 1))
    for changes in ([(PERMITTED, SET, "x")], [(PERMITTED, SET, "true")], [(PERMITTED, DELETE, None)]):
        change(s, resource(TOPIC, s.topic(), *changes))
        described(s, TOPIC, s.topic(), PERMITTED)


@case("ShareAcknowledge", "what is rejected goes into the dead-letter queue, its headers only", versions=[2])
def _(s):
    group, name = s.topic("g"), queue(s)
    one = member(s, group, {NAME: name})
    one.acknowledge({0: [(0, 0, [REJECT]), (1, 1, [ACCEPT]), (2, 3, [REJECT])]})
    letters(s, name, 3)
    settled(s, group, 4)


@case("ShareAcknowledge", "what is rejected is copied into the dead-letter queue", versions=[2])
def _(s):
    group, name = s.topic("g"), queue(s)
    one = member(s, group, {NAME: name, COPY: "true"})
    one.acknowledge({0: [(0, 3, [REJECT, REJECT, REJECT, GAP])]})
    letters(s, name, 3)
    settled(s, group, 4)


@case("ShareAcknowledge", "a whole batch is copied into the dead-letter queue, though it was compressed", versions=[2])
def _(s):
    group, name = s.topic("g"), queue(s, 2)
    one = member(s, group, {NAME: name, COPY: "true"}, compression=Compression.GZIP)
    one.acknowledge({0: [(0, 3, [REJECT])]})
    letters(s, name, 4)
    settled(s, group, 4)


@case("ShareAcknowledge", "what was given too often goes into the dead-letter queue", versions=[2])
def _(s):
    group, name = s.topic("g"), queue(s)
    one = member(s, group, {NAME: name, COPY: "true", "share.delivery.count.limit": "2"})
    one.acknowledge({0: [(0, 3, [RELEASE])]})
    one.first(())
    one.acknowledge({0: [(0, 0, [REJECT]), (1, 3, [RELEASE])]})
    letters(s, name, 4)
    settled(s, group, 4)


@case("ShareFetch", "a session that ends on the last delivery fills the dead-letter queue", versions=[2])
def _(s):
    group, name = s.topic("g"), queue(s)
    one = member(s, group, {NAME: name, "share.delivery.count.limit": "2"})
    one.acknowledge({0: [(0, 3, [RELEASE])]})
    one.first(())
    one.fetch(None, (), epoch=-1, max_records=0, max_bytes=0, min_bytes=0)
    letters(s, name, 4)
    settled(s, group, 4)


@case("ShareAcknowledge", "a small dead-letter queue takes batch after batch, or none", versions=[2])
def _(s):
    group, name = s.topic("g"), queue(s, **{"max.message.bytes": "400"})
    one = member(s, group, {NAME: name})
    one.acknowledge({0: [(0, 3, [REJECT])]})
    letters(s, name, 4)
    settled(s, group, 4)
    group = s.topic("h")
    name = "dlq." + s.topic("none")
    create(s, creatable(name, 1, configs={PERMITTED: "true", "max.message.bytes": "100"}), note=False)
    settings(s, GROUP, group, (NAME, SET, name))
    state_of_another(s, group)
    two = Member(s, group, version=2)
    two.first()
    two.acknowledge({0: [(0, 3, [REJECT])]})
    settled(s, group, 4)
    s.probe.trace.append({"high_watermark": read(s, name, 0).high_watermark})


def metadata_error(s: Scene, name):
    Metadata = request_class(3)
    asked = Metadata(topics=[Metadata.MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
    return s.ask(asked, version=12, note=False)["topics"][0]["error_code"]


def state_of_another(s: Scene, group):
    """The case's topic has another group, which begins at its start."""
    id_ = topic_id(s, s.topic())
    coordinator(s, f"{group}:{format_uuid(id_)}:0")
    state(s, Initialize, group, {0: {"state_epoch": 1, "start_offset": 0}}, id_, version=0, note=False)


@case("ShareAcknowledge", "what is rejected is gone where there can be no dead-letter queue", versions=[2])
def _(s):
    begun(s, s.topic("none"), 1, fill=0)
    fill(s)
    create(s, creatable("dlq." + s.topic("forbidden"), 1), note=False)
    create(s, creatable(s.topic("prefix"), 1, configs={PERMITTED: "true"}), note=False)
    for name in ("dlq." + s.topic("missing"), "dlq." + s.topic("forbidden"), s.topic("prefix"), "dlq.no/topic"):
        group = s.topic(name.replace("/", "-"))
        settings(s, GROUP, group, (NAME, SET, name))
        state_of_another(s, group)
        one = Member(s, group, version=2)
        one.first()
        one.acknowledge({0: [(0, 3, [REJECT])]})
        settled(s, group, 4)
    for name in ("dlq." + s.topic("forbidden"), s.topic("prefix")):
        s.probe.trace.append({"high_watermark": read(s, name, 0).high_watermark})


@case("ShareAcknowledge", "the dead-letter queue is made if that is allowed", versions=[2])
def _(s):
    group, name = s.topic("g"), "dlq." + s.topic("made")
    settings(s, BROKER, "", (CREATES, SET, "true"))
    time.sleep(0.5)
    one = member(s, group, {NAME: name})
    one.acknowledge({0: [(0, 3, [REJECT])]})
    for _ in range(300):
        if not metadata_error(s, name):
            break
        time.sleep(0.05)
    described(s, TOPIC, name, PERMITTED, "message.timestamp.type")
    for _ in range(300):  # the partition's leader is there a little later
        if not read(s, name, 0).error_code:
            break
        time.sleep(0.05)
    letters(s, name, 4)
    settled(s, group, 4)
    settings(s, BROKER, "", (CREATES, DELETE, None))
