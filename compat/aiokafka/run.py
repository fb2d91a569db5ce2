"""aiokafka against a broker. Run by compat/run, in an environment that has aiokafka; see README.md."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
import aiokafka.errors
import harness
import scenarios
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from scenarios import Member, Message, Record


class AioKafka(scenarios.Client):
    """The scenarios are synchronous: each call runs an event loop of its own."""

    errors = aiokafka.errors.KafkaError

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
        async def body() -> None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self.bootstrap,
                compression_type=None if compression == "none" else compression,
                enable_idempotence=idempotent,
                acks=acks if acks == "all" else int(acks),
                linger_ms=5,
                max_request_size=4_000_000,
            )
            await producer.start()
            try:
                futures = [
                    await producer.send(
                        topic,
                        value=message.value,
                        key=message.key,
                        headers=list(message.headers),
                        partition=message.partition,
                        timestamp_ms=message.timestamp_ms,
                    )
                    for message in messages
                ]
                await producer.flush()
                for future in futures:
                    await future
            finally:
                await producer.stop()

        asyncio.run(body())

    def read(self, topic: str) -> list[Record]:
        async def body() -> list[Record]:
            async with self._consumer() as consumer:
                while not (numbers := await self._partitions(topic)):
                    pass  # one of several brokers was asked that has yet to hear of it
                partitions = [TopicPartition(topic, number) for number in numbers]
                consumer.assign(partitions)
                ends = await consumer.end_offsets(partitions)
                records: list[Record] = []
                await consumer.seek_to_beginning()
                while any([await consumer.position(partition) < end for partition, end in ends.items()]):
                    records += _flat(await consumer.getmany(timeout_ms=1000))
                return records

        return asyncio.run(body())

    def consume(self, topic: str, group: str, count: int) -> list[Record]:
        async def body() -> list[Record]:
            async with self._consumer(topic, group_id=group) as consumer:
                records: list[Record] = []
                while len(records) < count:
                    records += _flat(await consumer.getmany(timeout_ms=1000, max_records=count - len(records)))
                await consumer.commit()
                return records

        return asyncio.run(body())

    def member(self, topic: str, group: str) -> Member:
        class Reporter(ConsumerRebalanceListener):
            def __init__(self, report: Callable[[object], None]) -> None:
                self.report = report

            async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
                self.report({"assigned": []})

            async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
                self.report({"assigned": [partition.partition for partition in assigned]})

        async def follow(report: Callable[[object], None], told_to_leave: Callable[[], bool]) -> None:
            async with self._consumer(group_id=group) as consumer:
                consumer.subscribe([topic], listener=Reporter(report))
                while not told_to_leave():
                    records = _flat(await consumer.getmany(timeout_ms=100))
                    if records:
                        report({"ids": [int(record.value or b"") for record in records]})
                        try:
                            await consumer.commit()
                        except aiokafka.errors.KafkaError:
                            pass  # the group moved on, or the broker is away: whoever owns them next gets these again

        return scenarios.forked_member(lambda report, told_to_leave: asyncio.run(follow(report, told_to_leave)))

    @asynccontextmanager
    async def _consumer(self, *topics: str, **settings: Any) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=self.bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=6000,
            heartbeat_interval_ms=500,
            **settings,
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    def _ask(self, question: Callable[[AIOKafkaAdminClient], Any]) -> Any:
        async def body() -> Any:
            async with self._admin() as admin:
                return await question(admin)

        return asyncio.run(body())

    async def _partitions(self, topic: str) -> list[int]:
        async with self._admin() as admin:
            (described,) = await admin.describe_topics([topic])
            return sorted(partition["partition"] for partition in described["partitions"])

    def create_topic(self, topic: str, partition_count: int, configs: dict[str, str] | None = None) -> None:
        wanted = NewTopic(topic, partition_count, len(self.bootstrap.split(",")), topic_configs=configs or {})
        _raise_first(self._ask(lambda admin: admin.create_topics([wanted])).topic_errors)

    def list_topics(self) -> Collection[str]:
        return self._ask(lambda admin: admin.list_topics())

    def partition_count(self, topic: str) -> int:
        return len(asyncio.run(self._partitions(topic)))

    def create_partitions(self, topic: str, total_count: int) -> None:
        _raise_first(self._ask(lambda admin: admin.create_partitions({topic: NewPartitions(total_count)})).topic_errors)

    def delete_topic(self, topic: str) -> None:
        _raise_first(self._ask(lambda admin: admin.delete_topics([topic])).topic_error_codes)

    def topic_configs(self, topic: str) -> dict[str, str | None]:
        return self._configs(ConfigResource(ConfigResourceType.TOPIC, topic))

    def broker_configs(self) -> dict[str, str | None]:
        node_id = self._ask(lambda admin: admin.describe_cluster())["brokers"][0]["node_id"]
        return self._configs(ConfigResource(ConfigResourceType.BROKER, str(node_id)))

    def _configs(self, resource: ConfigResource) -> dict[str, str | None]:
        (answer,) = self._ask(lambda admin: admin.describe_configs([resource]))
        entries = answer.resources[0][4]
        return {entry[0]: entry[1] for entry in entries}

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        async def body() -> int | None:
            where = TopicPartition(topic, partition)
            async with self._consumer() as consumer:
                found = (await consumer.offsets_for_times({where: timestamp_ms}))[where]
                return None if found is None else found.offset

        return asyncio.run(body())

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        async def body() -> tuple[int, int]:
            where = TopicPartition(topic, partition)
            async with self._consumer() as consumer:
                first, end = await consumer.beginning_offsets([where]), await consumer.end_offsets([where])
                return first[where], end[where]

        return asyncio.run(body())

    def list_groups(self) -> Collection[str]:
        return [group for group, *_ in self._ask(lambda admin: admin.list_consumer_groups())]

    def describe_group(self, group: str) -> tuple[str, int]:
        (answer,) = self._ask(lambda admin: admin.describe_consumer_groups([group]))
        _, _, state, _, _, members, *_ = answer.groups[0]
        return state.lower(), len(members)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        found = self._ask(lambda admin: admin.list_consumer_group_offsets(group))
        return {where.partition: offset.offset for where, offset in found.items() if where.topic == topic}

    def error_code(self, error: aiokafka.errors.KafkaError) -> int | None:
        return getattr(error, "errno", None)


def _flat(polled: dict[TopicPartition, list[Any]]) -> list[Record]:
    return [
        Record(record.partition, record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
        for records in polled.values()
        for record in records
    ]


def _raise_first(results: Iterable[tuple[Any, ...]]) -> None:
    """Admin answers come as they are on the wire: (name, error code, …) each."""
    for _, code, *_ in results:
        if code:
            raise aiokafka.errors.for_code(code)


def group_listing(client: AioKafka) -> None:
    """List and describe a group while it has a member and after; this client cannot delete one."""
    topic, group = scenarios.fresh("groups"), scenarios.fresh("groups")
    client.create_topic(topic, scenarios.PARTITION_COUNT)
    client.produce(topic, scenarios.numbered(range(60)))
    scenarios.same(len(client.consume(topic, group, 60)), 60, "records")
    assert group in client.list_groups(), "the group is not listed"
    scenarios.same(client.describe_group(group), ("empty", 0), "the group without members")
    scenarios.same(sum(client.committed(group, topic).values()), 60, "sum of the committed offsets")


def pattern(client: AioKafka) -> None:
    """A consumer subscribed to a pattern takes in a topic that is made later."""

    async def body() -> None:
        stem = scenarios.fresh("pattern")
        await asyncio.to_thread(client.create_topic, f"{stem}-a", 1)
        async with client._consumer(group_id=stem, metadata_max_age_ms=300) as consumer:
            consumer.subscribe(pattern=f"^{stem}-.*")
            await asyncio.to_thread(client.produce, f"{stem}-a", [Message(None, b"first", partition=0)])
            scenarios.same((await consumer.getone()).value, b"first", "record")
            await consumer.commit()  # the new topic brings a rebalance, after which it starts where it committed
            await asyncio.to_thread(client.create_topic, f"{stem}-b", 1)
            await asyncio.to_thread(client.produce, f"{stem}-b", [Message(None, b"second", partition=0)])
            scenarios.same((await consumer.getone()).value, b"second", "record")

    asyncio.run(body())


def checks(bootstrap: str) -> Iterator[harness.Check]:
    client = AioKafka(bootstrap)
    yield from scenarios.data_checks(client)
    yield from scenarios.refusal_checks(client)
    yield from scenarios.idempotence_checks(client)
    yield from scenarios.group_checks(client)
    yield from scenarios.admin_checks(client)
    yield from scenarios.time_checks(client)
    yield harness.Check("groups: list, describe", lambda: group_listing(client))
    yield harness.Check("subscription by pattern", lambda: pattern(client))


if __name__ == "__main__":
    harness.main("aiokafka", aiokafka.__version__, checks)
