"""The questions that `rights` asks with every single right: one a name, built anew for each right.

A question is a function of the names it may use (`Names`); it returns the request and the version to ask in. What it
asks about is there (`Names.topic`, `group`, `transactional_id`) or not (`missing`); what it makes or removes is its own
(`fresh`), so that no answer depends on what an earlier right allowed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from cases.data import batch

from kafkapy.protocol.messages import APIS, request_class

ANY, LITERAL, READ, ALLOW = 1, 3, 3, 3


class Names(NamedTuple):
    """What a question asks about; `fresh` is a topic that was just made, and no other question knows of."""

    topic: str
    topic_id: bytes
    group: str
    transactional_id: str
    missing: str
    new: str
    fresh: str
    fresh_id: bytes


Question = Callable[[Names], tuple[Any, int]]
QUESTIONS: dict[str, Question] = {}
KEYS = {api.name: key for key, api in APIS.items()}


def question(about: str = "") -> Callable[[Question], Question]:
    """Register a question; its API is the function's name."""

    def register(function: Question) -> Question:
        name = function.__name__.rstrip("_")
        QUESTIONS[f"{name} {about}".strip()] = function
        return function

    return register


def made(api: str, /, **fields: Any) -> Any:
    return request_class(KEYS[api])(**fields)


def inner(api: str, name: str, /, **fields: Any) -> Any:
    return getattr(request_class(KEYS[api]), name)(**fields)


def _produce(n: Names, transactional_id: str | None, data: bytes) -> Any:
    topics = [
        inner(
            "Produce",
            "TopicProduceData",
            name=name,
            partition_data=[inner("Produce", "PartitionProduceData", index=0, records=data)],
        )
        for name in (n.fresh, n.missing)
    ]
    return made("Produce", acks=-1, timeout_ms=5000, topic_data=topics, transactional_id=transactional_id)


@question("to a topic and to none")
def Produce(n: Names):
    return _produce(n, None, batch(b"v")), 12


@question("in a transaction")
def Produce_(n: Names):
    data = batch(b"v", producer_id=77, producer_epoch=0, base_sequence=0, transactional=True)
    return _produce(n, n.transactional_id, data), 11


def _fetch(n: Names, replica_id: int) -> Any:
    topics = [
        inner(
            "Fetch",
            "FetchTopic",
            topic=name,
            partitions=[inner("Fetch", "FetchPartition", partition=0, fetch_offset=0, partition_max_bytes=1000)],
        )
        for name in (n.topic, n.missing)
    ]
    return made("Fetch", replica_id=replica_id, max_wait_ms=0, min_bytes=0, max_bytes=1000, topics=topics)


@question("as a consumer")
def Fetch(n: Names):
    return _fetch(n, -1), 12


@question("as a replica")
def Fetch_(n: Names):
    return _fetch(n, 2), 12


@question()
def ListOffsets(n: Names):
    topics = [
        inner(
            "ListOffsets",
            "ListOffsetsTopic",
            name=name,
            partitions=[inner("ListOffsets", "ListOffsetsPartition", partition_index=0, timestamp=-1)],
        )
        for name in (n.topic, n.missing)
    ]
    return made("ListOffsets", topics=topics), 7


def _metadata(*topics: Any, creating: bool = False) -> Any:
    return made(
        "Metadata",
        topics=list(topics),
        allow_auto_topic_creation=creating,
        include_topic_authorized_operations=True,
    )


@question("of names")
def Metadata(n: Names):
    asked = [inner("Metadata", "MetadataRequestTopic", name=name) for name in (n.topic, n.missing, "not a name")]
    return _metadata(*asked), 12


@question("of an id")
def Metadata_(n: Names):
    return _metadata(inner("Metadata", "MetadataRequestTopic", name=None, topic_id=n.topic_id)), 12


@question("with the cluster's operations")
def Metadata__(n: Names):
    asked = [inner("Metadata", "MetadataRequestTopic", name=n.topic)]
    return made("Metadata", topics=asked, include_cluster_authorized_operations=True), 8


@question("that creates")
def Metadata___(n: Names):
    return _metadata(inner("Metadata", "MetadataRequestTopic", name=n.new), creating=True), 12


