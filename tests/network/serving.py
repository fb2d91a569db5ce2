"""A server behind a dispatch function of the test's own, and a client's side of a connection to it."""

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from kafkapy.clock import Clock, SystemClock
from kafkapy.model import Endpoint
from kafkapy.network.connection import OpenSession
from kafkapy.network.listening import bind
from kafkapy.network.server import Limits, Server

Dispatch = Callable[[memoryview, Any], Awaitable[Any]]

LOCALHOST = Endpoint("PLAINTEXT", "127.0.0.1", 0, "PLAINTEXT")


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


class Running:
    """A server, and the ports it listens on."""

    def __init__(self, server: Server, ports: list[int]) -> None:
        self.server = server
        self.ports = ports

    async def connect(self, listener: int = 0) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.ports[listener])


@asynccontextmanager
async def serving(
    dispatch: Dispatch,
    limits: Limits | None = None,
    *,
    listeners: int = 1,
    clock: Clock | None = None,
    open_session: OpenSession = lambda peer, mute: peer,
) -> AsyncIterator[Running]:
    server = Server(limits or Limits(), open_session, dispatch, clock or SystemClock())
    bound = bind([LOCALHOST._replace(listener=f"L{i}") for i in range(listeners)], -1)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, bound)
        with trio.fail_after(60):
            yield Running(server, [endpoint.port for endpoint, _ in bound])
        nursery.cancel_scope.cancel()


async def receive(stream: trio.SocketStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = await stream.receive_some(size - len(data))
        assert chunk, "the server closed the connection"
        data += chunk
    return bytes(data)


async def ends(stream: trio.SocketStream) -> bool:
    """Whether the server closes the connection without another byte."""
    try:
        return await stream.receive_some() == b""
    except trio.BrokenResourceError:
        return True
