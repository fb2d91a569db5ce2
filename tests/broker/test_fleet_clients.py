"""Stock clients of three brokers that come and go while they work: nothing lost, doubled, reordered.

`python -m tests.broker.test_fleet_clients ROUNDS SEED` goes on for as many rounds as it is told.
"""

import asyncio
import random
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiokafka
import confluent_kafka
import kafka
import pytest
import trio

from kafkapy import broker as broker_module
from kafkapy.broker import Broker, open_broker
from kafkapy.clock import ThreadClock
from kafkapy.config.layers import BrokerConfig
from kafkapy.node import House

SETTINGS = {
    "listeners": "PLAINTEXT://127.0.0.1:0",
    "kafkapy.auto.create.wait": "true",
    "offsets.topic.num.partitions": "6",
    "transaction.state.log.num.partitions": "6",
    "default.replication.factor": "3",
    "num.partitions": "6",
    "min.insync.replicas": "1",
}
PARTITIONS = 6
_CLOCK = ThreadClock()
EACH_ROUND = 12
"""So many records must each writer have acknowledged before a broker goes, and again before it comes back."""
_PATIENCE_SECONDS = 240
"""Nothing waits for longer, however busy the machine is."""
AT_ONCE = 10
_REST_SECONDS = 0.2
"""Between so many records and the next: brokers are to be disturbed, not to be kept busy."""


@asynccontextmanager
async def three(directory: Path) -> AsyncIterator[Broker]:
    config = BrokerConfig.load(flags=SETTINGS, brokers=3)
    async with open_broker(config, data_dir=directory, brokers=3, advertise_host="127.0.0.1") as broker:
        yield broker


class Writer(ABC):
    """Writes numbers in a thread, round the partitions, until it is told to stop; `acknowledged` tells how many.

    `longest_pause`: between two acknowledgements, in seconds, since it was last set to 0.
    """

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.topic = topic
        self.acknowledged = 0
        self.longest_pause = 0.0
        self._last_at = _CLOCK.monotonic()
        self.failures: list[Any] = []
        self.sent = 0
        self.over = threading.Event()

    def told(self, count: int = 1) -> None:
        """So many more are acknowledged."""
        now = _CLOCK.monotonic()
        self.longest_pause = max(self.longest_pause, now - self._last_at)
        self._last_at = now
        self.acknowledged += count

    def value(self) -> tuple[int, bytes]:
        """The next record's partition and value."""
        number = self.sent
        self.sent += 1
        return number % PARTITIONS, b"%s %d" % (type(self).__name__.encode(), number)

    @abstractmethod
    def run(self) -> None:
        """Write; in a thread."""


class Confluent(Writer):
    def run(self) -> None:
        producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "enable.idempotence": True,
                "linger.ms": 0,
                "retry.backoff.ms": 100,
                "reconnect.backoff.ms": 10,
                "reconnect.backoff.max.ms": 200,
            }
        )

        def delivered(error: Any, message: Any) -> None:
            if error is not None:
                self.failures.append(error)
            else:
                self.told()

        while not self.over.is_set():
            for _ in range(AT_ONCE):
                partition, value = self.value()
                producer.produce(self.topic, value, partition=partition, on_delivery=delivered)
            producer.poll(_REST_SECONDS)
        assert producer.flush(_PATIENCE_SECONDS) == 0


class KafkaPython(Writer):
    def run(self) -> None:
        producer = kafka.KafkaProducer(
            bootstrap_servers=self.bootstrap_servers.split(","),
            enable_idempotence=True,
            delivery_timeout_ms=1000 * _PATIENCE_SECONDS,
            retry_backoff_ms=100,
            reconnect_backoff_ms=10,
            reconnect_backoff_max_ms=200,
        )
        pending = []
        while not self.over.is_set():
            partition, value = self.value()
            pending.append(producer.send(self.topic, value, partition=partition))
            if len(pending) == AT_ONCE:
                self._settle(pending)
                self.over.wait(_REST_SECONDS)
        self._settle(pending)
        producer.close()

    def _settle(self, pending: list[Any]) -> None:
        for future in pending:
            future.get(_PATIENCE_SECONDS)
            self.told()
        pending.clear()


class AioKafka(Writer):
    def run(self) -> None:
        asyncio.run(self._write())

    async def _write(self) -> None:
        async with aiokafka.AIOKafkaProducer(
            bootstrap_servers=self.bootstrap_servers,
            enable_idempotence=True,
            retry_backoff_ms=100,
            request_timeout_ms=1000 * _PATIENCE_SECONDS,
            metadata_max_age_ms=1000,
        ) as producer:
            while not self.over.is_set():
                sent = []
                for _ in range(AT_ONCE):
                    partition, value = self.value()
                    sent.append(await producer.send(self.topic, value, partition=partition))
                for future in sent:
                    await future
                    self.told()
                await asyncio.sleep(_REST_SECONDS)


class Transactional(Writer):
    """In transactions of a record a partition; one that cannot be committed is aborted, and its records come again."""

    def run(self) -> None:
        producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "transactional.id": "x",
                "linger.ms": 0,
                "transaction.timeout.ms": 1000 * _PATIENCE_SECONDS,
                "retry.backoff.ms": 100,
                "reconnect.backoff.ms": 10,
                "reconnect.backoff.max.ms": 200,
            }
        )
        self._insist(producer.init_transactions)
        while not self.over.is_set():
            records = [self.value() for _ in range(PARTITIONS)]
            while not self._written(producer, records):
                pass
            self.told(len(records))
            self.over.wait(_REST_SECONDS)

    def _written(self, producer: Any, records: list[tuple[int, bytes]]) -> bool:
        try:
            producer.begin_transaction()
            for partition, value in records:
                producer.produce(self.topic, value, partition=partition)
            self._insist(producer.commit_transaction)
        except confluent_kafka.KafkaException as problem:
            if not problem.args[0].txn_requires_abort():
                raise
            self._insist(producer.abort_transaction)
            return False
        return True

    @staticmethod
    def _insist(act: Callable[[], None]) -> None:
        while True:
            try:
                return act()
            except confluent_kafka.KafkaException as problem:
                if not problem.args[0].retriable():
                    raise


