#!/usr/bin/env python3
"""Three brokers, one of which is killed every few seconds and started again, under stock clients as they are delivered.

    compat/endurance/failover.py --minutes 10                        kafkapy, three brokers in a process
    compat/endurance/failover.py --minutes 10 --three processes      kafkapy, three processes over a PostgreSQL
    compat/endurance/failover.py --minutes 3 --three kafka           Apache Kafka, three nodes
    compat/endurance/failover.py --minutes 1 --no-java

Writers (`producing.py`, `Producing.java`) write numbers with acks=all, idempotently, some in transactions; groups
(`churning.py`, `Churning.java`) read what one of them writes, and commit. Each is a process of its own. A broker is
down for three seconds; the next goes five seconds after it, or later: not before all replicas are in sync again.

Passes when every number lies in its partition once and in order, where it was acknowledged, nothing failed that a
user would see, every group read everything, and nobody was given again what was committed before. Then it prints each
client's pauses: how long the worst partition had nothing acknowledged, or a group nothing read, when a broker was
killed, and when it came back.
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

from brokers import ROOT, WORK, Trouble, kafka_home
from churn import Entry, Member, judge
from clusters import COUNT, KafkaNodes, OneProcess, Processes, Several
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from producing import PARTITION_COUNT
from verdict import Failed, until

WRITERS = ("librdkafka", "librdkafka-transactions", "kafka-python", "aiokafka", "java", "java-transactions")
GROUPS = ("librdkafka", "librdkafka-consumer", "kafka-python", "aiokafka", "java-consumer")
MEMBERS = 2
READ_OF = "librdkafka"
"""The writer whose topic the groups read."""
EVERY_S, DOWN_S = 5, 3
MISSED_AFTER_MS = 2000
"""Both are to miss a broker after that long: as a lease, and as a session."""
SETTINGS = {
    "offsets.topic.num.partitions": "6",
    "transaction.state.log.num.partitions": "6",
    "group.consumer.session.timeout.ms": "45000",
}
OF_KAFKA = {
    "broker.session.timeout.ms": str(MISSED_AFTER_MS),
    "broker.heartbeat.interval.ms": str(MISSED_AFTER_MS // 4),
    "auto.leader.rebalance.enable": "true",
    "leader.imbalance.check.interval.seconds": "1",
}
SETTLES_WITHIN_S = 240
EVERYTHING_READ = "the groups to have read everything"
JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx96m", "-cp")

Cluster = OneProcess | Several
Event = tuple[float, str]


class Clients:
    """The writers' and the groups' processes, by what they are called."""

    def __init__(self, cluster: Cluster, folder: Path, *, java: bool) -> None:
        self.cluster = cluster
        self.folder = folder
        names = [name for name in WRITERS if java or not name.startswith("java")]
        self.writers = {name: self._writer(name) for name in names}
        names = [name for name in GROUPS if java or not name.startswith("java")]
        self.groups = {name: [self._member(name, number) for number in range(MEMBERS)] for name in names}

    def _writer(self, name: str) -> Member:
        rest = [self.cluster.bootstrap, f"by-{name}", str(self.folder / f"writer-{name}")]
        kind = name.partition("-")[2] or "idempotent"
        command = self._command("producing.py", name) if not name.startswith("java") else self._java("Producing", kind)
        return Member([*command, *rest], Path(rest[-1]))

    def _member(self, name: str, number: int) -> Member:
        rest = [self.cluster.bootstrap, f"of-{name}", f"by-{READ_OF}", str(self.folder / f"member-{name}-{number}")]
        kind = name.partition("-")[2]
        command = self._command("churning.py", name) if not name.startswith("java") else self._java("Churning", kind)
        return Member([*command, *rest], Path(rest[-1]))

    def _command(self, program: str, name: str) -> list[str]:
        return [sys.executable, str(HERE / program), name]

    def _java(self, program: str, kind: str) -> list[str]:
        return [*JAVA, f"{self.folder}:{kafka_home()}/libs/*", program, kind]

    def all(self) -> list[Member]:
        return [*self.writers.values(), *(member for members in self.groups.values() for member in members)]

    def alive(self) -> None:
        for member in self.all():
            if (code := member.process.poll()) is not None:
                said = member.path.with_suffix(".err").read_text("utf-8", "replace")[-600:]
                raise Failed(f"{member.path.name} ended with {code}: {said}")

    def end(self, members: Sequence[Member]) -> None:
        for member in members:
            member.process.send_signal(signal.SIGTERM)
        for member in members:
            try:
                member.process.wait(SETTLES_WITHIN_S)
            except subprocess.TimeoutExpired:
                raise Failed(f"{member.path.name} does not come to an end") from None

    def kill(self) -> None:
        for member in self.all():
            member.process.kill()
            member.process.wait()


def in_sync(admin: AdminClient) -> bool:
    try:
        told = admin.list_topics(timeout=2)
    except KafkaException:
        return False
    partitions = [partition for topic in told.topics.values() for partition in topic.partitions.values()]
    return len(told.brokers) == COUNT and all(len(partition.isrs) == COUNT for partition in partitions)


def disturb(cluster: Cluster, clients: Clients, admin: AdminClient, seconds: float, rng: random.Random) -> list[Event]:
    """Kill and start, until the time is over; when each was."""
    events: list[Event] = []
    end = time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        number = rng.randrange(COUNT)
        events.append((begun, "killed"))
        cluster.kill_one(number)
        time.sleep(max(0, begun + DOWN_S - time.monotonic()))
        cluster.start_one(number)
        events.append((time.monotonic(), "back"))
        time.sleep(max(0, begun + EVERY_S - time.monotonic()))
        until(lambda: in_sync(admin), "all replicas to be in sync", SETTLES_WITHIN_S)
        clients.alive()
        print(f"\r{len(events) // 2} kills ", end="", flush=True)
    print(flush=True)
    return events


def read_all(bootstrap: str, topic: str) -> dict[int, list[tuple[int, int]]]:
    """Of each partition what was committed: offsets and numbers."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "judge", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITION_COUNT)])
    found: dict[int, list[tuple[int, int]]] = {number: [] for number in range(PARTITION_COUNT)}
    at_end: set[int] = set()
    while len(at_end) < PARTITION_COUNT:
        for message in consumer.consume(1000, 1):
            take(message, found, at_end)
    consumer.close()
    return found