def _committed(api: str, n: Names) -> list[Any]:
    return [
        inner(
            api,
            f"{api}RequestTopic",
            name=name,
            partitions=[inner(api, f"{api}RequestPartition", partition_index=0, committed_offset=1)],
        )
        for name in (n.topic, n.missing)
    ]


@question()
def OffsetCommit(n: Names):
    return made("OffsetCommit", group_id=n.group, topics=_committed("OffsetCommit", n)), 8


@question("of some topics")
def OffsetFetch(n: Names):
    topics = [
        inner("OffsetFetch", "OffsetFetchRequestTopics", name=name, partition_indexes=[0])
        for name in (n.topic, n.missing)
    ]
    group = inner("OffsetFetch", "OffsetFetchRequestGroup", group_id=n.group, topics=topics)
    return made("OffsetFetch", groups=[group]), 8


@question("of all topics")
def OffsetFetch_(n: Names):
    group = inner("OffsetFetch", "OffsetFetchRequestGroup", group_id=n.group, topics=None)
    return made("OffsetFetch", groups=[group]), 8


@question("of a group")
def FindCoordinator(n: Names):
    return made("FindCoordinator", key_type=0, coordinator_keys=[n.group]), 4


@question("of a transactional id")
def FindCoordinator_(n: Names):
    return made("FindCoordinator", key_type=1, coordinator_keys=[n.transactional_id]), 4


@question()
def JoinGroup(n: Names):
    protocols = [inner("JoinGroup", "JoinGroupRequestProtocol", name="range", metadata=b"")]
    request = made("JoinGroup", group_id=n.group, session_timeout_ms=10_000, rebalance_timeout_ms=10_000)
    request.protocol_type, request.protocols, request.member_id = "consumer", protocols, "nobody"
    return request, 5


@question()
def SyncGroup(n: Names):
    return made("SyncGroup", group_id=n.group, generation_id=1, member_id="nobody"), 3


@question()
def Heartbeat(n: Names):
    return made("Heartbeat", group_id=n.group, generation_id=1, member_id="nobody"), 3


@question()
def LeaveGroup(n: Names):
    return made("LeaveGroup", group_id=n.group, member_id="nobody"), 2


@question("of a member that is not there")
def ConsumerGroupHeartbeat(n: Names):
    fields = {"group_id": n.group, "member_id": "nobody", "member_epoch": 5, "rebalance_timeout_ms": 10_000}
    return made("ConsumerGroupHeartbeat", **fields, subscribed_topic_names=[n.topic, n.missing]), 0


@question()
def ConsumerGroupDescribe(n: Names):
    return made("ConsumerGroupDescribe", group_ids=[n.group], include_authorized_operations=True), 0


@question()
def DescribeGroups(n: Names):
    return made("DescribeGroups", groups=[n.group], include_authorized_operations=True), 5


@question()
def ListGroups(n: Names):
    return made("ListGroups"), 4


@question()
def DeleteGroups(n: Names):
    return made("DeleteGroups", groups_names=[n.missing]), 2


@question()
def OffsetDelete(n: Names):
    topics = [
        inner(
            "OffsetDelete",
            "OffsetDeleteRequestTopic",
            name=name,
            partitions=[inner("OffsetDelete", "OffsetDeleteRequestPartition", partition_index=9)],
        )
        for name in (n.topic, n.missing)
    ]
    return made("OffsetDelete", group_id=n.group, topics=topics), 0


@question("validated only, and the metadata's topic")
def CreateTopics(n: Names):
    topics = [
        inner("CreateTopics", "CreatableTopic", name=name, num_partitions=1, replication_factor=1)
        for name in (n.new, n.topic, "__cluster_metadata")
    ]
    return made("CreateTopics", topics=topics, timeout_ms=10_000, validate_only=True), 7


@question("by name and by id")
def DeleteTopics(n: Names):
    topics = [inner("DeleteTopics", "DeleteTopicState", name=name) for name in (n.fresh, n.missing)]
    topics.append(inner("DeleteTopics", "DeleteTopicState", name=None, topic_id=bytes(15) + b"\x09"))
    return made("DeleteTopics", topics=topics, timeout_ms=10_000), 6


