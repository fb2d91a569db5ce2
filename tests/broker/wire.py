"""A raw client for tests: requests as our messages, or as bytes; answers decoded, or as they come."""

import struct
from typing import Any

import trio

from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages import response_class


class Wire:
    """One connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._sent: list[tuple[int, int]] = []
        self._buffer = bytearray()

    @classmethod
    async def connect(cls, port: int, *, host: str = "127.0.0.1") -> "Wire":
        """A connection from `host`, which is one of this machine."""
        return cls(await trio.open_tcp_stream("127.0.0.1", port, local_address=host))

    async def __aenter__(self) -> "Wire":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stream.aclose()

    async def send(self, request: Any, version: int, *, answered: bool = True, times: int = 1) -> None:
        """Send a request, or as many of it at once, without waiting for its answer."""
        out = bytearray(4)
        encode_request_header(request.API_KEY, version, len(self._sent), "wire", out)
        frame = b"".join(request.encode(version, out))
        if answered:
            self._sent += [(request.API_KEY, version)] * times
        await self.stream.send_all((struct.pack(">i", len(frame) - 4) + frame[4:]) * times)

    async def send_frame(self, body: bytes) -> None:
        """Send any bytes as a frame."""
        await self.stream.send_all(struct.pack(">i", len(body)) + body)

    async def begin_to_receive(self) -> None:
        """Wait for the first byte of an answer, and take no more of it."""
        self._buffer += await self.stream.receive_some(1)

    async def receive(self) -> Any:
        """The answer to the oldest request that has none yet."""
        key, version = self._sent.pop(0)
        frame = await self.receive_frame()
        assert frame is not None, "the broker closed the connection"
        _, offset = decode_response_header(key, version, frame)
        answer, end = response_class(key).decode(version, frame, offset)
        assert end == len(frame), "bytes left over after the answer"
        return answer

    async def ask(self, request: Any, version: int) -> Any:
        await self.send(request, version)
        return await self.receive()

    async def receive_frame(self) -> bytes | None:
        """The next frame without its length; None when the broker has closed the connection."""
        while True:
            if len(self._buffer) >= 4:
                (size,) = struct.unpack_from(">i", self._buffer)
                if len(self._buffer) >= 4 + size:
                    frame = bytes(self._buffer[4 : 4 + size])
                    del self._buffer[: 4 + size]
                    return frame
            try:
                chunk = await self.stream.receive_some()
            except trio.BrokenResourceError:
                return None
            if not chunk:
                return None
            self._buffer += chunk

    async def is_closed(self) -> bool:
        """Whether the broker closes the connection instead of answering."""
        with trio.fail_after(5):
            return await self.receive_frame() is None
