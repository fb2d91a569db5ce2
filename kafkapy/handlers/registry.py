"""Finds the handler of a request, and turns what it returns into bytes.

Reads `handlers.ALL`; imports a handler's module when its first request comes. Here, once, stands what happens when a
handler refuses (a `KafkaError` becomes the API's own error response) and when it fails (one request is lost, with a
log entry). `node.py` hands `dispatch` to the network.
"""

import importlib
import logging
import struct
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from kafkapy.delayed import Delayed
from kafkapy.errors import CloseConnection, Error, KafkaError
from kafkapy.handlers import ALL, AMONG_BROKERS, Route
from kafkapy.handlers.context import Context, Rooms, Session
from kafkapy.handlers.forwarding import Forwarding
from kafkapy.handlers.observing import Observed
from kafkapy.handlers.unserved import Unserved, described
from kafkapy.protocol.header import API_VERSIONS, RequestHeader, decode_request_header, encode_response_header
from kafkapy.protocol.messages import APIS, request_class, response_class
from kafkapy.protocol.primitives import ProtocolError

_log = logging.getLogger(__name__)

Answer = Sequence[Any]

_LENGTH = struct.Struct(">i")
_ROUTES = {route.key: route for route in ALL}
_ROUTES_AMONG_BROKERS = {route.key: route for route in AMONG_BROKERS}
_CLOSED = "not served by kafkapy; its connection is closed, as Apache Kafka does with what it does not serve"
_BETWEEN_BROKERS = Session("", "", "", 0, "", 0)


@dataclass(frozen=True, slots=True)
class _Handler:
    route: Route
    request_class: Any
    handle: Callable[[Any, Context], Awaitable[Any]]
    decide: Callable[[Any, Context], Coroutine[Any, Any, Any]]
    """As `handle`, but here in any case, and not by a controller elsewhere."""
    refuse: Callable[[Any, KafkaError, Context], Any]
    unserved: Unserved