@question("by id alone")
def DeleteTopics_(n: Names):
    topics = [inner("DeleteTopics", "DeleteTopicState", name=None, topic_id=n.fresh_id)]
    return made("DeleteTopics", topics=topics, timeout_ms=10_000), 6


@question("validated only")
def CreatePartitions(n: Names):
    topics = [
        inner("CreatePartitions", "CreatePartitionsTopic", name=name, count=4, assignments=None)
        for name in (n.topic, n.missing)
    ]
    return made("CreatePartitions", topics=topics, timeout_ms=10_000, validate_only=True), 3


@question()
def DeleteRecords(n: Names):
    topics = [
        inner(
            "DeleteRecords",
            "DeleteRecordsTopic",
            name=name,
            partitions=[inner("DeleteRecords", "DeleteRecordsPartition", partition_index=0, offset=0)],
        )
        for name in (n.topic, n.missing)
    ]
    return made("DeleteRecords", topics=topics, timeout_ms=5000), 2


@question("without a transactional id")
def InitProducerId(n: Names):
    return made("InitProducerId", transactional_id=None, transaction_timeout_ms=1000), 4


@question("with a transactional id, and half an identity")
def InitProducerId_(n: Names):
    request = made("InitProducerId", transactional_id=n.transactional_id, transaction_timeout_ms=1000, producer_id=7)
    request.producer_epoch = -1
    return request, 4


@question()
def OffsetForLeaderEpoch(n: Names):
    topics = [
        inner(
            "OffsetForLeaderEpoch",
            "OffsetForLeaderTopic",
            topic=name,
            partitions=[inner("OffsetForLeaderEpoch", "OffsetForLeaderPartition", partition=0, leader_epoch=0)],
        )
        for name in (n.topic, n.missing)
    ]
    return made("OffsetForLeaderEpoch", replica_id=-2, topics=topics), 4


@question("from a client")
def AddPartitionsToTxn(n: Names):
    topics = [
        inner("AddPartitionsToTxn", "AddPartitionsToTxnTopic", name=name, partitions=[0])
        for name in (n.topic, n.missing, "__consumer_offsets")
    ]
    request = made("AddPartitionsToTxn", v3_and_below_transactional_id=n.transactional_id)
    request.v3_and_below_producer_id, request.v3_and_below_producer_epoch = 77, 0
    request.v3_and_below_topics = topics
    return request, 3


@question("from a broker")
def AddPartitionsToTxn_(n: Names):
    topics = [inner("AddPartitionsToTxn", "AddPartitionsToTxnTopic", name=n.topic, partitions=[0])]
    transaction = inner(
        "AddPartitionsToTxn",
        "AddPartitionsToTxnTransaction",
        transactional_id=n.transactional_id,
        producer_id=77,
        producer_epoch=0,
        verify_only=True,
        topics=topics,
    )
    return made("AddPartitionsToTxn", transactions=[transaction]), 4


@question()
def AddOffsetsToTxn(n: Names):
    fields = {"transactional_id": n.transactional_id, "producer_id": 77, "producer_epoch": 0, "group_id": n.group}
    return made("AddOffsetsToTxn", **fields), 3


@question()
def EndTxn(n: Names):
    return made("EndTxn", transactional_id=n.transactional_id, producer_id=77, producer_epoch=0, committed=True), 3


@question()
def TxnOffsetCommit(n: Names):
    fields = {"transactional_id": n.transactional_id, "producer_id": 77, "producer_epoch": 0, "group_id": n.group}
    return made("TxnOffsetCommit", **fields, topics=_committed("TxnOffsetCommit", n)), 3


@question()
def WriteTxnMarkers(n: Names):
    topics = [inner("WriteTxnMarkers", "WritableTxnMarkerTopic", name=n.missing, partition_indexes=[0])]
    marker = inner("WriteTxnMarkers", "WritableTxnMarker", producer_id=77, producer_epoch=0, topics=topics)
    return made("WriteTxnMarkers", markers=[marker]), 1


def _anything(**fields: Any) -> dict[str, Any]:
    return {
        "resource_type_filter": ANY,
        "resource_name_filter": "of nobody",
        "pattern_type_filter": ANY,
        "principal_filter": None,
        "host_filter": None,
        "operation": ANY,
        "permission_type": ANY,
        **fields,
    }


