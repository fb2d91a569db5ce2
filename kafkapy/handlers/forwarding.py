"""Clients' requests that the controller decides, where that is another process's: they are forwarded to it.

As in Kafka in an Envelope (KIP-590), with who the client is and where, so that the controller authorises and counts it
as if it had asked there; what it answers, in the version that the client has asked in, is what the client gets. While
nobody is the controller, or who was asked cannot be reached or is it no longer, the request is tried again, for as long
as Kafka does, and then answered with REQUEST_TIMED_OUT.

The registry asks this for what it has of an API whose row says `by_controller`; where all brokers are in one process
there is no `Forwarding`, and nothing of this is in the way.
"""

import ipaddress
import logging
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from kafkapy.cluster.image import METADATA_LOG
from kafkapy.errors import CloseConnection, Error, KafkaError
from kafkapy.handlers.context import Context, Session
from kafkapy.handlers.observing import find_error_codes
from kafkapy.model import Principal
from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.journal.principal import DefaultPrincipalData
from kafkapy.protocol.messages import APIS, response_class
from kafkapy.protocol.messages.envelope import EnvelopeRequest, EnvelopeResponse
from kafkapy.protocol.primitives import ProtocolError

if TYPE_CHECKING:
    from kafkapy.cluster.membership import Peers

_log = logging.getLogger(__name__)

Handle = Callable[[Any, Context], Awaitable[Any]]

Send = Callable[[Any], Awaitable[Any]]
"""Has the controller answer a request, or what is left of one. Raises KafkaError, CloseConnection."""

RETRY_SECONDS: Final = 60.0
"""How long a request is tried, as in Kafka."""

BACKOFF_SECONDS: Final = 0.1
"""How long between two tries, as in Kafka while there is no controller."""

_VERSION: Final = struct.Struct(">h")


class Forwarding:
    """A broker's part in it: how it forwards, and what it carries out for others.

    `listener` is the name of the listener between brokers.
    """

    carry_out: Callable[[bytes, Session], Awaitable[tuple[bytes, Any]]]
    """Answers what another broker has forwarded (`Registry.carry_out`)."""

    def __init__(self, listener: str, peers: "Peers") -> None:
        self.listener = listener
        self._peers = peers

    def require_listener(self, ctx: Context) -> None:
        """Brokers are served at their own listener alone; as in Kafka another one does not know such an API."""
        if ctx.session.listener != self.listener:
            raise CloseConnection(f"{APIS[ctx.api_key].name} came by listener {ctx.session.listener}")

    def of(self, module: Any) -> Handle:
        """What answers an API that the controller decides, whose handler's module this is.

        Where the module has `forward`, that sees to what is to be done by the broker that was asked.
        """
        decide: Handle = module.handle
        forward = getattr(module, "forward", None)

        async def handle(request: Any, ctx: Context) -> Any:
            send = partial(self._send, decide, ctx)
            return await (send(request) if forward is None or _decides(ctx) else forward(request, ctx, send))

        return handle

    async def _send(self, decide: Handle, ctx: Context, request: Any) -> Any:
        clock = ctx.rooms.clock
        give_up_at = clock.monotonic() + RETRY_SECONDS
        while clock.monotonic() < give_up_at:
            try:
                if _decides(ctx):
                    response = await decide(request, ctx)
                    if not has_other_controller(response):
                        return response
                else:
                    with clock.until(give_up_at):
                        response = await self._forward(request, ctx)
                        await ctx.rooms.cluster.see_what_changed()
                        return response
            except KafkaError as refusal:
                if refusal.error not in (Error.NOT_CONTROLLER, Error.BROKER_NOT_AVAILABLE):
                    raise
                _log.debug("%s is tried again: %s", APIS[ctx.api_key].name, refusal)
            await clock.sleep(BACKOFF_SECONDS)
        raise KafkaError(Error.REQUEST_TIMED_OUT)

    async def _forward(self, request: Any, ctx: Context) -> Any:
        """The controller's answer. Raises NOT_CONTROLLER, BROKER_NOT_AVAILABLE where another try may have one."""
        key, version, session = ctx.api_key, ctx.api_version, ctx.session
        leadership = ctx.rooms.cluster.leadership
        controller_id = leadership.controller_id
        if controller_id == leadership.node_id:  # it is, and must not decide: its lease is not renewed yet
            raise KafkaError(Error.NOT_CONTROLLER)
        out = bytearray()
        encode_request_header(key, version, ctx.correlation_id, ctx.client_id, out)
        envelope = EnvelopeRequest(
            request_data=b"".join(request.encode(version, out)),
            request_principal=_as_bytes(session.principal, token_authenticated=session.token_authenticated),
            client_host_address=ipaddress.ip_address(session.peer_host.partition("%")[0]).packed,
        )
        answer: EnvelopeResponse = await self._peers.ask(controller_id, envelope)
        error = Error.of(answer.error_code)
        if error is Error.NOT_CONTROLLER:
            raise KafkaError(error)
        if error is Error.UNSUPPORTED_VERSION:
            # As in Kafka: the client is to come again, and to ask anew what can be asked.
            raise CloseConnection(f"the controller does not serve version {version} of {APIS[key].name}")
        if error is not Error.NONE or answer.response_data is None:
            _log.error("the controller takes no requests of other brokers' clients: %s", error.name)
            raise KafkaError(Error.UNKNOWN_SERVER_ERROR)
        response = _decoded(answer.response_data, ctx)
        throttle_ms: int = getattr(response, "throttle_time_ms", 0)
        if ctx.observed is not None:
            ctx.observed.held_back_elsewhere(throttle_ms)
        return response


