#!/usr/bin/env python3
"""A group whose members come and go: nothing missed, nothing read again that was committed, and how fast it settles.

    compat/endurance/churn.py --minutes 5
    compat/endurance/churn.py --minutes 5 --client java-consumer --against kafka

A topic is filled all the while. Members (`churning.py`, `Churning.java`: processes of their own) are added, asked to
leave, killed with -9, several at once or one by one, between one and twenty of them. After each change the conductor
waits until the living ones own all partitions, each of them once, and nobody less than their share; how long that takes
is printed by kind of change, to be held against the other broker's.

Passes when every record was read; when nobody was given again what had been committed before they got its partition, or
what they had read themselves without having lost it; and when every change settled within a minute.
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

from brokers import WORK, ApacheKafka, Broker, Kafkapy, Trouble, kafka_home
from churning import HEARTBEAT_INTERVAL_MS, SESSION_TIMEOUT_MS
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from verdict import Failed

CLIENTS = ("librdkafka", "librdkafka-consumer", "kafka-python", "aiokafka", "java-classic", "java-consumer")
TOPIC, GROUP = "churned", "churning"
PARTITION_COUNT = 24
RECORDS_PER_SECOND = 400
SETTLES_WITHIN_S = 60
CATCHES_UP_WITHIN_S = 60
SETTINGS = {
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": str(SESSION_TIMEOUT_MS),
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": str(HEARTBEAT_INTERVAL_MS),
    "offsets.topic.num.partitions": "4",
}


class Entry(NamedTuple):
    """One line of a journal."""

    at: float
    word: str
    rest: list[str]


class Member:
    """A process of the group."""

    def __init__(self, command: list[str], path: Path) -> None:
        self.path = path
        self.path.touch()
        errors = path.with_suffix(".err").open("wb")
        self.process = subprocess.Popen(command, stdout=errors, stderr=errors)

    def entries(self) -> list[Entry]:
        whole = self.path.read_text().rpartition("\n")[0]
        return [Entry(float(line.split()[0]), line.split()[1], line.split()[2:]) for line in whole.splitlines()]

    def owned(self) -> set[int]:
        last = next((entry for entry in reversed(self.entries()) if entry.word == "owns"), None)
        return set() if last is None or last.rest == ["-"] else {int(number) for number in last.rest[0].split(",")}


class Filling(threading.Thread):
    """Fills the topic at a steady pace, until it is told to end."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(daemon=True)
        self.ending = threading.Event()
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})

    def run(self) -> None:
        number = 0
        while not self.ending.wait(0.05):
            for _ in range(RECORDS_PER_SECOND // 20):
                number += 1
                self._producer.produce(TOPIC, b"%d" % number, partition=number % PARTITION_COUNT)
            self._producer.poll(0)
        self._producer.flush(30)


class Conductor:
    """Has members come and go."""

    def __init__(self, client: str, broker: Broker, folder: Path, rng: random.Random) -> None:
        self.client = client
        self.broker = broker
        self.folder = folder
        self.rng = rng
        self.living: list[Member] = []
        self.all: list[Member] = []
        self.took_s: dict[str, list[float]] = defaultdict(list)

    def add(self) -> None:
        path = self.folder / f"member-{len(self.all)}"
        rest = [self.broker.bootstrap, GROUP, TOPIC, str(path)]
        if self.client.startswith("java-"):
            java = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx96m", "-cp"]
            classes = f"{self.folder}:{kafka_home()}/libs/*"
            command = [*java, classes, "Churning", self.client.partition("-")[2], *rest]
        else:
            command = [sys.executable, str(HERE / "churning.py"), self.client, *rest]
        member = Member(command, path)
        self.living.append(member)
        self.all.append(member)

    def change(self) -> str:
        """One change of who is there; its kind."""
        few, many = len(self.living) <= 2, len(self.living) >= 18
        kind = "join" if few else "leave" if many else self.rng.choice(("join", "join", "leave", "kill", "crowd"))
        if kind == "join":
            self.add()
        elif kind == "leave":
            self.end(self.rng.choice(self.living), signal.SIGTERM)
        elif kind == "kill":
            self.end(self.rng.choice(self.living), signal.SIGKILL)
        else:
            for _ in range(self.rng.randrange(2, 4)):
                self.add()
            for member in (
                self.rng.sample(self.living[:-3], min(2, len(self.living) - 4)) if len(self.living) > 5 else []
            ):
                self.end(member, self.rng.choice((signal.SIGTERM, signal.SIGKILL)))
        return kind

    def end(self, member: Member, how: signal.Signals) -> None:
        self.living.remove(member)
        member.process.send_signal(how)

    def wait_settled(self) -> None:
        begun = time.monotonic()
        while not self.settled():
            if time.monotonic() - begun > SETTLES_WITHIN_S:
                shown = {member.path.name: sorted(member.owned()) for member in self.living}
                raise Failed(f"{len(self.living)} members do not settle: {shown}")
            time.sleep(0.02)

    def settled(self) -> bool:
        if dead := [member for member in self.living if member.process.poll() is not None]:
            raise Failed(f"{dead[0].path.name} ended with {dead[0].process.returncode}: see {dead[0].path}.err")
        owned = [member.owned() for member in self.living]
        share = PARTITION_COUNT // len(self.living)
        return sum(map(len, owned)) == PARTITION_COUNT == len(set().union(*owned)) and min(map(len, owned)) >= share

    def run(self, minutes: float) -> None:
        for _ in range(3):
            self.add()
        self.wait_settled()
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end:
            begun = time.monotonic()
            kind = self.change()
            self.wait_settled()
            self.took_s[kind].append(time.monotonic() - begun)
            time.sleep(self.rng.uniform(0.2, 2))

    def stop(self) -> None:
        for member in self.all:
            member.process.send_signal(signal.SIGTERM)
        for member in self.all:
            try:
                member.process.wait(30)
            except subprocess.TimeoutExpired:
                member.process.kill()


def ends_of(bootstrap: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "looking"})
    found = {
        partition: consumer.get_watermark_offsets(TopicPartition(TOPIC, partition), 30)[1]
        for partition in range(PARTITION_COUNT)
    }
    consumer.close()
    return found


