#!/usr/bin/env python3
"""kill -9 the broker again and again under load: nothing acknowledged may be lost, nothing may be there twice.

    compat/endurance/kill.py --rounds 200

Runs in the project's environment (kafkapy and its `test` extra). The broker flushes on every append and rolls small
segments. Beside the kills run, for as long as the rounds last:

- one idempotent producer that lives through all of them, and a new one each round, with another codec each time
  (librdkafka, acks=all, endless retries);
- one committer, which moves a group's offset forward one at a time;
- one idempotent producer of keys, and now and then of a key's tombstone, to a topic that is compacted all the time.

Checked every 25 rounds and at the end, by reading everything with kafka-python: every acknowledged record is there
once, at the offset that was acknowledged; no record is there twice; each producer's records lie in the order of
sending; the committed offset is never behind what was acknowledged; of each key of the compacted topic the last
value that is there is not older than what was acknowledged. After each start: the broker's log shows no error.
At the end: the broker stops cleanly and `kafkapy check` finds nothing. Exit code 0 only if all of that holds.
"""

import argparse
import random
import shutil
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from brokers import WORK, ApacheKafka, Broker, Kafkapy, Trouble
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer
from kafka import TopicPartition as Where
from verdict import Failed, finish, no_complaints, until

TOPIC = "kill"
COMPACTED = "compacted"
KEY_COUNT = 300
GROUP = "kill"
PARTITION_COUNT = 4
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SETTINGS = {
    "log.flush.interval.messages": "1",
    "log.segment.bytes": str(1 << 20),
    "offsets.topic.num.partitions": "4",
    "log.cleaner.backoff.ms": "100",
}
CHECK_EVERY = 25
PATIENCE_S = 60.0


class Writer:
    """An idempotent producer with a number, and what it sent and got acknowledged, by id."""

    def __init__(self, number: int, bootstrap: str, codec: str) -> None:
        self.number = number
        self.sent_count = 0
        self.acknowledged: dict[int, tuple[int, int]] = {}
        self.failures: list[str] = []
        self._producer: Producer | None = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "compression.type": codec,
                "linger.ms": 2,
                "message.timeout.ms": 0,
                "reconnect.backoff.max.ms": 100,
                "retry.backoff.ms": 20,
                "log_level": 2,
            }
        )

    def send(self, padding: bytes) -> None:
        assert self._producer is not None
        identity = self.sent_count
        self.sent_count += 1

        def delivered(error: object, message: Message) -> None:
            if error is None:
                self.acknowledged[identity] = (message.partition(), message.offset())
            else:
                self.failures.append(f"producer {self.number}, record {identity}: {error}")

        value = b"%d %d " % (self.number, identity) + padding
        self._producer.produce(TOPIC, value, partition=identity % PARTITION_COUNT, on_delivery=delivered)

    def poll(self) -> None:
        assert self._producer is not None
        self._producer.poll(0)

    def finish(self) -> None:
        left = self._producer.flush(60) if self._producer is not None else 0
        if left or self.failures:
            raise Failed(f"{left} records of producer {self.number} unacknowledged; {self.failures[:3]}")

    def end(self) -> None:
        """Finish, and let go of threads and connections: hundreds that connect again and again slow each start."""
        self.finish()
        self._producer = None


