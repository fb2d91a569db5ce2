"""What a user of the plugin writes: four services, a broker that is empty for each test, and faults."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import applications
import pytest

ORDERS = ("pear", "plum", "fig")
TIMEOUT = 30.0


@contextmanager
def in_a_thread(service: Callable[..., None], *args: Any) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=service, args=(*args, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(TIMEOUT)


@contextmanager
def in_asyncio(service: Callable[..., Any], *args: Any) -> Iterator[None]:
    def run(*args: Any) -> None:
        async def until_stopped(*given: Any, stop: threading.Event) -> None:
            task = asyncio.ensure_future(service(*given))
            while not stop.is_set() and not task.done():
                await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        *given, stop = args
        asyncio.run(until_stopped(*given, stop=stop))

    with in_a_thread(run, *args):
        yield


async def faststream(*args: str) -> None:
    async with applications.with_faststream(*args) as broker:
        await broker.start()
        await asyncio.Event().wait()


SERVICES = {
    "faststream": (in_asyncio, faststream),
    "aiokafka": (in_asyncio, applications.with_aiokafka),
    "confluent-kafka": (in_a_thread, applications.with_confluent_kafka),
    "kafka-python": (in_a_thread, applications.with_kafka_python),
}


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, kafka: Any) -> Any:
    """Runs the service for the length of a block."""
    kafka.create_topic("orders")
    kafka.create_topic("invoices")
    run, what = SERVICES[request.param]
    return lambda: run(what, kafka.bootstrap_servers, "orders", "invoices")


def place_orders(kafka: Any) -> None:
    for number in ORDERS:
        kafka.produce("orders", number, key=number)


@pytest.mark.parametrize("again", range(3))
def test_each_order_has_its_invoice(kafka: Any, service: Any, again: int) -> None:
    expected = [{"value": f"invoice for {number}"} for number in ORDERS]
    with kafka.assert_produced("invoices", *expected, timeout=TIMEOUT), service():
        place_orders(kafka)
        kafka.wait_records("invoices", len(ORDERS), timeout=TIMEOUT)
        kafka.wait_committed(applications.GROUP, "orders", 3, timeout=TIMEOUT)


def test_without_orders_there_is_no_invoice(kafka: Any, service: Any) -> None:
    with kafka.assert_produced("invoices"), service():
        kafka.wait_group(applications.GROUP, members=1, timeout=TIMEOUT)


def test_an_invoice_survives_a_leader_that_moves(kafka: Any, service: Any, kafka_faults: Any) -> None:
    kafka_faults.add("Produce", error="NOT_LEADER_OR_FOLLOWER", topic="invoices", must=True)
    with service():
        place_orders(kafka)
        kafka.wait_records("invoices", len(ORDERS), timeout=TIMEOUT)


def test_a_coordinator_that_loads_is_waited_for(kafka: Any, service: Any, kafka_faults: Any) -> None:
    kafka_faults.add("JoinGroup", error="COORDINATOR_LOAD_IN_PROGRESS", group=applications.GROUP, must=True)
    kafka_faults.add("OffsetFetch", error="COORDINATOR_LOAD_IN_PROGRESS", group=applications.GROUP, must=True)
    with service():
        place_orders(kafka)
        kafka.wait_records("invoices", len(ORDERS), timeout=TIMEOUT)
