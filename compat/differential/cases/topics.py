"""Metadata, CreateTopics, DeleteTopics, CreatePartitions, DescribeConfigs, DescribeCluster, DescribeTopicPartitions."""

import uuid

from registry import Scene, case

from kafkapy.protocol.messages import request_class

CreateTopics = request_class(19)
UNKNOWN_ID = uuid.UUID("12345678-1234-5678-1234-567812345678").bytes


def creatable(name, partitions=1, replicas=1, assignments=None, configs=None):
    return CreateTopics.CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        assignments=[
            CreateTopics.CreatableReplicaAssignment(partition_index=index, broker_ids=ids)
            for index, ids in (assignments or [])
        ],
        configs=[CreateTopics.CreatableTopicConfig(name=key, value=value) for key, value in (configs or {}).items()],
    )


def create(s: Scene, *topics, note=False, **fields):
    answer = s.ask(CreateTopics(topics=list(topics), timeout_ms=10000, **fields), version=7, note=note)
    settle(s, [topic.name for topic in topics])
    return answer


def settle(s: Scene, names):
    """Wait until the topics are served: Kafka answers CreateTopics before its own broker has heard of them."""
    Metadata = request_class(3)
    asked = Metadata(
        topics=[Metadata.MetadataRequestTopic(name=name) for name in names], allow_auto_topic_creation=False
    )
    for _ in range(200):
        answer = s.ask(asked, version=9, note=False)
        served = [topic for topic in answer["topics"] if topic["error_code"] == 0]
        if len(served) == len(names) and all(leads(s, t["name"], p) for t in served for p in t["partitions"]):
            return


def leads(s: Scene, name, partition):
    """Whether the broker takes questions about the partition."""
    ListOffsets = request_class(2)
    one = ListOffsets.ListOffsetsPartition(partition_index=partition["partition_index"], timestamp=-1)
    asked = ListOffsets(topics=[ListOffsets.ListOffsetsTopic(name=name, partitions=[one])])
    return s.ask(asked, version=1, note=False)["topics"][0]["partitions"][0]["error_code"] == 0


