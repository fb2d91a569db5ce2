"""DeleteRecords, DescribeLogDirs."""

from cases.data import batch, fetch, produce
from cases.topics import creatable, create
from registry import Scene, case

from kafkapy.protocol.messages import request_class

DeleteRecords = request_class(21)
DescribeLogDirs = request_class(35)
ListOffsets = request_class(2)


def delete(s: Scene, *asked):
    """Delete before offsets, given as (topic, partition, offset), each in an entry of its own."""
    T, P = DeleteRecords.DeleteRecordsTopic, DeleteRecords.DeleteRecordsPartition
    topics = [T(name=name, partitions=[P(partition_index=index, offset=offset)]) for name, index, offset in asked]
    return s.ask(DeleteRecords(topics=topics, timeout_ms=5000))


def filled(s: Scene, partitions=1, **configs):
    """The case's topic, with three batches of two records in partition 0."""
    create(
        s, creatable(s.topic(), partitions, configs={key.replace("_", "."): value for key, value in configs.items()})
    )
    for _ in range(3):
        produce(s, batch(b"a", b"b"), version=9, note=False)


def starts(s: Scene):
    one = ListOffsets.ListOffsetsPartition(partition_index=0, timestamp=-2)
    s.ask(ListOffsets(topics=[ListOffsets.ListOffsetsTopic(name=s.topic(), partitions=[one])]), version=1)


@case("DeleteRecords", "within a batch, to the end, again, before the start")
def _(s):
    filled(s)
    for offset in (1, 1, 3, 2, 0, -1, 6):
        delete(s, (s.topic(), 0, offset))
        starts(s)
    for offset in (5, 6):
        fetch(s, offset, version=4)
    produce(s, batch(b"c"), version=9)
    fetch(s, 6, version=4)


@case("DeleteRecords", "offsets that are none")
def _(s):
    filled(s)
    for offset in (-2, 7, 2**63 - 1, -(2**63)):
        delete(s, (s.topic(), 0, offset))
    starts(s)


@case("DeleteRecords", "what does not exist, several partitions, one twice, nothing")
def _(s):
    filled(s, 2)
    delete(s, (s.topic("missing"), 0, 1))
    delete(s, (s.topic(), 7, 1), (s.topic(), 1, 0), (s.topic(), 0, 1), (s.topic(), -1, 0))
    delete(s, (s.topic(), 0, 5), (s.topic(), 0, 2))
    starts(s)
    delete(s)
    s.ask(DeleteRecords(topics=[DeleteRecords.DeleteRecordsTopic(name=s.topic(), partitions=[])], timeout_ms=5000))


@case("DeleteRecords", "compacted topics")
def _(s):
    filled(s, cleanup_policy="compact")
    delete(s, (s.topic(), 0, 2))
    starts(s)


@case("DeleteRecords", "topics that are compacted and deleted, with a timeout of 0")
def _(s):
    filled(s, cleanup_policy="compact,delete")
    part = DeleteRecords.DeleteRecordsPartition(partition_index=0, offset=2)
    one = DeleteRecords.DeleteRecordsTopic(name=s.topic(), partitions=[part])
    s.ask(DeleteRecords(topics=[one], timeout_ms=0))


@case("DescribeLogDirs", "some partitions, one twice, what does not exist, nothing")
def _(s):
    T = DescribeLogDirs.DescribableLogDirTopic
    filled(s, 2)
    s.ask(DescribeLogDirs(topics=[T(topic=s.topic(), partitions=[0, 1])]))
    s.ask(DescribeLogDirs(topics=[T(topic=s.topic(), partitions=[0, 0]), T(topic=s.topic(), partitions=[0])]))
    s.ask(DescribeLogDirs(topics=[T(topic=s.topic("missing"), partitions=[0]), T(topic=s.topic(), partitions=[9])]))
    s.ask(DescribeLogDirs(topics=[T(topic=s.topic(), partitions=[])]))
    s.ask(DescribeLogDirs(topics=[]))


@case("DescribeLogDirs", "everything")
def _(s):
    filled(s)
    answer = s.ask(DescribeLogDirs(topics=None), note=False)
    for result in answer["results"]:
        result["topics"] = [topic for topic in result["topics"] if topic["name"] == s.topic()]
    s.probe.trace.append(answer)
