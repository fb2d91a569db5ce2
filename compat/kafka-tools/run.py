"""Apache Kafka's own tools and system-test programs against a broker, asserting on what a user reads.

Each check calls the programs themselves, a Java process each. What is asserted holds on Apache Kafka first.
"""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
from brokers import KAFKA_VERSION, kafka_home
from harness import Check, NotRun
from replicas import CHECKS as REPLICAS
from replicas import RESTARTING as REPLICAS_RESTARTING
from replicas import described
from scenarios import fresh
from transactions import CHECKS as TRANSACTIONS

TOOLS = "org.apache.kafka.tools"
# A tool is mostly start-up: the second compiler would only slow it down.
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]
LIMIT_S = 60
# What the console consumer says of itself.
REMARKS = ("Processed a total of", "The consumer rebalance protocol (KIP-848) is")


class Tools:
    """The programs, pointed at one broker."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.libraries = f"{kafka_home()}/libs/*"

    def command(self, name: str, *arguments: str) -> list[str]:
        name = name if name.startswith("kafka.") else f"{TOOLS}.{name}"
        return [*JAVA, "-cp", self.libraries, name, *arguments]

    def __call__(self, name: str, *arguments: str, said: str = "", code: int | None = 0) -> str:
        """What the tool prints when it is given the broker's address too; fails unless it ends with `code`."""
        return self.run(name, "--bootstrap-server", self.bootstrap, *arguments, said=said, code=code)

    def run(self, name: str, *arguments: str, said: str = "", code: int | None = 0, limit_s: float = LIMIT_S) -> str:
        """The same without the address."""
        command = self.command(name, *arguments)
        done = subprocess.run(command, input=said, capture_output=True, text=True, timeout=limit_s, check=False)
        shown = done.stdout + done.stderr
        assert code is None or done.returncode == code, f"{name} ended with {done.returncode}: {shown[-400:]}"
        return shown

    def topic(self, *arguments: str, code: int | None = 0) -> str:
        return self("TopicCommand", *arguments, code=code)

    def groups(self, *arguments: str, code: int | None = 0) -> str:
        return self("consumer.group.ConsumerGroupCommand", *arguments, code=code)

    def create(self, partitions: int = 1, *configs: str) -> str:
        """A new topic's name."""
        name = fresh("tools")
        options = [option for config in configs for option in ("--config", config)]
        self.topic("--create", "--topic", name, "--partitions", str(partitions), *options)
        return name

    def produce(self, topic: str, lines: list[str], *arguments: str) -> None:
        self("ConsoleProducer", "--topic", topic, *arguments, said="".join(f"{line}\n" for line in lines))

    def consume(self, topic: str, count: int, *arguments: str) -> list[str]:
        limits = ("--max-messages", str(count), "--timeout-ms", "30000")
        shown = self("consumer.ConsoleConsumer", "--topic", topic, *limits, *arguments)
        return [line for line in shown.splitlines() if line and not line.startswith(REMARKS)]


def has(text: str, *wanted: str) -> None:
    """Every pattern matches somewhere in what a tool printed."""
    for pattern in wanted:
        assert re.search(pattern, text, re.MULTILINE), f"{pattern!r} is not in {text.strip()[-400:]!r}"


def topics(t: Tools) -> None:
    name = t.create(3, "retention.ms=3600000", "cleanup.policy=compact,delete")
    has(t.topic("--list"), f"^{name}$")
    described = t.topic("--describe", "--topic", name)
    has(described, r"PartitionCount: 3\s+ReplicationFactor: [13]\s+Configs: .*cleanup.policy=compact,delete")
    has(described, "retention.ms=3600000", r"Partition: 2\s+Leader: (\d)\s+Replicas: \S*\1\S*\s+Isr: \S*\1")
    t.topic("--alter", "--topic", name, "--partitions", "5")
    has(t.topic("--describe", "--topic", name), "PartitionCount: 5")
    t.topic("--delete", "--topic", name)
    assert name not in t.topic("--list")


def topic_refusals(t: Tools) -> None:
    name = t.create()
    has(t.topic("--create", "--topic", name, code=1), f"Topic '{name}' already exists")
    t.topic("--create", "--topic", name, "--if-not-exists")
    has(t.topic("--create", "--topic", "no good", code=1), "other than ASCII alphanumerics")
    has(t.topic("--create", "--topic", fresh("x"), "--replication-factor", "9", code=1), "[Rr]eplication factor")
    has(
        t.topic("--create", "--topic", fresh("x"), "--config", "no.such=1", code=1),
        "Unknown topic config name: no.such",
    )
    has(t.topic("--alter", "--topic", name, "--partitions", "1", code=1), "Topic already has 1 partition")
    has(
        t.topic("--alter", "--topic", t.create(2), "--partitions", "1", code=1),
        "The topic .* currently has 2 partition",
    )
    has(t.topic("--delete", "--topic", fresh("missing"), code=1), "does not exist as expected")


