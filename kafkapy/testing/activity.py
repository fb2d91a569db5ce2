"""Who asked the broker what: the beginnings of its last requests, and, while somebody follows, each with its outcome.

Following costs each request that it is read twice; without a follower a request costs the copy of its header.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from kafkapy.errors import CloseConnection, Error
from kafkapy.handlers.observing import find_error_codes
from kafkapy.protocol.header import RequestHeader, decode_request_header, decode_response_header
from kafkapy.protocol.messages import APIS, response_class
from kafkapy.protocol.primitives import ProtocolError
from kafkapy.testing.client import CLIENT_ID

_LENGTH_BYTES: Final = 4
_HEADER_BYTES: Final = 128
"""Enough of a request for its header, unless a client has a very long id."""
_KEPT: Final = 200


class Asked(NamedTuple):
    """A request that was answered: when (milliseconds since the epoch), by whom, about which topics, with which errors.

    `milliseconds` is how long its answer took, in the broker's time. A connection that was closed instead of an answer
    is the error "closed".
    """

    at_ms: int
    client_id: str | None
    api: str
    version: int
    topics: tuple[str, ...]
    errors: tuple[str, ...]
    milliseconds: float

    def __str__(self) -> str:
        about = f" {', '.join(self.topics)}" if self.topics else ""
        outcome = ", ".join(self.errors) or "ok"
        return f"{self.client_id or '-'} {self.api} v{self.version}{about}: {outcome}, {self.milliseconds:.1f} ms"


class Activity:
    """The requests of one broker. Every method may be called in any thread."""

    def __init__(self, call: Callable[[Callable[[], Any]], Any]) -> None:
        self._call = call  # runs a function in the broker's event loop
        self._last: deque[bytes] = deque(maxlen=_KEPT)
        self._followers: list[Callable[[Asked], None]] = []

    @contextmanager
    def follow(self, tell: Callable[[Asked], None] | None = None) -> Iterator[list[Asked]]:
        """All requests that are answered during the block: a list that grows. `tell` hears of each, in the broker's
        event loop, which it must not keep.
        """
        asked: list[Asked] = []

        def hear(one: Asked) -> None:
            asked.append(one)
            if tell is not None:
                tell(one)

        with self.heard(hear):
            yield asked

    @contextmanager
    def heard(self, hear: Callable[[Asked], None]) -> Iterator[None]:
        """Have `hear` hear of all of them, and keep nothing."""
        self._call(lambda: self._followers.append(hear))
        try:
            yield
        finally:
            self._call(lambda: self._followers.remove(hear))

    def last(self, most: int) -> list[str]:
        """The last requests of clients, the oldest first; what a test asks its broker itself is left out."""
        found = [header for header in map(_header_of, [*self._last]) if header and header.client_id != CLIENT_ID]
        return [f"{one.client_id or '-'} {APIS[one.api_key].name} v{one.api_version}" for one in found[-most:]]

    def forget(self) -> None:
        """The last requests are nobody's any more."""
        self._last.clear()

    # -- in the broker's event loop

    @property
    def is_followed(self) -> bool:
        """Whether somebody wants to know what becomes of requests."""
        return bool(self._followers)

    def note(self, frame: memoryview) -> None:
        """A request has come."""
        self._last.append(bytes(frame[:_HEADER_BYTES]))

    def tell(self, at_ms: int, header: RequestHeader, topics: Sequence[str], answer: Any, milliseconds: float) -> None:
        """It was answered with these buffers, with None, or by a CloseConnection."""
        name, errors = APIS[header.api_key].name, _errors_in(header, answer)
        one = Asked(at_ms, header.client_id, name, header.api_version, tuple(topics), errors, milliseconds)
        for hear in [*self._followers]:
            hear(one)


def _header_of(beginning: bytes) -> RequestHeader | None:
    try:
        header = decode_request_header(memoryview(beginning))
    except ProtocolError:
        return None
    return header if header.api_key in APIS else None


def _errors_in(header: RequestHeader, answer: Any) -> tuple[str, ...]:
    if answer is None:
        return ()
    if isinstance(answer, CloseConnection):
        return ("closed",)
    # What is sent from a file stays there: nothing is looked at but errors.
    pieces = [one if isinstance(one, bytes | bytearray | memoryview) else bytes(len(one)) for one in answer]
    frame = b"".join(pieces)[_LENGTH_BYTES:]
    codes: list[int] = []
    try:
        _, offset = decode_response_header(header.api_key, header.api_version, frame)
        find_error_codes(response_class(header.api_key).decode(header.api_version, frame, offset)[0], codes)
    except ProtocolError:  # an answer in another version than was asked for, to ApiVersions for one
        return (Error.UNSUPPORTED_VERSION.name,)
    return tuple(sorted({Error.of(code).name for code in codes if code}))
