"""Produce, Fetch, ListOffsets, OffsetForLeaderEpoch, InitProducerId."""

import time

from cases.groups import find
from cases.topics import UNKNOWN_ID, creatable, create, topic_id
from registry import Scene, case

from kafkapy.protocol.messages import request_class
from kafkapy.records.batch import Compression
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record

Produce = request_class(0)
Fetch = request_class(1)
ListOffsets = request_class(2)
NOW = 1_790_000_000_000


def records(*values, key=b"k", at=NOW):
    return [Record(i, at + i, key, value, []) for i, value in enumerate(values)]


def batch(*values, key=b"k", at=NOW, **options):
    return build_batch(records(*values, key=key, at=at), **options)


def produce(s: Scene, data, name=None, partition=0, acks=-1, version=None, note=True, id_=None, transactional_id=None):
    version = s.version if version is None else version
    partitions = [Produce.PartitionProduceData(index=partition, records=data)]
    if version >= 13:
        id_ = id_ or topic_id(s, name or s.topic())
        topics = [Produce.TopicProduceData(topic_id=id_, partition_data=partitions)]
    else:
        topics = [Produce.TopicProduceData(name=name or s.topic(), partition_data=partitions)]
    request = Produce(acks=acks, timeout_ms=5000, topic_data=topics, transactional_id=transactional_id)
    return s.ask(request, version=version, note=note)


def fetch(
    s: Scene,
    offset=0,
    name=None,
    partition=0,
    wait=0,
    max_bytes=1 << 20,
    part_bytes=1 << 20,
    id_=None,
    version=None,
    note=True,
    **more,
):
    version = s.version if version is None else version
    fields = {key: more.pop(key) for key in ("current_leader_epoch", "last_fetched_epoch") if key in more}
    one = Fetch.FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=part_bytes, **fields)
    if version >= 13:
        topic = Fetch.FetchTopic(topic_id=id_ or topic_id(s, name or s.topic()), partitions=[one])
    else:
        topic = Fetch.FetchTopic(topic=name or s.topic(), partitions=[one])
    return s.ask(
        Fetch(max_wait_ms=wait, min_bytes=more.pop("min_bytes", 1), max_bytes=max_bytes, topics=[topic], **more),
        version=version,
        note=note,
    )


# --- Produce


@case("Produce", "a batch, and again", first=3)
def _(s):
    create(s, creatable(s.topic()))
    produce(s, batch(b"a", b"b"))
    produce(s, batch(b"c"), acks=1)


@case("Produce", "unknown topic and partition", first=3)
def _(s):
    create(s, creatable(s.topic()))
    produce(s, batch(b"a"), partition=5)
    produce(s, batch(b"a"), partition=-1)
    if s.version >= 13:
        produce(s, batch(b"a"), id_=UNKNOWN_ID)
        produce(s, batch(b"a"), id_=bytes(16))
    else:
        produce(s, batch(b"a"), name=s.topic("missing"))


@case("Produce", "acks that do not exist", first=3)
def _(s):
    create(s, creatable(s.topic()))
    produce(s, batch(b"a"), acks=2)
    produce(s, batch(b"a"), acks=-2)


@case("Produce", "corrupt: a flipped bit, a short batch, no batch, two batches, old magic", first=3)
def _(s):
    create(s, creatable(s.topic()))
    good = bytearray(batch(b"hello"))
    flipped = bytearray(good)
    flipped[-1] ^= 1
    produce(s, bytes(flipped))
    produce(s, bytes(good[:-3]))
    produce(s, bytes(good[:30]))
    produce(s, b"")
    produce(s, bytes(good) + bytes(good))
    magic = bytearray(good)
    magic[16] = 1
    produce(s, bytes(magic))
    magic[16] = 3
    produce(s, bytes(magic))


@case("Produce", "null records", first=3)
def _(s):
    create(s, creatable(s.topic()))
    produce(s, None)


