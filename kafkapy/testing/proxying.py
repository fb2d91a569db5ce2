"""Stands before a Kafka, one listener for each of its brokers, and has requests go wrong on their way as rules say.

Invariants
 1. Whatever address of a broker a client is told is one of ours, so that it never goes there by itself.
 2. What is between is seen by a client only where a rule says so, and in two things without which no rule could go by
    topics: there are no fetch sessions (as with a broker whose cache is full), and no version of an API is told of
    that is not known here.

Clients speak to it without TLS, whether or not the Kafka has that. It takes no side in what clients prove of
themselves: SASL passes through. Behind SaslHandshake version 0 tokens come that are no requests, as many as the
mechanism has; those of GSSAPI cannot be counted.
"""

import logging
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, cast

import trio

from kafkapy.clock import Clock
from kafkapy.errors import CloseConnection, Error, KafkaError
from kafkapy.handlers.context import Rooms, Session
from kafkapy.handlers.registry import Answer, Registry, framed
from kafkapy.model import ZERO_UUID, Endpoint
from kafkapy.network.connection import Peer
from kafkapy.network.listening import KERNEL_DEFAULT, CannotListen, bind
from kafkapy.network.server import Limits, Server
from kafkapy.protocol.header import (
    API_VERSIONS,
    RequestHeader,
    decode_request_header,
    decode_response_header,
)
from kafkapy.protocol.messages import APIS, request_class, response_class
from kafkapy.protocol.primitives import ProtocolError
from kafkapy.testing.activity import Activity
from kafkapy.testing.addresses import addressed, may_tell_addresses
from kafkapy.testing.answers import request_frame
from kafkapy.testing.faults import Faults
from kafkapy.testing.interception import Given, Interception
from kafkapy.testing.upstream import Upstream

_log = logging.getLogger(__name__)

_PRODUCE: Final = 0
_FETCH: Final = 1
_METADATA: Final = 3
_SASL_HANDSHAKE: Final = 17
_CREATE_TOPICS: Final = 19
_DESCRIBE_TOPIC_PARTITIONS: Final = 75
_TELL_TOPICS: Final = (_METADATA, _CREATE_TOPICS, _DESCRIBE_TOPIC_PARTITIONS)
"""APIs whose answers tell which topic has which id."""

_NEW_SESSION: Final = 0
_NO_SESSION: Final = -1
_TOKENS: Final = {"PLAIN": 1, "SCRAM-SHA-256": 2, "SCRAM-SHA-512": 2, "OAUTHBEARER": 1}
"""How many each mechanism has a client send until it is let in. Who is not let in is hung up on by the broker."""

_LENGTH_BYTES: Final = 4
_LISTENER: Final = "PROXY"
_MOST_FRAME_BYTES: Final = 1 << 30

Address = tuple[str, int]


@dataclass(eq=False, slots=True)
class _Session(Session):
    """A client's connection, and the one to the broker that it means. `tokens_left`: so many frames to come are no
    requests, but tokens of SASL.
    """

    upstream: Upstream = field(kw_only=True)
    tokens_left: int = 0