def has_other_controller(response: Any) -> bool:
    """Whether a response says that the controller has moved."""
    codes: list[int] = []
    find_error_codes(response, codes)
    # DescribeQuorum, the one that tells of a log, says it of that.
    moved = Error.NOT_LEADER_OR_FOLLOWER if response.API_KEY == _DESCRIBE_QUORUM else Error.NOT_CONTROLLER
    return moved in codes


_DESCRIBE_QUORUM: Final = 55


def session_of(envelope: EnvelopeRequest, session: Session) -> Session:
    """The client whose request it holds, as far as it is known here; `session` is the broker's that has forwarded it.

    Raises PRINCIPAL_DESERIALIZATION_FAILURE, INVALID_REQUEST.
    """
    principal, token_authenticated = _principal(envelope.request_principal)
    try:
        address = ipaddress.ip_address(envelope.client_host_address)
    except ValueError:
        raise KafkaError(Error.INVALID_REQUEST, "Failed to parse client address from envelope") from None
    return Session(
        session.listener,
        session.security_protocol,
        session.local_host,
        session.local_port,
        str(address),
        0,
        principal,
        token_authenticated,
        is_forwarded=True,
    )


def _decides(ctx: Context) -> bool:
    """Whether the controller is this very broker."""
    return ctx.rooms.cluster.leadership.epoch(METADATA_LOG) is not None


def _as_bytes(principal: Principal, *, token_authenticated: bool) -> bytes:
    data = DefaultPrincipalData(type=principal.kind, name=principal.name, token_authenticated=token_authenticated)
    version = DefaultPrincipalData.MAX_VERSION
    return b"".join(data.encode(version, bytearray(_VERSION.pack(version))))


def _principal(data: bytes | None) -> tuple[Principal, bool]:
    try:
        (version,) = _VERSION.unpack_from(data or b"")
        if not DefaultPrincipalData.MIN_VERSION <= version <= DefaultPrincipalData.MAX_VERSION:
            raise ProtocolError(f"a principal of version {version}")
        told, _ = DefaultPrincipalData.decode(version, data or b"", _VERSION.size)
    except (struct.error, ProtocolError):
        raise KafkaError(
            Error.PRINCIPAL_DESERIALIZATION_FAILURE, "Failed to deserialize client principal from envelope"
        ) from None
    return Principal(told.type, told.name), told.token_authenticated


def _decoded(data: bytes, ctx: Context) -> Any:
    try:
        correlation_id, offset = decode_response_header(ctx.api_key, ctx.api_version, data)
        if correlation_id != ctx.correlation_id:
            raise ProtocolError(f"the answer to request {correlation_id}, not {ctx.correlation_id}")
        response, _ = response_class(ctx.api_key).decode(ctx.api_version, data, offset)
    except ProtocolError as problem:
        _log.error("the controller's answer to a %s does not parse: %s", APIS[ctx.api_key].name, problem)
        raise KafkaError(Error.UNKNOWN_SERVER_ERROR) from problem
    return response