@case("Produce", "record count and offsets that do not fit", first=3)
def _(s):
    import struct

    import crc32c

    create(s, creatable(s.topic()))

    def patched(position, form, value):
        data = bytearray(batch(b"a", b"b"))
        struct.pack_into(form, data, position, value)
        struct.pack_into(">I", data, 17, crc32c.crc32c(bytes(data[21:])))
        return bytes(data)

    produce(s, patched(57, ">i", 3))
    produce(s, patched(57, ">i", 1))
    produce(s, patched(57, ">i", 0))
    produce(s, patched(57, ">i", -1))
    produce(s, patched(23, ">i", 5))
    produce(s, patched(23, ">i", 0))
    produce(s, patched(0, ">q", 1234))
    produce(s, patched(21, ">h", 7))
    produce(s, patched(21, ">h", 0x20))
    produce(s, patched(21, ">h", 0x10))
    produce(s, patched(35, ">q", 5))


@case("Produce", "every compression", first=3)
def _(s):
    create(s, creatable(s.topic()))
    for codec in Compression:
        produce(s, batch(b"a" * 100, compression=codec))


@case("Produce", "larger than max.message.bytes", first=3)
def _(s):
    create(s, creatable(s.topic(), configs={"max.message.bytes": "200"}))
    produce(s, batch(b"a" * 300))


@case("Produce", "a keyless record into a compacted topic", first=3)
def _(s):
    create(s, creatable(s.topic(), configs={"cleanup.policy": "compact"}))
    produce(s, batch(b"a", b"b", key=None))
    produce(s, batch(b"a", b"b"))


@case("Produce", "LogAppendTime", first=3)
def _(s):
    create(s, creatable(s.topic(), configs={"message.timestamp.type": "LogAppendTime"}))
    produce(s, batch(b"a", b"b", at=1000))
    answer = fetch(s, version=12, note=False)
    s.probe.trace.append({"some": bool(answer["responses"][0]["partitions"][0]["records"])})


@case("Produce", "timestamps out of range", first=3)
def _(s):
    create(
        s,
        creatable(
            s.topic(), configs={"message.timestamp.before.max.ms": "1000", "message.timestamp.after.max.ms": "1000"}
        ),
    )
    produce(s, batch(b"a", b"b", at=1000))
    produce(s, batch(b"a", b"b", at=NOW + 10**12))


@case("Produce", "more in-sync replicas than there are", first=3)
def _(s):
    create(s, creatable(s.topic(), configs={"min.insync.replicas": "2"}))
    produce(s, batch(b"a"), acks=-1)
    produce(s, batch(b"a"), acks=1)


@case("Produce", "an idempotent producer: in order, a repeat, a gap, an old epoch, a new epoch", first=3)
def _(s):
    create(s, creatable(s.topic()))
    pid = 40_000 + s.version

    def send(sequence, *values, epoch=0, id_=None):
        produce(s, batch(*values, producer_id=id_ or pid, producer_epoch=epoch, base_sequence=sequence))

    send(0, b"a", b"b")
    send(2, b"c")
    send(0, b"a", b"b")
    send(2, b"c")
    send(9, b"z")
    send(0, b"a", epoch=1)
    send(3, b"old")
    send(5, b"q", epoch=2)
    send(7, b"first of an unknown producer", id_=pid + 500)
    send(1, b"b", b"c", epoch=1)


@case("Produce", "only the last five batches are remembered", first=3)
def _(s):
    create(s, creatable(s.topic()))
    for sequence in range(7):
        produce(s, batch(b"v", producer_id=77, producer_epoch=0, base_sequence=sequence))
    for sequence in range(7):
        produce(s, batch(b"v", producer_id=77, producer_epoch=0, base_sequence=sequence))


@case("Produce", "sequence numbers wrap", first=3)
def _(s):
    create(s, creatable(s.topic()))
    top = 2**31 - 1
    produce(s, batch(b"v", producer_id=78, producer_epoch=0, base_sequence=top))
    produce(s, batch(b"v", b"w", producer_id=78, producer_epoch=0, base_sequence=0))
    produce(s, batch(b"v", b"w", producer_id=79, producer_epoch=0, base_sequence=top))
    produce(s, batch(b"v", b"w", producer_id=79, producer_epoch=0, base_sequence=1))


