"""kafka-python against a broker. Run by compat/run, in an environment that has kafka-python; see README.md."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator

import harness
import kafka
import kafka.errors
import scenarios
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigFilterType, ConfigResource, ConfigResourceType
from scenarios import Member, Message, Record


class KafkaPython(scenarios.Client):
    errors = kafka.errors.KafkaError

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def produce(
        self,
        topic: str,
        messages: Iterable[Message],
        *,
        compression: str = "none",
        idempotent: bool = False,
        acks: str = "all",
    ) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=None if compression == "none" else compression,
            enable_idempotence=idempotent,
            acks=acks if acks == "all" else int(acks),
            linger_ms=5,
            max_request_size=4_000_000,
        )
        try:
            futures = [
                producer.send(
                    topic,
                    value=message.value,
                    key=message.key,
                    headers=list(message.headers),
                    partition=message.partition,
                    timestamp_ms=message.timestamp_ms,
                )
                for message in messages
            ]
            producer.flush(timeout=60)
            for future in futures:
                future.get(timeout=1)
        finally:
            producer.close(timeout=5)

    def read(self, topic: str) -> list[Record]:
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        try:
            while not (numbers := consumer.partitions_for_topic(topic)):
                pass  # one of several brokers was asked that has yet to hear of it
            partitions = [TopicPartition(topic, number) for number in numbers]
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            consumer.seek_to_beginning()
            records: list[Record] = []
            while any(consumer.position(partition) < end for partition, end in ends.items()):
                records += _flat(consumer.poll(timeout_ms=1000))
            return records
        finally:
            consumer.close()

    def consume(self, topic: str, group: str, count: int) -> list[Record]:
        consumer = self._group_consumer(topic, group)
        try:
            records: list[Record] = []
            while len(records) < count:
                records += _flat(consumer.poll(timeout_ms=1000, max_records=count - len(records)))
            consumer.commit()
            return records
        finally:
            consumer.close(autocommit=False)

    def member(self, topic: str, group: str) -> Member:
        def body(report: Callable[[object], None], told_to_leave: Callable[[], bool]) -> None:
            consumer = self._group_consumer(topic, group)
            assigned: set[int] | None = None
            while not told_to_leave():
                records = _flat(consumer.poll(timeout_ms=100))
                now = {partition.partition for partition in consumer.assignment()}
                if now != assigned:
                    assigned = now
                    report({"assigned": sorted(now)})
                if records:
                    report({"ids": [int(record.value or b"") for record in records]})
                    try:
                        consumer.commit()
                    except (kafka.errors.CommitFailedError, kafka.errors.RebalanceInProgressError):
                        pass  # the group moved on: the next owner gets these again
            consumer.close(autocommit=False)

        return scenarios.forked_member(body)

    def _group_consumer(self, topic: str, group: str) -> KafkaConsumer:
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=6000,
            heartbeat_interval_ms=500,
        )
        # Known before it joins: a leader that learns of its topic later can fall silent for good (FINDINGS.md).
        consumer.partitions_for_topic(topic)
        consumer.subscribe([topic])
        return consumer

    def create_topic(self, topic: str, partition_count: int, configs: dict[str, str] | None = None) -> None:
        wanted = {
            "num_partitions": partition_count,
            "replication_factor": len(self.bootstrap.split(",")),
            "configs": configs or {},
        }
        with _Admin(self.bootstrap) as admin:
            admin.create_topics({topic: wanted}, wait_for_metadata=True)

    def list_topics(self) -> Collection[str]:
        with _Admin(self.bootstrap) as admin:
            return list(admin.list_topics())

    def partition_count(self, topic: str) -> int:
        with _Admin(self.bootstrap) as admin:
            return len(admin.describe_topics([topic])[0]["partitions"])

    def create_partitions(self, topic: str, total_count: int) -> None:
        with _Admin(self.bootstrap) as admin:
            admin.create_partitions({topic: total_count})

    def delete_topic(self, topic: str) -> None:
        with _Admin(self.bootstrap) as admin:
            admin.delete_topics([topic])

    def topic_configs(self, topic: str) -> dict[str, str | None]:
        return self._configs(ConfigResourceType.TOPIC, topic)

    def broker_configs(self) -> dict[str, str | None]:
        with _Admin(self.bootstrap) as admin:
            node_id = admin.describe_cluster()["brokers"][0]["broker_id"]
        return self._configs(ConfigResourceType.BROKER, str(node_id))

    def _configs(self, kind: ConfigResourceType, name: str) -> dict[str, str | None]:
        with _Admin(self.bootstrap) as admin:
            answer = admin.describe_configs([ConfigResource(kind, name)], config_filter=ConfigFilterType.ALL)
        return {setting: shown["value"] for setting, shown in answer[kind.name.lower()][name].items()}

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        try:
            wanted = TopicPartition(topic, partition)
            found = consumer.offsets_for_times({wanted: timestamp_ms})[wanted]
            return None if found is None else found.offset
        finally:
            consumer.close()

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        try:
            wanted = TopicPartition(topic, partition)
            return consumer.beginning_offsets([wanted])[wanted], consumer.end_offsets([wanted])[wanted]
        finally:
            consumer.close()

    def list_groups(self) -> Collection[str]:
        with _Admin(self.bootstrap) as admin:
            return [group["group_id"] for group in admin.list_groups()]

    def describe_group(self, group: str) -> tuple[str, int]:
        with _Admin(self.bootstrap) as admin:
            described = admin.describe_groups([group])[group]
        return described["group_state"].lower(), len(described["members"])

    def committed(self, group: str, topic: str) -> dict[int, int]:
        with _Admin(self.bootstrap) as admin:
            offsets = admin.list_group_offsets([group]).get(group, {})
        return {where.partition: found.offset for where, found in offsets.items() if where.topic == topic}

    def delete_group(self, group: str) -> None:
        with _Admin(self.bootstrap) as admin:
            outcome = admin.delete_groups([group])[group]
        if outcome != "OK":
            raise getattr(kafka.errors, outcome)

    def error_code(self, error: kafka.errors.KafkaError) -> int | None:
        return getattr(error, "errno", None)


class _Admin:
    """An admin client for the length of a block."""

    def __init__(self, bootstrap: str) -> None:
        self.client = KafkaAdminClient(bootstrap_servers=bootstrap)

    def __enter__(self) -> KafkaAdminClient:
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()


def _flat(polled: dict[TopicPartition, list]) -> list[Record]:
    return [
        Record(record.partition, record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
        for records in polled.values()
        for record in records
    ]


def long_poll(client: KafkaPython) -> str:
    """A consumer that waits gets a new record at once, not at the end of fetch.max.wait.ms."""
    topic = scenarios.fresh("waiting")
    client.create_topic(topic, 1)
    consumer = KafkaConsumer(bootstrap_servers=client.bootstrap, fetch_max_wait_ms=5000)
    producer = KafkaProducer(bootstrap_servers=client.bootstrap)
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek_to_beginning()
    consumer.poll(timeout_ms=500)  # the fetch that waits is on its way now
    delays = []
    for _ in range(20):
        begin = time.monotonic()
        producer.send(topic, b"x", partition=0)
        while not consumer.poll(timeout_ms=100):
            pass
        delays.append(time.monotonic() - begin)
    assert max(delays) < 2, f"a waiting consumer got its record after {max(delays):.1f} s"
    return f"median {sorted(delays)[10] * 1000:.0f} ms from send to poll"


def checks(bootstrap: str) -> Iterator[harness.Check]:
    client = KafkaPython(bootstrap)
    yield from scenarios.data_checks(client)
    yield from scenarios.refusal_checks(client)
    yield from scenarios.idempotence_checks(client)
    yield from scenarios.group_checks(client)
    yield from scenarios.admin_checks(client)
    yield from scenarios.time_checks(client)
    yield from scenarios.group_admin_checks(client)
    yield harness.Check("a waiting fetch wakes at once", lambda: long_poll(client))


if __name__ == "__main__":
    harness.main("kafka-python", kafka.__version__, checks)
