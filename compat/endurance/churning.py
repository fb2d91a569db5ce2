"""A member of `churn.py`'s group: reads, commits, and writes down what it owned when. `Churning.java` is its twin.

    churning.py CLIENT BOOTSTRAP GROUP TOPIC JOURNAL

CLIENT is librdkafka, librdkafka-consumer (the protocol of KIP-848), kafka-python or aiokafka. A line of the journal is
a time of the system's monotonic clock and a word: "owns 0,3,4" (all, after each change), "read PARTITION FIRST LAST",
"committed PARTITION NEXT" once the broker has said so. It leaves at SIGTERM.
"""

import asyncio
import sys
from collections.abc import Iterable

from journal import Journal

SESSION_TIMEOUT_MS = 6000
HEARTBEAT_INTERVAL_MS = 1000


class Owned(Journal):
    """What the conductor reads."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._owned: set[int] = set()
        self._next: dict[int, int] = {}

    def owns(self, *, gained: Iterable[int] = (), lost: Iterable[int] = ()) -> None:
        self._owned = self._owned - set(lost) | set(gained)
        for partition in lost:
            self._next.pop(partition, None)
        self.note("owns", ",".join(map(str, sorted(self._owned))) or "-")

    def read(self, offsets: dict[int, list[int]]) -> None:
        for partition, found in offsets.items():
            self.note("read", partition, found[0], found[-1])
            self._next[partition] = found[-1] + 1

    def ends(self) -> dict[int, int]:
        """What is to be committed: of what is owned, what was read since the last time."""
        return dict(self._next)

    def committed(self, ends: dict[int, int]) -> None:
        for partition, end in ends.items():
            self.note("committed", partition, end)
            if self._next.get(partition) == end:
                del self._next[partition]


def librdkafka(bootstrap: str, group: str, topic: str, journal: Owned, protocol: str) -> None:
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    of_protocol = {
        "classic": {
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": HEARTBEAT_INTERVAL_MS,
            "partition.assignment.strategy": "cooperative-sticky",
        },
        "consumer": {},
    }[protocol]
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "group.protocol": protocol,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
            **of_protocol,
        }
    )

    def commit() -> None:
        ends = journal.ends()
        wanted = [TopicPartition(topic, partition, end) for partition, end in ends.items()]
        try:
            for one in consumer.commit(offsets=wanted, asynchronous=False) if wanted else []:
                if one.error is None:
                    journal.committed({one.partition: one.offset})
        except KafkaException:
            pass  # refused as a whole: the group is at another generation

    def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        journal.owns(gained=[one.partition for one in partitions])

    def revoked(_: Consumer, partitions: list[TopicPartition]) -> None:
        commit()
        consumer.incremental_unassign(partitions)
        journal.owns(lost=[one.partition for one in partitions])

    def lost(_: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_unassign(partitions)
        journal.owns(lost=[one.partition for one in partitions])

    consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked, on_lost=lost)
    while not journal.ending:
        offsets: dict[int, list[int]] = {}
        for message in consumer.consume(200, timeout=0.2):
            if message.error() is None:
                offsets.setdefault(message.partition(), []).append(message.offset())
        journal.read(offsets)
        commit()
    consumer.close()


def kafka_python(bootstrap: str, group: str, topic: str, journal: Owned) -> None:
    from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
    from kafka.errors import KafkaError

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
    )

    def commit() -> None:
        ends = journal.ends()
        try:
            if ends:
                consumer.commit({TopicPartition(topic, p): OffsetAndMetadata(end, "", -1) for p, end in ends.items()})
                journal.committed(ends)
        except KafkaError:
            pass  # another generation

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
            commit()
            journal.owns(lost=[one.partition for one in revoked])

        def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
            journal.owns(gained=[one.partition for one in assigned])

    consumer.subscribe([topic], listener=Listener())
    while not journal.ending:
        found = consumer.poll(200, max_records=200)
        journal.read({one.partition: [record.offset for record in records] for one, records in found.items()})
        commit()
    consumer.close()


async def aiokafka(bootstrap: str, group: str, topic: str, journal: Owned) -> None:
    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
    from aiokafka.errors import KafkaError

    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
    )

    async def commit() -> None:
        ends = journal.ends()
        try:
            if ends:
                await consumer.commit({TopicPartition(topic, partition): end for partition, end in ends.items()})
                journal.committed(ends)
        except KafkaError:
            pass  # another generation

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
            await commit()
            journal.owns(lost=[one.partition for one in revoked])

        async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
            journal.owns(gained=[one.partition for one in assigned])

    consumer.subscribe([topic], listener=Listener())
    await consumer.start()
    while not journal.ending:
        found = await consumer.getmany(timeout_ms=200, max_records=200)
        journal.read({one.partition: [record.offset for record in records] for one, records in found.items()})
        await commit()
    await consumer.stop()


def main() -> None:
    client, bootstrap, group, topic, path = sys.argv[1:]
    journal = Owned(path)
    match client:
        case "librdkafka":
            librdkafka(bootstrap, group, topic, journal, "classic")
        case "librdkafka-consumer":
            librdkafka(bootstrap, group, topic, journal, "consumer")
        case "kafka-python":
            kafka_python(bootstrap, group, topic, journal)
        case "aiokafka":
            asyncio.run(aiokafka(bootstrap, group, topic, journal))


if __name__ == "__main__":
    main()