@case("Produce", "topics and partitions mixed, good and bad", first=3, last=12)
def _(s):
    create(s, creatable(s.topic("x"), 2), creatable(s.topic("y")))
    P = Produce.PartitionProduceData
    s.ask(
        Produce(
            acks=-1,
            timeout_ms=5000,
            topic_data=[
                Produce.TopicProduceData(
                    name=s.topic("x"),
                    partition_data=[
                        P(index=1, records=batch(b"a")),
                        P(index=0, records=b"junk"),
                        P(index=9, records=batch(b"a")),
                    ],
                ),
                Produce.TopicProduceData(name=s.topic("missing"), partition_data=[P(index=0, records=batch(b"a"))]),
                Produce.TopicProduceData(name=s.topic("y"), partition_data=[P(index=0, records=batch(b"a"))]),
            ],
        )
    )


@case("Produce", "into an internal topic", first=3, last=12)
def _(s):
    find(s, s.topic("g"))
    produce(s, batch(b"a"), name="__consumer_offsets")
    produce(s, batch(b"a"), name="__consumer_offsets", partition=99)


@case("Produce", "nothing at all", first=3)
def _(s):
    s.ask(Produce(acks=-1, timeout_ms=5000, topic_data=[]))


@case("Produce", "acks=0 is not answered, and what follows is", first=3)
def _(s):
    create(s, creatable(s.topic()))
    name = {"topic_id": topic_id(s, s.topic())} if s.version >= 13 else {"name": s.topic()}
    topic = Produce.TopicProduceData(
        partition_data=[Produce.PartitionProduceData(index=0, records=batch(b"a"))], **name
    )
    s.probe.send_only(Produce(acks=0, timeout_ms=5000, topic_data=[topic]), s.version)
    produce(s, batch(b"b"))


# --- Fetch


def filled(s: Scene, count=3, **configs):
    create(s, creatable(s.topic(), configs=configs))
    for i in range(count):
        produce(s, batch(b"value %d" % i, b"second"), version=9, note=False)


@case("Fetch", "from the start, the middle of a batch, the end, beyond, before", first=4)
def _(s):
    filled(s)
    for offset in (0, 1, 3, 6, 7, 100, -1, -5):
        fetch(s, offset)


@case("Fetch", "limits: the first batch is whole", first=4)
def _(s):
    filled(s)
    fetch(s, 0, max_bytes=1)
    fetch(s, 0, part_bytes=1)
    fetch(s, 0, part_bytes=100)
    fetch(s, 0, max_bytes=0, part_bytes=0)
    fetch(s, 2, part_bytes=150)


@case("Fetch", "unknown topic, partition, id", first=4)
def _(s):
    filled(s, 1)
    fetch(s, partition=3)
    if s.version >= 13:
        fetch(s, id_=UNKNOWN_ID)
    else:
        fetch(s, name=s.topic("missing"))


@case("Fetch", "read committed", first=4)
def _(s):
    filled(s)
    fetch(s, 0, isolation_level=1)
    fetch(s, 6, isolation_level=1)


@case("Fetch", "leader epochs: right, old, new", first=9)
def _(s):
    filled(s, 1)
    for epoch in (-1, 0, 1, 5):
        fetch(s, 0, current_leader_epoch=epoch)


@case("Fetch", "last fetched epoch: right, unknown, and a diverging offset", first=12)
def _(s):
    filled(s, 1)
    for epoch, offset in ((0, 1), (0, 2), (5, 0), (0, 9)):
        fetch(s, offset, last_fetched_epoch=epoch)


