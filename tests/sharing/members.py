"""Members of a share group that speak the protocol raw: what they are given, what they say of it, what they hear."""

from collections.abc import Iterable, Sequence
from typing import Any

import trio

from kafkapy.errors import Error
from kafkapy.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from kafkapy.protocol.messages.end_txn import EndTxnRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.init_producer_id import InitProducerIdRequest
from kafkapy.protocol.messages.initialize_share_group_state import InitializeShareGroupStateRequest
from kafkapy.protocol.messages.list_offsets import ListOffsetsRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.protocol.messages.read_share_group_state_summary import ReadShareGroupStateSummaryRequest
from kafkapy.protocol.messages.share_acknowledge import ShareAcknowledgeRequest
from kafkapy.protocol.messages.share_fetch import ShareFetchRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.sharing.state.facts import SharePartitionKey
from tests.broker.wire import Wire

Ranges = list[tuple[int, int, int]]
"""First offset, last offset, delivery count."""


ANSWER_SECONDS = 60


class Line(Wire):
    """A member's connection: what it waits for in vain fails the test, though the broker's clock stands still."""

    async def receive(self) -> Any:
        with trio.fail_after(ANSWER_SECONDS):
            return await super().receive()


class Topic:
    """A topic that is produced to."""

    def __init__(self, wire: Wire, name: str, topic_id: bytes) -> None:
        self.wire = wire
        self.name = name
        self.topic_id = topic_id

    async def produce(
        self, count: int = 1, *, partition: int = 0, batch: bytes | None = None, transactional_id: str | None = None
    ) -> int:
        """Append one batch of so many records; its first offset."""
        if batch is None:
            batch = build_batch([Record(i, 1_700_000_000_000, None, b"v%d" % i, []) for i in range(count)])
        request = ProduceRequest(
            transactional_id=transactional_id,
            acks=-1,
            timeout_ms=10_000,
            topic_data=[
                ProduceRequest.TopicProduceData(
                    topic_id=self.topic_id,
                    partition_data=[ProduceRequest.PartitionProduceData(index=partition, records=batch)],
                )
            ],
        )
        [topic] = (await self.wire.ask(request, 13)).responses
        [answer] = topic.partition_responses
        assert answer.error_code == 0, Error.of(answer.error_code)
        return int(answer.base_offset)

    async def transact(self, count: int, *, committed: bool) -> None:
        """A transaction that writes a batch of so many records to partition 0, and its marker."""
        wire, name = self.wire, "transaction"
        await wire.ask(FindCoordinatorRequest(key_type=1, coordinator_keys=[name]), 4)
        begun = await wire.ask(InitProducerIdRequest(transactional_id=name, transaction_timeout_ms=60_000), 4)
        producer = {"producer_id": begun.producer_id, "producer_epoch": begun.producer_epoch}
        topic = AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name=self.name, partitions=[0])
        added = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=name,
            v3_and_below_producer_id=begun.producer_id,
            v3_and_below_producer_epoch=begun.producer_epoch,
            v3_and_below_topics=[topic],
        )
        await wire.ask(added, 3)
        records = [Record(i, 1_700_000_000_000, None, b"", []) for i in range(count)]
        first = await self.produce(
            batch=build_batch(records, **producer, base_sequence=0, transactional=True), transactional_id=name
        )
        ended = await wire.ask(EndTxnRequest(transactional_id=name, committed=committed, **producer), 3)
        assert ended.error_code == 0, Error.of(ended.error_code)
        with trio.fail_after(5):
            while await self.end_offset() <= first + count:
                await trio.sleep(0)

    async def end_offset(self) -> int:
        """Where partition 0 ends for readers of what is committed."""
        cls = ListOffsetsRequest
        partition = cls.ListOffsetsPartition(partition_index=0, timestamp=-1)
        topic = cls.ListOffsetsTopic(name=self.name, partitions=[partition])
        answer = await self.wire.ask(cls(replica_id=-1, isolation_level=1, topics=[topic]), 7)
        return int(answer.topics[0].partitions[0].offset)

    async def initialize(self, group: str, start_offset: int = 0, *, partition: int = 0, state_epoch: int = 1) -> Error:
        """What the group coordinator does before members are assigned the partition."""
        key = SharePartitionKey(group, self.topic_id, partition).coordinator_key
        await self.wire.ask(FindCoordinatorRequest(key_type=2, coordinator_keys=[key]), 6)
        cls = InitializeShareGroupStateRequest
        data = cls.PartitionData(partition=partition, state_epoch=state_epoch, start_offset=start_offset)
        topic = cls.InitializeStateData(topic_id=self.topic_id, partitions=[data])
        answer = await self.wire.ask(cls(group_id=group, topics=[topic]), 0)
        return Error.of(answer.results[0].partitions[0].error_code)

    async def start_offset(self, group: str, *, partition: int = 0) -> int:
        """Where the group is, as it is written down."""
        cls = ReadShareGroupStateSummaryRequest
        data = cls.PartitionData(partition=partition)
        topic = cls.ReadStateSummaryData(topic_id=self.topic_id, partitions=[data])
        [found] = (await self.wire.ask(cls(group_id=group, topics=[topic]), 1)).results[0].partitions
        assert found.error_code == 0, Error.of(found.error_code)
        return int(found.start_offset)