@question()
def DescribeAcls(n: Names):
    return made("DescribeAcls", **_anything()), 3


@question("that cannot be")
def CreateAcls(n: Names):
    kinds = {"resource_pattern_type": LITERAL, "operation": READ, "permission_type": ALLOW, "host": "*"}
    acls = [
        inner("CreateAcls", "AclCreation", resource_type=kind, resource_name=name, principal=principal, **kinds)
        for kind, name, principal in ((4, "x", "User:x"), (2, "", "User:x"), (2, "t", "x"))
    ]
    return made("CreateAcls", creations=acls), 3


@question("of nobody")
def DeleteAcls(n: Names):
    return made("DeleteAcls", filters=[inner("DeleteAcls", "DeleteAclsFilter", **_anything())]), 3


TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32


@question()
def DescribeConfigs(n: Names):
    asked = [
        (TOPIC, n.topic, "retention.ms"),
        (TOPIC, n.missing, "retention.ms"),
        (BROKER, "1", "num.partitions"),
        (BROKER, "", "num.partitions"),
        (CLIENT_METRICS, "metrics", "interval.ms"),
        (GROUP, n.group, "consumer.session.timeout.ms"),
    ]
    resources = [
        inner("DescribeConfigs", "DescribeConfigsResource", resource_type=kind, resource_name=name)
        for kind, name, _ in asked
    ]
    for resource, (_, _, key) in zip(resources, asked, strict=True):
        resource.configuration_keys = [key]
    return made("DescribeConfigs", resources=resources), 4


def _altered(n: Names) -> list[tuple[int, str, str, str]]:
    return [
        (TOPIC, n.topic, "retention.ms", "1000"),
        (TOPIC, n.missing, "retention.ms", "1000"),
        (BROKER, "1", "num.io.threads", "4"),
        (CLIENT_METRICS, "metrics", "interval.ms", "1000"),
        (GROUP, n.group, "consumer.session.timeout.ms", "50000"),
    ]


@question("validated only")
def AlterConfigs(n: Names):
    resources = [
        inner(
            "AlterConfigs",
            "AlterConfigsResource",
            resource_type=kind,
            resource_name=name,
            configs=[inner("AlterConfigs", "AlterableConfig", name=key, value=value)],
        )
        for kind, name, key, value in _altered(n)
    ]
    return made("AlterConfigs", resources=resources, validate_only=True), 2


@question("validated only")
def IncrementalAlterConfigs(n: Names):
    asked = [*_altered(n), (LOGGER, "2", "root", "INFO")]
    resources = [
        inner(
            "IncrementalAlterConfigs",
            "AlterConfigsResource",
            resource_type=kind,
            resource_name=name,
            configs=[inner("IncrementalAlterConfigs", "AlterableConfig", name=key, config_operation=0, value=value)],
        )
        for kind, name, key, value in asked
    ]
    return made("IncrementalAlterConfigs", resources=resources, validate_only=True), 1


@question()
def DescribeLogDirs(n: Names):
    return made("DescribeLogDirs", topics=[inner("DescribeLogDirs", "DescribableLogDirTopic", topic=n.missing)]), 4


@question()
def DescribeCluster(n: Names):
    return made("DescribeCluster", include_cluster_authorized_operations=True), 1


@question()
def DescribeProducers(n: Names):
    topics = [
        inner("DescribeProducers", "TopicRequest", name=name, partition_indexes=[0])
        for name in (n.topic, n.missing, "not a name")
    ]
    return made("DescribeProducers", topics=topics), 0


@question()
def DescribeTransactions(n: Names):
    return made("DescribeTransactions", transactional_ids=[n.transactional_id, n.missing]), 0


@question()
def ListTransactions(n: Names):
    return made("ListTransactions", transactional_id_pattern=None), 1


@question("of unknown kind")
def ListConfigResources(n: Names):
    return made("ListConfigResources", resource_types=[99]), 1


@question()
def DescribeTopicPartitions(n: Names):
    topics = [inner("DescribeTopicPartitions", "TopicRequest", name=name) for name in (n.topic, n.missing)]
    return made("DescribeTopicPartitions", topics=topics, response_partition_limit=10, cursor=None), 0