def topic_id(s: Scene, name: str) -> bytes:
    Metadata = request_class(3)
    asked = Metadata(topics=[Metadata.MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
    for _ in range(200):  # a moment after its creation a topic may not be known yet
        topic = s.ask(asked, version=12, note=False)["topics"][0]
        if topic["error_code"] == 0:
            break
    return uuid.UUID(topic["topic_id"]).bytes


# --- Metadata


def metadata(s: Scene, names, **fields):
    Metadata = request_class(3)
    topics = None if names is None else [Metadata.MetadataRequestTopic(name=name) for name in names]
    if s.version < 4:
        fields.pop("allow_auto_topic_creation", None)
    return s.ask(Metadata(topics=topics, **fields))


@case("Metadata", "a topic that exists, three partitions")
def _(s):
    create(s, creatable(s.topic(), 3))
    metadata(s, [s.topic()])


@case("Metadata", "an unknown topic without auto-creation", first=4)
def _(s):
    metadata(s, [s.topic("missing")], allow_auto_topic_creation=False)


@case("Metadata", "invalid topic names", first=1)
def _(s):
    metadata(s, ["a b", "", ".", "..", "x" * 250, "ok*"], allow_auto_topic_creation=True)


@case("Metadata", "the same topic twice")
def _(s):
    create(s, creatable(s.topic()))
    metadata(s, [s.topic(), s.topic()])


@case("Metadata", "no topics asked: an empty list", first=1)
def _(s):
    metadata(s, [])


@case("Metadata", "authorized operations asked for", first=8)
def _(s):
    create(s, creatable(s.topic()))
    fields = {"include_topic_authorized_operations": True}
    if s.version <= 10:
        fields["include_cluster_authorized_operations"] = True
    metadata(s, [s.topic()], **fields)


@case("Metadata", "by unknown topic id", first=12)
def _(s):
    Metadata = request_class(3)
    s.ask(Metadata(topics=[Metadata.MetadataRequestTopic(topic_id=UNKNOWN_ID, name=None)]))


@case("Metadata", "by topic id", first=12)
def _(s):
    Metadata = request_class(3)
    create(s, creatable(s.topic()))
    s.ask(Metadata(topics=[Metadata.MetadataRequestTopic(topic_id=topic_id(s, s.topic()), name=None)]))


@case("Metadata", "name and id mixed, and both at once", first=12)
def _(s):
    Metadata = request_class(3)
    create(s, creatable(s.topic()))
    known = topic_id(s, s.topic())
    s.ask(
        Metadata(
            topics=[
                Metadata.MetadataRequestTopic(name=s.topic()),
                Metadata.MetadataRequestTopic(topic_id=known, name=None),
            ]
        )
    )


@case("Metadata", "null name and zero id", first=10)
def _(s):
    Metadata = request_class(3)
    s.ask(Metadata(topics=[Metadata.MetadataRequestTopic(name=None)]))


@case("Metadata", "a collision-prone internal name")
def _(s):
    metadata(s, ["__cluster_metadata"])


# --- CreateTopics


@case("CreateTopics", "plain")
def _(s):
    s.ask(CreateTopics(topics=[creatable(s.topic(), 2)], timeout_ms=5000))


@case("CreateTopics", "defaults by -1", first=4)
def _(s):
    s.ask(CreateTopics(topics=[creatable(s.topic(), -1, -1)], timeout_ms=5000))


@case("CreateTopics", "exists already, also when only validated")
def _(s):
    create(s, creatable(s.topic()))
    s.ask(CreateTopics(topics=[creatable(s.topic())], timeout_ms=5000))
    s.ask(CreateTopics(topics=[creatable(s.topic())], timeout_ms=5000, validate_only=True))


@case("CreateTopics", "validate only leaves nothing")
def _(s):
    s.ask(CreateTopics(topics=[creatable(s.topic())], timeout_ms=5000, validate_only=True))
    s.ask(CreateTopics(topics=[creatable(s.topic())], timeout_ms=5000, validate_only=True))


@case("CreateTopics", "invalid names")
def _(s):
    for name in ("", ".", "..", "a b", "x" * 250, "a/b"):
        s.ask(CreateTopics(topics=[creatable(name)], timeout_ms=5000))


@case("CreateTopics", "colliding names")
def _(s):
    create(s, creatable(s.topic("a.b")))
    s.ask(CreateTopics(topics=[creatable(s.topic("a_b"))], timeout_ms=5000))


@case("CreateTopics", "the same topic twice in one request")
def _(s):
    s.ask(CreateTopics(topics=[creatable(s.topic()), creatable(s.topic()), creatable(s.topic("u"))], timeout_ms=5000))


@case("CreateTopics", "no partitions, no replicas, too many replicas")
def _(s):
    s.ask(CreateTopics(topics=[creatable(s.topic(), 0, 1)], timeout_ms=5000))
    s.ask(CreateTopics(topics=[creatable(s.topic(), 1, 0)], timeout_ms=5000))
    s.ask(CreateTopics(topics=[creatable(s.topic(), 1, 2)], timeout_ms=5000))
    s.ask(CreateTopics(topics=[creatable(s.topic(), -2, -2)], timeout_ms=5000))


@case("CreateTopics", "manual assignments, good and bad")
def _(s):
    for number, (assignments, partitions, replicas) in enumerate(
        [
            ([(0, [1]), (1, [1])], -1, -1),
            ([(0, [1]), (2, [1])], -1, -1),
            ([(0, [1]), (0, [1])], -1, -1),
            ([(0, [1, 1])], -1, -1),
            ([(0, [7])], -1, -1),
            ([(0, [])], -1, -1),
            ([(0, [1])], 1, -1),
            ([(0, [1])], -1, 1),
            ([(0, [1]), (1, [1, 2])], -1, -1),
            ([(-1, [1])], -1, -1),
        ]
    ):
        s.ask(
            CreateTopics(topics=[creatable(s.topic(f"m{number}"), partitions, replicas, assignments)], timeout_ms=5000)
        )


@case("CreateTopics", "configs, good and bad")
def _(s):
    for number, configs in enumerate(
        [
            {"retention.ms": "1000", "cleanup.policy": "compact,delete"},
            {"no.such.setting": "1"},
            {"retention.ms": "soon"},
            {"cleanup.policy": "burn"},
            {"segment.bytes": "1"},
            {"compression.type": None},
            {"min.insync.replicas": "0"},
            {"min.insync.replicas": "3"},
            {"message.timestamp.type": "LogAppendTime"},
            {"max.message.bytes": "-1"},
            {"local.retention.ms": "-2"},
            {"remote.storage.enable": "true"},
        ]
    ):
        s.ask(CreateTopics(topics=[creatable(s.topic(f"c{number}"), configs=configs)], timeout_ms=5000))


@case("CreateTopics", "nothing asked")
def _(s):
    s.ask(CreateTopics(topics=[], timeout_ms=5000))


@case("CreateTopics", "the metadata log's name")
def _(s):
    s.ask(CreateTopics(topics=[creatable("__cluster_metadata")], timeout_ms=5000))


# --- DeleteTopics

DeleteTopics = request_class(20)


def delete(s: Scene, *names, ids=()):
    if s.version < 6:
        return s.ask(DeleteTopics(topic_names=list(names), timeout_ms=5000))
    topics = [DeleteTopics.DeleteTopicState(name=name) for name in names]
    topics += [DeleteTopics.DeleteTopicState(name=None, topic_id=key) for key in ids]
    return s.ask(DeleteTopics(topics=topics, timeout_ms=5000))


@case("DeleteTopics", "one that exists, one that does not")
def _(s):
    create(s, creatable(s.topic()))
    delete(s, s.topic(), s.topic("missing"))
    delete(s, s.topic())


@case("DeleteTopics", "the same twice")
def _(s):
    create(s, creatable(s.topic()))
    delete(s, s.topic(), s.topic())


@case("DeleteTopics", "by id, known and unknown and zero", first=6)
def _(s):
    create(s, creatable(s.topic()))
    delete(s, ids=[topic_id(s, s.topic())])
    delete(s, ids=[UNKNOWN_ID])
    delete(s, ids=[bytes(16)])


@case("DeleteTopics", "by name and id at once", first=6)
def _(s):
    create(s, creatable(s.topic()))
    known = topic_id(s, s.topic())
    s.ask(DeleteTopics(topics=[DeleteTopics.DeleteTopicState(name=s.topic(), topic_id=known)], timeout_ms=5000))
    s.ask(
        DeleteTopics(
            topics=[
                DeleteTopics.DeleteTopicState(name=s.topic()),
                DeleteTopics.DeleteTopicState(name=None, topic_id=known),
            ],
            timeout_ms=5000,
        )
    )


@case("DeleteTopics", "an empty list, an invalid name")
def _(s):
    delete(s)
    delete(s, "")


# --- CreatePartitions

CreatePartitions = request_class(37)


def grow(s: Scene, name, count, assignments=None, validate_only=False):
    return s.ask(
        CreatePartitions(
            topics=[
                CreatePartitions.CreatePartitionsTopic(
                    name=name,
                    count=count,
                    assignments=None
                    if assignments is None
                    else [CreatePartitions.CreatePartitionsAssignment(broker_ids=ids) for ids in assignments],
                )
            ],
            timeout_ms=5000,
            validate_only=validate_only,
        )
    )


@case("CreatePartitions", "more, the same, fewer, none, of a missing topic")
def _(s):
    create(s, creatable(s.topic(), 2))
    grow(s, s.topic(), 4)
    grow(s, s.topic(), 4)
    grow(s, s.topic(), 1)
    grow(s, s.topic(), 0)
    grow(s, s.topic(), -1)
    grow(s, s.topic("missing"), 3)


@case("CreatePartitions", "assignments, good and bad, and validated only")
def _(s):
    create(s, creatable(s.topic(), 1))
    grow(s, s.topic(), 2, [[1]], validate_only=True)
    grow(s, s.topic(), 2, [[1], [1]])
    grow(s, s.topic(), 2, [[7]])
    grow(s, s.topic(), 2, [[]])
    grow(s, s.topic(), 3, [[1]])
    grow(s, s.topic(), 2, [[1]])


@case("CreatePartitions", "the same topic twice")
def _(s):
    create(s, creatable(s.topic(), 1))
    topics = [CreatePartitions.CreatePartitionsTopic(name=s.topic(), count=n, assignments=None) for n in (2, 3)]
    s.ask(CreatePartitions(topics=topics, timeout_ms=5000))


# --- DescribeConfigs

OF_THE_NODE = {
    "advertised.listeners",
    "controller.listener.names",
    "controller.quorum.voters",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
    "listeners",
    "log.dir",
    "log.dirs",
    "process.roles",
}

DescribeConfigs = request_class(32)


def describe(s: Scene, kind, name, keys=None, **fields):
    resource = DescribeConfigs.DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
    if s.version < 3:
        fields.pop("include_documentation", None)
    return s.ask(DescribeConfigs(resources=[resource], **fields))


@case("DescribeConfigs", "a topic with overrides, with synonyms")
def _(s):
    create(s, creatable(s.topic(), configs={"retention.ms": "1000", "cleanup.policy": "compact"}))
    describe(s, 2, s.topic(), include_synonyms=True)


@case("DescribeConfigs", "chosen keys, one of them unknown")
def _(s):
    create(s, creatable(s.topic()))
    describe(s, 2, s.topic(), ["retention.ms", "no.such"])
    describe(s, 2, s.topic(), [])


@case("DescribeConfigs", "missing topic, invalid topic name, empty name")
def _(s):
    describe(s, 2, s.topic("missing"))
    describe(s, 2, "a b")
    describe(s, 2, "")


@case("DescribeConfigs", "the broker, another broker, not a number, the default")
def _(s):
    describe(s, 4, "1", ["num.partitions", "log.retention.hours", "log.retention.ms"], include_synonyms=True)
    describe(s, 4, "7")
    describe(s, 4, "x")
    describe(s, 4, "")


@case("DescribeConfigs", "the whole broker")
def _(s):
    answer = describe(s, 4, "1", include_synonyms=True)
    for result in answer["results"]:
        result["configs"] = [config for config in result["configs"] if config["name"] not in OF_THE_NODE]


@case("DescribeConfigs", "unknown resource types, groups, client metrics")
def _(s):
    describe(s, 0, "x")
    describe(s, 99, "x")
    describe(s, 32, s.topic("group"))
    describe(s, 32, "")
    describe(s, 16, s.topic("metrics"))
    describe(s, 16, "")


# --- DescribeCluster, DescribeTopicPartitions


@case("DescribeCluster", "plain, and with authorized operations")
def _(s):
    s.ask(s.make("DescribeCluster"))
    s.ask(s.make("DescribeCluster", include_cluster_authorized_operations=True))


@case("DescribeCluster", "of controllers", first=1)
def _(s):
    s.ask(s.make("DescribeCluster", endpoint_type=2))
    s.ask(s.make("DescribeCluster", endpoint_type=9))


@case("DescribeTopicPartitions", "topics, sorted; missing ones; a limit and a cursor")
def _(s):
    Request = request_class(75)
    create(s, creatable(s.topic("a"), 3), creatable(s.topic("b"), 2))
    both = [Request.TopicRequest(name=s.topic("b")), Request.TopicRequest(name=s.topic("a"))]
    s.ask(Request(topics=both))
    s.ask(Request(topics=both, response_partition_limit=2))
    s.ask(
        Request(
            topics=both, response_partition_limit=2, cursor=Request.Cursor(topic_name=s.topic("a"), partition_index=2)
        )
    )
    s.ask(Request(topics=[Request.TopicRequest(name=s.topic("missing"))]))
    s.ask(Request(topics=both, cursor=Request.Cursor(topic_name=s.topic("a"), partition_index=-1)))
    s.ask(Request(topics=both, response_partition_limit=0))
    s.ask(Request(topics=[Request.TopicRequest(name="a b")]))


@case("DescribeTopicPartitions", "the same twice, nothing asked, cursors at the end, beyond, of another topic")
def _(s):
    Request = request_class(75)
    create(s, creatable(s.topic("a"), 3), creatable(s.topic("b"), 2))
    a, b = (Request.TopicRequest(name=s.topic(name)) for name in "ab")
    s.ask(Request(topics=[a, a]))

    def after(topic, partition, topics, limit=2000):
        cursor = Request.Cursor(topic_name=s.topic(topic), partition_index=partition)
        s.ask(Request(topics=topics, cursor=cursor, response_partition_limit=limit))

    after("a", 3, [a, b])
    after("b", 1, [a, b])
    after("aa", 0, [a, b])
    after("c", 0, [a, b])
    after("a", 1, [a, b], limit=1)
    after("a", 1, [b])
