"""A server that is simple enough to be seen to be right: one task a connection, one thing after the other."""

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from kafkapy.delayed import Delayed
from kafkapy.errors import CloseConnection

LENGTH = struct.Struct(">i")

Dispatch = Callable[[memoryview, Any], Awaitable[Any]]


async def exactly(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = await stream.receive_some(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


async def outcome(delayed: Delayed[Any]) -> Any:
    moved = trio.Event()

    def wake() -> None:
        moved.set()

    delayed.begin(wake)
    try:
        while True:
            with trio.move_on_at(delayed.deadline):
                await moved.wait()
            moved = trio.Event()
            answer = await delayed.attempt()
            if answer is not None:
                return answer
    finally:
        delayed.close()


def read_all(part: Any) -> bytes:
    return bytes(part) if isinstance(part, bytes | bytearray | memoryview) else part.read(len(part))


@asynccontextmanager
async def serve_plainly(
    dispatch: Dispatch, open_session: Callable[[None, Callable[[float], None]], Any]
) -> AsyncIterator[int]:
    """Serve within the block; its value is the port."""

    async def serve(stream: trio.SocketStream) -> None:
        muted_until = 0.0

        def mute(until: float) -> None:
            nonlocal muted_until
            muted_until = until

        session = open_session(None, mute)
        try:
            while True:
                (size,) = LENGTH.unpack(await exactly(stream, LENGTH.size))
                answer = await dispatch(memoryview(await exactly(stream, size)), session)
                if isinstance(answer, Delayed):
                    answer = await outcome(answer)
                if answer is not None:
                    await stream.send_all(b"".join(map(read_all, answer)))
                await trio.sleep_until(muted_until)
        except (EOFError, CloseConnection, trio.BrokenResourceError):
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()
