"""What transactions leave in logs: batches, markers, committed offsets, and what administrators are told of them."""

from cases.data import NOW, batch, produce
from cases.groups import find as find_group
from cases.groups import stable
from cases.topics import UNKNOWN_ID, creatable, create, topic_id
from cases.transactions import add, end, find, init, settled, topics
from registry import Scene, case

from kafkapy.protocol.messages import request_class, response_class
from kafkapy.protocol.primitives import ZERO_UUID
from kafkapy.records.batch import walk
from kafkapy.records.record import read_records

WriteMarkers = request_class(27)
Commit = request_class(28)
Describe = request_class(61)
AddOffsets = request_class(25)
OffsetFetch = request_class(9)
Fetch = request_class(1)

ADDS_FROM_PRODUCE = 12
ADDS_FROM_COMMIT = 5
BY_ID_FROM_COMMIT = 6


def written(producer, *values, sequence=0, transactional=True):
    return batch(
        *values,
        producer_id=producer[0],
        producer_epoch=producer[1],
        base_sequence=sequence,
        transactional=transactional,
    )


def send(s: Scene, producer, *values, sequence=0, version=None, note=True, partition=0):
    """A batch in the transaction of the id, to which its partition is added first where Produce does not do that."""
    version = s.version if version is None else version
    if version < ADDS_FROM_PRODUCE:
        add(s, producer, topics((s.topic(), [partition])), note=False, version=3)
    data = written(producer, *values, sequence=sequence)
    return produce(s, data, partition=partition, version=version, note=note, transactional_id=s.topic("id"))


def read(s: Scene, isolation_level=0):
    """What a reader gets of partition 0, without the producer ids that stand in the bytes."""
    one = Fetch.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
    request = Fetch(
        max_bytes=1 << 20, topics=[Fetch.FetchTopic(topic=s.topic(), partitions=[one])], isolation_level=isolation_level
    )
    answer, _ = response_class(1).decode(12, memoryview(s.probe.exchange(request, 12)))
    [topic] = answer.responses
    [partition] = topic.partitions
    records = bytes(partition.records)
    batches = []
    for position, header in walk(records):
        data = memoryview(records)[position : position + header.size_bytes]
        said = "marker" if header.is_control else [record.value.decode() for record in read_records(data)]
        batches.append([header.base_offset, header.producer_epoch, header.base_sequence, header.is_transactional, said])
    aborted = partition.aborted_transactions or ()
    s.probe.trace.append(
        {
            "error_code": partition.error_code,
            "last_stable_offset": partition.last_stable_offset,
            "aborted": [{"producer_id": row.producer_id, "first_offset": row.first_offset} for row in aborted],
            "batches": batches,
        }
    )


def producers(s: Scene, *asked):
    """Describe the producers of the partitions; the times of markers are left out."""
    asked = asked or ((s.topic(), [0, 1]),)
    request = Describe(
        topics=[Describe.TopicRequest(name=name, partition_indexes=list(indexes)) for name, indexes in asked]
    )
    answer = s.ask(request, version=0, note=False)
    for topic in answer["topics"]:
        for partition in topic["partitions"]:
            partition["active_producers"].sort(key=lambda producer: producer["producer_id"])
            for producer in partition["active_producers"]:
                producer["last_timestamp"] = min(producer["last_timestamp"] - NOW, 1_000_000)
    s.probe.trace.append(answer)


