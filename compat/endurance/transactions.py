#!/usr/bin/env python3
"""Exactly once, through kill -9 of the broker and of workers: what is read, copied and written again in transactions.

    compat/endurance/transactions.py --minutes 30
    compat/endurance/transactions.py --minutes 5 --against kafka
    compat/endurance/transactions.py --minutes 5 --tree ../scratch        # a copy of the tree with a rule broken

A source topic is filled for as long as the run lasts. Workers, half of them librdkafka's (`copying.py`), half Apache
Kafka's clients (`Copying.java`, which speaks transaction.version 2), copy it to two topics, offsets and copies in one
transaction; they abort some, and leave some open for a while. At seeded moments the broker is killed with SIGKILL, now
and then once more while it recovers; workers are killed; stopped for longer than their transactions may last, so that
they go on as zombies; or doubled: another instance begins while the first one lives.

Two observers read the copies all the while, of committed records and of all; a third asks how far the logs are stable.
At the end everything is to be copied, no transaction left open, and `exactly_once.py` finds nothing: no record lost or
doubled, none of an aborted transaction seen, no transaction in part, order kept within a key, offsets as the copies
are, both observers the same as who reads afterwards, no log less stable than before. Exit code 0 only then.

Needs Java for half of the workers; `--no-java` does without.
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
from collections import Counter, defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent), str(HERE.parent / "differential")]

from brokers import ROOT, WORK, ApacheKafka, Broker, Kafkapy, Trouble, kafka_home
from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from copying import COPIES, GROUP, SOURCE, TRANSACTION_TIMEOUT_MS
from exactly_once import Copy, History, Place, View, violations
from observing import Feeder, Observer, Stability, read_all
from probe import Probe
from verdict import Failed, finish, no_complaints, until

from kafkapy.protocol.messages import request_class

PARTITION_COUNT = 4
PATIENCE_S = 120
HANGS_AFTER_S = 30
"""librdkafka's send_offsets_to_transaction may wait for ever when the broker goes away under it."""
STALLED_S = 1.5 * TRANSACTION_TIMEOUT_MS / 1000
SETTINGS = {
    "log.flush.interval.messages": "1",
    "log.segment.bytes": str(1 << 20),
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "group.min.session.timeout.ms": "1000",
}
SETTLED_STATES = {"Empty", "CompleteCommit", "CompleteAbort"}


