"""Leaders, reassignments, directories, the quorum, features, brokers: what a single node answers."""

from cases.topics import creatable, create
from registry import Scene, case

from kafkapy.protocol.messages import request_class

METADATA = "__cluster_metadata"
DIRECTORY = bytes(range(16))

# --- ElectLeaders

ElectLeaders = request_class(43)


def elect(s: Scene, topics, **fields):
    if topics is not None:
        topics = [ElectLeaders.TopicPartitions(topic=name, partitions=indexes) for name, indexes in topics]
    if s.version < 1:
        fields.pop("election_type", None)
    return s.ask(ElectLeaders(topic_partitions=topics, **{"timeout_ms": 5000, **fields}))


@case("ElectLeaders", "preferred and unclean, what is led, what does not exist, nothing, the same twice")
def _(s):
    create(s, creatable(s.topic(), 2))
    for kind in (0, 1):
        elect(s, [(s.topic(), [0, 1])], election_type=kind)
        elect(s, [(s.topic(), [0, 7, 0, -1]), (s.topic("missing"), [0]), ("", [3])], election_type=kind)
        elect(s, [(s.topic(), [0]), (s.topic(), [1, 0])], election_type=kind)
        elect(s, [(s.topic(), [])], election_type=kind)
        elect(s, [], election_type=kind)


@case("ElectLeaders", "everything: nothing needs one")
def _(s):
    create(s, creatable(s.topic(), 2))
    for kind in (0, 1):
        answer = elect(s, None, election_type=kind)
        results = answer["replica_election_results"]
        answer["replica_election_results"] = [result for result in results if result["topic"] == s.topic()]


@case("ElectLeaders", "an unknown kind of election", first=1)
def _(s):
    create(s, creatable(s.topic()))
    for kind in (2, -1):
        elect(s, None, election_type=kind)
        elect(s, [], election_type=kind)
        elect(s, [(s.topic(), [0, 7]), (s.topic("missing"), [0])], election_type=kind)


@case("ElectLeaders", "no time at all")
def _(s):
    create(s, creatable(s.topic()))
    for timeout in (0, -1):
        elect(s, None, timeout_ms=timeout)
        elect(s, [], timeout_ms=timeout)
        elect(s, [(s.topic(), [0, 9])], timeout_ms=timeout)


# --- AlterPartitionReassignments, ListPartitionReassignments

Alter = request_class(45)
List = request_class(46)


def reassign(s: Scene, *topics, **fields):
    asked = [
        Alter.ReassignableTopic(
            name=name,
            partitions=[Alter.ReassignablePartition(partition_index=index, replicas=ids) for index, ids in partitions],
        )
        for name, partitions in topics
    ]
    if s.version < 1:
        fields.pop("allow_replication_factor_change", None)
    return s.ask(Alter(topics=asked, **{"timeout_ms": 5000, **fields}))


@case("AlterPartitionReassignments", "to where it is, elsewhere, nowhere, twice, back")
def _(s):
    create(s, creatable(s.topic(), 2))
    for allowed in (True, False):
        for ids in ([1], [2], [1, 2], [2, 1], [1, 1], [-1], [], None):
            reassign(s, (s.topic(), [(0, ids)]), allow_replication_factor_change=allowed)
    s.ask(request_class(75)(topics=[request_class(75).TopicRequest(name=s.topic())]), version=0)


@case("AlterPartitionReassignments", "what does not exist, some of it good, the same twice, nothing")
def _(s):
    create(s, creatable(s.topic(), 2))
    reassign(s, (s.topic(), [(9, [1]), (9, None), (-1, [1])]), (s.topic("missing"), [(0, [1]), (0, None)]))
    reassign(s, (s.topic(), [(0, [1]), (1, [2]), (1, [1])]), ("", [(0, [1])]))
    reassign(s, (s.topic(), [(0, [1]), (0, [2])]), (s.topic(), [(0, [1])]))
    reassign(s, (s.topic(), []))
    reassign(s)


@case("AlterPartitionReassignments", "no time at all")
def _(s):
    create(s, creatable(s.topic()))
    for timeout in (0, -1):
        reassign(s, (s.topic(), [(0, [1]), (7, [1])]), timeout_ms=timeout)
        reassign(s, timeout_ms=timeout)


