"""HTTP/1.1 for whoever looks after a broker: a question a connection, with a body of known length.

On the broker's own loop; nothing runs between two questions. A question that does not come within its time, or whose
head is too long, is dropped, and of too many at once all but some.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import trio

from kafkapy.clock import Clock
from kafkapy.config.hosts import told_address
from kafkapy.config.setting import ConfigError

_log = logging.getLogger(__name__)

_ASKING_SECONDS: Final = 10.0
"""How long a head may take, and then each megabyte of a body."""
_MOST_HEAD_BYTES: Final = 8192
_PIECE_BYTES: Final = 1 << 20
_HEAD_ENDS: Final = b"\r\n\r\n"


class Question(NamedTuple):
    """What somebody asks; names of headers are lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is told. `follow` writes on for as long as it likes, and the connection ends with it."""

    status: str = "200 OK"
    content_type: str = "text/plain"
    body: bytes = b""
    follow: Callable[[trio.SocketStream], Awaitable[None]] | None = None


class Refusal(Exception):
    """A question that is answered with nothing but this status, and why."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


def told_as_json(value: Any, status: str = "200 OK") -> Reply:
    """A value, in a line of JSON."""
    return Reply(status, "application/json", json.dumps(value).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How many questions at once, how long an answer may take, how long a body to a path may be (else none)."""

    at_once: int
    seconds: float
    body_bytes: Callable[[str], int] = lambda path: 0


class HttpEndpoint:
    """Hands questions to `answer`, which may raise Refusal, and sends what it says. `admit` sees heads first."""

    def __init__(
        self,
        answer: Callable[[Question], Awaitable[Reply]],
        limits: HttpLimits,
        clock: Clock,
        admit: Callable[[Question], None] = lambda question: None,
    ) -> None:
        self._answer = answer
        self._admit = admit
        self._limits = limits
        self._clock = clock
        self._asking = 0

    async def serve(
        self, name: str, host: str, port: int, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer until cancelled; started with the port, once that is open. Raises ConfigError when it is taken."""
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as failure:
            raise ConfigError(f"{name} cannot be told at {host}:{port}: {failure}") from failure
        bound: int = listeners[0].socket.getsockname()[1]
        _log.info("%s at http://%s", name, told_address(host, bound))
        task_status.started(bound)
        await trio.serve_listeners(self._meet, listeners)

    async def _meet(self, stream: trio.SocketStream) -> None:
        async with stream:
            if self._asking >= self._limits.at_once:
                return
            self._asking += 1
            try:
                await self._answer_one(stream)
            except trio.BrokenResourceError:
                _log.debug("lost whoever asked over HTTP")
            finally:
                self._asking -= 1

    async def _answer_one(self, stream: trio.SocketStream) -> None:
        method, refused = "", False
        reply: Reply | None = None
        try:
            question, begun = await self._head(stream)
            if question is None:
                return
            method = question.method
            self._admit(question)
            question = await self._with_body(stream, question, begun)
            if question is None:
                return
            with self._clock.until(self._clock.monotonic() + self._limits.seconds):
                reply = await self._answer(question)
        except Refusal as refusal:
            reply, refused = told_as_json({"error": str(refusal)}, refusal.status), True
        if reply is None:
            return
        with self._clock.until(self._clock.monotonic() + self._limits.seconds):
            await stream.send_all(_written(reply, method))
        if refused:
            await self._read_off(stream)
        elif reply.follow is not None and method != "HEAD":
            await reply.follow(stream)

    async def _read_off(self, stream: trio.SocketStream) -> None:
        """Hear out whoever is still sending: who is hung up on does not get to read why."""
        await stream.send_eof()
        with self._clock.until(self._clock.monotonic() + _ASKING_SECONDS):
            while await stream.receive_some(_PIECE_BYTES):
                pass

    async def _head(self, stream: trio.SocketStream) -> tuple[Question | None, bytes]:
        """A question without its body, and what has come of that; None where nobody asks anything."""
        asked = b""
        with self._clock.until(self._clock.monotonic() + _ASKING_SECONDS):
            while _HEAD_ENDS not in asked:
                chunk = await stream.receive_some(_MOST_HEAD_BYTES)
                asked += chunk
                if not chunk or (len(asked) > _MOST_HEAD_BYTES and _HEAD_ENDS not in asked[:_MOST_HEAD_BYTES]):
                    return None, b""
            head, _, begun = asked.partition(_HEAD_ENDS)
            return _question_of(head.decode("latin-1")), begun
        return None, b""

    async def _with_body(self, stream: trio.SocketStream, question: Question, begun: bytes) -> Question | None:
        size, most = _body_size(question), self._limits.body_bytes(question.path)
        if size > most:
            raise Refusal("413 Content Too Large", f"{size} bytes are more than the {most} that {question.path} takes")
        if question.headers.get("expect", "").lower() == "100-continue" and len(begun) < size:
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray(begun)
        while len(body) < size:
            aim = min(len(body) + _PIECE_BYTES, size)
            with self._clock.until(self._clock.monotonic() + _ASKING_SECONDS) as late:
                while len(body) < aim:
                    chunk = await stream.receive_some(aim - len(body))
                    if not chunk:
                        return None
                    body += chunk
            if late.cancelled_caught:
                return None
        return question._replace(body=bytes(body[:size]))


def _question_of(head: str) -> Question:
    first, *lines = head.split("\r\n")
    method, _, rest = first.partition(" ")
    path, _, query = rest.partition(" ")[0].partition("?")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Question(method, path, dict(parse_qsl(query)), headers)


def _body_size(question: Question) -> int:
    if "transfer-encoding" in question.headers:
        raise Refusal("411 Length Required", "a body needs its Content-Length, and comes as it is")
    size = question.headers.get("content-length", "0")
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise Refusal("400 Bad Request", f"Content-Length: {size[:50]!r} is no size")
    return int(size)


def _written(reply: Reply, method: str) -> bytes:
    length = [] if reply.follow is not None else [f"Content-Length: {len(reply.body)}"]
    head = (f"HTTP/1.1 {reply.status}", f"Content-Type: {reply.content_type}", *length, "Connection: close", "\r\n")
    return "\r\n".join(head).encode("ascii") + (b"" if method == "HEAD" else reply.body)