@case("Produce", "sequence numbers that are used again after an abort", first=3)
def used_again(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    find(s)
    producer = init(s)
    adds = s.version >= ADDS_FROM_PRODUCE
    for values, committed in (((b"a", b"b"), False), ((b"c", b"d"), True), ((b"e",), True)):
        send(s, producer, *values)
        after = end(s, producer, committed, version=5 if adds else 4)
        producer = after if adds else producer
        read(s)
    producers(s)


@case("Produce", "in a transaction: out of order, a repeat, outside of it, by a zombie, of nobody", first=3)
def in_transaction(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    find(s)
    producer = init(s)
    send(s, producer, b"a", sequence=3)
    send(s, producer, b"a", b"b")
    send(s, producer, b"c", sequence=2)
    send(s, producer, b"a", b"b")
    send(s, producer, b"e", sequence=4)
    produce(s, written(producer, b"d", sequence=3, transactional=False))
    produce(s, written(producer, b"d", sequence=3))
    produce(s, written(producer, b"d", sequence=3), transactional_id=s.topic("another"))
    send(s, (producer[0], producer[1] + 1), b"d")
    send(s, (producer[0] + 7000, producer[1]), b"d", partition=1)
    producers(s)
    younger = init(s)
    send(s, producer, b"d", sequence=3)
    send(s, younger, b"d", sequence=3)
    send(s, younger, b"d")
    read(s)
    read(s, isolation_level=1)
    producers(s)


def markers(s: Scene, *wanted, note=True):
    """Write markers: (producer id, epoch), committed, coordinator epoch, partitions, transaction version."""
    made = []
    for producer, committed, coordinator_epoch, asked, version in wanted:
        fields = {"transaction_version": version} if s.version >= 2 else {}
        made.append(
            WriteMarkers.WritableTxnMarker(
                producer_id=producer[0],
                producer_epoch=producer[1],
                transaction_result=committed,
                coordinator_epoch=coordinator_epoch,
                topics=[WriteMarkers.WritableTxnMarkerTopic(name=n, partition_indexes=list(p)) for n, p in asked],
                **fields,
            )
        )
    return s.ask(WriteMarkers(markers=made), note=note)


@case("WriteTxnMarkers", "commit and abort, twice, late, of an older coordinator, where nothing is open")
def marked(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    find(s)
    producer_id, epoch = producer = init(s)
    here = ((s.topic(), [0]),)
    send(s, producer, b"a", version=11)
    producers(s)
    markers(s, (producer, False, 3, here, 0))
    producers(s)
    markers(s, (producer, True, 3, here, 0))
    markers(s, (producer, True, 2, here, 0))
    markers(s, ((producer_id, epoch + 2), True, 4, here, 0))
    markers(s, (producer, True, 4, here, 0))
    markers(s, ((producer_id + 8000, 0), True, 0, ((s.topic(), [0, 1]),), 0))
    producers(s)
    read(s, isolation_level=1)


@case("WriteTxnMarkers", "by the rules of each transaction version", first=2)
def marked_by_rules(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    find(s)
    producer_id, epoch = init(s)
    here = ((s.topic(), [0]),)
    for version in (0, 1, 2):
        send(s, (producer_id, epoch), b"a", version=11, sequence=version)
        markers(s, ((producer_id, epoch), True, 0, here, version))
        producers(s)
    markers(s, ((producer_id, epoch + 1), True, 0, here, 2))
    producers(s)
    markers(s, ((producer_id + 8000, 5), False, 0, here, 2))
    markers(s, ((producer_id + 8000, 5), False, 0, here, 9))
    producers(s)
    read(s)


@case("WriteTxnMarkers", "several producers, partitions that are not there, nobody, nothing")
def marked_elsewhere(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    find(s)
    producer = init(s)
    send(s, producer, b"a", version=11)
    other = (producer[0] + 8000, 0)
    both = ((s.topic(), [0, 1, 7]), (s.topic("nowhere"), [0]))
    markers(s, (producer, True, 0, both, 0), (other, False, 0, ((s.topic(), [1]),), 0))
    markers(s, (producer, True, 0, ((s.topic(), [0]),), 0), (producer, True, 0, ((s.topic(), [1]),), 0))
    markers(s, (producer, True, 0, (), 0))
    markers(s)
    producers(s)


@case("TxnOffsetCommit", "pending, committed, aborted")
def committed(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    find(s)
    find_group(s, s.topic("g"))
    producer = init(s)
    adds = s.version >= ADDS_FROM_COMMIT
    for offset, is_committed in ((3, True), (5, False), (7, True)):
        if not adds:
            join_transaction(s, producer)
        commit(s, producer, ((s.topic(), [(0, offset), (1, offset + 1)]),))
        for stable_only in (True, False):
            offsets(s, stable_only)
        after = end(s, producer, is_committed, version=5 if adds else 4)
        producer = after if adds else producer
        offsets(s, True)


@case("TxnOffsetCommit", "out of turn, by a zombie, what cannot be committed, for nobody")
def refused(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    find(s)
    find_group(s, s.topic("g"))
    producer_id, epoch = producer = init(s)
    fine = ((s.topic(), [(0, 1)]),)
    commit(s, producer, fine)  # before version 5 the group was not added
    if s.version < ADDS_FROM_COMMIT:
        join_transaction(s, producer)
    commit(s, (producer_id, epoch + 1), fine)
    commit(s, (producer_id + 7000, epoch), fine)
    commit(s, producer, fine, name="nobody")
    commit(s, producer, fine, name="")
    commit(s, producer, fine, group="")
    commit(s, producer, ((s.topic(), [(0, -1), (1, 4), (7, 5)]), (s.topic("nowhere"), [(0, 1)])))
    commit(s, producer, ((s.topic(), [(0, 9)]),), metadata="x" * 5000)
    commit(s, producer, ())
    younger = init(s)
    commit(s, producer, fine)
    if s.version < ADDS_FROM_COMMIT:
        join_transaction(s, younger)
    commit(s, younger, fine)
    offsets(s, False)


@case("TxnOffsetCommit", "of a member, of others, of a generation that is over", first=3)
def of_members(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    find(s)
    producer = init(s)
    member, generation = stable(s, s.topic("g"))
    if s.version < ADDS_FROM_COMMIT:
        join_transaction(s, producer)
    fine = ((s.topic(), [(0, 1)]),)
    for fields in (
        {"member_id": member, "generation_id_or_member_epoch": generation},
        {"member_id": member, "generation_id_or_member_epoch": generation + 1},
        {"member_id": member, "generation_id_or_member_epoch": generation - 1},
        {"member_id": member},
        {"member_id": "nobody", "generation_id_or_member_epoch": generation},
        {"generation_id_or_member_epoch": generation},
        {"member_id": member, "generation_id_or_member_epoch": generation, "group_instance_id": "i"},
        {},
    ):
        commit(s, producer, fine, **fields)
    commit(s, producer, fine, group="fresh", member_id="nobody", generation_id_or_member_epoch=3)


def join_transaction(s: Scene, producer):
    s.ask(
        AddOffsets(
            transactional_id=s.topic("id"), producer_id=producer[0], producer_epoch=producer[1], group_id=s.topic("g")
        ),
        version=3,
        note=False,
    )


def commit(s: Scene, producer, wanted, name="id", group="g", metadata="note", **fields):
    Topic, Partition = Commit.TxnOffsetCommitRequestTopic, Commit.TxnOffsetCommitRequestPartition
    made = []
    for topic, places in wanted:
        partitions = [
            Partition(partition_index=index, committed_offset=offset, committed_metadata=metadata)
            for index, offset in places
        ]
        if s.version < BY_ID_FROM_COMMIT:
            made.append(Topic(name=topic, partitions=partitions))
        else:
            known = UNKNOWN_ID if topic == s.topic("nowhere") else topic_id(s, topic)
            made.append(Topic(topic_id=known, partitions=partitions))
    request = Commit(
        transactional_id=s.topic(name) if name else name,
        group_id=s.topic(group) if group else group,
        producer_id=producer[0],
        producer_epoch=producer[1],
        topics=made,
        **fields,
    )
    return s.ask(request)


def offsets(s: Scene, stable_only):
    group = OffsetFetch.OffsetFetchRequestGroup(
        group_id=s.topic("g"),
        topics=[
            OffsetFetch.OffsetFetchRequestTopics(name=s.topic(), topic_id=ZERO_UUID, partition_indexes=[0, 1]),
        ],
    )
    s.ask(OffsetFetch(groups=[group], require_stable=stable_only), version=9)


@case("DescribeProducers", "idempotent, transactional, after an end, of partitions that are not there")
def described(s: Scene) -> None:
    create(s, creatable(s.topic(), 2))
    producers(s)
    produce(s, written((7_000_000, 3), b"a", sequence=4, transactional=False), version=9)
    find(s)
    mine = init(s)
    for committed, sequence in ((True, 0), (False, 1)):
        send(s, mine, b"a", sequence=sequence, version=11)
        producers(s)
        end(s, mine, committed, version=4)
        producers(s)
    settled(s)
    producers(s, (s.topic(), [0, 7]), (s.topic("nowhere"), [0]), (s.topic("empty"), []))
    s.ask(Describe(topics=[]), version=0)