def topic_filters(t: Tools) -> None:
    name = t.create(2, "min.insync.replicas=1")
    for option in ("under-replicated-partitions", "unavailable-partitions", "under-min-isr-partitions"):
        assert name not in t.topic("--describe", f"--{option}", "--topic", name)
    has(t.topic("--describe", "--topics-with-overrides", "--topic", name), "min.insync.replicas=1")
    has(t.topic("--describe", "--exclude-internal", "--topic", name), f"Topic: {name}")
    shown = t.topic("--describe", "--topic", name)
    (topic_id,) = set(re.findall(r"TopicId: (\S+)", shown))
    has(t.topic("--describe", "--topic-id", topic_id), f"Topic: {name}")


def console(t: Tools) -> None:
    topic = t.create(2)
    t.produce(
        topic, ["a:1", "b:2", "a:3"], "--reader-property", "parse.key=true", "--reader-property", "key.separator=:"
    )
    shown = t.consume(topic, 3, "--from-beginning", "--formatter-property", "print.key=true")
    assert sorted(shown) == ["a\t1", "a\t3", "b\t2"], shown
    shown = t.consume(topic, 3, "--from-beginning", "--formatter-property", "print.partition=true")
    assert len({line for line in shown if line.endswith(("1", "3"))}) == 2, shown
    assert t.consume(topic, 1, "--partition", shown[0].split("\t")[0].split(":")[1], "--offset", "0")


def console_headers(t: Tools) -> None:
    topic = t.create()
    t.produce(topic, ["h1:v1,h2:v2\tvalue"], "--reader-property", "parse.headers=true")
    options = [f"--formatter-property=print.{what}=true" for what in ("headers", "timestamp", "offset", "key")]
    (line,) = t.consume(topic, 1, "--from-beginning", *options)
    has(line, r"^CreateTime:\d{13}\tOffset:0\th1:v1,h2:v2\tnull\tvalue$")


def console_compressions(t: Tools) -> None:
    topic = t.create()
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        t.produce(topic, [codec], "--compression-codec", codec)
    assert t.consume(topic, 5, "--from-beginning") == ["none", "gzip", "snappy", "lz4", "zstd"]


def console_auto_creation(t: Tools) -> None:
    topic = fresh("auto")
    t.produce(topic, ["x"])
    assert t.consume(topic, 1, "--from-beginning", "--group", topic)[-1:] == ["x"]


def group_committed(t: Tools, partitions: int = 1, records: int = 10, read: int = 4) -> tuple[str, str]:
    """A topic with records, and a group that has read some of them and left."""
    topic, group = t.create(partitions), fresh("group")
    t.produce(topic, [str(number) for number in range(records)])
    t.consume(topic, read, "--from-beginning", "--group", group)
    return topic, group


def group_described(t: Tools) -> None:
    topic, group = group_committed(t)
    has(t.groups("--list"), f"^{group}$")
    has(t.groups("--list", "--state"), f"^{group}\\s+Empty\\s*$")
    has(t.groups("--list", "--type"), f"^{group}\\s+Classic\\s*$")
    has(t.groups("--describe", "--group", group), "has no active members", rf"^{group}\s+{topic}\s+0\s+4\s+10\s+6\s+-")
    has(t.groups("--describe", "--group", group, "--state"), r"Empty\s+0")
    has(t.groups("--describe", "--group", fresh("missing"), code=None), "does not exist|not found")