class Crew:
    """The workers: one of each name is wanted all the time; those that were replaced may live on."""

    def __init__(self, broker: Broker, folder: Path, count: int, java: list[str], rng: random.Random) -> None:
        self.broker = broker
        self.folder = folder
        self.rng = rng
        self.java = java
        self.current: dict[str, subprocess.Popen[bytes]] = {}
        self.due: dict[str, float] = {f"worker-{number}": 0.0 for number in range(count)}
        self.stalled: list[tuple[float, subprocess.Popen[bytes]]] = []
        self.replaced: list[subprocess.Popen[bytes]] = []
        self.paths: dict[str, Path] = {}
        self.instances = 0
        self.ends: Counter[str] = Counter()

    @property
    def journals(self) -> list[Path]:
        return sorted(self.folder.glob("*.journal"))

    def tend(self) -> None:
        """Begin those that are due, wake those that stood still long enough, and see who ended."""
        now = time.monotonic()
        for name, process in list(self.current.items()):
            if (code := process.poll()) is not None:
                del self.current[name]
                self.due[name] = now + self.rng.uniform(0, 2)
                self.ends["killed" if code == -signal.SIGKILL else f"code {code}"] += 1
        for name, due in list(self.due.items()):
            if due <= now:
                del self.due[name]
                self.begin(name)
        for resumes, process in list(self.stalled):
            if resumes <= now:
                self.stalled.remove((resumes, process))
                process.send_signal(signal.SIGCONT)
        for process in self.replaced:
            process.poll()
        standing = {process.pid for _, process in self.stalled}
        for name, process in self.current.items():
            if process.pid not in standing and time.time() - self.paths[name].stat().st_mtime > HANGS_AFTER_S:
                process.kill()
                self.ends["hung"] += 1

    def begin(self, name: str) -> None:
        self.instances += 1
        instance = f"{name}/{self.instances}"
        path = self.paths[name] = self.folder / f"{instance.replace('/', '-')}.journal"
        path.touch()
        program = [sys.executable, str(HERE / "copying.py")]
        if self.java and int(name.rsplit("-", 1)[1]) % 2:
            program = self.java
        arguments = [self.broker.bootstrap, name, instance, str(self.rng.randrange(1 << 31)), str(path)]
        with (self.folder / "workers.log").open("ab") as log:
            self.current[name] = subprocess.Popen(
                [*program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def pick(self) -> str | None:
        standing = {process.pid for _, process in self.stalled}
        names = sorted(name for name, process in self.current.items() if process.pid not in standing)
        return self.rng.choice(names) if names else None

    def kill(self, name: str) -> None:
        self.current[name].send_signal(signal.SIGKILL)

    def stall(self, name: str) -> None:
        self.current[name].send_signal(signal.SIGSTOP)
        self.stalled.append((time.monotonic() + STALLED_S, self.current[name]))

    def double(self, name: str) -> None:
        """Another instance of the id begins; the one that there is becomes a zombie."""
        self.replaced.append(self.current.pop(name))
        self.begin(name)

    def wake(self) -> None:
        for _, process in self.stalled:
            process.send_signal(signal.SIGCONT)
        self.stalled = []

    def stop(self) -> None:
        for process in (*self.current.values(), *self.replaced):
            if process.poll() is None:
                process.kill()
                process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one each time; printed")
    parser.add_argument("--against", choices=("kafkapy", "kafka"), default="kafkapy")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the tree whose kafkapy is started")
    parser.add_argument("--no-java", action="store_true")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    folder = WORK / f"transactions-{options.against}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    broker: Broker
    if options.against == "kafka":
        broker = ApacheKafka(folder / "data", settings=SETTINGS, heap=("-Xmx512m", "-Xms256m"))
    else:
        broker = Kafkapy(folder / "data", settings=SETTINGS, log_format="json", tree=options.tree.resolve())
    print(f"{options.minutes:g} minutes against {broker.name}, seed {seed}; in {folder}", flush=True)
    (folder / "workers").mkdir(parents=True)
    java = [] if options.no_java else compiled(folder)
    rng = random.Random(seed)
    with broker:
        broker.start()
        crew = Crew(broker, folder / "workers", options.workers, java, rng)
        try:
            run(broker, crew, rng, options.minutes * 60)
        except (Failed, Trouble) as failure:
            print(f"\nFAILED: {failure}", flush=True)
            return 1
        finally:
            crew.wake()
            crew.stop()
    print("PASSED", flush=True)
    return 0


def compiled(folder: Path) -> list[str]:
    """How to start the Java worker, which is compiled into the folder."""
    libraries = f"{kafka_home()}/libs/*"
    subprocess.run(["javac", "-cp", libraries, "-d", str(folder), str(HERE / "Copying.java")], check=True)
    options = ["-Xmx96m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    return ["java", *options, "-cp", f"{folder}:{libraries}", "Copying"]


def run(broker: Broker, crew: Crew, rng: random.Random, seconds: float) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    make_topics(admin)
    observers = {level: Observer(broker.bootstrap, places(), level) for level in ("read_committed", "read_uncommitted")}
    reader = observers["read_committed"]
    seed = rng.randrange(1 << 31)
    feeder = Feeder(broker.bootstrap, SOURCE, PARTITION_COUNT, seed, lambda: reader.count // len(COPIES))
    stability = Stability(broker.bootstrap, [*places(), *((SOURCE, number) for number in range(PARTITION_COUNT))])
    threads = [feeder, stability, *observers.values()]
    for thread in threads:
        thread.start()
    done = mischief(broker, crew, rng, seconds)
    feeder.stopping.set()
    feeder.join()
    crew.wake()
    source = read_source(broker.bootstrap)
    began = time.monotonic()
    until(lambda: all_copied(admin, source, crew), "everything to be copied", patience_s=300)
    crew.stop()
    until(lambda: not open_transactions(broker, admin), "no transaction to be open", patience_s=60)
    print(
        f"\n{json.dumps(done)}, workers' ends {json.dumps(crew.ends)}; "
        f"all copied and settled {time.monotonic() - began:.1f} s after the last one",
        flush=True,
    )
    views = {level: decoded(read_all(broker.bootstrap, places(), level)) for level in observers}
    until(
        lambda: all(observer.count >= total(views[level]) for level, observer in observers.items()),
        "the observers",
        PATIENCE_S,
    )
    for thread in threads:
        thread.stopping.set()
        thread.join()
    found = list(feeder.complaints) + list(stability.complaints)
    if not stability.count:
        found.append("stability: nobody ever told how far the logs are stable")
    for level, observer in observers.items():
        found += observer.complaints
        if decoded(observer.seen) != views[level]:
            found.append(f"observer: that of {level} saw something else than who reads now")
    history = History(
        source, views["read_committed"], views["read_uncommitted"], noted(crew), group_offsets(admin), COPIES
    )
    found += violations(history)
    notes = Counter(word for words in history.journal.values() for word in words)
    print(
        f"{sum(map(len, source.values()))} records; {notes['begin']} transactions, {notes['committed']} acknowledged, "
        f"{notes['aborted']} aborted; {total(views['read_committed'])} copies committed of "
        f"{total(views['read_uncommitted'])} written; {stability.count} looks at how far logs are stable",
        flush=True,
    )
    if found:
        kinds = Counter(line.partition(":")[0] for line in found)
        raise Failed(f"{json.dumps(kinds)}\n  " + "\n  ".join(found[:20]))
    finish(broker)


def mischief(broker: Broker, crew: Crew, rng: random.Random, seconds: float) -> dict[str, int]:
    """Kill, stall and double, until the time is over; how often each was done."""
    done: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pause = time.monotonic() + rng.uniform(1, 6)
        while time.monotonic() < pause:
            crew.tend()
            time.sleep(0.05)
        act = rng.choices(("broker", "worker", "stall", "double"), (45, 40, 8, 7))[0]
        if act == "broker":
            broker.kill()
            done["broker killed"] += 1
            if rng.random() < 0.2:
                broker.launch()
                time.sleep(rng.uniform(0, 0.5 if isinstance(broker, Kafkapy) else 6))
                broker.kill()
                done["killed while it recovers"] += 1
            time.sleep(rng.uniform(0, 1))
            broker.start()
            no_complaints(broker)
        elif (name := crew.pick()) is not None:
            if act == "worker":
                crew.kill(name)
                done["worker killed"] += 1
            elif act == "stall":
                crew.stall(name)
                done["worker stalled"] += 1
                if rng.random() < 0.5:  # and is replaced meanwhile
                    crew.double(name)
                    done["worker doubled"] += 1
            else:
                crew.double(name)
                done["worker doubled"] += 1
        print(f"\r{', '.join(f'{what} {count}' for what, count in done.items())} ", end="", flush=True)
    return dict(done)


def places() -> list[Place]:
    return [(topic, number) for topic in COPIES for number in range(PARTITION_COUNT)]


def make_topics(admin: AdminClient) -> None:
    for made in admin.create_topics([NewTopic(name, PARTITION_COUNT, 1) for name in (SOURCE, *COPIES)]).values():
        made.result(60)


def all_copied(admin: AdminClient, source: dict[int, list[bytes]], crew: Crew) -> bool:
    crew.tend()
    reached = group_offsets(admin)
    return all(reached.get(number, 0) == len(records) for number, records in source.items())


def group_offsets(admin: AdminClient) -> dict[int, int]:
    """As far as the group has come, by partition; nothing while that is not stable."""
    wanted = [TopicPartition(SOURCE, number) for number in range(PARTITION_COUNT)]
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(GROUP, wanted)], require_stable=True)
    try:
        found = asked[GROUP].result(30).topic_partitions
    except KafkaException:
        return {}
    return {place.partition: place.offset for place in found if place.error is None and place.offset >= 0}


def open_transactions(broker: Broker, admin: AdminClient) -> list[str]:
    """Transactions that the coordinator or a log calls open, and logs that are not stable to their ends."""
    probe = Probe("127.0.0.1", broker.port)
    listed = probe.call(request_class(66)(), 0)["transaction_states"]
    found = [
        f"{state['transactional_id']}: {state['transaction_state']}"
        for state in listed
        if state["transaction_state"] not in SETTLED_STATES
    ]
    Describe = request_class(61)
    wanted = [Describe.TopicRequest(name=name, partition_indexes=list(range(PARTITION_COUNT))) for name in COPIES]
    for topic in probe.call(Describe(topics=wanted), 0)["topics"]:
        for partition in topic["partitions"]:
            found += [
                f"{topic['name']}-{partition['partition_index']}: {producer['producer_id']}"
                for producer in partition["active_producers"]
                if producer["current_txn_start_offset"] >= 0
            ]
    probe.close()
    ends = []
    for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
        asked = {TopicPartition(*place): OffsetSpec.latest() for place in places()}
        answers = admin.list_offsets(asked, isolation_level=level)
        ends.append({(place.topic, place.partition): answer.result(30).offset for place, answer in answers.items()})
    return found + [f"{place} is stable to {end}" for place, end in ends[0].items() if end != ends[1][place]]


def read_source(bootstrap: str) -> dict[int, list[bytes]]:
    seen = read_all(bootstrap, [(SOURCE, number) for number in range(PARTITION_COUNT)], "read_committed")
    for (_, number), records in seen.items():
        if [offset for offset, _ in records] != list(range(len(records))):
            raise Failed(f"the source itself has gaps: partition {number}")
    return {number: [value for _, value in records] for (_, number), records in seen.items()}


def decoded(seen: dict[Place, list[tuple[int, bytes]]]) -> View:
    return {place: [(offset, Copy.decode(value)) for offset, value in records] for place, records in seen.items()}


def total(view: View) -> int:
    return sum(map(len, view.values()))


def noted(crew: Crew) -> dict[str, list[str]]:
    journal: dict[str, list[str]] = defaultdict(list)
    for path in crew.journals:
        for line in path.read_text().splitlines():
            word, transaction = line.split()
            journal[transaction].append(word)
    return journal


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
