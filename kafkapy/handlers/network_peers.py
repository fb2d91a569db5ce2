"""How a broker asks brokers of other processes: in Kafka's own protocol, at their listener between brokers.

Each has a connection for each API that it is asked by (as Kafka has one a purpose), so a change of topics that takes
its time holds up no producer. One is made when it is needed: the other broker says which versions it serves, whoever
asks says who it is, and the request goes out in the latest version that both know, behind others whose answers are to
come. What goes wrong is BROKER_NOT_AVAILABLE, at the latest after request.timeout.ms. Nothing is sent twice: who asked
knows whether that does harm. After a connection that could not be made the next try waits, as long as in Kafka.

Who has gone, or has another address, by what `Brokers` says, is not waited for. Made by `node.py`, which runs it.
"""

import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol

import trio

import kafkapy
from kafkapy.clock import Clock
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers import ALL, AMONG_BROKERS
from kafkapy.handlers.peers import LocalPeers
from kafkapy.model import Endpoint
from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages import APIS, response_class
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from kafkapy.protocol.messages.sasl_handshake import SaslHandshakeRequest
from kafkapy.protocol.primitives import ProtocolError
from kafkapy.security.sasl.client import Login
from kafkapy.security.sasl.server import SaslRefused
from kafkapy.storage.base import Brokers

_log = logging.getLogger(__name__)

_SERVED: Final = {route.key: route.max_version for route in ALL + AMONG_BROKERS}

_RECONNECT_BACKOFF_SECONDS: Final = 0.05
"""Kafka's, for the connections between its brokers."""

_SESSION_SHARE: Final = 0.85
"""Of a session that ends (KIP-368): then it is time for a new one, as for Kafka's clients at the earliest."""

_MAX_ID: Final = 0x7FFFFFFF


class Line(Protocol):
    """A connection (`network/client.py`)."""

    is_open: bool

    async def exchange(self, correlation_id: int, frame: bytes) -> bytes:
        """The answer to a frame. Raises BROKER_NOT_AVAILABLE."""

    def close(self) -> None:
        """Hang up."""


Connect = Callable[[str, int, trio.Nursery], Awaitable[Line]]
"""A connection to a host and port, whose tasks run in that nursery. Raises BROKER_NOT_AVAILABLE."""


class Settings(NamedTuple):
    """How a broker goes about it."""

    listener: str
    """The name of the listener between brokers."""
    login: Login | None
    """As whom it comes, where that takes SASL."""
    request_timeout_ms: int
    connection_setup_timeout_ms: int


class NetworkPeers:
    """`cluster.membership.Peers` of one broker, itself among them."""

    def __init__(
        self,
        node_id: int,
        cluster_id: str,
        here: LocalPeers,
        brokers: Brokers,
        connect: Connect,
        settings: Settings,
        clock: Clock,
    ) -> None:
        """`here` are those of this process, of which only this broker itself is asked by it."""
        self._node_id = node_id
        self._here = here
        self._cluster_id = cluster_id
        self._brokers = brokers
        self._connect = connect
        self._settings = settings
        self._clock = clock
        self._ways: dict[tuple[int, int], _Way] = {}  # by node id and API
        self._endpoints: dict[int, Endpoint] = {}
        self._nursery: trio.Nursery | None = None
        self._look()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        watch = self._brokers.watch(self._look)
        self._look()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            watch.close()

    async def ask(self, node_id: int, request: Any) -> Any:
        """The answer of a broker. Raises BROKER_NOT_AVAILABLE, and UNSUPPORTED_VERSION where none is common."""
        if node_id == self._node_id:
            return await self._here.ask(node_id, request)
        endpoint = self._endpoints.get(node_id)
        if endpoint is None or self._nursery is None:
            raise KafkaError(Error.BROKER_NOT_AVAILABLE, f"broker {node_id} is not there")
        key = node_id, request.API_KEY
        way = self._ways.get(key)
        if way is None:
            way = self._ways[key] = _Way(node_id, endpoint, self)
        with self._clock.until(self._clock.monotonic() + self._settings.request_timeout_ms / 1000):
            return await way.ask(request)
        way.hang_up()
        raise KafkaError(Error.BROKER_NOT_AVAILABLE, f"broker {node_id} has not answered in time")

    def _look(self) -> None:
        """Take note of who is there, and where."""
        listener = self._settings.listener
        self._endpoints = {
            broker.node_id: endpoint
            for broker in self._brokers.live()
            for endpoint in broker.endpoints
            if endpoint.listener == listener and broker.node_id != self._node_id
        }
        for key, way in list(self._ways.items()):
            if self._endpoints.get(way.node_id) != way.endpoint:
                del self._ways[key]
                way.end()

    async def open(self, node_id: int, endpoint: Endpoint) -> "_Wire":
        """A connection over which a broker can be asked. Raises BROKER_NOT_AVAILABLE."""
        assert self._nursery is not None  # it is asked for while this runs
        line = None
        try:
            with self._clock.until(self._clock.monotonic() + self._settings.connection_setup_timeout_ms / 1000):
                line = await self._connect(endpoint.host, endpoint.port, self._nursery)
                wire = _Wire(line, self._node_id, self._clock)
                await wire.greet(self._cluster_id, node_id, self._settings.login)
                line = None
                return wire
            raise KafkaError(Error.REQUEST_TIMED_OUT)
        except KafkaError as problem:
            _log.info("broker %d is not reached at %s:%d: %s", node_id, endpoint.host, endpoint.port, problem)
            raise KafkaError(Error.BROKER_NOT_AVAILABLE, str(problem)) from problem
        finally:
            if line is not None:
                line.close()

    @property
    def listener(self) -> str:
        """The name of the listener between brokers."""
        return self._settings.listener

    @property
    def clock(self) -> Clock:
        return self._clock


