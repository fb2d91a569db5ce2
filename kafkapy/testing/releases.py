"""What older Kafkas tell of themselves: which versions of which APIs, and which levels of which features.

Facts of a KRaft broker with nothing unstable switched on. Those of 3.7 to 4.1 are from the sources of the last patch
releases (3.7.2, 3.8.1, 3.9.1, 4.0.1, 4.1.1): `validVersions` and `latestVersionUnstable` of the requests that brokers
listen to, in clients/src/main/resources/common/message; the features' levels and their defaults in server-common's
MetadataVersion, Features or Feature, and BrokerFeatures; what is refused by default in KafkaApis. Nodes of all of them
but 4.0.1 were asked, and tell the same; 4.2 and 4.3 are what nodes of 4.2.0 and 4.3.1 told. `kraft.version` is left
out, as with ourselves: there is no such quorum here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from kafkapy.cluster.features import LevelRange
from kafkapy.protocol.messages import APIS


class Release(NamedTuple):
    """One of them. `versions` are by an API's key; APIs that are `refused` are told of, and UNSUPPORTED_VERSION."""

    versions: Mapping[int, range]
    features: Mapping[str, LevelRange]
    refused: frozenset[int]


_KEYS: Final = {api.name: key for key, api in APIS.items()}


def _release(
    before: Release | None, versions: str, features: Mapping[str, LevelRange], refused: tuple[str, ...] = ()
) -> Release:
    """The one that came after `before`, by the versions that are other ones than there."""
    ranges = {} if before is None else dict(before.versions)
    for entry in versions.split():
        name, _, numbers = entry.partition(":")
        first, _, last = numbers.partition("-")
        ranges[_KEYS[name]] = range(int(first), int(last) + 1)
    return Release(MappingProxyType(ranges), MappingProxyType(features), frozenset(_KEYS[name] for name in refused))