@case("Fetch", "sessions: made, incremental, closed, wrong epoch, unknown", first=7)
def _(s):
    filled(s)
    first = fetch(s, 0, session_id=0, session_epoch=0)
    session = first.get("session_id", 0)
    s.ask(Fetch(max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_id=session, session_epoch=1))
    fetch(s, 6, session_id=session, session_epoch=2)
    produce(s, batch(b"new"), version=9, note=False)
    s.ask(Fetch(max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_id=session, session_epoch=3))
    s.ask(Fetch(max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_id=session, session_epoch=9))
    forgotten = (
        Fetch.ForgottenTopic(topic_id=topic_id(s, s.topic()), partitions=[0])
        if s.version >= 13
        else Fetch.ForgottenTopic(topic=s.topic(), partitions=[0])
    )
    s.ask(
        Fetch(
            max_wait_ms=0,
            min_bytes=1,
            max_bytes=1 << 20,
            session_id=session,
            session_epoch=4,
            forgotten_topics_data=[forgotten],
        )
    )
    s.ask(Fetch(max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_id=session, session_epoch=-1))
    s.ask(Fetch(max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_id=session, session_epoch=1))
    s.ask(Fetch(max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_id=123456, session_epoch=1))
    s.ask(Fetch(max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_id=0, session_epoch=5))


@case("Fetch", "a session over an unknown topic that comes to be", first=7, last=12)
def _(s):
    name = s.topic("later")
    first = fetch(s, 0, name=name, session_id=0, session_epoch=0)
    create(s, creatable(name))
    s.ask(Fetch(max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_id=first.get("session_id", 0), session_epoch=1))


@case("Fetch", "a session over a topic that is deleted and made again", first=7)
def _(s):
    filled(s, 1)
    first = fetch(s, 0, session_id=0, session_epoch=0)
    s.ask(request_class(20)(topic_names=[s.topic()], timeout_ms=5000), version=5, note=False)
    session = first.get("session_id", 0)
    s.ask(Fetch(max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_id=session, session_epoch=1))


@case("Fetch", "zstd below version 10, gzip always", first=4)
def _(s):
    create(s, creatable(s.topic("z")), creatable(s.topic("g")))
    produce(s, batch(b"a" * 50, compression=Compression.ZSTD), name=s.topic("z"), version=9, note=False)
    produce(s, batch(b"a" * 50, compression=Compression.GZIP), name=s.topic("g"), version=9, note=False)
    fetch(s, name=s.topic("z"))
    fetch(s, name=s.topic("g"))


@case("Fetch", "as a replica that is none", first=4, last=14)
def _(s):
    filled(s, 1)
    fetch(s, 0, replica_id=5)


@case("Fetch", "nothing asked", first=4)
def _(s):
    s.ask(Fetch(max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, topics=[]))


# --- ListOffsets


def list_offsets(s: Scene, *stamps, name=None, partition=0, isolation=0, epoch=-1, replica=-1):
    for stamp in stamps:
        one = ListOffsets.ListOffsetsPartition(partition_index=partition, timestamp=stamp, current_leader_epoch=epoch)
        if s.version < 4:
            one.current_leader_epoch = -1
        fields = {"isolation_level": isolation} if s.version >= 2 else {}
        if s.version >= 10:
            fields["timeout_ms"] = 5000
        s.ask(
            ListOffsets(
                replica_id=replica,
                topics=[ListOffsets.ListOffsetsTopic(name=name or s.topic(), partitions=[one])],
                **fields,
            )
        )


@case("ListOffsets", "latest, earliest, and the special ones", first=1)
def _(s):
    filled(s)
    list_offsets(s, -1, -2, -3, -4, -5, -6, -7)


@case("ListOffsets", "of an empty log", first=1)
def _(s):
    create(s, creatable(s.topic()))
    list_offsets(s, -1, -2, -3, 0, NOW)


@case("ListOffsets", "by time, inside batches too", first=1)
def _(s):
    create(s, creatable(s.topic()))
    produce(s, batch(b"a", b"b", b"c", at=1000), version=9, note=False)
    produce(s, batch(b"d", b"e", at=2000, compression=Compression.GZIP), version=9, note=False)
    produce(s, batch(b"f", at=1500), version=9, note=False)
    list_offsets(s, 0, 999, 1000, 1001, 1002, 1003, 2000, 2001, 2002, -3)


