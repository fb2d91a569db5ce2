#!/usr/bin/env python3
"""A share group through kill -9 of the broker and of its members: each record ends accepted, rejected or given up.

    compat/endurance/sharing.py --minutes 20
    compat/endurance/sharing.py --minutes 2 --against kafka
    compat/endurance/sharing.py --minutes 2 --tree ../scratch        # a copy of the tree with a rule broken

A topic is filled for as long as the run lasts. Members (`taking.py`, librdkafka's share consumer) accept most of what
they are given, release some, reject a few, hold some for too long, and leave now and then; some (`renewing.py`) ask for
more time. With one record in 53 nobody ever comes to an end. What the group gives up goes into a dead-letter queue. At
seeded moments the broker is killed with SIGKILL, members are killed, or stopped for longer than they may hold a record.

At the end the group is to be done with everything, and `shared_records.py` finds nothing: no record lost, none that was
told to be accepted or rejected given again, none given more often than the group's limit or to two at a time, none that
was rejected or given up missing in the queue. Exit code 0 only then.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent), str(HERE.parent / "differential")]

from brokers import ROOT, WORK, ApacheKafka, Broker, Kafkapy, Trouble
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from observing import Feeder
from probe import Probe
from shared_records import read, violations
from taking import GROUP, LOCK_SECONDS, TOPIC
from verdict import Failed, finish, no_complaints

from kafkapy.protocol.messages import request_class

PARTITION_COUNT = 3
LIMIT = 5
RENEWING_SHARE = 0.3
QUEUE = "dlq.shared"
PATIENCE_S = 180
HANGS_AFTER_S = 60
SETTINGS = {
    "log.flush.interval.messages": "1",
    "log.segment.bytes": str(1 << 20),
    "offsets.topic.num.partitions": "2",
    "share.coordinator.state.topic.num.partitions": "2",
    "group.share.delivery.count.limit": str(LIMIT),
    "group.share.min.record.lock.duration.ms": "1000",
    "group.share.record.lock.duration.ms": str(round(LOCK_SECONDS * 1000)),
    "group.share.min.session.timeout.ms": "1000",
    "group.share.session.timeout.ms": "3000",
    "group.share.min.heartbeat.interval.ms": "100",
    "group.share.heartbeat.interval.ms": "500",
}


class Members:
    """So many are wanted all the time."""

    def __init__(self, broker: Broker, folder: Path, count: int, rng: random.Random) -> None:
        self.broker = broker
        self.folder = folder
        self.rng = rng
        self.running: dict[Path, subprocess.Popen[bytes]] = {}
        self.due = [0.0] * count
        self.stalled: list[tuple[float, subprocess.Popen[bytes]]] = []
        self.ends: Counter[str] = Counter()
        self.begun = 0

    def tend(self) -> None:
        """Begin those that are due, wake those that stood still long enough, and see who ended."""
        now = time.monotonic()
        for path, process in list(self.running.items()):
            if (code := process.poll()) is not None:
                del self.running[path]
                self.due.append(now + self.rng.uniform(0, 2))
                self.ends["left" if code == 0 else "killed" if code == -signal.SIGKILL else f"code {code}"] += 1
        for due in [due for due in self.due if due <= now]:
            self.due.remove(due)
            self._begin()
        for until, process in list(self.stalled):
            if until <= now:
                self.stalled.remove((until, process))
                process.send_signal(signal.SIGCONT)
        for path, process in self.running.items():
            if process not in self._standing() and time.time() - path.stat().st_mtime > HANGS_AFTER_S:
                process.kill()
                self.ends["hung"] += 1

    def _begin(self) -> None:
        self.begun += 1
        path = self.folder / f"{self.begun}.journal"
        path.touch()
        kind = "renewing.py" if self.rng.random() < RENEWING_SHARE else "taking.py"
        program = [sys.executable, str(HERE / kind), self.broker.bootstrap]
        with (self.folder / "members.log").open("ab") as log:
            self.running[path] = subprocess.Popen(
                [*program, str(self.rng.randrange(1 << 31)), str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _standing(self) -> list[subprocess.Popen[bytes]]:
        return [process for _, process in self.stalled]

    def pick(self) -> subprocess.Popen[bytes] | None:
        standing = self._standing()
        found = [process for process in self.running.values() if process not in standing]
        return self.rng.choice(found) if found else None

    def stall(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGSTOP)
        self.stalled.append((time.monotonic() + self.rng.uniform(1, 3) * LOCK_SECONDS, process))

    def wake(self) -> None:
        for process in self._standing():
            process.send_signal(signal.SIGCONT)
        self.stalled = []

    def stop(self) -> None:
        self.wake()
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def journals(self) -> list[list[dict[str, Any]]]:
        """What each noted; a line that the kill cut off is none."""
        found = []
        for path in sorted(self.folder.glob("*.journal")):
            text = path.read_text()
            found.append([json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()])
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one each time; printed")
    parser.add_argument("--against", choices=("kafkapy", "kafka"), default="kafkapy")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the tree whose kafkapy is started")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    folder = WORK / f"sharing-{options.against}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    broker: Broker
    if options.against == "kafka":
        broker = ApacheKafka(folder / "data", settings=SETTINGS, heap=("-Xmx512m", "-Xms256m"))
    else:
        broker = Kafkapy(folder / "data", settings=SETTINGS, log_format="json", tree=options.tree.resolve())
    print(f"{options.minutes:g} minutes against {broker.name}, seed {seed}; in {folder}", flush=True)
    (folder / "members").mkdir(parents=True)
    rng = random.Random(seed)
    with broker:
        broker.start()
        members = Members(broker, folder / "members", options.members, rng)
        try:
            run(broker, members, rng, options.minutes * 60)
        except (Failed, Trouble) as failure:
            print(f"\nFAILED: {failure}", flush=True)
            return 1
        finally:
            members.stop()
    print("PASSED", flush=True)
    return 0


def run(broker: Broker, members: Members, rng: random.Random, seconds: float) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(TOPIC, PARTITION_COUNT, 1)])[TOPIC].result(60)
    queue = NewTopic(QUEUE, PARTITION_COUNT, 1, config={"errors.deadletterqueue.group.enable": "true"})
    admin.create_topics([queue])[QUEUE].result(60)
    set_up_group(broker)
    so_far: dict[int, int] = {}
    feeder = Feeder(broker.bootstrap, TOPIC, PARTITION_COUNT, rng.randrange(1 << 31), lambda: sum(so_far.values()))
    feeder.start()
    kills: list[float] = []
    done = mischief(broker, members, rng, seconds, so_far, kills)
    feeder.stopping.set()
    feeder.join()
    members.wake()
    began = time.monotonic()
    asked = {TopicPartition(TOPIC, number): OffsetSpec.latest() for number in range(PARTITION_COUNT)}
    ends = {place.partition: answer.result(30).offset for place, answer in admin.list_offsets(asked).items()}
    while [lag for _, lag in where(broker).values()] != [0] * PARTITION_COUNT:
        if time.monotonic() > began + PATIENCE_S:
            raise Failed(f"done with and not are {where(broker)} after {PATIENCE_S} s, the partitions end at {ends}")
        members.tend()
        time.sleep(0.2)
    took = time.monotonic() - began
    members.stop()
    records = read(members.journals())
    letters = in_queue(broker)
    found = feeder.complaints + list(violations(records, ends, LIMIT, kills, letters))
    deliveries = sum(len(record.given) for record in records.values())
    told = sum(bool(record.done) for record in records.values())
    given_up = sum(not record.may_be_done for record in records.values())
    renewals = sum(len(record.renewed) for record in records.values())
    print(
        f"\n{json.dumps(done)}, members' ends {json.dumps(members.ends)}; done with everything {took:.1f} s later\n"
        f"{sum(ends.values())} records, given {deliveries} times; {told} told to be done with, {given_up} given up\n"
        f"{renewals} renewals; {sum(letters.values())} dead letters, of {len(letters)} records",
        flush=True,
    )
    if found:
        kinds = Counter(line.partition(":")[0] for line in found)
        raise Failed(f"{json.dumps(kinds)}\n  " + "\n  ".join(found[:20]))
    finish(broker)


def set_up_group(broker: Broker) -> None:
    """The group is to have all records, and a dead-letter queue."""
    Alter = request_class(44)
    own = {"share.auto.offset.reset": "earliest", "errors.deadletterqueue.topic.name": QUEUE}
    configs = [Alter.AlterableConfig(name=name, config_operation=0, value=value) for name, value in own.items()]
    resource = Alter.AlterConfigsResource(resource_type=32, resource_name=GROUP, configs=configs)
    probe = Probe("127.0.0.1", broker.port)
    answer = probe.call(Alter(resources=[resource]), 1)
    probe.close()
    if answer["responses"][0]["error_code"]:
        raise Failed(f"the group cannot be set up: {answer}")


def where(broker: Broker) -> dict[int, tuple[int, int]]:
    """Of each partition how many records the group is done with, and with how many not; nothing where nobody knows now.

    Where the group begins says little: it is the offset of before the last write.
    """
    Describe = request_class(90)
    topic = Describe.DescribeShareGroupOffsetsRequestTopic(topic_name=TOPIC, partitions=list(range(PARTITION_COUNT)))
    group = Describe.DescribeShareGroupOffsetsRequestGroup(group_id=GROUP, topics=[topic])
    probe = Probe("127.0.0.1", broker.port)
    try:
        answer = probe.call(Describe(groups=[group]), 1)
        ends = ends_of(probe)
    finally:
        probe.close()
    return {
        each["partition_index"]: (ends[each["partition_index"]] - each["lag"], each["lag"])
        for found in answer.get("groups", ())
        for topic in found["topics"]
        for each in topic["partitions"]
        if not each["error_code"] and each["lag"] >= 0 and each["partition_index"] in ends
    }


def ends_of(probe: Probe) -> dict[int, int]:
    """Where the partitions end now."""
    Ends = request_class(2)
    asked = [Ends.ListOffsetsPartition(partition_index=number, timestamp=-1) for number in range(PARTITION_COUNT)]
    answer = probe.call(Ends(replica_id=-1, topics=[Ends.ListOffsetsTopic(name=TOPIC, partitions=asked)]), 7)
    return {
        each["partition_index"]: each["offset"]
        for topic in answer.get("topics", ())
        for each in topic["partitions"]
        if not each["error_code"]
    }


def in_queue(broker: Broker) -> Counter[tuple[int, int]]:
    """The partition and offset of each record in the dead-letter queue, and how often it is there."""
    reader = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "queue",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    reader.assign([TopicPartition(QUEUE, number, 0) for number in range(PARTITION_COUNT)])
    found: Counter[tuple[int, int]] = Counter()
    left = set(range(PARTITION_COUNT))
    while left:
        message = reader.poll(30)
        if message is None:
            raise Failed(f"the queue cannot be read to its end: {left}")
        if message.error() is not None:
            if message.error().code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition())
            continue
        told = dict(message.headers())
        found[int(told["__dlq.errors.partition"]), int(told["__dlq.errors.offset"])] += 1
    reader.close()
    return found


def mischief(
    broker: Broker, members: Members, rng: random.Random, seconds: float, so_far: dict[int, int], kills: list[float]
) -> Counter[str]:
    """Kill and stall, until the time is over; how often each was done, and when the broker was killed."""
    done: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pause = time.monotonic() + rng.uniform(1, 6)
        while time.monotonic() < pause:
            members.tend()
            time.sleep(0.05)
        so_far.update({partition: count for partition, (count, _) in where(broker).items()})
        act = rng.choices(("broker", "member", "stall"), (45, 40, 15))[0]
        if act == "broker":
            kills.append(time.monotonic())
            broker.kill()
            done["broker killed"] += 1
            time.sleep(rng.uniform(0, 1))
            broker.start()
            no_complaints(broker)
        elif (process := members.pick()) is not None:
            if act == "member":
                process.send_signal(signal.SIGKILL)
                done["member killed"] += 1
            else:
                members.stall(process)
                done["member stalled"] += 1
        counts = ", ".join(f"{what} {count}" for what, count in done.items())
        print(f"\r{counts}; {sum(so_far.values())} records done with ", end="", flush=True)
    return done


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