@case("ListPartitionReassignments", "all, some, what does not exist, nothing, no time")
def _(s):
    create(s, creatable(s.topic()))
    T = List.ListPartitionReassignmentsTopics
    for topics in (
        None,
        [],
        [T(name=s.topic(), partition_indexes=[0, 9])],
        [T(name=s.topic(), partition_indexes=[])],
        [T(name=s.topic("missing"), partition_indexes=[0])],
    ):
        for timeout in (5000, 0):
            s.ask(List(topics=topics, timeout_ms=timeout))


# --- AlterReplicaLogDirs

AlterDirs = request_class(34)


def move(s: Scene, *dirs):
    T = AlterDirs.AlterReplicaLogDirTopic
    answer = s.ask(
        AlterDirs(
            dirs=[
                AlterDirs.AlterReplicaLogDir(
                    path=path, topics=[T(name=name, partitions=indexes) for name, indexes in topics]
                )
                for path, topics in dirs
            ]
        )
    )
    answer["results"].sort(key=lambda result: result["topic_name"])


@case("AlterReplicaLogDirs", "to where it lies, elsewhere, what does not exist, nothing")
def _(s):
    create(s, creatable(s.topic(), 2))
    here = s.ask(request_class(35)(topics=[]), version=1, note=False)["results"][0]["log_dir"]
    for path in (here, f"{here}/", f"{here}/elsewhere", "relative", ""):
        move(s, (path, [(s.topic(), [0, 9]), (s.topic("missing"), [0])]))
    move(s, (here, [(s.topic(), [0, 1, 0])]), ("/elsewhere", [(s.topic(), [1])]))
    move(s, ("/elsewhere", [(s.topic(), [1])]), (here, [(s.topic(), [1])]))
    move(s, (here, []))
    move(s)


# --- DescribeQuorum

DescribeQuorum = request_class(55)


def quorum(s: Scene, *topics, note=True):
    T, P = DescribeQuorum.TopicData, DescribeQuorum.PartitionData
    asked = [T(topic_name=name, partitions=[P(partition_index=index) for index in indexes]) for name, indexes in topics]
    return s.ask(DescribeQuorum(topics=asked), note=note)


@case("DescribeQuorum", "the metadata log")
def _(s):
    answer = quorum(s, (METADATA, [0]), note=False)
    [topic] = answer["topics"]
    [partition] = topic["partitions"]
    [voter] = partition["current_voters"]
    end = voter.pop("log_end_offset")
    # How much there is in the log, since which epoch it is led, and where the quorum listens differs by nature.
    partition["is ahead"] = partition.pop("high_watermark") > end
    partition.pop("leader_epoch")
    for name in ("last_fetch_timestamp", "last_caught_up_timestamp"):
        if name in voter:
            voter[name] = voter[name] > 1_600_000_000_000
    for node in answer.get("nodes", ()):
        node["listeners"] = len(node["listeners"])
    s.probe.trace.append(answer)


@case("DescribeQuorum", "what is none, more than one, nothing")
def _(s):
    create(s, creatable(s.topic()))
    quorum(s, (s.topic(), [0]))
    quorum(s, (METADATA, [1]))
    quorum(s, (METADATA, [0, 0]))
    quorum(s, (METADATA, [0]), (METADATA, [0]))
    quorum(s, (METADATA, [0]), (s.topic(), [0]))
    quorum(s, (METADATA, []))
    quorum(s)


# --- UpdateFeatures

UpdateFeatures = request_class(57)
UPGRADE, DOWNGRADE, UNSAFE = 1, 2, 3


def update(s: Scene, *updates, **fields):
    asked = [
        UpdateFeatures.FeatureUpdateKey(feature=name, max_version_level=level)
        if s.version < 1
        else UpdateFeatures.FeatureUpdateKey(feature=name, max_version_level=level, upgrade_type=kind)
        for name, level, kind in updates
    ]
    if s.version < 1:
        fields.pop("validate_only", None)
    return s.ask(UpdateFeatures(feature_updates=asked, timeout_ms=5000, **fields))