_3_7 = _release(
    None,
    """
    Produce:0-10 Fetch:0-16 ListOffsets:0-8 Metadata:0-12 OffsetCommit:0-9 OffsetFetch:0-9 FindCoordinator:0-4
    JoinGroup:0-9 Heartbeat:0-4 LeaveGroup:0-5 SyncGroup:0-5 DescribeGroups:0-5 ListGroups:0-4 SaslHandshake:0-1
    ApiVersions:0-3 CreateTopics:0-7 DeleteTopics:0-6 DeleteRecords:0-2 InitProducerId:0-4
    OffsetForLeaderEpoch:0-4 AddPartitionsToTxn:0-4 AddOffsetsToTxn:0-3 EndTxn:0-3 WriteTxnMarkers:0-1
    TxnOffsetCommit:0-3 DescribeAcls:0-3 CreateAcls:0-3 DeleteAcls:0-3 DescribeConfigs:0-4 AlterConfigs:0-2
    AlterReplicaLogDirs:0-2 DescribeLogDirs:0-4 SaslAuthenticate:0-2 CreatePartitions:0-3
    CreateDelegationToken:0-3 RenewDelegationToken:0-2 ExpireDelegationToken:0-2 DescribeDelegationToken:0-3
    DeleteGroups:0-2 ElectLeaders:0-2 IncrementalAlterConfigs:0-1 AlterPartitionReassignments:0-0
    ListPartitionReassignments:0-0 OffsetDelete:0-0 DescribeClientQuotas:0-1 AlterClientQuotas:0-1
    DescribeUserScramCredentials:0-0 AlterUserScramCredentials:0-0 DescribeQuorum:0-1 UpdateFeatures:0-1
    DescribeCluster:0-1 DescribeProducers:0-0 UnregisterBroker:0-0 DescribeTransactions:0-0 ListTransactions:0-0
    ConsumerGroupHeartbeat:0-0 GetTelemetrySubscriptions:0-0 PushTelemetry:0-0 ListConfigResources:0-0
    """,
    {"metadata.version": LevelRange(1, 19, 19)},
    ("ConsumerGroupHeartbeat",),
)
_3_8 = _release(
    _3_7,
    """
    Produce:0-11 FindCoordinator:0-5 ListGroups:0-5 InitProducerId:0-5 AddPartitionsToTxn:0-5 AddOffsetsToTxn:0-4
    EndTxn:0-4 TxnOffsetCommit:0-4 ListTransactions:0-1 ConsumerGroupDescribe:0-0 DescribeTopicPartitions:0-0
    """,
    {"metadata.version": LevelRange(1, 20, 20)},
    ("ConsumerGroupHeartbeat", "ConsumerGroupDescribe"),
)
_3_9 = _release(
    _3_8,
    """
    Fetch:0-17 ListOffsets:0-9 FindCoordinator:0-6 ApiVersions:0-4 DescribeQuorum:0-2 AddRaftVoter:0-0
    RemoveRaftVoter:0-0
    """,
    {"metadata.version": LevelRange(1, 21, 21)},
    ("ConsumerGroupHeartbeat", "ConsumerGroupDescribe"),
)
_4_0 = _release(
    _3_9,
    """
    Produce:0-12 Fetch:4-17 ListOffsets:1-10 Metadata:0-13 OffsetCommit:2-9 OffsetFetch:1-9 DescribeGroups:0-6
    CreateTopics:2-7 DeleteTopics:1-6 OffsetForLeaderEpoch:2-4 EndTxn:0-5 WriteTxnMarkers:1-1 TxnOffsetCommit:0-5
    DescribeAcls:1-3 CreateAcls:1-3 DeleteAcls:1-3 DescribeConfigs:1-4 AlterReplicaLogDirs:1-2 DescribeLogDirs:1-4
    CreateDelegationToken:1-3 RenewDelegationToken:1-2 ExpireDelegationToken:1-2 DescribeDelegationToken:1-3
    UpdateFeatures:0-2 DescribeCluster:0-2 ConsumerGroupHeartbeat:0-1 ConsumerGroupDescribe:0-1
    """,
    {
        "metadata.version": LevelRange(7, 25, 25),
        "transaction.version": LevelRange(0, 2, 2),
        "group.version": LevelRange(0, 1, 1),
        "eligible.leader.replicas.version": LevelRange(0, 1, 0),
    },
)
_4_1 = _release(
    _4_0,
    """
    Produce:0-13 Fetch:4-18 AlterPartitionReassignments:0-1 ListTransactions:0-2 ListConfigResources:0-1
    ShareGroupHeartbeat:1-1 ShareGroupDescribe:1-1 ShareFetch:1-1 ShareAcknowledge:1-1 InitializeShareGroupState:0-0
    ReadShareGroupState:0-0 WriteShareGroupState:0-0 DeleteShareGroupState:0-0 ReadShareGroupStateSummary:0-0
    DescribeShareGroupOffsets:0-0 AlterShareGroupOffsets:0-0 DeleteShareGroupOffsets:0-0
    """,
    {
        "metadata.version": LevelRange(7, 27, 27),
        "transaction.version": LevelRange(0, 2, 2),
        "group.version": LevelRange(0, 1, 1),
        "eligible.leader.replicas.version": LevelRange(0, 1, 1),
        "share.version": LevelRange(0, 1, 0),
    },
    (
        "ShareGroupHeartbeat",
        "ShareGroupDescribe",
        "ShareFetch",
        "ShareAcknowledge",
        "DescribeShareGroupOffsets",
        "AlterShareGroupOffsets",
        "DeleteShareGroupOffsets",
    ),
)
_4_2 = _release(
    _4_1,
    """
    ListOffsets:1-11 OffsetCommit:2-10 OffsetFetch:1-10 WriteTxnMarkers:1-2 ShareFetch:1-2 ShareAcknowledge:1-2
    AddRaftVoter:0-1 WriteShareGroupState:0-1 ReadShareGroupStateSummary:0-1 StreamsGroupHeartbeat:0-0
    StreamsGroupDescribe:0-0 DescribeShareGroupOffsets:0-1
    """,
    {
        "metadata.version": LevelRange(7, 29, 29),
        "transaction.version": LevelRange(0, 2, 2),
        "group.version": LevelRange(0, 1, 1),
        "eligible.leader.replicas.version": LevelRange(0, 1, 1),
        "share.version": LevelRange(0, 1, 1),
        "streams.version": LevelRange(0, 1, 1),
    },
)
_4_3 = _release(
    _4_2,
    """
    DescribeLogDirs:1-5
    """,
    {
        "metadata.version": LevelRange(7, 30, 30),
        "transaction.version": LevelRange(0, 2, 2),
        "group.version": LevelRange(0, 1, 1),
        "eligible.leader.replicas.version": LevelRange(0, 1, 1),
        "share.version": LevelRange(0, 1, 1),
        "streams.version": LevelRange(0, 1, 1),
    },
)

RELEASES: Final[Mapping[str, Release]] = {
    "3.7": _3_7,
    "3.8": _3_8,
    "3.9": _3_9,
    "4.0": _4_0,
    "4.1": _4_1,
    "4.2": _4_2,
    "4.3": _4_3,
}