class Proxy:
    """What stands before one Kafka. All of it in one event loop."""

    def __init__(
        self,
        kafka: Address,
        host: str,
        faults: Faults,
        activity: Activity,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`kafka` is where clients would begin, `host` an address of this machine to listen at; `tls` None: the Kafka's
        listeners have none.
        """
        self._tls = tls
        self._kafka = kafka
        self._host = host
        self._clock = clock
        self._interception = Interception(self, faults, activity, clock)
        self._refusals = Registry(cast("Rooms", None))  # to refuse, none of them is asked
        self._doors: dict[Address, int] = {}  # brokers, and our ports for them
        self._opening = trio.Lock()
        self._nodes: dict[int, Address] = {}
        self._topic_ids: dict[str, bytes] = {}
        self._topic_names: dict[bytes, str] = {}
        self._nursery: trio.Nursery

    async def run(self, port: int, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started with the port, for which 0 is a free one. Raises CannotListen."""
        async with trio.open_nursery() as self._nursery:
            task_status.started(await self._open(self._kafka, port))

    # As `Answering`

    def dispatch(self, frame: memoryview, session: _Session) -> Coroutine[Any, Any, Answer | None]:
        """Have the broker answer that this client means."""
        return self._relay(decode_request_header(frame), frame, session)

    def refusal(self, frame: memoryview, error: KafkaError, session: _Session) -> Answer:
        return self._refusals.refusal(frame, error, session)

    def topic_id(self, name: str) -> bytes | None:
        return self._topic_ids.get(name)

    def topic_name(self, topic_id: bytes) -> str | None:
        return self._topic_names.get(topic_id)

    def address_of(self, node_id: int, session: _Session) -> Address | None:
        return self._nodes.get(node_id)

    # Requests and answers on their way

    def _take(self, frame: memoryview, session: _Session) -> Coroutine[Any, Any, Given]:
        return self._relay_token(frame, session) if session.tokens_left else self._interception.dispatch(frame, session)

    async def _relay_token(self, frame: memoryview, session: _Session) -> Answer:
        session.tokens_left -= 1
        return _as_frame(await session.upstream.exchange(bytes(frame)))

    async def _relay(self, header: RequestHeader, frame: memoryview, session: _Session) -> Answer | None:
        key, version, upstream = header.api_key, header.api_version, session.upstream
        if key == _SASL_HANDSHAKE and version == 0:
            return await self._shake_hands(header, frame, session)
        if key not in APIS or not APIS[key].min_version <= version <= APIS[key].max_version:
            return _as_frame(await upstream.exchange(bytes(frame)))
        if key == _PRODUCE and not _decoded_request(header, frame).acks:
            await upstream.send(bytes(frame))
            return None
        if key == _FETCH:
            frame = _without_session(header, frame)
        answer = await upstream.exchange(bytes(frame))
        if key == API_VERSIONS:
            return _told_what_is_known_here(header, answer)
        if not (key in _TELL_TOPICS or may_tell_addresses(key, version)):
            return _as_frame(answer)
        response = _decoded_response(header, answer, version)
        if key in _TELL_TOPICS:
            self._learn_topics(response)
        for node_id, told in addressed(response):
            address = (told.host, told.port)
            told.host, told.port = self._nodes[node_id] = self._host, await self._port_for(address)
        return framed(response, header, version)

    async def _shake_hands(self, header: RequestHeader, frame: memoryview, session: _Session) -> Answer:
        mechanism = _decoded_request(header, frame).mechanism
        answer = await session.upstream.exchange(bytes(frame))
        if _decoded_response(header, answer, header.api_version).error_code == Error.NONE:
            if mechanism not in _TOKENS:
                raise CloseConnection(f"what follows SaslHandshake version 0 cannot be relayed for {mechanism:.80}")
            session.tokens_left = _TOKENS[mechanism]
        return _as_frame(answer)

    def _learn_topics(self, response: Any) -> None:
        for topic in response.topics:
            if topic.name is not None and topic.topic_id != ZERO_UUID:
                self._topic_ids[topic.name] = topic.topic_id
                self._topic_names[topic.topic_id] = topic.name

    async def _port_for(self, broker: Address) -> int:
        async with self._opening:
            try:
                return self._doors.get(broker) or await self._open(broker, 0)
            except CannotListen as problem:
                raise CloseConnection(f"nobody can be sent to {broker[0]}:{broker[1]}: {problem}") from problem

    async def _open(self, broker: Address, port: int) -> int:
        """Listen for a broker's clients; at which port."""
        [(endpoint, listener)] = bind([Endpoint(_LISTENER, self._host, port, "PLAINTEXT")], KERNEL_DEFAULT)
        self._doors[broker] = endpoint.port

        def open_session(peer: Peer, mute: Any) -> _Session:
            return _Session(*peer, mute=mute, upstream=Upstream(*broker, self._clock, self._tls))

        server = Server(
            Limits(socket_request_max_bytes=_MOST_FRAME_BYTES, connections_max_idle_ms=-1),
            open_session,
            self._take,
            self._clock,
            close_session=lambda session: session.upstream.close(),
        )
        await self._nursery.start(server.serve, [(endpoint, listener)])
        _log.info("%s:%d stands before %s:%d", self._host, endpoint.port, *broker)
        return endpoint.port


def _decoded_request(header: RequestHeader, frame: memoryview) -> Any:
    try:
        return request_class(header.api_key).decode(header.api_version, frame, header.body_offset)[0]
    except ProtocolError as malformed:
        raise CloseConnection(f"a request does not parse: {malformed}") from malformed


def _decoded_response(header: RequestHeader, answer: bytes, version: int) -> Any:
    try:
        _, offset = decode_response_header(header.api_key, version, answer)
        return response_class(header.api_key).decode(version, answer, offset)[0]
    except ProtocolError as malformed:
        raise CloseConnection(f"an answer does not parse: {malformed}") from malformed


def _without_session(header: RequestHeader, frame: memoryview) -> memoryview:
    """The same request for all that it names, and nothing that is remembered."""
    request = _decoded_request(header, frame)
    if request.session_epoch != _NEW_SESSION:
        return frame
    request.session_epoch = _NO_SESSION
    return request_frame(header, request)


def _told_what_is_known_here(header: RequestHeader, answer: bytes) -> Answer:
    """The APIs and versions that broker and proxy know."""
    _, offset = decode_response_header(API_VERSIONS, header.api_version, answer)
    code = int.from_bytes(answer[offset : offset + 2], signed=True)
    # A version that the broker does not know is answered in one that all know.
    version = 0 if code == Error.UNSUPPORTED_VERSION else header.api_version
    response = _decoded_response(header, answer, version)
    response.api_keys = [one for one in response.api_keys if one.api_key in APIS]
    for one in response.api_keys:
        one.max_version = min(one.max_version, APIS[one.api_key].stable_version)
        one.min_version = max(one.min_version, APIS[one.api_key].advertised_from)
    return framed(response, header, version)


def _as_frame(answer: bytes) -> Answer:
    return [len(answer).to_bytes(_LENGTH_BYTES), answer]