class Registry:
    """The handlers of one broker."""

    def __init__(self, rooms: Rooms, context: type[Context] = Context, forwarding: Forwarding | None = None) -> None:
        """`context` is what clients' requests come with; what brokers ask each other is always allowed."""
        self.rooms = rooms
        self._context = context
        self._handlers: dict[int, _Handler] = {}
        self._unserved = Unserved()
        self.observes = False
        """Whether there is something to see to with each request of a client (`observing.py`)."""
        self._forwarding = forwarding
        if forwarding is not None:
            forwarding.carry_out = self.carry_out

    def dispatch(self, frame: memoryview, session: Session) -> Coroutine[Any, Any, Answer | Delayed[Answer] | None]:
        """Answer one request: the buffers (and regions of files) to send, now or later; None when there is no answer.

        Raises ProtocolError for bytes that do not parse, and CloseConnection where Kafka would close.
        """
        header = decode_request_header(frame)
        key, version, rooms = header.api_key, header.api_version, self.rooms
        handler = self._handlers.get(key) or self._find(header, session)
        ctx = self._context(key, version, header.correlation_id, header.client_id, session, rooms)
        route = handler.route
        if not route.min_version <= version <= route.max_version:
            return _at_once(_answer_to_unserved_version(handler, header, frame, ctx))
        try:
            request, _ = handler.request_class.decode(version, frame, header.body_offset)
        except ProtocolError as malformed:
            raise CloseConnection(f"{described(header)} does not parse: {malformed}") from malformed
        if self.observes:
            ctx.observed = observed = Observed(rooms.quotas, rooms.metrics, ctx, request, len(frame))
            return _observed(_answer(handler.handle(request, ctx), handler, header, request, ctx), observed)
        return _answer(handler.handle(request, ctx), handler, header, request, ctx)

    async def ask(self, request: Any) -> Any:
        """Answer a request of a broker of this cluster, in the latest version that is served: no bytes are made."""
        key = request.API_KEY
        handler = self._handlers.get(key) or self._load(_ROUTES[key])
        ctx = Context(key, handler.route.max_version, 0, None, _BETWEEN_BROKERS, self.rooms)
        try:
            response = await handler.decide(request, ctx)
            return await self._awaited(response) if isinstance(response, Delayed) else response
        except KafkaError as refusal:
            return handler.refuse(request, refusal, ctx)

    async def _awaited(self, delayed: Delayed[Any]) -> Any:
        """The answer that must wait, waited for in this task."""
        stirred = trio.Event()

        def wake() -> None:
            stirred.set()

        delayed.begin(wake)
        try:
            while (answer := await delayed.attempt()) is None:
                with self.rooms.clock.until(delayed.deadline):
                    await stirred.wait()
                stirred = trio.Event()
            return answer
        finally:
            delayed.close()

    async def carry_out(self, frame: bytes, session: Session) -> tuple[bytes, Any]:
        """Answer a request that another broker has forwarded: the bytes after the length, and the response itself.

        Raises KafkaError for what cannot be answered: INVALID_REQUEST, UNSUPPORTED_VERSION.
        """
        try:
            header = decode_request_header(memoryview(frame))
            key, version = header.api_key, header.api_version
            route = _ROUTES.get(key)
            if route is None or not route.by_controller:
                raise KafkaError(Error.INVALID_REQUEST, f"{described(header)} is not eligible for forwarding")
            if not route.min_version <= version <= route.max_version:
                raise KafkaError(Error.UNSUPPORTED_VERSION, f"{described(header)} is not served")
            handler = self._handlers.get(key) or self._load(route)
            request, _ = handler.request_class.decode(version, frame, header.body_offset)
        except ProtocolError as malformed:
            raise KafkaError(Error.UNSUPPORTED_VERSION, f"a forwarded request does not parse: {malformed}") from None
        ctx = self._context(key, version, header.correlation_id, header.client_id, session, self.rooms)
        if self.observes:
            ctx.observed = Observed(self.rooms.quotas, self.rooms.metrics, ctx, request, len(frame))
        try:
            work = handler.decide(request, ctx)
            response = await (work if ctx.observed is None else ctx.observed.run(work))
        except KafkaError as refusal:
            response = handler.refuse(request, refusal, ctx)
        if ctx.observed is None:
            answer = framed(response, header, version)
        else:
            answer = _seen_to(response, header, version, ctx.observed)
        return b"".join(answer)[_LENGTH.size :], response

    def refusal(self, frame: memoryview, error: KafkaError, session: Session) -> Answer:
        """The error response of a request's API. Raises CloseConnection when the request is none that is served."""
        header = decode_request_header(frame)
        handler = self._handlers.get(header.api_key) or self._find(header, session)
        ctx = self._context(
            header.api_key, header.api_version, header.correlation_id, header.client_id, session, self.rooms
        )
        return framed(
            handler.refuse(decoded(handler.request_class, header, frame), error, ctx), header, ctx.api_version
        )

    def _find(self, header: RequestHeader, session: Session) -> _Handler:
        route = _ROUTES.get(header.api_key)
        if route is None and self._forwarding is not None:
            route = _ROUTES_AMONG_BROKERS.get(header.api_key)
        if route is None:
            self._unserved.note(header, session, _CLOSED)
            raise CloseConnection(f"{described(header)} is not served")
        return self._load(route)

    def _load(self, route: Route) -> _Handler:
        module = importlib.import_module(f"kafkapy.handlers.{route.module}")
        handle, refuse = module.handle, getattr(module, "refuse", _refuse_as_a_whole)
        if route.by_controller and self._forwarding is not None:
            handle = self._forwarding.of(module)
        handler = _Handler(route, request_class(route.key), handle, module.handle, refuse, self._unserved)
        self._handlers[route.key] = handler
        return handler


async def _at_once(answer: Answer) -> Answer:
    return answer


async def _answer(
    work: Awaitable[Any], handler: _Handler, header: RequestHeader, request: Any, ctx: Context
) -> Answer | Delayed[Answer] | None:
    """What a handler returns, or the API's error response when it refuses or fails, as bytes."""
    try:
        response = await work
        if response is None:
            return None
        if isinstance(response, Delayed):
            return _Delayed(response, handler, header, request, ctx)
        if ctx.observed is not None:
            return _seen_to(response, header, ctx.api_version, ctx.observed)
        return framed(response, header, ctx.api_version)
    except KafkaError as refusal:
        problem = refusal
        if refusal.error is Error.UNSUPPORTED_VERSION:
            handler.unserved.note(header, ctx.session, str(refusal))
    except CloseConnection:
        raise
    except Exception:  # noqa: BLE001  one request is lost, not the broker
        _log.exception("%s of %s failed", described(header), ctx.session.peer_host)
        problem = KafkaError(Error.UNKNOWN_SERVER_ERROR)
    response = handler.refuse(request, problem, ctx)
    if ctx.observed is not None:
        return _seen_to(response, header, ctx.api_version, ctx.observed)
    return framed(response, header, ctx.api_version)