@question()
def DescribeQuorum(n: Names):
    topic = inner("DescribeQuorum", "TopicData", topic_name="not the metadata", partitions=[])
    return made("DescribeQuorum", topics=[topic]), 1


@question()
def ElectLeaders(n: Names):
    topics = [inner("ElectLeaders", "TopicPartitions", topic=n.missing, partitions=[0])]
    return made("ElectLeaders", topic_partitions=topics, timeout_ms=5000), 2


@question()
def AlterPartitionReassignments(n: Names):
    partition = inner("AlterPartitionReassignments", "ReassignablePartition", partition_index=0, replicas=[1])
    topic = inner("AlterPartitionReassignments", "ReassignableTopic", name=n.missing, partitions=[partition])
    return made("AlterPartitionReassignments", topics=[topic], timeout_ms=5000), 0


@question()
def ListPartitionReassignments(n: Names):
    return made("ListPartitionReassignments", topics=None, timeout_ms=5000), 0


@question("of an unknown feature")
def UpdateFeatures(n: Names):
    update = inner("UpdateFeatures", "FeatureUpdateKey", feature="no.such.version", max_version_level=1)
    return made("UpdateFeatures", timeout_ms=5000, feature_updates=[update], validate_only=True), 1


@question("of an unknown broker")
def UnregisterBroker(n: Names):
    return made("UnregisterBroker", broker_id=77), 0


@question("of an unknown broker's directory")
def AlterReplicaLogDirs(n: Names):
    topic = inner("AlterReplicaLogDirs", "AlterReplicaLogDirTopic", name=n.missing, partitions=[0])
    return made(
        "AlterReplicaLogDirs", dirs=[inner("AlterReplicaLogDirs", "AlterReplicaLogDir", path="/x", topics=[topic])]
    ), 2


@question()
def DescribeClientQuotas(n: Names):
    return made("DescribeClientQuotas", components=[], strict=False), 1


@question("validated only")
def AlterClientQuotas(n: Names):
    entity = inner("AlterClientQuotas", "EntityData", entity_type="user", entity_name="x")
    op = inner("AlterClientQuotas", "OpData", key="producer_byte_rate", value=1.0, remove=False)
    entry = inner("AlterClientQuotas", "EntryData", entity=[entity], ops=[op])
    return made("AlterClientQuotas", entries=[entry], validate_only=True), 1


@question()
def DescribeUserScramCredentials(n: Names):
    users = [inner("DescribeUserScramCredentials", "UserName", name=name) for name in ("x", "x", "y")]
    return made("DescribeUserScramCredentials", users=users), 0


@question("that cannot be")
def AlterUserScramCredentials(n: Names):
    def upsertion(name: str, mechanism: int, iterations: int, salted_password: bytes = b"p") -> Any:
        fields = {"name": name, "mechanism": mechanism, "iterations": iterations, "salt": b"s"}
        kind = "ScramCredentialUpsertion"
        return inner("AlterUserScramCredentials", kind, **fields, salted_password=salted_password)

    upsertions = [
        upsertion("too few", 1, 4095),
        upsertion("too many", 2, 16385),
        upsertion("unknown mechanism", 3, 5000),
        upsertion("", 1, 5000),
        upsertion("twice", 1, 5000),
        upsertion("twice", 2, 5000),
        upsertion("no password", 1, 5000, b""),
    ]
    deletions = [inner("AlterUserScramCredentials", "ScramCredentialDeletion", name="missing", mechanism=1)]
    return made("AlterUserScramCredentials", upsertions=upsertions, deletions=deletions), 0


@question("of who has not said who it is")
def CreateDelegationToken(n: Names):
    return made("CreateDelegationToken", owner_principal_name=None, max_lifetime_ms=-1), 3


@question("of who has not said who it is")
def RenewDelegationToken(n: Names):
    return made("RenewDelegationToken", hmac=b"x", renew_period_ms=-1), 2


@question("of who has not said who it is")
def ExpireDelegationToken(n: Names):
    return made("ExpireDelegationToken", hmac=b"x", expiry_time_period_ms=-1), 2


@question("of who has not said who it is")
def DescribeDelegationToken(n: Names):
    return made("DescribeDelegationToken", owners=None), 3