def group_with_members(t: Tools) -> None:
    topic, group = t.create(2), fresh("group")
    t.produce(topic, ["x"])
    command = t.command("consumer.ConsoleConsumer", "--bootstrap-server", t.bootstrap, "--topic", topic)
    member = subprocess.Popen(
        [*command, "--group", group], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 40
        while "Stable" not in (state := t.groups("--describe", "--group", group, "--state", code=None)):
            assert time.monotonic() < deadline, state
        has(state, r"range\s+Stable\s+1")
        members = t.groups("--describe", "--group", group, "--members", "--verbose")
        has(members, rf"{group}\s+console-consumer-\S+\s+/127.0.0.1\s+console-consumer\s+2\s", rf"{topic}:0,1")
        has(t.groups("--describe", "--group", group), rf"{topic}\s+1\s.*console-consumer-\S+\s+/127.0.0.1")
        refused = t.groups("--delete", "--group", group, code=None)
        has(refused, "The group is not empty|GroupNotEmptyException")
        refused = t.groups(
            "--reset-offsets", "--to-earliest", "--group", group, "--topic", topic, "--execute", code=None
        )
        has(refused, "Assignments can only be reset if the group .* is inactive")
    finally:
        member.terminate()
        member.wait(10)


def reset(kind: Callable[[str], list[str]], wanted: int) -> Callable[[Tools], None]:
    """A check of one way to reset: `kind(topic)` gives the options, `wanted` the offset that the group has then."""

    def check(t: Tools) -> None:
        topic, group = group_committed(t)
        options = ("--reset-offsets", "--group", group, *kind(topic))
        has(t.groups(*options, "--dry-run"), rf"^{group}\s+{topic}\s+0\s+{wanted}$")
        has(t.groups("--describe", "--group", group), rf"{topic}\s+0\s+4\s+10")
        has(t.groups(*options, "--execute"), rf"^{group}\s+{topic}\s+0\s+{wanted}$")
        has(t.groups("--describe", "--group", group), rf"{topic}\s+0\s+{wanted}\s+10\s+{10 - wanted}")

    return check


def reset_from_file(t: Tools) -> None:
    topic, group = group_committed(t)
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as plan:
        plan.write(f"{topic},0,7\n")
        plan.flush()
        t.groups("--reset-offsets", "--group", group, "--from-file", plan.name, "--execute")
    has(t.groups("--describe", "--group", group), rf"{topic}\s+0\s+7\s+10\s+3")
    exported = t.groups("--reset-offsets", "--group", group, "--topic", topic, "--to-current", "--export", "--dry-run")
    has(exported, rf'"?{topic}"?,0,7')


def group_deletions(t: Tools) -> None:
    topic, group = group_committed(t)
    shown = t.groups("--delete-offsets", "--group", group, "--topic", topic)
    has(shown, rf"{topic}\s+0\s+Successful")
    group = group_committed(t)[1]
    has(t.groups("--delete", "--group", group), "Deletion of requested consumer groups .* was successful")
    assert group not in t.groups("--list")
    has(t.groups("--delete", "--group", group, code=None), "could not be deleted|not found|does not exist")


def groups_listed(t: Tools) -> None:
    _, group = group_committed(t)
    has(t("GroupsCommand", "--list"), rf"^{group}\s+Classic\s+consumer\s*$")
    has(t("GroupsCommand", "--list", "--consumer"), rf"^{group}\s")
    assert group not in t("GroupsCommand", "--list", "--share")


def offsets(t: Tools) -> None:
    topic = t.create(2)
    t.produce(topic, ["a", "b", "c"])
    counts = re.findall(rf"^{topic}:\d:(\d)$", t("GetOffsetShell", "--topic", topic), re.MULTILINE)
    assert len(counts) == 2 and sum(map(int, counts)) == 3, counts
    for when, wanted in (("-1", 3), ("latest", 3), ("-2", 0), ("earliest", 0), ("-3", None), ("max-timestamp", None)):
        shown = t("GetOffsetShell", "--topic", topic, "--time", when)
        found = [int(offset) for offset in re.findall(rf"^{topic}:\d:(\d+)$", shown, re.MULTILINE)]
        assert found and (wanted is None or sum(found) == wanted), (when, shown)
    has(t("GetOffsetShell", "--topic-partitions", f"{topic}:1"), rf"^{topic}:1:\d$")
    assert re.findall(rf"^{topic}:", t("GetOffsetShell", "--topic", topic, "--time", "0"), re.MULTILINE)


def broker_api_versions(t: Tools) -> None:
    has(t("BrokerApiVersionsCommand"), r"\(id: 1 rack: null isFenced: false\) -> \(", r"Produce\(0\): 0 to 13", "Fetch")


def cluster(t: Tools) -> None:
    has(t.run("ClusterTool", "cluster-id", "--bootstrap-server", t.bootstrap), r"Cluster ID: \S{22}$")
    port = t.bootstrap.partition(",")[0].partition(":")[2]
    has(t.run("ClusterTool", "list-endpoints", "--bootstrap-server", t.bootstrap), rf"^1\s+127.0.0.1\s+{port}\s+null")


def configs_described(t: Tools) -> None:
    topic = t.create(1, "retention.ms=3600000")
    entity = ("--entity-type", "topics", "--entity-name", topic)
    has(t("ConfigCommand", "--describe", *entity), "retention.ms=3600000 sensitive=false synonyms=")
    has(t("ConfigCommand", "--describe", "--all", *entity), "cleanup.policy=delete sensitive=false")
    broker = ("--entity-type", "brokers", "--entity-name", "1")
    has(t("ConfigCommand", "--describe", "--all", *broker), "num.io.threads=8 sensitive=false")
    t("ConfigCommand", "--describe", "--entity-type", "brokers", "--entity-default")
    missing = t("ConfigCommand", "--describe", "--entity-type", "topics", "--entity-name", "nope", code=None)
    has(missing, "doesn't exist|does not exist")


def configs_altered(t: Tools) -> None:
    entity = ("--entity-type", "topics", "--entity-name", t.create())
    t("ConfigCommand", "--alter", "--add-config", "retention.ms=60000", *entity)
    has(t("ConfigCommand", "--describe", *entity), "retention.ms=60000")
    t("ConfigCommand", "--alter", "--delete-config", "retention.ms", *entity)
    assert "retention.ms=60000" not in t("ConfigCommand", "--describe", *entity)


def records_deleted(t: Tools) -> None:
    topic = t.create()
    t.produce(topic, ["a", "b", "c"])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as plan:
        json.dump({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": 2}]}, plan)
        plan.flush()
        has(t("DeleteRecordsCommand", "--offset-json-file", plan.name), r"low_watermark: 2")
    assert t.consume(topic, 1, "--from-beginning") == ["c"]


def log_dirs(t: Tools) -> None:
    topic = t.create()
    t.produce(topic, ["a"])
    shown = t("LogDirsCommand", "--describe", "--topic-list", topic)
    has(shown, rf'"partition":"{topic}-0","size":[1-9]\d*,"offsetLag":0,"isFuture":false')


def leader_election(t: Tools) -> None:
    election = ("--election-type", "preferred", "--topic", t.create(), "--partition", "0")
    has(
        t("LeaderElectionCommand", *election), "Valid replica already elected|no election needed|Successfully completed"
    )


def transactions_listed(t: Tools) -> None:
    has(t("TransactionsCommand", "list"), r"TransactionalId\s+Coordinator\s+ProducerId\s+TransactionState")


def features(t: Tools) -> None:
    shown = t("FeatureCommand", "describe")
    has(shown, r"Feature: metadata.version\s+SupportedMinVersion: 3.3-IV3\s+SupportedMaxVersion: 4.4-IV2")
    for feature in ("group", "share", "streams", "transaction"):
        has(shown, rf"Feature: {feature}.version\s+SupportedMinVersion: 0\s+SupportedMaxVersion: [1-9]")


def quorum(t: Tools) -> None:
    has(t("MetadataQuorumCommand", "describe", "--status"), r"LeaderId:\s+[123]$", "CurrentVoters:")


def reassignments(t: Tools) -> None:
    topic = t.create()
    replicas = [int(node) for node in described(t, topic)[0][1]]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as plan:
        json.dump({"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": replicas}]}, plan)
        plan.flush()
        options = ("--reassignment-json-file", plan.name)
        has(t("reassign.ReassignPartitionsCommand", "--verify", *options), f"{topic}-0 is completed")


def client_compatibility(t: Tools) -> None:
    said = (
        "offsets-for-times",
        "cluster-id",
        "create-topics",
        "describe-acls",
        "describe-configs",
        "idempotent-producer",
    )
    options = [word for name in said for word in (f"--{name}-supported", "true")]
    options += ["--expect-record-too-large-exception", "false", "--num-cluster-nodes", str(len(t.bootstrap.split(",")))]
    has(t("ClientCompatibilityTest", "--topic", t.create(), *options), "SUCCESS")


def verifiable(t: Tools) -> None:
    topic, group = t.create(2), fresh("group")
    shown = t("VerifiableProducer", "--topic", topic, "--max-messages", "1000", "--throughput", "-1")
    assert shown.count('"name":"producer_send_success"') == 1000
    has(shown, '"sent":1000.*"acked":1000|"acked":1000.*"sent":1000')
    shown = t("VerifiableConsumer", "--topic", topic, "--group-id", group, "--max-messages", "1000")
    has(
        shown,
        '"name":"partitions_assigned"',
        '"name":"offsets_committed".*"success":true',
        '"name":"shutdown_complete"',
    )
    consumed = sum(int(count) for count in re.findall(r'"name":"records_consumed","count":(\d+)', shown))
    assert consumed == 1000 or '"count":' in shown, consumed


def performance(t: Tools) -> None:
    topic = t.create(4)
    options = ("--topic", topic, "--num-records", "20000", "--record-size", "100", "--throughput", "-1")
    has(t("ProducerPerformance", *options), "^20000 records sent")
    shown = t("ConsumerPerformance", "--topic", topic, "--num-records", "20000", "--timeout", "30000")
    has(shown, r"^\d{4}-\d\d-\d\d .*, 20000, ")
    with tempfile.NamedTemporaryFile("w") as none:
        has(t.run("EndToEndLatency", t.bootstrap, topic, "500", "1", "100", none.name), r"Percentiles: 50th = \d+")


def dumped(t: Tools, *arguments: str) -> str:
    return t.run("DumpLogSegments", *arguments)


def broker_data() -> Path:
    """Where the broker keeps its logs."""
    if not os.environ.get("COMPAT_BROKER_DATA"):
        raise NotRun("the broker's files are not known")
    return Path(os.environ["COMPAT_BROKER_DATA"])


def segments_dumped(t: Tools) -> None:
    topic = t.create()
    t.produce(topic, ["a", "b"], "--compression-codec", "lz4")
    folder = broker_data() / f"{topic}-0"
    log = str(folder / f"{0:020}.log")
    has(
        dumped(t, "--files", log, "--print-data-log"),
        r"payload: a$",
        r"payload: b$",
        "compresscodec: lz4",
        "isvalid: true",
    )
    has(dumped(t, "--files", log, "--deep-iteration"), "Log starting offset: 0")


def offsets_dumped(t: Tools) -> None:
    topic, group = group_committed(t)
    folders = sorted(broker_data().glob("__consumer_offsets-*"))
    logs = [str(log) for folder in folders for log in folder.glob("*.log") if log.stat().st_size]
    shown = dumped(t, "--files", ",".join(logs), "--offsets-decoder")
    has(shown, rf'"group":"{group}","topic":"{topic}","partition":0', '"offset":4', f'"group":"{group}"')


def killed_and_resumed(t: Tools) -> None:
    topic = t.create()
    command = t.command("VerifiableProducer", "--bootstrap-server", t.bootstrap, "--topic", topic)
    producer = subprocess.Popen(
        [*command, "--max-messages", "-1", "--throughput", "200"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert producer.stdout is not None
    acknowledged: list[str] = []
    for line in producer.stdout:
        acknowledged += re.findall(r'producer_send_success".*"value":"(\d+)"', line)
        if len(acknowledged) == 300:
            harness.restart_broker()
        if len(acknowledged) == 900:
            break
    producer.send_signal(signal.SIGKILL)
    producer.wait()
    found = t.consume(topic, 900, "--from-beginning")
    missing = set(acknowledged[:800]) - set(found)
    assert not missing, f"{len(missing)} acknowledged records are missing"


RESETS: dict[str, tuple[Callable[[str], list[str]], int]] = {
    "to-earliest": (lambda topic: ["--topic", topic, "--to-earliest"], 0),
    "to-latest": (lambda topic: ["--topic", topic, "--to-latest"], 10),
    "to-offset": (lambda topic: ["--topic", topic, "--to-offset", "3"], 3),
    "to-offset beyond the end": (lambda topic: ["--topic", topic, "--to-offset", "300"], 10),
    "shift-by": (lambda topic: ["--topic", topic, "--shift-by", "-2"], 2),
    "to-current": (lambda topic: ["--topic", topic, "--to-current"], 4),
    "to-datetime": (lambda topic: ["--topic", topic, "--to-datetime", "2020-01-01T00:00:00.000"], 0),
    "by-duration": (lambda topic: ["--topic", topic, "--by-duration", "P1D"], 0),
    "one partition": (lambda topic: ["--topic", f"{topic}:0", "--to-earliest"], 0),
}
QUICK: dict[str, Callable[[Tools], None]] = {
    "kafka-topics: create, list, describe, alter, delete": topics,
    "kafka-console-producer, -consumer: keys, partitions, offsets": console,
    "kafka-consumer-groups: list and describe": group_described,
    "kafka-get-offsets: every time": offsets,
    "kafka-broker-api-versions": broker_api_versions,
    "kafka-cluster: id and endpoints": cluster,
}
OTHERS: dict[str, Callable[[Tools], None]] = {
    "kafka-topics: refusals": topic_refusals,
    "kafka-topics: filters and ids": topic_filters,
    "kafka-console-producer, -consumer: headers and times": console_headers,
    "kafka-console-producer, -consumer: every compression": console_compressions,
    "kafka-console-producer, -consumer: a topic that is not there yet": console_auto_creation,
    "kafka-consumer-groups: with members": group_with_members,
    **{f"kafka-consumer-groups: reset offsets, {name}": reset(*how) for name, how in RESETS.items()},
    "kafka-consumer-groups: reset offsets from a file, and export": reset_from_file,
    "kafka-consumer-groups: delete and delete-offsets": group_deletions,
    "kafka-groups: list": groups_listed,
    "kafka-configs: describe": configs_described,
    "kafka-configs: alter": configs_altered,
    "kafka-delete-records": records_deleted,
    "kafka-log-dirs": log_dirs,
    "kafka-leader-election": leader_election,
    "kafka-transactions: list": transactions_listed,
    "kafka-features: describe": features,
    "kafka-metadata-quorum: status": quorum,
    "kafka-reassign-partitions: verify": reassignments,
    "ClientCompatibilityTest": client_compatibility,
    "VerifiableProducer, VerifiableConsumer": verifiable,
    "ProducerPerformance, ConsumerPerformance, EndToEndLatency": performance,
    "DumpLogSegments: a log": segments_dumped,
    "DumpLogSegments: committed offsets": offsets_dumped,
}
RESTARTING: dict[str, Callable[[Tools], None]] = {
    "VerifiableProducer through a kill -9": killed_and_resumed,
}


# -- what remains: further options, further programs


def console_choices(t: Tools) -> None:
    topic, other = t.create(), fresh("other")
    for acks in ("0", "1", "all"):
        t.produce(topic, [f"acks {acks}"], "--sync", "--request-required-acks", acks)
    wanted = ["acks 0", "acks 1", "acks all"]
    assert t.consume(topic, 3, "--from-beginning", "--isolation-level", "read_committed") == wanted
    assert t.consume(topic, 2, "--partition", "0", "--offset", "1") == wanted[1:]
    t.produce(other, ["x"])
    limits = ("--max-messages", "1", "--timeout-ms", "30000", "--from-beginning")
    shown = t("consumer.ConsoleConsumer", "--include", f"{other[:-1]}.", *limits)
    has(shown, r"^x$", "Processed a total of 1 messages")


def console_silence(t: Tools) -> None:
    topic = t.create()
    shown = t("consumer.ConsoleConsumer", "--topic", topic, "--timeout-ms", "2000", "--max-messages", "1", code=None)
    has(shown, "Processed a total of 0 messages")


def console_large(t: Tools) -> None:
    topic = t.create(1, "max.message.bytes=2000")
    shown = t("ConsoleProducer", "--topic", topic, "--sync", said="x" * 3000 + "\n", code=None)
    has(shown, "RecordTooLargeException|larger than the max message size")
    t.produce(topic, ["small"])
    assert t.consume(topic, 1, "--from-beginning") == ["small"]


def internal_topics_read(t: Tools) -> None:
    topic, group = group_committed(t)
    for formatter, wanted in (
        ("OffsetsMessageFormatter", f'"group":"{group}","topic":"{topic}","partition":0'),
        ("GroupMetadataMessageFormatter", f'"group":"{group}"'),
    ):
        shown = t(
            "consumer.ConsoleConsumer",
            *("--topic", "__consumer_offsets", "--from-beginning", "--timeout-ms", "5000"),
            *("--formatter", f"{TOOLS}.consumer.{formatter}"),
            code=None,
        )
        has(shown, re.escape(wanted))


def groups_filtered(t: Tools) -> None:
    topic, group = group_committed(t, 2)
    has(t.groups("--list", "--state", "Empty"), rf"^{group}\s+Empty\s*$")
    assert group not in t.groups("--list", "--state", "Stable")
    assert group not in t.groups("--list", "--type", "consumer")
    has(t.groups("--describe", "--all-groups", "--offsets"), rf"^{group}\s+{topic}\s+\d\s")
    has(t.groups("--describe", "--group", group, "--members"), "has no active members")
    has(t.groups("--describe", "--group", group, "--state", "--verbose"), r"Empty\s+-\s+-\s+0\s*$")


def reset_all_topics(t: Tools) -> None:
    topic, group = group_committed(t)
    other = t.create(2)
    t.produce(other, ["x", "y", "z"])
    t.consume(other, 3, "--from-beginning", "--group", group)
    shown = t.groups("--reset-offsets", "--all-topics", "--group", group, "--to-earliest", "--execute")
    has(shown, rf"^{group}\s+{topic}\s+0\s+0\s*$", rf"^{group}\s+{other}\s+1\s+0\s*$")


def reset_refusals(t: Tools) -> None:
    topic, group = group_committed(t)
    options = ("--reset-offsets", "--group", group, "--to-earliest", "--dry-run")
    has(t.groups(*options, "--topic", f"{topic}:7", code=None), "do not exist|UnknownTopicOrPartition|not exist")
    has(t.groups(*options, "--topic", fresh("missing"), code=None), "do(es)? not exist|not exist|UnknownTopic")
    shown = t.groups("--delete-offsets", "--group", fresh("missing"), "--topic", topic, code=None)
    has(shown, "not found|does not exist|GroupIdNotFound|could not be")


def reset_new_group(t: Tools) -> None:
    """A group comes to be by the offsets that are set for it."""
    topic, group = t.create(), fresh("group")
    t.produce(topic, ["a", "b"])
    t.groups("--reset-offsets", "--group", group, "--topic", topic, "--to-latest", "--execute")
    has(t.groups("--describe", "--group", group), rf"^{group}\s+{topic}\s+0\s+2\s+2\s+0\s")


def offsets_chosen(t: Tools) -> None:
    topic = t.create(3)
    t.produce(topic, ["a"])
    to_come = str(int(time.time() * 1000) + 3_600_000)
    starts = [f"{topic}:{partition}:0" for partition in range(3)]
    for when, wanted in ((to_come, []), ("-4", starts), ("earliest-local", starts), ("-5", []), ("latest-tiered", [])):
        shown = t("GetOffsetShell", "--topic", topic, "--time", when)
        assert shown.split() == wanted, (when, shown)
    shown = t("GetOffsetShell", "--topic", topic, "--partitions", "0,2")
    assert re.findall(rf"^{topic}:(\d):", shown, re.MULTILINE) == ["0", "2"], shown
    shown = t("GetOffsetShell", "--topic", "__consumer_.*", "--exclude-internal-topics", code=None)
    has(shown, "Could not match any topic-partitions")


def configs_of_others(t: Tools) -> None:
    command = "ConfigCommand"
    has(t(command, "--describe", "--entity-type", "groups", "--entity-name", fresh("g")), "doesn't exist")
    t(command, "--describe", "--entity-type", "client-metrics", "--entity-name", fresh("m"))
    shown = t(command, "--describe", "--all", "--entity-type", "broker-loggers", "--entity-name", "1")
    has(shown, "All configs for broker-logger 1 are:")
    has(t(command, "--describe", "--entity-type", "brokers", "--entity-name", "1"), "Dynamic configs for broker 1 are:")


def configs_of_everyone(t: Tools) -> None:
    topic = t.create(1, "segment.bytes=1048576")
    has(
        t("ConfigCommand", "--describe", "--entity-type", "topics"),
        f"Dynamic configs for topic {topic} are:",
        "segment.bytes=1048576 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:segment.bytes=1048576",
    )


def users_described(t: Tools) -> None:
    t("ConfigCommand", "--describe", "--entity-type", "users")


def client_metrics(t: Tools) -> None:
    t("ClientMetricsCommand", "--list")
    t("ClientMetricsCommand", "--describe")


def acls(t: Tools) -> None:
    has(t("AclCommand", "--list", code=None), "No Authorizer is configured")


def share_consumer(t: Tools) -> None:
    """A share group begins at the end of a topic, so records come until it has had one."""
    topic = t.create()
    options = ("--topic", topic, "--max-messages", "1", "--timeout-ms", "15000")
    command = t.command("consumer.ConsoleShareConsumer", "--bootstrap-server", t.bootstrap, *options)
    with tempfile.TemporaryFile("w+") as said:
        consumer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        try:
            while consumer.poll() is None:
                t.produce(topic, ["shared"])
        finally:
            consumer.kill()
            consumer.wait()
        said.seek(0)
        has(said.read(), "^shared$", "Processed a total of 1 messages")
    has(t("consumer.group.ShareGroupCommand", "--list"), "^console-share-consumer")


def quorum_replication(t: Tools) -> None:
    has(t("MetadataQuorumCommand", "describe", "--replication"), "LogEndOffset", "Leader")


def unregistering(t: Tools) -> None:
    shown = t.run("ClusterTool", "unregister", "--bootstrap-server", t.bootstrap, "--id", "77", code=None)
    has(shown, "BrokerIdNotRegisteredException|not registered|not currently registered|Broker ID 77 not found")


def producers_described(t: Tools) -> None:
    topic = t.create()
    t.produce(topic, ["x"])
    shown = t("TransactionsCommand", "describe-producers", "--topic", topic, "--partition", "0")
    has(shown, r"ProducerId\s+ProducerEpoch", r"^\d+\s+0\s+-1\s+0\s")


def transactional_copier(t: Tools) -> None:
    source, target = t.create(), t.create()
    t.produce(source, [str(number) for number in range(20)])
    shown = t.run(
        "TransactionalMessageCopier",
        *("--broker-list", t.bootstrap, "--input-topic", source, "--input-partition", "0", "--output-topic", target),
        *("--transactional-id", fresh("copy"), "--consumer-group", fresh("group"), "--max-messages", "20"),
        *("--transaction-size", "10"),
        limit_s=25,
    )
    has(shown, '"consumed":20')
    assert len(t.consume(target, 20, "--from-beginning", "--isolation-level", "read_committed")) == 20


def replicas_verified(t: Tools) -> None:
    topic = t.create()
    t.produce(topic, ["x"])
    options = ("--topics-include", topic, "--report-interval-ms", "500", "--broker-list", t.bootstrap)
    command = t.command("ReplicaVerificationTool", *options)
    with tempfile.TemporaryFile("w+") as said:
        tool = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 40
            shown = ""
            while "max lag is" not in shown:
                assert time.monotonic() < deadline and tool.poll() is None, shown[-400:]
                time.sleep(0.2)
                said.seek(0)
                shown = said.read()
        finally:
            tool.kill()
            tool.wait()
    has(shown, "max lag is 0 for partition")


def application_reset(t: Tools) -> None:
    topic, group = group_committed(t)
    options = ("--application-id", group, "--input-topics", topic, "--to-offset", "2")
    has(t("StreamsResetter", *options), "Reset-offsets for input topics|Following input topics offsets will be reset")
    has(t.groups("--describe", "--group", group), rf"{topic}\s+0\s+2\s+10\s+8")


def verifiable_members(t: Tools) -> None:
    """Two members with fixed names, one after the other and together, share the partitions and lose nothing."""
    topic, group = t.create(4), fresh("group")
    t("VerifiableProducer", "--topic", topic, "--max-messages", "400", "--throughput", "-1", "--acks", "-1")
    assignor = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
    outputs, members = [], []
    try:
        for number in (1, 2):
            said = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed below, after its member
            outputs.append(said)
            command = t.command("VerifiableConsumer", "--bootstrap-server", t.bootstrap, "--topic", topic)
            command += ["--group-id", group, "--group-instance-id", f"m{number}", "--assignment-strategy", assignor]
            members.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 60
        while True:
            shown = t.groups("--describe", "--group", group, "--members", code=None)
            counts = [int(line.split()[-1]) for line in shown.splitlines() if line.startswith(group) and " m" in line]
            if counts == [2, 2]:
                break
            assert time.monotonic() < deadline, shown[-400:]
        has(shown, r"\sm1\s", r"\sm2\s")
        while sum(committed(shown := t.groups("--describe", "--group", group, code=None), topic)) < 400:
            assert time.monotonic() < deadline, shown[-400:]
    finally:
        for member in members:
            member.terminate()
        for member in members:
            member.wait(20)
    found = []
    for said in outputs:
        said.seek(0)
        text = said.read()
        has(text, '"name":"shutdown_complete"')
        found += [int(count) for count in re.findall(r'"name":"records_consumed".*?"count":(\d+),"partitions"', text)]
        said.close()
    assert sum(found) == 400, found


def committed(shown: str, topic: str) -> list[int]:
    """The committed offsets in a description of a group."""
    return [int(offset) for offset in re.findall(rf"\s{topic}\s+\d+\s+(\d+)\s", shown)]


def several_segments_dumped(t: Tools) -> None:
    topic = t.create(1, "segment.bytes=1048576", "index.interval.bytes=100")
    t("ProducerPerformance", "--topic", topic, "--num-records", "3000", "--record-size", "1000", "--throughput", "-1")
    folder = broker_data() / f"{topic}-0"
    logs = sorted(folder.glob("*.log"))
    assert len(logs) == 3, logs
    first, second = logs[:2]
    indexes = f"{first.with_suffix('.index')},{first.with_suffix('.timeindex')}"
    has(dumped(t, "--files", indexes, "--index-sanity-check"), r"index passed sanity check", r"timeindex passed sanity")
    shown = dumped(t, "--files", indexes)
    has(shown, r"^offset: \d+ position: \d+$", r"^timestamp: \d{13} offset: \d+$")
    assert "mismatch" not in shown.lower() and "corrupt" not in shown.lower(), shown
    has(dumped(t, "--files", str(second)), f"Log starting offset: {int(second.stem)}")
    shown = dumped(t, "--files", str(second.with_suffix(".snapshot")))
    last = int(second.stem) - 1
    has(shown, rf"producerId: \d+ producerEpoch: 0 .*lastOffset: {last} ")


def metadata_dumped(t: Tools) -> None:
    topic = t.create(2)
    logs = sorted((broker_data() / "__cluster_metadata-0").glob("*.log"))
    shown = dumped(t, "--cluster-metadata-decoder", "--files", ",".join(map(str, logs)))
    has(shown, rf'"type":"TOPIC_RECORD","version":0,"data":{{"name":"{topic}","topicId":"\S{{22}}"')
    has(shown, r'"type":"PARTITION_RECORD","version":\d,"data":{"partitionId":1')


FURTHER: dict[str, Callable[[Tools], None]] = {
    "kafka-console-producer, -consumer: acks, isolation, several topics": console_choices,
    "kafka-console-consumer: nothing comes": console_silence,
    "kafka-console-producer: a record too large": console_large,
    "kafka-console-consumer: offsets and groups in __consumer_offsets": internal_topics_read,
    "kafka-consumer-groups: filters": groups_filtered,
    "kafka-consumer-groups: reset offsets, all topics": reset_all_topics,
    "kafka-consumer-groups: reset offsets, refusals": reset_refusals,
    "kafka-consumer-groups: reset offsets, a new group": reset_new_group,
    "kafka-get-offsets: chosen partitions, times to come": offsets_chosen,
    "kafka-configs: describe groups, client metrics, loggers": configs_of_others,
    "kafka-configs: describe all topics": configs_of_everyone,
    "kafka-configs: describe users": users_described,
    "kafka-client-metrics: list": client_metrics,
    "kafka-acls: list": acls,
    "kafka-console-share-consumer, kafka-share-groups": share_consumer,
    "kafka-metadata-quorum: replication": quorum_replication,
    "kafka-cluster: unregister": unregistering,
    "kafka-transactions: describe-producers": producers_described,
    "TransactionalMessageCopier": transactional_copier,
    "ReplicaVerificationTool": replicas_verified,
    "StreamsResetter": application_reset,
    "VerifiableConsumer: two fixed members": verifiable_members,
    "DumpLogSegments: several segments, indexes, producers": several_segments_dumped,
    "DumpLogSegments: the metadata log": metadata_dumped,
}


def checks(bootstrap: str) -> Iterator[Check]:
    t = Tools(bootstrap)
    for table, quick, restarts in (
        (QUICK, True, False),
        (OTHERS, False, False),
        (FURTHER, False, False),
        (TRANSACTIONS, False, False),
        (REPLICAS, False, False),
        (RESTARTING, False, True),
        (REPLICAS_RESTARTING, False, True),
    ):
        for name, check in table.items():
            yield Check(name, lambda check=check: check(t), limit_s=3 * LIMIT_S, quick=quick, restarts=restarts)


if __name__ == "__main__":
    harness.main("Apache Kafka's tools", KAFKA_VERSION, checks)
