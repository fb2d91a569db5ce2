"""Hundreds of polls that wait at the end of their logs: they cost nothing until something comes, and then little."""

from collections import Counter
from contextlib import AsyncExitStack

import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.protocol.messages.fetch import FetchResponse
from tests.broker.wire import Wire
from tests.scale.asking import FETCH, PRODUCE, batch_of, fetch, fill, make_topic, produce
from tests.scale.conftest import StartBroker
from tests.scale.counting import SCALE, CountingDisk, counted_calls, counted_steps

POLLS = 200 * SCALE
FOR_LONG_MS = 600_000
PRODUCES = 50


async def connect(stack: AsyncExitStack, port: int, count: int) -> list[Wire]:
    return [await stack.enter_async_context(await Wire.connect(port)) for _ in range(count)]


def found(answer: FetchResponse) -> dict[int, int]:
    """The partitions that the answer brings records of, and how many bytes."""
    return {p.partition_index: len(p.records) for topic in answer.responses for p in topic.partitions if p.records}


async def costs(producer: Wire) -> Counter[str]:
    """What some produces call."""
    with counted_calls() as calls:
        for _ in range(PRODUCES):
            await producer.ask(produce("t", [0], batch_of(100)), PRODUCE)
    return calls


async def test_who_polls_other_logs_costs_a_produce_nothing(start_broker: StartBroker) -> None:
    async with start_broker() as broker, AsyncExitStack() as stack:
        [producer, *pollers] = await connect(stack, broker.port, 1 + POLLS)
        await make_topic(producer, "t", 1 + POLLS)
        await fill(producer, "t", range(1 + POLLS), batch_of(100))
        alone = await costs(producer)
        for index, poller in enumerate(pollers, start=1):
            await poller.send(fetch("t", {index: 1}, max_wait_ms=FOR_LONG_MS), FETCH)
        await wait_all_tasks_blocked()
        beside = await costs(producer)
    assert beside.total() <= 1.1 * alone.total(), beside - alone


async def test_a_produce_answers_all_who_wait_for_it(start_broker: StartBroker) -> None:
    """Each with what came, after one more look at the log, and none of them holds up the others."""
    disk = CountingDisk()
    async with start_broker(disk=disk) as broker, AsyncExitStack() as stack:
        [producer, *pollers] = await connect(stack, broker.port, 1 + POLLS)
        await make_topic(producer, "t", 2)
        for poller in pollers:
            await poller.send(fetch("t", {0: 0, 1: 0}, max_wait_ms=FOR_LONG_MS), FETCH)
        await wait_all_tasks_blocked()
        disk.reset()
        batch = batch_of(100)
        await producer.ask(produce("t", [1], batch), PRODUCE)
        with trio.fail_after(60):
            answers = [found(await poller.receive()) for poller in pollers]
    assert answers == [{1: len(batch)}] * POLLS
    assert disk.read_bytes <= 2 * POLLS * len(batch)


async def test_polls_that_want_much_more_cost_a_produce_a_sum_each(start_broker: StartBroker) -> None:
    """Not a look at any of their partitions, of which there are many."""
    pollers, width = 5, 500 * SCALE
    async with start_broker() as broker, AsyncExitStack() as stack:
        [producer, *polls] = await connect(stack, broker.port, 1 + pollers)
        await make_topic(producer, "t", width)
        alone = await costs(producer)
        for poll in polls:
            wanted = fetch("t", dict.fromkeys(range(width), 0), max_wait_ms=FOR_LONG_MS, min_bytes=10 << 20)
            await poll.send(wanted, FETCH)
        await wait_all_tasks_blocked()
        beside = await costs(producer)
    assert not [name for name in beside if name.endswith(".read")]
    assert (beside - alone).total() <= 15 * pollers * PRODUCES, beside - alone


async def test_a_poll_reads_twice_whatever_comes_meanwhile(start_broker: StartBroker) -> None:
    """What there is when it comes, and all at the end."""
    width, batch = 20, batch_of(100)
    async with start_broker() as broker, AsyncExitStack() as stack:
        [producer, consumer] = await connect(stack, broker.port, 2)
        await make_topic(producer, "t", width)
        with counted_calls() as calls:
            wanted = fetch(
                "t", dict.fromkeys(range(width), 0), max_wait_ms=FOR_LONG_MS, min_bytes=PRODUCES * len(batch)
            )
            await consumer.send(wanted, FETCH)
            await wait_all_tasks_blocked()
            for number in range(PRODUCES):
                await producer.ask(produce("t", [number % width], batch), PRODUCE)
            with trio.fail_after(60):
                answer = await consumer.receive()
    assert sum(found(answer).values()) == PRODUCES * len(batch)
    assert calls["EmbeddedLogs.read"] == 2


async def test_an_incremental_poll_of_thousands_brings_what_came(start_broker: StartBroker) -> None:
    """A session over thousands of partitions (KIP-227): later fetches name what has moved, and are told what came."""
    width = 2000 * SCALE
    async with start_broker() as broker, AsyncExitStack() as stack:
        [producer, consumer] = await connect(stack, broker.port, 2)
        await make_topic(producer, "t", width)
        first = fetch("t", dict.fromkeys(range(width), 0))
        first.session_epoch = 0
        answer = await consumer.ask(first, FETCH)
        assert len(answer.responses[0].partitions) == width
        moved: dict[int, int] = {}
        for epoch in range(1, 4):
            later = fetch("t", moved, max_wait_ms=FOR_LONG_MS)
            later.session_id, later.session_epoch = answer.session_id, epoch
            await consumer.send(later, FETCH)
            await wait_all_tasks_blocked()
            batch = batch_of(100)
            with counted_steps() as steps:
                await producer.ask(produce("t", [width - epoch], batch), PRODUCE)
                with trio.fail_after(60):
                    answer = await consumer.receive()
            assert [p.partition_index for p in answer.responses[0].partitions] == [width - epoch]
            assert steps.total <= 50, steps.by_task
            moved = {width - epoch: 1}
