"""What one request costs, in calls: of the broker's functions, and of built-in ones by these.

The time of a request is made of them, and they come one by one and hardly seen. Who adds to a request what it needs
raises a bound here, and says why.
"""

import socket
from struct import Struct
from typing import Any

import trio

from kafkapy.protocol.header import encode_request_header
from kafkapy.protocol.messages.metadata import MetadataRequest
from tests.broker.wire import Wire
from tests.scale.asking import FETCH, PRODUCE, batch_of, fetch, fill, make_topic, produce
from tests.scale.conftest import StartBroker
from tests.scale.counting import counted_calls

METADATA = 12
REQUESTS = 40
LENGTH = Struct(">i")
PARTITIONS = 4


def framed(request: Any, version: int) -> bytes:
    out = bytearray(LENGTH.size)
    encode_request_header(request.API_KEY, version, 1, "counted", out)
    frame = b"".join(request.encode(version, out))
    return LENGTH.pack(len(frame) - LENGTH.size) + frame[LENGTH.size :]


def exchange(connection: socket.socket, frame: bytes) -> None:
    """Ask once, in a thread of its own: what a client does is not counted."""
    connection.sendall(frame)
    (size,) = LENGTH.unpack(connection.recv(LENGTH.size, socket.MSG_WAITALL))
    connection.recv(size, socket.MSG_WAITALL)


async def calls_of(port: int, request: Any, version: int) -> int:
    """How many calls one of these requests costs when nothing comes in between, and its answer goes in one piece."""
    frame, totals = framed(request, version), []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(REQUESTS):
            with counted_calls(native=True) as calls:
                await trio.to_thread.run_sync(exchange, connection, frame)
            totals.append(calls.total())
    return min(totals)


async def calls_of_fetch(port: int) -> tuple[int, float]:
    """Those of a fetch of one partition, and how many each further one adds."""
    one = await calls_of(port, fetch("t", {0: 0}), FETCH)
    all_of_them = await calls_of(port, fetch("t", dict.fromkeys(range(PARTITIONS), 0)), FETCH)
    return one, (all_of_them - one) / (PARTITIONS - 1)


async def test_a_small_produce(start_broker: StartBroker) -> None:
    async with start_broker() as broker, await Wire.connect(broker.port) as client:
        await make_topic(client, "t", 1)
        assert await calls_of(broker.port, produce("t", [0], batch_of(100)), PRODUCE) <= 175


async def test_metadata_of_a_topic(start_broker: StartBroker) -> None:
    async with start_broker() as broker, await Wire.connect(broker.port) as client:
        await make_topic(client, "t", PARTITIONS)
        topics = [MetadataRequest.MetadataRequestTopic(name="t")]
        assert await calls_of(broker.port, MetadataRequest(topics=topics), METADATA) <= 143


async def test_a_partition_of_a_fetch(start_broker: StartBroker) -> None:
    async with start_broker() as broker, await Wire.connect(broker.port) as client:
        await make_topic(client, "t", PARTITIONS)
        await fill(client, "t", range(PARTITIONS), batch_of(100))
        first, further = await calls_of_fetch(broker.port)
    assert first <= 168
    assert further <= 55


async def test_a_partition_of_a_fetch_that_is_sent_from_files(start_broker: StartBroker) -> None:
    async with start_broker() as broker, await Wire.connect(broker.port) as client:
        await make_topic(client, "t", PARTITIONS)
        await fill(client, "t", range(PARTITIONS), batch_of(140_000))
        first, further = await calls_of_fetch(broker.port)
    assert first <= 200
    assert further <= 80