class KeyedWriter(threading.Thread):
    """Writes keys to the compacted topic; of each, the values in the order of sending, None for a tombstone, and which
    of them were acknowledged.
    """

    def __init__(self, bootstrap: str, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.sent: dict[bytes, list[bytes | None]] = defaultdict(list)
        self.acknowledged: dict[bytes, int] = defaultdict(int)  # so many of each key, the first ones
        self.failures: list[str] = []
        self.stopping = threading.Event()
        self._rng = random.Random(rng.random())
        settings = {"enable.idempotence": True, "linger.ms": 2, "message.timeout.ms": 0, "log_level": 2}
        backoff = {"reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20}
        self._producer = Producer({"bootstrap.servers": bootstrap, **settings, **backoff})

    @property
    def sent_count(self) -> int:
        return sum(map(len, list(self.sent.values())))

    def run(self) -> None:
        while not self.stopping.wait(0.01):
            if self.sent_count - sum(list(self.acknowledged.values())) < 2000:
                for _ in range(self._rng.randrange(1, 12)):
                    self._send(b"key %d" % self._rng.randrange(KEY_COUNT))
            self._producer.poll(0)
        left = self._producer.flush(60)
        if left:
            self.failures.append(f"{left} records unacknowledged")

    def _send(self, key: bytes) -> None:
        number = len(self.sent[key])
        value = None if self._rng.random() < 0.1 else b"%d " % number + self._rng.randbytes(200)
        self.sent[key].append(value)

        def delivered(error: object, message: Message) -> None:
            if error is None:
                self.acknowledged[key] = number + 1
            else:
                self.failures.append(f"record {number} of {key!r}: {error}")

        self._producer.produce(COMPACTED, value, key=key, partition=0, on_delivery=delivered)


class Load(threading.Thread):
    """The long-lived producer and the one of this round, sending all the time."""

    def __init__(self, bootstrap: str, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.bootstrap = bootstrap
        self.writers = [Writer(0, bootstrap, "none")]
        self.rng = rng
        self.stopping = threading.Event()

    def next_round(self) -> None:
        """Another short-lived producer; the one before has its records acknowledged first."""
        previous = self.writers[-1]
        self.writers.append(Writer(len(self.writers), self.bootstrap, self.rng.choice(CODECS)))
        if previous.number != 0:
            previous.finish()
        if previous.number > 1:
            self.writers[previous.number - 1].end()  # nobody is in the middle of a turn with it any more

    @property
    def acknowledged_count(self) -> int:
        return sum(len(writer.acknowledged) for writer in self.writers)

    def run(self) -> None:
        rng = random.Random(self.rng.random())
        while not self.stopping.wait(0.01):
            for writer in {0: self.writers[0], 1: self.writers[-1]}.values():
                # bounded: while the broker is away the sent ones wait in the producer
                if writer.sent_count - len(writer.acknowledged) < 2000:
                    for _ in range(rng.randrange(1, 12)):
                        writer.send(rng.randbytes(rng.choice((10, 100, 3000))))
                writer.poll()


class Committer(threading.Thread):
    """Commits the offsets 1, 2, 3 … of a group, each when the one before is acknowledged or refused."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(daemon=True)
        self.acknowledged = 0
        self.attempted = 0
        self.stopping = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": GROUP,
                "enable.auto.commit": False,
                "reconnect.backoff.max.ms": 100,
                "log_level": 2,
            }
        )

    def run(self) -> None:
        while not self.stopping.wait(0.01):
            self.attempted += 1
            try:
                self._consumer.commit(offsets=[TopicPartition(TOPIC, 0, self.attempted)], asynchronous=False)
                self.acknowledged = self.attempted
            except KafkaException:
                pass  # the broker is away; whether it took this one is open
        self._consumer.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one each time; printed")
    parser.add_argument("--against", choices=("kafkapy", "kafka"), default="kafkapy")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    folder = WORK / "kill"
    shutil.rmtree(folder, ignore_errors=True)
    broker: Broker
    if options.against == "kafka":
        broker = ApacheKafka(folder / "data", settings=SETTINGS)
    else:
        broker = Kafkapy(folder / "data", settings=SETTINGS, log_format="json")
    print(f"{options.rounds} rounds of kill -9 against {broker.name}, seed {seed}; in {broker.directory}", flush=True)
    with broker:
        try:
            rounds(broker, options.rounds, random.Random(seed))
        except (Failed, Trouble) as failure:
            print(f"\nFAILED: {failure}", flush=True)
            return 1
    print("PASSED", flush=True)
    return 0


def rounds(broker: Broker, count: int, rng: random.Random) -> None:
    broker.start()
    make_topic(broker.bootstrap)
    load, committer = Load(broker.bootstrap, rng), Committer(broker.bootstrap)
    keyed = KeyedWriter(broker.bootstrap, rng)
    keyed.start()
    load.start()
    committer.start()
    starts: list[float] = []
    for number in range(1, count + 1):
        load.next_round()
        before = load.acknowledged_count
        until(lambda n=before: load.acknowledged_count > n, "an acknowledged record", 30, 0.005)
        time.sleep(rng.uniform(0, 0.8))
        broker.kill()
        if rng.random() < 0.2:  # and once more, somewhere in its recovery
            broker.launch()
            time.sleep(rng.uniform(0, 0.5 if isinstance(broker, Kafkapy) else 6))
            broker.kill()
        begin = time.monotonic()
        broker.start()
        starts.append(time.monotonic() - begin)
        no_complaints(broker)
        print(
            f"\rround {number}: {load.acknowledged_count} records and {committer.acknowledged} commits acknowledged, "
            f"start {starts[-1]:.2f} s ",
            end="",
            flush=True,
        )
        if number % CHECK_EVERY == 0 and number < count:
            verify(broker.bootstrap, load, committer)
            verify_compacted(broker.bootstrap, keyed)
    keyed.stopping.set()
    keyed.join()
    load.stopping.set()
    load.join()
    committer.stopping.set()
    committer.join()
    for writer in load.writers:
        writer.finish()
    print(f"\nstarts: median {sorted(starts)[len(starts) // 2]:.2f} s, longest {max(starts):.2f} s", flush=True)
    verify(broker.bootstrap, load, committer)
    verify_compacted(broker.bootstrap, keyed)
    finish(broker)


def make_topic(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    compacts = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "300"}
    compacted = NewTopic(COMPACTED, 1, 1, config={**compacts, "delete.retention.ms": "1000"})
    for made in admin.create_topics([NewTopic(TOPIC, PARTITION_COUNT, 1), compacted]).values():
        made.result(30)


def verify(bootstrap: str, load: Load, committer: Committer) -> None:
    """Compare what can be read with what was promised up to now."""
    promised = {writer.number: dict(writer.acknowledged) for writer in list(load.writers)}
    committed_at_least = committer.acknowledged
    there = read_all(bootstrap)
    seen: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
    for partition, records in there.items():
        last: dict[int, int] = defaultdict(lambda: -1)
        for offset, (writer, identity) in enumerate(records):
            if identity in seen[writer]:
                raise Failed(f"record {identity} of producer {writer} is there twice: {partition}@{offset}")
            if identity < last[writer]:
                raise Failed(f"record {identity} of producer {writer} comes after {last[writer]}: {partition}@{offset}")
            last[writer] = identity
            seen[writer][identity] = (partition, offset)
    for writer, acknowledged in promised.items():
        for identity, where in acknowledged.items():
            found = seen[writer].get(identity)
            if found != where:
                raise Failed(f"record {identity} of producer {writer} was acknowledged at {where}, found at {found}")
    committed = read_committed(bootstrap)
    if not committed_at_least <= committed <= committer.attempted:
        raise Failed(f"commit {committed_at_least} was acknowledged, {committed} is what the broker has")
    total = sum(len(records) for records in there.values())
    promised_count = sum(len(acknowledged) for acknowledged in promised.values())
    print(
        f"\nverified: {promised_count} acknowledged records among {total}, none lost, none doubled, in order; "
        f"commit {committed} ≥ {committed_at_least}",
        flush=True,
    )


def verify_compacted(bootstrap: str, keyed: KeyedWriter) -> None:
    """Of each key the last value that is there was acknowledged last, or sent later."""
    promised = dict(keyed.acknowledged)
    found, count = read_compacted(bootstrap)
    if keyed.failures:
        raise Failed(f"the compacted topic: {keyed.failures[:3]}")
    for key, acknowledged in promised.items():
        may_be = keyed.sent[key][acknowledged - 1 :]
        if found.get(key) not in may_be:
            raise Failed(f"{key!r} was acknowledged up to {acknowledged - 1}, found is {found.get(key)!r:.40}")
    if unknown := set(found) - set(keyed.sent):
        raise Failed(f"keys that nobody wrote: {unknown}")
    print(
        f"verified: {len(promised)} keys; of {keyed.sent_count} records that were sent, {count} are there", flush=True
    )


def read_compacted(bootstrap: str) -> tuple[dict[bytes, bytes | None], int]:
    """The last value of each key, and how many records there are."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="none")
    try:
        where = Where(COMPACTED, 0)
        consumer.assign([where])
        end = consumer.end_offsets([where])[where]
        consumer.seek_to_beginning()
        found: dict[bytes, bytes | None] = {}
        count, last, deadline = 0, -1, time.monotonic() + PATIENCE_S
        while consumer.position(where) < end:
            if time.monotonic() > deadline:
                raise Failed(f"{PATIENCE_S:g} s without a record: {where} up to {consumer.position(where)} of {end}")
            for record in consumer.poll(timeout_ms=1000, max_records=5000).get(where, ()):
                if record.offset <= last:
                    raise Failed(f"{where}: offset {record.offset} follows {last}")
                last, count = record.offset, count + 1
                deadline = time.monotonic() + PATIENCE_S
                found[record.key] = record.value
        return found, count
    finally:
        consumer.close()


def read_all(bootstrap: str) -> dict[int, list[tuple[int, int]]]:
    """Per partition, in offset order and without gaps: (producer, id)."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="none")
    try:
        partitions = [Where(TOPIC, number) for number in range(PARTITION_COUNT)]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning()
        there: dict[int, list[tuple[int, int]]] = {number: [] for number in range(PARTITION_COUNT)}
        deadline = time.monotonic() + PATIENCE_S
        while any(len(there[where.partition]) < end for where, end in ends.items()):
            if time.monotonic() > deadline:
                raise Failed(f"{PATIENCE_S:g} s without a record: got {[len(got) for got in there.values()]} of {ends}")
            for where, records in consumer.poll(timeout_ms=1000, max_records=5000).items():
                deadline = time.monotonic() + PATIENCE_S
                for record in records:
                    if record.offset != len(there[where.partition]):
                        raise Failed(f"{where}: offset {record.offset} follows {len(there[where.partition]) - 1}")
                    writer, identity, _ = record.value.split(b" ", 2)
                    there[where.partition].append((int(writer), int(identity)))
        return there
    finally:
        consumer.close()


def read_committed(bootstrap: str) -> int:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=GROUP, enable_auto_commit=False)
    try:
        return consumer.committed(Where(TOPIC, 0)) or 0
    finally:
        consumer.close()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
