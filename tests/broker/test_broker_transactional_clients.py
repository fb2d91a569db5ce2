"""Stock producers' transactions against a broker in this process: commit, abort, zombies, a restart between."""

import functools
from typing import Any

import confluent_kafka
import kafka
import pytest
import trio
from confluent_kafka.admin import AdminClient, NewTopic

TIMEOUT = 30
PARTITIONS = 3


async def in_thread(function: Any, *arguments: Any) -> Any:
    with trio.fail_after(90):
        return await trio.to_thread.run_sync(functools.partial(function, *arguments))


class Confluent:
    """librdkafka's producer; by the rules before `transaction.version` 2."""

    def __init__(self, servers: str, name: str) -> None:
        self._producer = confluent_kafka.Producer(
            {"bootstrap.servers": servers, "transactional.id": name, "log_level": 0}
        )
        self._producer.init_transactions(TIMEOUT)

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send(self, *values: bytes) -> None:
        for number, value in enumerate(values):
            self._producer.produce("t", value, partition=number % PARTITIONS)
        self._producer.flush(TIMEOUT)

    def commit(self) -> None:
        self._producer.commit_transaction(TIMEOUT)

    def abort(self) -> None:
        self._producer.abort_transaction(TIMEOUT)

    def close(self) -> None:
        pass


class KafkaPython:
    """kafka-python's producer."""

    def __init__(self, servers: str, name: str) -> None:
        self._producer = kafka.KafkaProducer(bootstrap_servers=servers, transactional_id=name)
        self._producer.init_transactions()

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send(self, *values: bytes) -> None:
        sent = [self._producer.send("t", value, partition=number % PARTITIONS) for number, value in enumerate(values)]
        self._producer.flush()
        for future in sent:
            future.get(timeout=TIMEOUT)

    def commit(self) -> None:
        self._producer.commit_transaction()

    def abort(self) -> None:
        self._producer.abort_transaction()

    def close(self) -> None:
        self._producer.close(timeout=TIMEOUT)


CLIENTS = pytest.mark.parametrize("client", [Confluent, KafkaPython])


def create_topic(servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    [made] = admin.create_topics([NewTopic("t", PARTITIONS, 1)]).values()
    made.result()


def read(servers: str, isolation: str = "read_committed") -> list[bytes]:
    """What such a reader sees to the end of its log, sorted."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "reader",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([confluent_kafka.TopicPartition("t", partition, 0) for partition in range(PARTITIONS)])
    values, ended = [], set()
    while len(ended) < PARTITIONS:
        message = consumer.poll(TIMEOUT)
        assert message is not None
        if message.error():
            assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
            ended.add(message.partition())
        else:
            values.append(message.value())
    consumer.close()
    return sorted(values)


@CLIENTS
async def test_what_is_committed_is_read_and_what_is_aborted_is_not(start_broker: Any, client: Any) -> None:
    def transact(servers: str) -> None:
        create_topic(servers)
        producer = client(servers, "x")
        for round_, ending in enumerate((producer.commit, producer.abort, producer.commit)):
            producer.begin()
            producer.send(*[b"%d %d" % (round_, number) for number in range(5)])
            ending()
        producer.begin()
        producer.send(b"open")
        committed = sorted(b"%d %d" % (round_, number) for round_ in (0, 2) for number in range(5))
        assert set(read(servers)) <= set(committed)  # no reader passes an open transaction
        assert len(read(servers, "read_uncommitted")) == 16
        producer.abort()
        assert read(servers) == committed
        producer.close()

    async with start_broker() as broker:
        await in_thread(transact, broker.bootstrap_servers)


@CLIENTS
async def test_a_zombie_is_shut_out(start_broker: Any, client: Any) -> None:
    def transact(servers: str) -> None:
        create_topic(servers)
        zombie = client(servers, "x")
        zombie.begin()
        zombie.send(b"zombie")
        younger = client(servers, "x")
        with pytest.raises((confluent_kafka.KafkaException, kafka.errors.KafkaError)):
            zombie.send(b"more")
            zombie.commit()
        younger.begin()
        younger.send(b"young")
        younger.commit()
        assert read(servers) == [b"young"]
        younger.close()

    async with start_broker() as broker:
        await in_thread(transact, broker.bootstrap_servers)


@CLIENTS
async def test_transactions_survive_a_restart(start_broker: Any, client: Any) -> None:
    """An id keeps its epochs, and what was open is aborted by the next instance."""

    def before(servers: str) -> None:
        create_topic(servers)
        producer = client(servers, "x")
        producer.begin()
        producer.send(b"committed")
        producer.commit()
        producer.begin()
        producer.send(b"left open")

    def after(servers: str) -> None:
        producer = client(servers, "x")
        assert read(servers) == [b"committed"]
        producer.begin()
        producer.send(b"later")
        producer.commit()
        assert read(servers) == [b"committed", b"later"]
        producer.close()

    async with start_broker() as broker:
        await in_thread(before, broker.bootstrap_servers)
    async with start_broker() as broker:
        await in_thread(after, broker.bootstrap_servers)


async def test_offsets_are_committed_with_what_came_of_the_records(start_broker: Any) -> None:
    def transact(servers: str) -> None:
        create_topic(servers)
        source = confluent_kafka.Producer({"bootstrap.servers": servers})
        for number in range(3):
            source.produce("t", b"%d" % number, partition=0)
        source.flush(TIMEOUT)
        settings = {"bootstrap.servers": servers, "group.id": "g", "enable.auto.commit": False}
        consumer = confluent_kafka.Consumer({**settings, "auto.offset.reset": "earliest"})
        consumer.subscribe(["t"])
        seen = 0
        while seen < 3:
            message = consumer.poll(TIMEOUT)
            assert message is not None
            assert message.error() is None
            seen += 1
        producer = confluent_kafka.Producer({"bootstrap.servers": servers, "transactional.id": "x", "log_level": 0})
        producer.init_transactions(TIMEOUT)
        place = [confluent_kafka.TopicPartition("t", 0)]
        for offset, end in ((1, producer.abort_transaction), (3, producer.commit_transaction)):
            producer.begin_transaction()
            producer.produce("t", b"out", partition=1)
            offsets = [confluent_kafka.TopicPartition("t", 0, offset)]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), TIMEOUT)
            end(TIMEOUT)
            [found] = consumer.committed(place, TIMEOUT)
            assert found.offset == (3 if offset == 3 else confluent_kafka.OFFSET_INVALID)
        consumer.close()

    async with start_broker() as broker:
        await in_thread(transact, broker.bootstrap_servers)