class Member:
    """One, on a connection of its own, with a session that goes on from request to request."""

    def __init__(self, wire: Wire, topic: Topic, member_id: str = "m", group: str = "g", version: int = 2) -> None:
        self.wire = wire
        self.topic = topic
        self.member_id = member_id
        self.group = group
        self.version = version
        self.epoch = 0

    def request(
        self,
        acknowledged: dict[int, list[tuple[int, int, Sequence[int]]]] | None = None,
        partitions: Iterable[int] = (),
        *,
        epoch: int | None = None,
        **fields: Any,
    ) -> ShareFetchRequest:
        cls = ShareFetchRequest
        told = {partition: [] for partition in partitions} | (acknowledged or {})
        topic = cls.FetchTopic(
            topic_id=self.topic.topic_id,
            partitions=[
                cls.FetchPartition(
                    partition_index=partition,
                    acknowledgement_batches=[
                        cls.AcknowledgementBatch(first_offset=first, last_offset=last, acknowledge_types=list(types))
                        for first, last, types in batches
                    ],
                )
                for partition, batches in told.items()
            ],
        )
        fields = {
            "max_bytes": 1 << 20,
            "max_records": 500,
            "batch_size": 500,
            "min_bytes": 1,
            "max_wait_ms": 0,
        } | fields
        return cls(
            group_id=self.group,
            member_id=self.member_id,
            share_session_epoch=self.epoch if epoch is None else epoch,
            topics=[topic] if told else [],
            **fields,
        )

    async def send_fetch(self, *arguments: Any, **fields: Any) -> None:
        """Ask, without waiting for the answer."""
        await self.wire.send(self.request(*arguments, **fields), self.version)
        if fields.get("epoch") is None:
            self.epoch += 1

    async def fetch(self, *arguments: Any, **fields: Any) -> Any:
        """The whole answer."""
        await self.send_fetch(*arguments, **fields)
        return await self.wire.receive()

    async def take(self, *arguments: Any, partition: int = 0, **fields: Any) -> Ranges:
        """What it is given of a partition; errors are none."""
        return acquired(await self.fetch(*arguments, **fields), partition)

    async def take_all(self, count: int) -> list[tuple[int, int]]:
        """So many records of partition 0, by as many fetches as it takes: their offsets and delivery counts."""
        found: list[tuple[int, int]] = []
        while len(found) < count:
            for first, last, deliveries in await self.take(max_wait_ms=60_000):
                found += [(offset, deliveries) for offset in range(first, last + 1)]
        return sorted(found)

    async def acknowledge(
        self,
        acknowledged: dict[int, list[tuple[int, int, Sequence[int]]]],
        *,
        epoch: int | None = None,
        renews: bool = False,
    ) -> Any:
        """The whole answer to a ShareAcknowledge."""
        cls = ShareAcknowledgeRequest
        topic = cls.AcknowledgeTopic(
            topic_id=self.topic.topic_id,
            partitions=[
                cls.AcknowledgePartition(
                    partition_index=partition,
                    acknowledgement_batches=[
                        cls.AcknowledgementBatch(first_offset=first, last_offset=last, acknowledge_types=list(types))
                        for first, last, types in batches
                    ],
                )
                for partition, batches in acknowledged.items()
            ],
        )
        request = cls(
            group_id=self.group,
            member_id=self.member_id,
            share_session_epoch=self.epoch if epoch is None else epoch,
            is_renew_ack=renews,
            topics=[topic],
        )
        if epoch is None:
            self.epoch += 1
        return await self.wire.ask(request, self.version)

    async def told(self, first: int, last: int, *types: int, renews: bool = False) -> Error:
        """What becomes of one acknowledgement, of partition 0."""
        answer = await self.acknowledge({0: [(first, last, types)]}, renews=renews)
        assert answer.error_code == 0, Error.of(answer.error_code)
        return Error.of(answer.responses[0].partitions[0].error_code)


def acquired(answer: Any, partition: int = 0) -> Ranges:
    """What an answer gives of a partition."""
    assert answer.error_code == 0, Error.of(answer.error_code)
    found: Ranges = []
    for topic in answer.responses:
        for data in topic.partitions:
            if data.partition_index == partition:
                assert data.error_code == 0, Error.of(data.error_code)
                assert data.acknowledge_error_code == 0, Error.of(data.acknowledge_error_code)
                found += [(each.first_offset, each.last_offset, each.delivery_count) for each in data.acquired_records]
    return found
