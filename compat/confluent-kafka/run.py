"""confluent-kafka (librdkafka) against a broker. Run by compat/run, in an environment that has it; see README.md."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator

import confluent_kafka
import harness
import scenarios
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions as GroupPartitions
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType
from scenarios import Member, Message, Record


class ConfluentKafka(scenarios.Client):
    errors = KafkaException

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin_client: AdminClient | None = None

    @property
    def admin(self) -> AdminClient:
        # made in the process of the check: librdkafka's threads do not survive a fork
        if self._admin_client is None:
            self._admin_client = AdminClient({"bootstrap.servers": self.bootstrap})
        return self._admin_client

    def produce(
        self,
        topic: str,
        messages: Iterable[Message],
        *,
        compression: str = "none",
        idempotent: bool = False,
        acks: str = "all",
    ) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "compression.type": compression,
                "enable.idempotence": idempotent,
                "acks": acks,
                "message.max.bytes": 4_000_000,
                "linger.ms": 5,
            }
        )
        errors = []

        def delivered(error: object, _: object) -> None:
            if error is not None:
                errors.append(error)

        for message in messages:
            where = {} if message.partition is None else {"partition": message.partition}
            when = {} if message.timestamp_ms is None else {"timestamp": message.timestamp_ms}
            headers = list(message.headers) or None
            producer.produce(topic, message.value, message.key, headers=headers, on_delivery=delivered, **where, **when)
            producer.poll(0)
        left = producer.flush(60)
        if errors:
            raise KafkaException(errors[0])
        assert left == 0, f"{left} messages are still not acknowledged"

    def read(self, topic: str) -> list[Record]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "none", "enable.auto.commit": False})
        try:
            while not (numbers := list(consumer.list_topics(topic, timeout=10).topics[topic].partitions)):
                pass  # one of several brokers was asked that has yet to hear of it
            ends = {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10) for n in numbers}
            consumer.assign([TopicPartition(topic, number, low) for number, (low, _) in ends.items()])
            records: list[Record] = []
            while len(records) < sum(high - low for low, high in ends.values()):
                records += _records(consumer.consume(1000, timeout=0.2))
            return records
        finally:
            consumer.close()

    def consume(self, topic: str, group: str, count: int) -> list[Record]:
        consumer = self._group_consumer(group)
        consumer.subscribe([topic])
        try:
            records: list[Record] = []
            while len(records) < count:
                records += _records(consumer.consume(count - len(records), timeout=0.5))
            consumer.commit(asynchronous=False)
            return records
        finally:
            consumer.close()

    def member(self, topic: str, group: str) -> Member:
        def body(report: Callable[[object], None], told_to_leave: Callable[[], bool]) -> None:
            consumer = self._group_consumer(group)

            def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
                report({"assigned": [partition.partition for partition in partitions]})

            def taken(_: Consumer, partitions: list[TopicPartition]) -> None:
                report({"assigned": []})

            consumer.subscribe([topic], on_assign=assigned, on_revoke=taken, on_lost=taken)
            while not told_to_leave():
                records = _records(consumer.consume(500, timeout=0.1))
                if records:
                    report({"ids": [int(record.value or b"") for record in records]})
                    try:
                        consumer.commit(asynchronous=False)
                    except KafkaException:
                        pass  # the group moved on: the next owner gets these again
            consumer.close()

        return scenarios.forked_member(body)

    def _group_consumer(self, group: str) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 500,
                "partition.assignment.strategy": "range",
            }
        )

    def create_topic(self, topic: str, partition_count: int, configs: dict[str, str] | None = None) -> None:
        wanted = NewTopic(topic, partition_count, len(self.bootstrap.split(",")), config=configs or {})
        self.admin.create_topics([wanted])[topic].result(10)

    def list_topics(self) -> Collection[str]:
        return list(self.admin.list_topics(timeout=10).topics)

    def partition_count(self, topic: str) -> int:
        return len(self.admin.list_topics(topic, timeout=10).topics[topic].partitions)

    def create_partitions(self, topic: str, total_count: int) -> None:
        self.admin.create_partitions([NewPartitions(topic, total_count)])[topic].result(10)

    def delete_topic(self, topic: str) -> None:
        self.admin.delete_topics([topic])[topic].result(10)

    def topic_configs(self, topic: str) -> dict[str, str | None]:
        return self._configs(ConfigResource(ResourceType.TOPIC, topic))

    def broker_configs(self) -> dict[str, str | None]:
        node_id = next(iter(self.admin.list_topics(timeout=10).brokers))
        return self._configs(ConfigResource(ResourceType.BROKER, str(node_id)))

    def _configs(self, resource: ConfigResource) -> dict[str, str | None]:
        shown = self.admin.describe_configs([resource])[resource].result(10)
        return {name: entry.value for name, entry in shown.items()}

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        where = TopicPartition(topic, partition)
        found = self.admin.list_offsets({where: OffsetSpec.for_timestamp(timestamp_ms)})[where].result(10).offset
        return None if found == -1 else found

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        where = TopicPartition(topic, partition)
        first, end = (
            self.admin.list_offsets({where: spec})[where].result(10).offset
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        )
        return first, end

    def list_groups(self) -> Collection[str]:
        return [group.group_id for group in self.admin.list_consumer_groups().result(10).valid]

    def describe_group(self, group: str) -> tuple[str, int]:
        described = self.admin.describe_consumer_groups([group])[group].result(10)
        return described.state.name.lower(), len(described.members)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        answer = self.admin.list_consumer_group_offsets([GroupPartitions(group)])[group].result(10)
        return {found.partition: found.offset for found in answer.topic_partitions if found.topic == topic}

    def delete_group(self, group: str) -> None:
        self.admin.delete_consumer_groups([group])[group].result(10)

    def error_code(self, error: KafkaException) -> int | None:
        return error.args[0].code()


def _records(messages: list[confluent_kafka.Message]) -> list[Record]:
    records = []
    for message in messages:
        if message.error() is not None:
            raise KafkaException(message.error())
        headers = tuple(message.headers() or ())
        timestamp_ms = message.timestamp()[1]
        records.append(
            Record(message.partition(), message.offset(), timestamp_ms, message.key(), message.value(), headers)
        )
    return records


def nothing_at_all(client: ConfluentKafka) -> None:
    """A record with neither key nor value, and a header without a value."""
    topic = scenarios.fresh("nothing")
    client.create_topic(topic, 1)
    client.produce(topic, [Message(None, None, partition=0), Message(b"k", b"v", (("none", None),), partition=0)])  # type: ignore[arg-type]
    got = [(record.key, record.value, record.headers) for record in client.read(topic)]
    scenarios.same(got, [(None, None, ()), (b"k", b"v", (("none", None),))], "records")


def long_poll(client: ConfluentKafka) -> str:
    """A consumer that waits gets a new record at once, not at the end of fetch.wait.max.ms."""
    topic = scenarios.fresh("waiting")
    client.create_topic(topic, 1)
    consumer = Consumer({"bootstrap.servers": client.bootstrap, "group.id": "none", "fetch.wait.max.ms": 5000})
    producer = Producer({"bootstrap.servers": client.bootstrap, "linger.ms": 0})
    consumer.assign([TopicPartition(topic, 0, 0)])
    consumer.poll(0.5)  # the fetch that waits is on its way now
    delays = []
    for _ in range(20):
        begin = time.monotonic()
        producer.produce(topic, b"x", partition=0)
        producer.flush()
        while consumer.poll(0.1) is None:
            pass
        delays.append(time.monotonic() - begin)
    consumer.close()
    assert max(delays) < 2, f"a waiting consumer got its record after {max(delays):.1f} s"
    return f"median {sorted(delays)[10] * 1000:.0f} ms from send to poll"


def cooperative(client: ConfluentKafka) -> str:
    """The cooperative-sticky assignor: a joiner takes its share while the others keep consuming theirs."""
    topic, group = scenarios.fresh("cooperative"), scenarios.fresh("cooperative")
    client.create_topic(topic, scenarios.PARTITION_COUNT)
    settings = {
        "bootstrap.servers": client.bootstrap,
        "group.id": group,
        "partition.assignment.strategy": "cooperative-sticky",
        "heartbeat.interval.ms": 300,
        "session.timeout.ms": 6000,
    }
    first, second = Consumer(settings), Consumer(settings)
    lost: list[int] = []
    first.subscribe([topic], on_revoke=lambda _, partitions: lost.extend(p.partition for p in partitions))
    _poll_until([first], lambda: len(first.assignment()) == scenarios.PARTITION_COUNT)
    second.subscribe([topic])
    half = scenarios.PARTITION_COUNT // 2
    _poll_until([first, second], lambda: len(first.assignment()) == len(second.assignment()) == half)
    scenarios.same(len(lost), half, "partitions that were taken from the first member")
    second.close()
    _poll_until([first], lambda: len(first.assignment()) == scenarios.PARTITION_COUNT)
    first.close()
    return f"{half} of {scenarios.PARTITION_COUNT} partitions moved"


def static_member(client: ConfluentKafka) -> None:
    """A static member that goes away and comes back within its session gets its partitions back without a rebalance."""
    topic, group = scenarios.fresh("static"), scenarios.fresh("static")
    client.create_topic(topic, scenarios.PARTITION_COUNT)
    rebalances: list[str] = []

    def join(instance: str) -> Consumer:
        consumer = Consumer(
            {
                "bootstrap.servers": client.bootstrap,
                "group.id": group,
                "group.instance.id": instance,
                "heartbeat.interval.ms": 300,
                "session.timeout.ms": 30000,
                "partition.assignment.strategy": "range",
            }
        )
        consumer.subscribe([topic], on_assign=lambda *_: rebalances.append(instance))
        return consumer

    half = scenarios.PARTITION_COUNT // 2
    one, two = join("one"), join("two")
    _poll_until([one, two], lambda: len(one.assignment()) == len(two.assignment()) == half)
    before = {partition.partition for partition in two.assignment()}
    rebalances.clear()
    two.close()
    two = join("two")
    _poll_until([one, two], lambda: len(two.assignment()) == half)
    scenarios.same({partition.partition for partition in two.assignment()}, before, "partitions after coming back")
    scenarios.same(rebalances, ["two"], "who was assigned anew")
    one.close()
    two.close()


def _poll_until(consumers: list[Consumer], settled: Callable[[], bool]) -> None:
    while not settled():
        for consumer in consumers:
            consumer.poll(0.05)


def checks(bootstrap: str) -> Iterator[harness.Check]:
    client = ConfluentKafka(bootstrap)
    yield from scenarios.data_checks(client, quick_compressions=scenarios.COMPRESSIONS)
    yield from scenarios.refusal_checks(client)
    yield from scenarios.idempotence_checks(client)
    yield from scenarios.group_checks(client)
    yield from scenarios.admin_checks(client)
    yield from scenarios.time_checks(client)
    yield from scenarios.group_admin_checks(client)
    yield harness.Check("a waiting fetch wakes at once", lambda: long_poll(client))
    yield harness.Check("neither key nor value, null header", lambda: nothing_at_all(client))
    yield harness.Check("cooperative-sticky assignor", lambda: cooperative(client), limit_s=60)
    yield harness.Check("static membership", lambda: static_member(client), limit_s=60)


if __name__ == "__main__":
    version = f"{confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})"
    harness.main("confluent-kafka", version, checks)