class Reader(threading.Thread):
    """A member of a group that commits what it has read, and goes on from there when it is thrown back."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": f"readers of {topic}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "reconnect.backoff.ms": 10,
                "reconnect.backoff.max.ms": 200,
            }
        )
        self.consumer.subscribe([topic])
        self.topic = topic
        self.seen: dict[int, dict[int, bytes]] = defaultdict(dict)
        """What it was given, by partition and offset."""
        self.taken_back: list[tuple[int, int]] = []
        """Where it was given something else before."""
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            messages = self.consumer.consume(100, 0.2)
            for message in messages:
                if message.error() is None:
                    place = message.partition(), message.offset()
                    if self.seen[place[0]].setdefault(place[1], message.value()) != message.value():
                        self.taken_back.append(place)
            if messages:
                try:
                    self.consumer.commit(asynchronous=False)
                except confluent_kafka.KafkaException:
                    continue  # the coordinator moves: what is committed next has this in it
        self.consumer.close()


async def until(true: Callable[[], bool], seconds: float = _PATIENCE_SECONDS) -> None:
    with trio.fail_after(seconds):
        while not true():
            await trio.sleep(0.01)


async def go_on(writers: list[Writer]) -> None:
    """Return once each has got a good deal further, or failed."""
    reached = [writer.acknowledged + EACH_ROUND for writer in writers]
    await until(lambda: all(w.failures or w.acknowledged >= r for w, r in zip(writers, reached, strict=True)))


async def disturb(broker: Broker, rounds: int, seed: int, writers: list[Writer]) -> None:
    """Have brokers go and come back, one at a time."""
    chance = random.Random(seed)

    await go_on(writers)
    for _ in range(rounds):
        node_id = chance.choice(sorted(broker.fleet.nodes))
        await getattr(broker.fleet, chance.choice(["stop", "kill"]))(node_id)
        await go_on(writers)
        await broker.fleet.start(node_id)
        await go_on(writers)


def read_all(bootstrap_servers: str, topic: str) -> dict[int, dict[int, bytes]]:
    """What is there, by partition and offset."""
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=bootstrap_servers.split(","),
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    partitions = [kafka.TopicPartition(topic, index) for index in range(PARTITIONS)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    found: dict[int, dict[int, bytes]] = {index: {} for index in range(PARTITIONS)}
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for partition, records in consumer.poll(1000).items():
            found[partition.partition].update((record.offset, record.value) for record in records)
    consumer.close()
    return found


async def under_clients(servers: str, trouble: Callable[[list[Writer]], Awaitable[None]]) -> None:
    """Have stock clients write and read while there is trouble: nothing is lost, doubled or reordered for them."""
    writers: list[Writer] = [
        Confluent(servers, "t"),
        KafkaPython(servers, "t"),
        AioKafka(servers, "t"),
        Transactional(servers, "in-transactions"),
    ]
    readers = [Reader(servers, "t"), Reader(servers, "in-transactions")]
    for reader in readers:
        reader.start()
    try:
        async with trio.open_nursery() as nursery:
            for writer in writers:
                nursery.start_soon(trio.to_thread.run_sync, writer.run)
            try:
                await trouble(writers)
            finally:
                for writer in writers:
                    writer.over.set()
        await judge(servers, writers, readers)
    finally:
        for reader in readers:
            reader.over.set()


async def judge(servers: str, writers: list[Writer], readers: list[Reader]) -> None:
    """What was acknowledged is there, once and in order, and readers were given that and nothing else."""
    assert not any(writer.failures for writer in writers), [writer.failures for writer in writers]
    read = {topic: await trio.to_thread.run_sync(read_all, servers, topic) for topic in ("t", "in-transactions")}
    for writer in writers:
        name = type(writer).__name__.encode()
        for index, values in read[writer.topic].items():
            numbers = [int(value.split()[1]) for value in values.values() if value.startswith(name + b" ")]
            assert numbers == list(range(index, writer.sent, PARTITIONS)), (name, index)
    for reader in readers:
        seen, there = reader.seen, read[reader.topic]
        await until(lambda seen=seen, there=there: all(seen[index].keys() >= there[index].keys() for index in there))
        reader.over.set()
        await trio.to_thread.run_sync(reader.join)
        assert not reader.taken_back, reader.taken_back
        assert seen == there, (reader.topic, [(i, seen[i].items() ^ there[i].items()) for i in there])


async def run(directory: Path, rounds: int, seed: int) -> None:
    async with three(directory) as broker:
        await broker.rooms.cluster.auto_create(["t", "in-transactions"])
        await under_clients(broker.bootstrap_servers, partial(disturb, broker, rounds, seed))


async def test_nothing_is_lost_doubled_or_reordered_while_brokers_come_and_go(tmp_path: Path) -> None:
    await run(tmp_path, rounds=6, seed=7)


async def test_it_is_the_same_where_they_ask_each_other_over_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "House", lambda *rooms, between: House(*rooms, between=True))
    await run(tmp_path, rounds=2, seed=7)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        trio.run(run, Path(where), int(sys.argv[1]), int(sys.argv[2]))
    print("nothing lost, doubled or reordered")
