"""What the field sent: cases from programs and reports, each an example of a kind."""

from cases.data import batch, produce
from cases.topics import creatable, create, settle
from registry import Scene, case

from kafkapy.protocol.header import encode_request_header
from kafkapy.protocol.messages import request_class

MALFORMED = {b"caf#": b"caf\xe9", b"ta##g": b"ta\xed\xa0g", b"f###l": b"f\xf0\x90\x80l"}


def ask_malformed(s: Scene, request, client_id="differential"):
    """A request in which stand-ins are replaced by bytes that are no UTF-8."""
    out = bytearray()
    encode_request_header(request.API_KEY, s.version, 7, client_id, out)
    body = b"".join(request.encode(s.version, out))
    for stand_in, raw in MALFORMED.items():
        body = body.replace(stand_in, raw)
    return s.probe.call_raw(request.API_KEY, s.version, body)


# --- text that is no UTF-8


@case("Metadata", "names that are no UTF-8", first=1)
def _(s):
    Metadata = request_class(3)
    names = [s.topic(stand_in.decode()) for stand_in in MALFORMED]
    ask_malformed(s, Metadata(topics=[Metadata.MetadataRequestTopic(name=name) for name in names]))
    ask_malformed(s, Metadata(topics=[]), client_id="caf#")


@case("ApiVersions", "software that is no UTF-8", first=3, last=4)
def _(s):
    for name, version in (("caf#", "1"), ("probe", "f###l")):
        ask_malformed(s, s.make("ApiVersions", client_software_name=name, client_software_version=version))


@case("CreateTopics", "names and settings that are no UTF-8")
def _(s):
    CreateTopics = request_class(19)
    topics = [creatable("caf#"), creatable(s.topic(), configs={"ta##g": "1"})]
    ask_malformed(s, CreateTopics(topics=topics, timeout_ms=5000))


@case("DeleteTopics", "a name that is no UTF-8", last=5)
def _(s):
    ask_malformed(s, s.make("DeleteTopics", topic_names=["caf#"], timeout_ms=5000))


@case("DescribeConfigs", "names that are no UTF-8")
def _(s):
    Describe = request_class(32)
    resources = [Describe.DescribeConfigsResource(resource_type=kind, resource_name="caf#") for kind in (2, 4)]
    ask_malformed(s, Describe(resources=resources))


@case("ListOffsets", "a name that is no UTF-8")
def _(s):
    ListOffsets = request_class(2)
    one = ListOffsets.ListOffsetsPartition(partition_index=0, timestamp=-1)
    ask_malformed(s, ListOffsets(topics=[ListOffsets.ListOffsetsTopic(name="ta##g", partitions=[one])]))


# --- topics that come into being by asking


@case("Metadata", "a topic that is not there is made, and there when asked for again")
def _(s):
    Metadata = request_class(3)
    asked = Metadata(topics=[Metadata.MetadataRequestTopic(name=s.topic())])
    s.ask(asked)
    settle(s, [s.topic()])
    s.ask(asked)


@case("Metadata", "beside a name that is not legal, and one that collides", first=4)
def _(s):
    Metadata = request_class(3)
    create(s, creatable(s.topic("a.b")))
    names = ["not legal", s.topic("new"), s.topic("a_b"), s.topic("a.b")]
    s.ask(Metadata(topics=[Metadata.MetadataRequestTopic(name=name) for name in names]))


# --- leader epochs


def fetched_from(s: Scene, offset, epoch):
    Fetch = request_class(1)
    one = Fetch.FetchPartition(partition=0, fetch_offset=offset, last_fetched_epoch=epoch, partition_max_bytes=1 << 20)
    s.ask(
        Fetch(
            max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, topics=[Fetch.FetchTopic(topic=s.topic(), partitions=[one])]
        )
    )


def ends_of(s: Scene, *epochs):
    Epochs = request_class(23)
    for epoch in epochs:
        one = Epochs.OffsetForLeaderPartition(partition=0, leader_epoch=epoch)
        s.ask(Epochs(replica_id=-1, topics=[Epochs.OffsetForLeaderTopic(topic=s.topic(), partitions=[one])]))


def emptied(s: Scene):
    """The topic's log loses all that it holds."""
    Delete = request_class(21)
    one = Delete.DeleteRecordsPartition(partition_index=0, offset=-1)
    asked = Delete(topics=[Delete.DeleteRecordsTopic(name=s.topic(), partitions=[one])], timeout_ms=5000)
    s.ask(asked, version=2, note=False)


@case("Fetch", "by the epoch of what was read last: of a log that is empty, written, emptied", first=12, last=12)
def _(s):
    create(s, creatable(s.topic()))
    for prepare in (
        None,
        lambda: produce(s, batch(b"a", b"b"), name=s.topic(), version=9, note=False),
        lambda: emptied(s),
    ):
        if prepare is not None:
            prepare()
        for offset in (0, 1, 5):
            for epoch in (-1, 0, 1, -5):
                fetched_from(s, offset, epoch)


@case("OffsetForLeaderEpoch", "of a log that is empty, written, emptied")
def _(s):
    create(s, creatable(s.topic()))
    ends_of(s, -5, -1, 0, 1)
    produce(s, batch(b"a", b"b"), name=s.topic(), version=9, note=False)
    ends_of(s, -5, -1, 0, 1)
    emptied(s)
    ends_of(s, -5, -1, 0, 1)


# --- what older clients may read


@case("Fetch", "a topic that is kept in zstd", first=4, last=12)
def _(s):
    create(s, creatable(s.topic(), configs={"compression.type": "zstd"}))
    produce(s, batch(b"a" * 50), name=s.topic(), version=9, note=False)
    Fetch = request_class(1)
    one = Fetch.FetchPartition(partition=0, partition_max_bytes=1 << 20)
    answer = s.ask(
        Fetch(
            max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, topics=[Fetch.FetchTopic(topic=s.topic(), partitions=[one])]
        ),
        note=False,
    )
    [partition] = answer["responses"][0]["partitions"]
    # Their encoders differ in a byte or two.
    s.probe.trace.append({"error_code": partition["error_code"], "is_there": len(partition["records"]) > 0})


# --- the words of refusals


@case("CreatePartitions", "too many in one request, and no time")
def _(s):
    Grow = request_class(37)
    create(s, creatable(s.topic()))
    many = Grow.CreatePartitionsTopic(name=s.topic(), count=10_002, assignments=None)
    s.ask(Grow(topics=[many], timeout_ms=5000, validate_only=True))
    few = Grow.CreatePartitionsTopic(name=s.topic(), count=2, assignments=None)
    s.ask(Grow(topics=[few], timeout_ms=0, validate_only=False))


@case("CreateTopics", "too many partitions in one request, and no time")
def _(s):
    CreateTopics = request_class(19)
    s.ask(CreateTopics(topics=[creatable(s.topic(), 10_001)], timeout_ms=5000))
    s.ask(CreateTopics(topics=[creatable(s.topic())], timeout_ms=0))


@case("DeleteTopics", "no time")
def _(s):
    create(s, creatable(s.topic()))
    Delete = request_class(20)
    if s.version >= 6:
        s.ask(Delete(topics=[Delete.DeleteTopicState(name=s.topic())], timeout_ms=0))
    else:
        s.ask(Delete(topic_names=[s.topic()], timeout_ms=0))