def _seen_to(response: Any, header: RequestHeader, version: int, observed: Observed) -> Answer:
    observed.settle(response)
    answer = framed(response, header, version)
    observed.count(response, sum(map(len, answer)))
    return answer


async def _observed(
    work: Coroutine[Any, Any, Answer | Delayed[Answer] | None], observed: Observed
) -> Answer | Delayed[Answer] | None:
    """The same, and what the request cost its client is seen to."""
    answer = await observed.run(work)
    if answer is None:
        observed.settle(None)
        observed.count(None, 0)
    return answer


class _Delayed(Delayed[Answer]):
    """A handler's delayed response, as bytes."""

    __slots__ = ("_ctx", "_handler", "_header", "_request", "_response")

    def __init__(
        self, response: Delayed[Any], handler: _Handler, header: RequestHeader, request: Any, ctx: Context
    ) -> None:
        super().__init__(response.deadline, order_is_fixed=response.order_is_fixed)
        self._response = response
        self._handler = handler
        self._header = header
        self._request = request
        self._ctx = ctx

    def begin(self, wake: Callable[[], None]) -> None:
        self._response.begin(wake)

    async def attempt(self) -> Any:
        work = _answer(self._response.attempt(), self._handler, self._header, self._request, self._ctx)
        return await (work if self._ctx.observed is None else self._ctx.observed.run(work))

    def close(self) -> None:
        self._response.close()


def _answer_to_unserved_version(handler: _Handler, header: RequestHeader, frame: memoryview, ctx: Context) -> Answer:
    version = header.api_version
    if header.api_key == API_VERSIONS:
        # The client cannot know what is served before this very answer, so it gets one that all can read (KIP-511).
        return framed(handler.refuse(None, KafkaError(Error.UNSUPPORTED_VERSION), ctx), header, version=0)
    if APIS[header.api_key].advertised_from <= version < handler.route.min_version:
        return _refused_old(header, frame)
    handler.unserved.note(header, ctx.session, _CLOSED)
    raise CloseConnection(f"{described(header)} is not served")


def _refuse_as_a_whole(request: Any, refusal: KafkaError, ctx: Context) -> Any:
    """The error response of an API that has an error code of its own; others define `refuse` in their module."""
    cls: Any = response_class(ctx.api_key)
    response = cls(error_code=refusal.error)
    if "error_message" in cls.__slots__:
        response.error_message = refusal.message or refusal.error.text
    return response


def _refused_old(header: RequestHeader, frame: memoryview) -> Answer:
    """The answer to a version that is advertised and not served; only Produce has such."""
    from kafkapy.handlers.data.old_produce import refuse_old_version

    body = refuse_old_version(header.api_version, frame, header.body_offset)
    return [_LENGTH.pack(_LENGTH.size + len(body)), _LENGTH.pack(header.correlation_id), body]


def decoded(cls: Any, header: RequestHeader, frame: memoryview) -> Any:
    """The request. Raises CloseConnection when it cannot be read."""
    if not cls.MIN_VERSION <= header.api_version <= cls.MAX_VERSION:
        raise CloseConnection(f"{described(header)} is not served")
    try:
        request, _ = cls.decode(header.api_version, frame, header.body_offset)
    except ProtocolError as malformed:
        raise CloseConnection(f"{described(header)} does not parse: {malformed}") from malformed
    return request


def framed(response: Any, header: RequestHeader, version: int) -> Answer:
    """A response as it is sent."""
    out = bytearray(_LENGTH.size)
    encode_response_header(header.api_key, version, header.correlation_id, out)
    buffers: Answer = response.encode(version, out)
    size = len(out) if len(buffers) == 1 else sum(map(len, buffers))
    _LENGTH.pack_into(out, 0, size - _LENGTH.size)
    return buffers
