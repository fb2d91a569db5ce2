"""What the tools do with replicas: reassigned, elected, missed while a broker is away. Needs three brokers."""

import json
import re
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import harness
from scenarios import fresh

if TYPE_CHECKING:
    from run import Tools

PATIENCE_S = 60


def described(t: "Tools", topic: str) -> list[tuple[str, list[str], list[str]]]:
    """Leader, replicas and in-sync replicas of each partition."""
    rows = re.findall(
        r"Partition: \d+\s+Leader: (\S+)\s+Replicas: (\S+)\s+Isr: (\S*)", t.topic("--describe", "--topic", topic)
    )
    return [(leader, replicas.split(","), in_sync.split(",")) for leader, replicas, in_sync in rows]


def replicated(t: "Tools") -> str:
    """A topic of three partitions that all brokers have."""
    if len(t.bootstrap.split(",")) < 3:
        raise harness.NotRun("needs three brokers")
    topic = fresh("replicated")
    t.topic("--create", "--topic", topic, "--partitions", "3", "--replication-factor", "3")
    return topic


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"


def reassigned(t: "Tools") -> None:
    topic = replicated(t)
    t.produce(topic, ["a", "b"])
    before = described(t, topic)
    # to two of them, the second first
    plans = [
        {"topic": topic, "partition": number, "replicas": [int(replicas[1]), int(replicas[0])]}
        for number, (_, replicas, _) in enumerate(before)
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as plan:
        json.dump({"version": 1, "partitions": plans}, plan)
        plan.flush()
        options = ("--reassignment-json-file", plan.name)
        shown = t("reassign.ReassignPartitionsCommand", "--execute", *options)
        assert "Successfully started partition reassignments for" in shown, shown

        def done() -> bool:
            told = t("reassign.ReassignPartitionsCommand", "--verify", *options)
            return all(f"Reassignment of partition {topic}-{number} is completed" in told for number in range(3))

        until(done, "the reassignment")
    assert "No partition reassignments found" in t("reassign.ReassignPartitionsCommand", "--list")
    wanted = [[str(node) for node in one["replicas"]] for one in plans]
    assert [replicas for _, replicas, _ in described(t, topic)] == wanted, described(t, topic)
    assert sorted(t.consume(topic, 2, "--from-beginning")) == ["a", "b"]


def generated(t: "Tools") -> None:
    topic = replicated(t)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as topics:
        json.dump({"version": 1, "topics": [{"topic": topic}]}, topics)
        topics.flush()
        options = ("--topics-to-move-json-file", topics.name, "--broker-list", "1,2,3")
        shown = t("reassign.ReassignPartitionsCommand", "--generate", *options)
    current, proposed = (json.loads(line) for line in shown.splitlines() if line.startswith("{"))
    assert len(current["partitions"]) == len(proposed["partitions"]) == 3, shown


def missed_and_elected(t: "Tools") -> None:
    """A broker is killed, its replicas are missed; it comes back, and leads again what it is the first replica of."""
    topic = replicated(t)

    def is_missed() -> bool:
        return topic in t.topic("--describe", "--under-replicated-partitions", "--topic", topic)

    assert not is_missed()
    harness.ask("kill", 0)
    until(is_missed, "the killed broker to be missed")
    assert topic not in t.topic("--describe", "--unavailable-partitions", "--topic", topic)
    assert topic in t.topic("--describe", "--under-replicated-partitions", "--topic", topic)
    t.produce(topic, ["meanwhile"])
    harness.ask("start", 0)
    until(lambda: not is_missed(), "the broker to be back")
    shown = t("LeaderElectionCommand", "--election-type", "preferred", "--all-topic-partitions")
    assert re.search("Valid replica already elected|no election needed|Successfully completed|^$", shown), shown
    until(
        lambda: all(leader == replicas[0] for leader, replicas, _ in described(t, topic)),
        "all to be led by their first replicas",
    )
    assert t.consume(topic, 1, "--from-beginning") == ["meanwhile"]


CHECKS = {
    "kafka-reassign-partitions: execute, three brokers": reassigned,
    "kafka-reassign-partitions: generate, three brokers": generated,
}
RESTARTING = {"kafka-topics, kafka-leader-election: a broker killed and back, three brokers": missed_and_elected}