def take(message: Message, found: dict[int, list[tuple[int, int]]], at_end: set[int]) -> None:
    if message.error() is None:
        found[message.partition()].append((message.offset(), int(message.value())))
    else:
        at_end.add(message.partition())


def judge_writer(name: str, entries: Sequence[Entry], there: dict[int, list[tuple[int, int]]]) -> list[str]:
    """What is wrong with what lies in its topic, offsets and numbers by partition, by what its journal says."""
    wrong = [f"{name}: {' '.join(entry.rest)}" for entry in entries if entry.word == "failed"]
    if not entries or entries[-1].word != "sent":
        return [*wrong, f"{name} did not come to its end"]
    count = int(entries[-1].rest[0])
    places = {number: offset for records in there.values() for offset, number in records}
    for partition, records in there.items():
        numbers, wanted = [number for _, number in records], list(range(partition, count, PARTITION_COUNT))
        if numbers != wanted:
            lost, more = len(set(wanted) - set(numbers)), len(numbers) - len(set(numbers))
            wrong.append(f"{name}, partition {partition}: {lost} lost, {more} doubled, or else their order is another")
    acked = [(int(entry.rest[0]), int(entry.rest[1])) for entry in entries if entry.word == "acked"]
    if len(acked) != count:
        wrong.append(f"{name}: {count} sent, {len(acked)} acknowledged")
    elsewhere = [number for number, offset in acked if offset not in (-1, places.get(number))]
    return wrong + [f"{name}: {number} was acknowledged at another offset" for number in elsewhere[:3]]


def pauses(events: Sequence[Event], seen: dict[int, list[float]]) -> dict[str, list[float]]:
    """How long, of all partitions the worst one, there was nothing: by kind of event, once for each event.

    A gap is that of the first event within it, or of the last before it.
    """
    moments = [at for at, _ in events]
    longest = [0.0] * len(events)
    for times in seen.values():
        for begin, end in pairwise(times):
            index = bisect_left(moments, begin)
            index = index if index < len(moments) and moments[index] < end else index - 1
            if index >= 0:
                longest[index] = max(longest[index], end - begin)
    found = defaultdict(list)
    for (_, kind), pause in zip(events, longest, strict=True):
        found[kind].append(pause)
    return found


