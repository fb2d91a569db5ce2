"""While one client does something large, another's small requests are served: many round trips, not one or two.

A request that holds the loop lets nobody else through, however fast the machine is; one that takes its work in bites,
or elsewhere, does. So what is counted is what a second client gets done before the first has its answer.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from trio.testing import wait_all_tasks_blocked

from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from tests.broker.wire import Wire
from tests.scale.asking import FETCH, PRODUCE, batch_of, fetch, fill, make_topic, produce
from tests.scale.conftest import StartBroker
from tests.scale.counting import SCALE, counted_calls, meanwhile

WIDE = 1000 * SCALE


@asynccontextmanager
async def two_clients(start_broker: StartBroker) -> AsyncIterator[tuple[Wire, Wire]]:
    async with start_broker() as broker, await Wire.connect(broker.port) as one, await Wire.connect(broker.port) as two:
        yield one, two


async def ping(wire: Wire) -> None:
    assert (await wire.ask(ApiVersionsRequest(), 0)).error_code == 0


async def test_while_a_wide_topic_is_made(start_broker: StartBroker) -> None:
    async with two_clients(start_broker) as (one, two):
        _, count = await meanwhile(lambda: make_topic(one, "wide", WIDE), lambda: ping(two))
    assert count >= WIDE / 100  # as the the store makes its logs in steps of several


async def test_while_a_client_sends_a_thousand_requests_at_once(start_broker: StartBroker) -> None:
    requests = 1000 * SCALE

    async with two_clients(start_broker) as (one, two):
        await make_topic(one, "t", 1)

        async def flood() -> None:
            await one.send(produce("t", [0], batch_of(100)), PRODUCE, times=requests)
            for _ in range(requests):
                await one.receive()

        _, count = await meanwhile(flood, lambda: ping(two))
    assert count >= requests / 50


async def test_while_a_client_reads_all_there_is(start_broker: StartBroker) -> None:
    width, size = 100, 100_000
    async with two_clients(start_broker) as (one, two):
        await make_topic(one, "t", width)
        await fill(one, "t", range(width), batch_of(size))

        async def read() -> int:
            answer = await one.ask(fetch("t", dict.fromkeys(range(width), 0)), FETCH)
            return sum(len(p.records) for p in answer.responses[0].partitions)

        found, count = await meanwhile(read, lambda: ping(two))
    assert found > width * size
    assert count >= 20


async def test_while_clients_do_not_read_what_they_asked_for(start_broker: StartBroker) -> None:
    """They wait for themselves alone, and cost the broker nothing while they do."""
    width, clients = 100, 30 * SCALE
    async with start_broker() as broker, AsyncExitStack() as stack:
        wire = await stack.enter_async_context(await Wire.connect(broker.port))
        await make_topic(wire, "t", width)
        await fill(wire, "t", range(width), batch_of(100_000))

        async def costs() -> Counter[str]:
            with counted_calls() as calls:
                for number in range(width):
                    await fill(wire, "t", [number], batch_of(100))
            return calls

        alone = await costs()
        for _ in range(clients):
            slow = await stack.enter_async_context(await Wire.connect(broker.port))
            await slow.send(fetch("t", dict.fromkeys(range(width), 0)), FETCH)
        await wait_all_tasks_blocked()
        beside = await costs()
        assert beside.total() <= 1.1 * alone.total(), beside - alone