def judge(members: list[Member], ends: dict[int, int]) -> tuple[list[str], int]:
    """What went wrong, and how often somebody was rightly given again what nobody had committed."""
    committed: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for member in members:
        for entry in member.entries():
            if entry.word == "committed":
                committed[int(entry.rest[0])].append((entry.at, int(entry.rest[1])))
    wrong: list[str] = []
    read_count: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for member in members:
        since: dict[int, float] = {}
        position: dict[int, int] = {}
        for entry in member.entries():
            if entry.word == "owns":
                owned = set() if entry.rest == ["-"] else {int(number) for number in entry.rest[0].split(",")}
                since = {partition: since.get(partition, entry.at) for partition in owned}
                position = {partition: offset for partition, offset in position.items() if partition in owned}
            elif entry.word == "read":
                partition, first, last = map(int, entry.rest)
                floor = max((end for at, end in committed[partition] if at < since.get(partition, 0)), default=0)
                floor = position.get(partition, floor)
                if first < floor:
                    wrong.append(f"{member.path.name} read {partition}:{first} again, of which {floor} was the next")
                position[partition] = last + 1
                for offset in range(first, last + 1):
                    read_count[partition][offset] += 1
    for partition, end in ends.items():
        missing = [offset for offset in range(end) if offset not in read_count[partition]]
        if missing:
            wrong.append(f"{len(missing)} records of {partition} were never read, from {missing[0]}")
    again = sum(count - 1 for counts in read_count.values() for count in counts.values())
    return wrong, again


def churned(client: str, broker: Broker, folder: Path, minutes: float, rng: random.Random) -> list[str]:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.create_topics([NewTopic(TOPIC, PARTITION_COUNT, 1)]).values():
        future.result(30)
    filling = Filling(broker.bootstrap)
    conductor = Conductor(client, broker, folder, rng)
    filling.start()
    try:
        conductor.run(minutes)
        filling.ending.set()
        filling.join()
        ends = ends_of(broker.bootstrap)
        deadline = time.monotonic() + CATCHES_UP_WITHIN_S
        while (found := judge(conductor.all, ends))[0] and time.monotonic() < deadline:
            time.sleep(1)
    except Failed as failure:
        return [str(failure)]
    finally:
        filling.ending.set()
        conductor.stop()
    wrong, again = found
    print(
        f"{client}: {len(conductor.all)} members, {sum(ends.values())} records, {again} rightly given again", flush=True
    )
    for kind, took in sorted(conductor.took_s.items()):
        print(
            f"  {kind}: {len(took)}, settled in {statistics.median(took):.2f} s, at most {max(took):.2f} s", flush=True
        )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5, help="of each client")
    parser.add_argument("--client", choices=CLIENTS, action="append", help="default: all, one after another")
    parser.add_argument("--against", choices=("kafkapy", "kafka"), default="kafkapy")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"against {options.against}, seed {seed}", flush=True)
    failed = False
    for client in options.client or CLIENTS:
        folder = WORK / "churn" / client
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if client.startswith("java-"):
            classpath = f"{kafka_home()}/libs/*"
            subprocess.run(["javac", "-cp", classpath, "-d", folder, HERE / "Churning.java"], check=True)
        kind = Kafkapy if options.against == "kafkapy" else ApacheKafka
        with kind(folder / "data", settings=SETTINGS) as broker:
            broker.start()
            wrong = churned(client, broker, folder, options.minutes, random.Random(seed))
        for text in wrong[:10]:
            print(f"FAILED: {client}: {text}", flush=True)
        failed = failed or bool(wrong)
    print("FAILED" if failed else "PASSED", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        sys.exit(main())
    except Trouble as trouble:
        sys.exit(f"churn.py: {trouble}")
    except KeyboardInterrupt:
        os._exit(130)