def transaction_version(s: Scene):
    """The finalized level, and the supported ones."""
    asked = request_class(18)(client_software_name="differential", client_software_version="1")
    answer = s.ask(asked, version=4, note=False)
    for kind in ("finalized_features", "supported_features"):
        s.probe.trace.append([row for row in answer[kind] if row["name"] == "transaction.version"])


@case("UpdateFeatures", "to the level that it has, to ones that there are not, unknown features, nothing")
def _(s):
    update(s, ("transaction.version", 2, UPGRADE))
    update(s, ("transaction.version", 3, UPGRADE))
    update(s, ("transaction.version", -1, UPGRADE))
    update(s, ("transaction.version", 1, UPGRADE))
    update(s, ("no.such", 1, UPGRADE))
    update(s, ("no.such", 0, UPGRADE))
    update(s, ("", 0, UPGRADE))
    update(s, ("metadata.version", 33, UPGRADE))
    for level in (6, 0, -1, 34, 99, 32):
        update(s, ("metadata.version", level, UPGRADE))
    update(s)
    transaction_version(s)


@case("UpdateFeatures", "version 0 allows a downgrade that is not made", last=0)
def _(s):
    one = UpdateFeatures.FeatureUpdateKey(feature="transaction.version", max_version_level=1, allow_downgrade=True)
    s.ask(UpdateFeatures(feature_updates=[one], timeout_ms=5000))


@case("UpdateFeatures", "kinds of upgrades, known and unknown, validated only", first=1)
def _(s):
    for kind in (0, UPGRADE, DOWNGRADE, UNSAFE, 4, -1):
        for level in (2, 1, 0, -1, 3):
            update(s, ("transaction.version", level, kind), validate_only=True)
        for level in (33, 32, 31, 29, 7):
            update(s, ("metadata.version", level, kind), validate_only=True)
        update(s, ("no.such", 1, kind), ("transaction.version", 1, kind), validate_only=True)
    transaction_version(s)


@case("UpdateFeatures", "all or none, the same twice, down and up again", first=1)
def _(s):
    update(s, ("transaction.version", 1, DOWNGRADE), ("no.such", 1, UPGRADE))
    update(s, ("transaction.version", 1, DOWNGRADE), ("transaction.version", 3, UPGRADE))
    transaction_version(s)
    for level, kind in ((1, DOWNGRADE), (0, UNSAFE), (0, UPGRADE), (1, DOWNGRADE), (1, UPGRADE), (2, UPGRADE)):
        update(s, ("transaction.version", level, kind))
        transaction_version(s)


# --- UnregisterBroker, AddRaftVoter, RemoveRaftVoter


@case("UnregisterBroker", "brokers that there are not")
def _(s):
    for broker in (2, 0, -1):
        s.ask(s.make("UnregisterBroker", broker_id=broker))


def cluster_id(s: Scene) -> str:
    found: str = s.ask(request_class(60)(), version=0, note=False)["cluster_id"]
    return found


@case("AddRaftVoter", "the voters of a quorum of one are fixed")
def _(s):
    Add = request_class(80)
    listeners = [Add.Listener(name="CONTROLLER", host="127.0.0.1", port=9)]
    for cluster in (None, cluster_id(s), "another", ""):
        for voter, directory in ((1, DIRECTORY), (2, DIRECTORY), (-1, DIRECTORY), (2, bytes(16))):
            answer = s.ask(
                Add(
                    cluster_id=cluster,
                    timeout_ms=1000,
                    voter_id=voter,
                    voter_directory_id=directory,
                    listeners=listeners,
                ),
            )
            answer["error_message"] = (answer["error_message"] or "").replace(cluster_id(s), "<cluster>")


@case("RemoveRaftVoter", "the voters of a quorum of one are fixed")
def _(s):
    Remove = request_class(81)
    for cluster in (None, cluster_id(s), "another", ""):
        for voter, directory in ((1, DIRECTORY), (2, DIRECTORY), (-1, DIRECTORY), (2, bytes(16))):
            answer = s.ask(Remove(cluster_id=cluster, voter_id=voter, voter_directory_id=directory))
            answer["error_message"] = (answer["error_message"] or "").replace(cluster_id(s), "<cluster>")