class _Way:
    """How one broker is asked by one API: a connection, as long as it lasts, then the next."""

    def __init__(self, node_id: int, endpoint: Endpoint, peers: NetworkPeers) -> None:
        self.node_id = node_id
        self.endpoint = endpoint
        self._peers = peers
        self._wire: _Wire | None = None
        self._connecting = trio.Lock()
        self._attempt = trio.CancelScope()
        self._not_before = 0.0
        self._is_over = False

    async def ask(self, request: Any) -> Any:
        wire = self._wire
        if wire is None or not wire.is_fresh:
            wire = await self._new_wire()
        return await wire.ask(request)

    def hang_up(self) -> None:
        """Drop the connection: there is to be another one."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.line.close()

    def end(self) -> None:
        """Drop the connection for good."""
        self._is_over = True
        self._attempt.cancel()
        self.hang_up()

    async def _new_wire(self) -> "_Wire":
        async with self._connecting:
            if self._wire is not None and self._wire.is_fresh:
                return self._wire  # somebody else was faster
            clock = self._peers.clock
            if not self._is_over:
                self._attempt = trio.CancelScope()
                with self._attempt:
                    await clock.sleep_until(self._not_before)
                    self._not_before = clock.monotonic() + _RECONNECT_BACKOFF_SECONDS
                    self._wire = wire = await self._peers.open(self.node_id, self.endpoint)
                    return wire
            raise KafkaError(Error.BROKER_NOT_AVAILABLE, f"broker {self.node_id} has gone")


class _Wire:
    """A connection, and what is known of the broker at its end."""

    def __init__(self, line: Line, node_id: int, clock: Clock) -> None:
        self.line = line
        self._client_id = str(node_id)
        self._clock = clock
        self._ids = itertools.count()
        self._versions: dict[int, tuple[int, int]] = {}
        self._ends_at = float("inf")

    @property
    def is_fresh(self) -> bool:
        """Whether it can be asked."""
        return self.line.is_open and self._clock.monotonic() < self._ends_at

    async def greet(self, cluster_id: str, node_id: int, login: Login | None) -> None:
        """Ask which versions are served, and say who is asking. Raises KafkaError."""
        request = ApiVersionsRequest(
            client_software_name="kafkapy",
            client_software_version=kafkapy.__version__,
            cluster_id=cluster_id,
            node_id=node_id,  # an address that has changed hands is not taken for the broker that had it
        )
        answer = await self._exchange(request, request.MAX_VERSION)
        if answer.error_code:
            raise KafkaError(Error.of(answer.error_code))
        self._versions = {api.api_key: (api.min_version, api.max_version) for api in answer.api_keys}
        if login is not None:
            await self._log_in(login)

    async def ask(self, request: Any) -> Any:
        return await self._exchange(request, self._version(request.API_KEY))

    def _version(self, key: int) -> int:
        least, last = self._versions.get(key, (0, -1))
        version = min(last, _SERVED[key])
        if version < least:
            raise KafkaError(Error.UNSUPPORTED_VERSION, f"the other broker does not serve {APIS[key].name}")
        return version

    async def _log_in(self, login: Login) -> None:
        answer = await self._exchange(SaslHandshakeRequest(mechanism=login.mechanism), SaslHandshakeRequest.MAX_VERSION)
        if answer.error_code:
            raise KafkaError(Error.of(answer.error_code), f"it has {', '.join(answer.mechanisms)}")
        messages = login.messages(lambda: secrets.token_urlsafe(24))
        began = self._clock.monotonic()
        try:
            message = next(messages)
            while True:
                request = SaslAuthenticateRequest(auth_bytes=message)
                answer = await self._exchange(request, SaslAuthenticateRequest.MAX_VERSION)
                if answer.error_code:
                    raise KafkaError(Error.of(answer.error_code), answer.error_message)
                message = messages.send(bytes(answer.auth_bytes))
        except StopIteration:
            pass
        except SaslRefused as problem:
            raise KafkaError(Error.SASL_AUTHENTICATION_FAILED, str(problem)) from problem
        if answer.session_lifetime_ms > 0:
            self._ends_at = began + answer.session_lifetime_ms / 1000 * _SESSION_SHARE

    async def _exchange(self, request: Any, version: int) -> Any:
        key, correlation_id = request.API_KEY, next(self._ids) & _MAX_ID
        out = bytearray()
        encode_request_header(key, version, correlation_id, self._client_id, out)
        try:
            buffers = request.encode(version, out)
        except ProtocolError as problem:
            raise KafkaError(Error.UNSUPPORTED_VERSION, f"the other broker is too old: {problem}") from problem
        frame = await self.line.exchange(correlation_id, b"".join(buffers))
        try:
            _, offset = decode_response_header(key, version, frame)
            response, _ = response_class(key).decode(version, frame, offset)
        except ProtocolError as problem:
            self.line.close()
            raise KafkaError(Error.BROKER_NOT_AVAILABLE, f"its answer does not parse: {problem}") from problem
        return response