@case("ListOffsets", "by time with LogAppendTime", first=7)
def _(s):
    create(s, creatable(s.topic(), configs={"message.timestamp.type": "LogAppendTime"}))
    produce(s, batch(b"a", b"b", b"c", at=1000), version=9, note=False)
    list_offsets(s, 0, -3)


@case("ListOffsets", "read committed", first=2)
def _(s):
    filled(s)
    list_offsets(s, -1, -2, isolation=1)


@case("ListOffsets", "unknown topic and partition, leader epochs", first=4)
def _(s):
    filled(s, 1)
    list_offsets(s, -1, name=s.topic("missing"))
    list_offsets(s, -1, partition=7)
    list_offsets(s, -1, epoch=0)
    list_offsets(s, -1, epoch=3)


@case("ListOffsets", "the same partition twice", first=1)
def _(s):
    filled(s, 1)
    P = ListOffsets.ListOffsetsPartition
    parts = [P(partition_index=0, timestamp=-1), P(partition_index=0, timestamp=-2)]
    s.ask(ListOffsets(replica_id=-1, topics=[ListOffsets.ListOffsetsTopic(name=s.topic(), partitions=parts)]))


@case("OffsetForLeaderEpoch", "known, unknown, of a missing topic", first=2)
def _(s):
    Request = request_class(23)
    filled(s, 1)
    for name, partition, epoch, current in (
        (s.topic(), 0, 0, -1),
        (s.topic(), 0, 0, 0),
        (s.topic(), 0, 5, -1),
        (s.topic(), 0, 0, 4),
        (s.topic(), 0, -1, -1),
        (s.topic(), 4, 0, -1),
        (s.topic("missing"), 0, 0, -1),
    ):
        one = Request.OffsetForLeaderPartition(partition=partition, leader_epoch=epoch, current_leader_epoch=current)
        s.ask(Request(topics=[Request.OffsetForLeaderTopic(topic=name, partitions=[one])]))


@case("OffsetForLeaderEpoch", "nothing asked, the same partition twice, several topics", first=2)
def _(s):
    Request = request_class(23)
    P, T = Request.OffsetForLeaderPartition, Request.OffsetForLeaderTopic
    create(s, creatable(s.topic(), 2), creatable(s.topic("u")))
    s.ask(Request(topics=[]))
    s.ask(Request(topics=[T(topic=s.topic(), partitions=[])]))
    good = P(partition=0, leader_epoch=0)
    s.ask(Request(topics=[T(topic=s.topic(), partitions=[good, good, P(partition=1, leader_epoch=0)])]))
    s.ask(Request(topics=[T(topic=s.topic(), partitions=[good]), T(topic=s.topic("u"), partitions=[good])]))


@case("InitProducerId", "idempotent: fresh ids; recovery of what is unknown; the empty transactional id", first=0)
def _(s):
    Request = request_class(22)
    for _ in range(500):  # a fresh node has no block of ids yet
        if s.ask(Request(transactional_id=None, transaction_timeout_ms=60000), note=False)["error_code"] == 0:
            break
        time.sleep(0.02)
    s.ask(Request(transactional_id=None, transaction_timeout_ms=60000))
    s.ask(Request(transactional_id=None, transaction_timeout_ms=-1))
    s.ask(Request(transactional_id="", transaction_timeout_ms=60000))
    if s.version >= 3:
        s.ask(Request(transactional_id=None, transaction_timeout_ms=60000, producer_id=5, producer_epoch=3))
        s.ask(Request(transactional_id=None, transaction_timeout_ms=60000, producer_id=5, producer_epoch=-1))
        s.ask(Request(transactional_id=None, transaction_timeout_ms=60000, producer_id=-1, producer_epoch=3))