def tell_pauses(name: str, events: Sequence[Event], seen: dict[int, list[float]]) -> None:
    cells = []
    for kind in ("killed", "back"):
        took = sorted(pauses(events, seen)[kind])
        at_99 = took[min(len(took) - 1, len(took) * 99 // 100)]
        cells.append(f"{statistics.median(took):.2f} | {at_99:.2f} | {took[-1]:.2f}")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def tell(clients: Clients, events: Sequence[Event]) -> None:
    print("| longest pause, s | killed: p50 | p99 | most | back: p50 | p99 | most |\n| --- |" + " ---: |" * 6)
    for name, writer in clients.writers.items():
        seen: dict[int, list[float]] = defaultdict(list)
        for entry in writer.entries():
            if entry.word == "acked":
                seen[int(entry.rest[0]) % PARTITION_COUNT].append(entry.at)
        tell_pauses(f"writer, {name}", events, seen)
    for name, members in clients.groups.items():
        seen = defaultdict(list)
        for entry in sorted(entry for member in members for entry in member.entries() if entry.word == "read"):
            seen[int(entry.rest[0])].append(entry.at)
        tell_pauses(f"group, {name}", events, seen)


def run(cluster: Cluster, folder: Path, minutes: float, rng: random.Random, *, java: bool) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    topics = [NewTopic(f"by-{name}", PARTITION_COUNT, COUNT) for name in WRITERS]
    for made in admin.create_topics(topics, operation_timeout=30).values():
        made.result(60)
    clients = Clients(cluster, folder, java=java)
    try:
        until(
            lambda: all(one.path.stat().st_size for one in clients.writers.values()),
            "all writers to have written",
            SETTLES_WITHIN_S,
        )
        until(
            lambda: all(any(one.owned() for one in group) for group in clients.groups.values()),
            "the groups to form",
            SETTLES_WITHIN_S,
        )
        until(lambda: in_sync(admin), "all replicas to be in sync", SETTLES_WITHIN_S)
        events = disturb(cluster, clients, admin, minutes * 60, rng)
        clients.end(list(clients.writers.values()))
        found = {name: read_all(cluster.bootstrap, f"by-{name}") for name in clients.writers}
        wrong = [
            text for name, one in clients.writers.items() for text in judge_writer(name, one.entries(), found[name])
        ]
        ends = {partition: len(records) for partition, records in found[READ_OF].items()}
        behind = EVERYTHING_READ if not wrong else ""
        until(
            lambda: not behind or all(not judge(group, ends)[0] for group in clients.groups.values()),
            behind,
            SETTLES_WITHIN_S,
        )
        clients.end([member for members in clients.groups.values() for member in members])
    except Failed as failure:
        wrong = [str(failure)]
        if str(failure).endswith(EVERYTHING_READ):
            wrong += [f"{name}: {text}" for name, group in clients.groups.items() for text in judge(group, ends)[0]]
    finally:
        clients.kill()
    if wrong:
        raise Failed("\n  ".join(wrong[:20]))
    again = sum(judge(members, ends)[1] for members in clients.groups.values())
    print(
        f"{len(events) // 2} kills; {sum(len(r) for one in found.values() for r in one.values())} records, none lost,"
    )
    print(f"doubled or reordered; {again} rightly given again to groups")
    tell(clients, events)


def made(kind: str, folder: Path) -> Cluster:
    if kind == "kafka":
        return KafkaNodes(folder / "data", settings={**SETTINGS, **OF_KAFKA})
    if kind == "processes":
        lease = {"kafkapy.database.lease.ms": str(MISSED_AFTER_MS)}
        return Processes(folder / "data", settings={**SETTINGS, **lease}, log_format="json")
    return OneProcess(folder / "data", settings=SETTINGS, log_format="json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--three", choices=("brokers", "processes", "kafka"), default="brokers")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one each time; printed")
    parser.add_argument("--no-java", action="store_true")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    folder = WORK / f"failover-{options.three}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "clients").mkdir(parents=True)
    if not options.no_java:
        sources = [str(HERE / f"{name}.java") for name in ("Churning", "Producing")]
        classpath = f"{kafka_home()}/libs/*"
        subprocess.run(["javac", "-cp", classpath, "-d", str(folder / "clients"), *sources], check=True, cwd=ROOT)
    with made(options.three, folder) as cluster:
        print(f"{options.minutes:g} minutes against {cluster.name}, seed {seed}; in {folder}", flush=True)
        cluster.start()
        try:
            run(cluster, folder / "clients", options.minutes, random.Random(seed), java=not options.no_java)
            finish(cluster)
        except Failed as failure:
            print(f"\nFAILED: {failure}", flush=True)
            return 1
    print("PASSED", flush=True)
    return 0


def finish(cluster: Cluster) -> None:
    code = cluster.stop()
    if isinstance(cluster, KafkaNodes):
        return
    assert isinstance(cluster, OneProcess | Processes)
    wrong = [f"exit code {code}"] * (code != 0) + cluster.complaints() + [cluster.check()]
    if any(wrong):
        raise Failed("; ".join(filter(None, wrong))[:1000])
    print("clean stop, no error in the logs; kafkapy check finds nothing", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        sys.exit(main())
    except Trouble as trouble:
        sys.exit(f"failover.py: {trouble}")
    except KeyboardInterrupt:
        os._exit(130)
