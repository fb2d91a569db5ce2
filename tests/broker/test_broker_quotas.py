"""Quotas on the wire, by a clock that is moved by hand: the answer comes first, and then the client is not heard."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from kafkapy.broker import Broker
from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.handlers import registry as registry_module
from kafkapy.protocol.messages.alter_client_quotas import AlterClientQuotasRequest
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.protocol.messages.create_partitions import CreatePartitionsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.delete_topics import DeleteTopicsRequest
from kafkapy.protocol.messages.describe_client_quotas import DescribeClientQuotasRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire

USER = [("user", "ANONYMOUS")]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def broker(start_broker: StartBroker, clock: ManualClock) -> AsyncIterator[Broker]:
    async with start_broker(memory=True, clock=clock) as started:
        yield started


@pytest.fixture
async def wire(broker: Broker) -> AsyncIterator[Wire]:
    async with await Wire.connect(broker.port) as connected:
        yield connected


def altering(entity: list[tuple[str, str | None]], **limits: float | None) -> AlterClientQuotasRequest:
    part = AlterClientQuotasRequest.EntityData
    return AlterClientQuotasRequest(
        entries=[
            AlterClientQuotasRequest.EntryData(
                entity=[part(entity_type=kind, entity_name=name) for kind, name in entity],
                ops=[
                    AlterClientQuotasRequest.OpData(key=key, value=value or 0.0, remove=value is None)
                    for key, value in limits.items()
                ],
            )
        ]
    )


async def limit(wire: Wire, entity: list[tuple[str, str | None]], **limits: float | None) -> None:
    answer = await wire.ask(altering(entity, **limits), 1)
    assert [(entry.error_code, entry.error_message) for entry in answer.entries] == [(0, None)]


def creating(name: str, partitions: int = 1) -> CreateTopicsRequest:
    topic = CreateTopicsRequest.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)
    return CreateTopicsRequest(topics=[topic], timeout_ms=10_000)


def producing(size: int, acks: int = -1) -> ProduceRequest:
    batch = build_batch([Record(offset=0, timestamp=1_700_000_000_000, key=None, value=bytes(size), headers=[])])
    partition = ProduceRequest.PartitionProduceData(index=0, records=batch)
    topic = ProduceRequest.TopicProduceData(name="t", partition_data=[partition])
    return ProduceRequest(acks=acks, timeout_ms=10_000, topic_data=[topic])


def fetching(offset: int = 0, session: tuple[int, int] = (0, 0)) -> FetchRequest:
    partition = FetchRequest.FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    topics = [FetchRequest.FetchTopic(topic="t", partitions=[partition])] if session[1] == 0 else []
    return FetchRequest(
        max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, session_id=session[0], session_epoch=session[1], topics=topics
    )


async def is_heard(wire: Wire, broker: Broker) -> bool:
    """Whether something has come for a client by the time that another one has been heard often."""
    async with await Wire.connect(broker.port) as other:
        for _ in range(5):
            await other.ask(ApiVersionsRequest(), 0)
    with trio.move_on_after(0):
        await wire.begin_to_receive()
        return True
    return False


async def test_a_producer_over_its_quota_hears_so_and_is_not_heard_until_then(
    broker: Broker, wire: Wire, clock: ManualClock
) -> None:
    await wire.ask(creating("t"), 7)
    await limit(wire, USER, producer_byte_rate=1000.0)
    async with await Wire.connect(broker.port) as producer:
        answer = await producer.ask(producing(9_000), 9)
        assert answer.throttle_time_ms == 0
        answer = await producer.ask(producing(3_000), 9)
        assert answer.responses[0].partition_responses[0].error_code == 0
        assert 2_000 < answer.throttle_time_ms < 2_500
        await producer.send(ApiVersionsRequest(), 0)
        assert not await is_heard(producer, broker)
        clock.advance_ms(answer.throttle_time_ms - 1)
        assert not await is_heard(producer, broker)
        clock.advance_ms(1)
        await producer.receive()


async def test_a_producer_without_answers_is_not_heard_either(broker: Broker, wire: Wire, clock: ManualClock) -> None:
    await wire.ask(creating("t"), 7)
    await limit(wire, USER, producer_byte_rate=1000.0)
    async with await Wire.connect(broker.port) as producer:
        await producer.send(producing(20_000, acks=0), 9, answered=False)
        await producer.send(ApiVersionsRequest(), 0)
        assert not await is_heard(producer, broker)
        clock.advance_ms(11_000)
        await producer.receive()


async def test_a_consumer_over_its_quota_gets_nothing_and_then_everything(
    broker: Broker, wire: Wire, clock: ManualClock
) -> None:
    await wire.ask(creating("t"), 7)
    for _ in range(3):
        await wire.ask(producing(6_000), 9)
    await limit(wire, USER, consumer_byte_rate=1000.0)
    async with await Wire.connect(broker.port) as consumer:
        answer = await consumer.ask(fetching(), 12)
        found = answer.responses[0].partitions[0].records
        assert (answer.throttle_time_ms, 6_000 < len(found) <= 10_000) == (0, True)  # no more than is never too much
        answer = await consumer.ask(fetching(1), 12)
        assert (answer.session_id, answer.error_code, answer.responses) == (0, 0, [])
        assert answer.throttle_time_ms > 1_000
        await consumer.send(fetching(1), 12)
        assert not await is_heard(consumer, broker)
        clock.advance_ms(11_000)
        answer = await consumer.receive()
        assert answer.throttle_time_ms == 0
        assert answer.responses[0].partitions[0].records


async def test_a_session_lives_on_over_an_answer_with_nothing(broker: Broker, wire: Wire, clock: ManualClock) -> None:
    await wire.ask(creating("t"), 7)
    async with await Wire.connect(broker.port) as consumer:
        session = (await consumer.ask(fetching(), 12)).session_id
        assert session
        await limit(wire, USER, consumer_byte_rate=10.0)
        for _ in range(2):
            await wire.ask(producing(1_000), 9)
        answer = await consumer.ask(fetching(session=(session, 1)), 12)
        assert answer.throttle_time_ms
        assert (answer.session_id, answer.responses) == (session, [])
        await limit(wire, USER, consumer_byte_rate=None)
        clock.advance_ms(answer.throttle_time_ms)
        answer = await consumer.ask(fetching(session=(session, 2)), 12)
        assert len(answer.responses[0].partitions[0].records) > 2_000


async def test_changes_over_the_quota_are_refused(broker: Broker, wire: Wire, clock: ManualClock) -> None:
    await limit(wire, USER, controller_mutation_rate=1.0)
    assert (await wire.ask(creating("t", 15), 7)).topics[0].error_code == 0  # of 11 that were there
    grow = CreatePartitionsRequest(
        topics=[CreatePartitionsRequest.CreatePartitionsTopic(name="t", count=16, assignments=None)], timeout_ms=10_000
    )
    answer = await wire.ask(creating("u"), 7)
    assert (answer.topics[0].error_code, answer.throttle_time_ms) == (Error.THROTTLING_QUOTA_EXCEEDED, 4_000)
    clock.advance_ms(1_000)
    for request, version, wait_ms in ((grow, 3, 3_000), (DeleteTopicsRequest(topic_names=["t"]), 5, 1_000)):
        async with await Wire.connect(broker.port) as other:
            request.timeout_ms = 10_000
            answer = await other.ask(request, version)
            [result] = answer.results if version == 3 else answer.responses
            assert (result.error_code, answer.throttle_time_ms) == (Error.THROTTLING_QUOTA_EXCEEDED, wait_ms)
        clock.advance_ms(2_000)
    async with await Wire.connect(broker.port) as other:
        clock.advance_ms(1_000)
        assert (await other.ask(grow, 3)).results[0].error_code == 0


async def test_an_old_client_is_held_back_after_its_changes(broker: Broker, wire: Wire) -> None:
    await limit(wire, USER, controller_mutation_rate=1.0)
    assert (await wire.ask(creating("t", 11), 5)).throttle_time_ms == 0
    async with await Wire.connect(broker.port) as other:
        answer = await other.ask(creating("u", 2), 5)
        assert (answer.topics[0].error_code, answer.throttle_time_ms) == (0, 2_000)


async def test_an_address_that_connects_too_often_is_shut_out_for_a_while(
    broker: Broker, wire: Wire, clock: ManualClock
) -> None:
    await limit(wire, [("ip", "127.0.0.1")], connection_creation_rate=1.0)
    for _ in range(10):
        async with await Wire.connect(broker.port) as welcome:
            await welcome.ask(ApiVersionsRequest(), 0)
    async with await Wire.connect(broker.port) as early:
        await early.send(ApiVersionsRequest(), 0)
        await wire.ask(ApiVersionsRequest(), 0)
        with trio.move_on_after(0):
            raise AssertionError(await early.receive_frame())
        clock.advance_ms(1_000)
        assert await early.is_closed()
    clock.advance_ms(10_000)
    async with await Wire.connect(broker.port) as later:
        await later.ask(ApiVersionsRequest(), 0)


async def described(wire: Wire, *components: tuple[str, int, str | None], strict: bool = False) -> Any:
    component = DescribeClientQuotasRequest.ComponentData
    request = DescribeClientQuotasRequest(
        components=[component(entity_type=kind, match_type=match, match=name) for kind, match, name in components],
        strict=strict,
    )
    answer = await wire.ask(request, 1)
    if answer.entries is None:
        return answer.error_code, answer.error_message
    return {
        tuple((part.entity_type, part.entity_name) for part in entry.entity): {
            value.key: value.value for value in entry.values
        }
        for entry in answer.entries
    }


async def test_limits_are_told_by_what_is_asked_for_and_outlive_the_broker(start_broker: StartBroker) -> None:
    both: list[tuple[str, str | None]] = [("client-id", None), ("user", "u")]
    async with start_broker() as broker, await Wire.connect(broker.port) as wire:
        await limit(wire, [("user", "u")], request_percentage=12.5)
        await limit(wire, both, producer_byte_rate=5.0)
        await limit(wire, [("ip", None)], connection_creation_rate=3.0)
    async with start_broker() as broker, await Wire.connect(broker.port) as wire:
        user, pair, ip = (
            {(("user", "u"),): {"request_percentage": 12.5}},
            {tuple(both): {"producer_byte_rate": 5.0}},
            {(("ip", None),): {"connection_creation_rate": 3.0}},
        )
        assert await described(wire) == user | pair | ip
        assert await described(wire, ("user", 0, "u")) == user | pair
        assert await described(wire, ("user", 2, None), strict=True) == user
        assert await described(wire, ("client-id", 1, None)) == pair
        assert await described(wire, ("client-id", 0, "x")) == {}
        assert await described(wire, ("ip", 2, None), strict=True) == ip
        code, message = await described(wire, ("ip", 2, None), ("user", 2, None))
        assert code == Error.INVALID_REQUEST
        assert message.startswith("Invalid entity filter component combination.")


async def test_what_cannot_be_limited_is_refused_by_itself(wire: Wire) -> None:
    answer = await wire.ask(altering([("ip", "no.such.host.invalid")], connection_creation_rate=1.0), 1)
    assert answer.entries[0].error_code == Error.INVALID_REQUEST
    assert answer.entries[0].error_message == "no.such.host.invalid is not a valid IP or resolvable host."


async def test_nothing_is_seen_to_while_there_are_no_limits(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    observed: list[int] = []

    class Counted(registry_module.Observed):
        def __init__(self, quotas: Any, metrics: Any, ctx: Any, request: Any, size: int) -> None:
            observed.append(ctx.api_key)
            super().__init__(quotas, metrics, ctx, request, size)

    monkeypatch.setattr(registry_module, "Observed", Counted)
    await wire.ask(creating("t"), 7)
    await limit(wire, USER, producer_byte_rate=1e9)
    assert observed == []
    await wire.ask(producing(10), 9)
    assert observed == [ProduceRequest.API_KEY]
    await limit(wire, USER, producer_byte_rate=None)
    del observed[:]
    await wire.ask(producing(10), 9)
    assert observed == []


class Slow(ManualClock):
    """A clock by which whatever asks for the time twice has worked for a while."""

    def monotonic(self) -> float:
        self._now_ms += 20
        return super().monotonic()


async def test_who_takes_too_much_time_is_held_back(start_broker: StartBroker) -> None:
    clock = Slow()
    async with start_broker(memory=True, clock=clock) as broker, await Wire.connect(broker.port) as wire:
        await limit(wire, [("client-id", "wire")], request_percentage=0.1)
        async with await Wire.connect(broker.port) as client:
            answer = await client.ask(ApiVersionsRequest(), 1)
            # Of ten seconds it may have 10 ms; but nobody waits longer for its time than a window.
            assert answer.throttle_time_ms == 1_000
