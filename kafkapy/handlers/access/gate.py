"""Keeps a connection's requests back until it is known who sends them.

On a listener with TLS alone that is known with the first request, by the client's certificate, if it has shown any.

On one with SASL only ApiVersions, SaslHandshake and SaslAuthenticate are answered, in the order and with the errors of
Kafka; anything else ends the connection. A client that is refused hears so after a delay
(connection.failed.authentication.delay.ms), whatever was wrong. Once it is in, its frames go to what answers and pass
here no more, unless its session is to end: then it may authenticate again in time (KIP-368), at most once a second, or
is dropped at the first request that comes too late.

Invariant: `session.principal` is set before the registry sees anything but ApiVersions.

Made by `node.py` for each connection; what may come next is decided in `security/sasl/authenticator.py`.
"""

import re
import struct
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NoReturn, Protocol

from kafkapy.clock import Clock
from kafkapy.errors import CloseConnection, Error, KafkaError, RefuseConnection, fitting
from kafkapy.handlers.admin.api_versions import names_software
from kafkapy.handlers.context import Session
from kafkapy.handlers.registry import Registry, decoded, framed
from kafkapy.handlers.unserved import described
from kafkapy.model import Principal
from kafkapy.protocol.header import RequestHeader, decode_request_header
from kafkapy.protocol.messages import APIS
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.protocol.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse
from kafkapy.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse
from kafkapy.security.sasl.authenticator import Authenticator, State
from kafkapy.security.sasl.server import SaslRefused
from kafkapy.security.sasl.settings import SaslSettings

_LENGTH: Final = struct.Struct(">i")
_KEY: Final = struct.Struct(">h")
_SOFTWARE_FROM_VERSION: Final = 3
_SECONDS_BETWEEN_REAUTHENTICATIONS: Final = 1.0

Answers = Coroutine[Any, Any, Any]
Answering = Callable[[memoryview, Any], Answers]
"""What answers the frames of those who are known: the registry, and what may stand before it."""


class Link(Protocol):
    """The connection, as far as it is of interest here."""

    transport: Any
    dispatch: Answering

    def meet(self, max_frame_size: int) -> None: ...

    def welcome(self, dispatch: Answering) -> None: ...


class CertificateGate:
    """What answers one connection's first frame, where TLS tells who it is."""

    def __init__(self, user_of: Callable[[bytes], str], answer: Answering, link: Link) -> None:
        self._user_of = user_of
        self._answer = answer
        self._link = link
        link.dispatch = self._first

    def _first(self, frame: memoryview, session: Session) -> Answers:
        certificate = self._link.transport.peer_certificate()
        if certificate is not None:
            session.principal = Principal("User", self._user_of(certificate))
        self._link.welcome(self._answer)
        return self._answer(frame, session)


class SaslGate:
    """What answers one connection's frames, where SASL tells who it is."""

    def __init__(self, settings: SaslSettings, registry: Registry, answer: Answering, clock: Clock, link: Link) -> None:
        self._settings = settings
        self._registry = registry
        self._answer = answer
        self._clock = clock
        self._link = link
        self._authenticator = Authenticator(settings.mechanisms)
        self._session_ends_at = 0.0
        self._reauthenticated_at = 0.0  # when that began last
        link.meet(settings.max_receive_size)
        link.dispatch = self._before

    # -- until it is known who it is

    def _before(self, frame: memoryview, session: Session) -> Answers:
        if self._authenticator.state is not State.AUTHENTICATE:
            return self._begin(frame, session)
        if self._authenticator.raw:
            return self._evaluate_raw(frame, session)
        return self._evaluate(frame, session)

    def _begin(self, frame: memoryview, session: Session) -> Answers:
        header = decode_request_header(frame)
        if header.api_key == ApiVersionsRequest.API_KEY:
            return self._answer_versions(header, frame, session)
        if header.api_key == SaslHandshakeRequest.API_KEY:
            return self._shake_hands(header, frame)
        raise CloseConnection(f"{described(header)} came before authentication")

    def _answer_versions(self, header: RequestHeader, frame: memoryview, session: Session) -> Answers:
        self._authenticator.versions_requested()
        if header.api_version <= ApiVersionsRequest.MAX_VERSION:
            request = decoded(ApiVersionsRequest, header, frame)
            if header.api_version < _SOFTWARE_FROM_VERSION or names_software(request):
                self._authenticator.versions_answered()
        return self._answer(frame, session)

    def _shake_hands(self, header: RequestHeader, frame: memoryview) -> Answers:
        mechanism = decoded(SaslHandshakeRequest, header, frame).mechanism
        enabled = self._authenticator.handshake(mechanism, header.api_version)
        error = Error.NONE if enabled else Error.UNSUPPORTED_SASL_MECHANISM
        response = SaslHandshakeResponse(error_code=error, mechanisms=list(self._settings.mechanisms))
        answer = framed(response, header, header.api_version)
        if not enabled:
            self._refuse(f"Unsupported SASL mechanism {mechanism:.80}", answer)
        return _at_once(answer)

    def _evaluate(self, frame: memoryview, session: Session) -> Answers:
        header = decode_request_header(frame)
        if header.api_key != SaslAuthenticateRequest.API_KEY:
            if header.api_key not in APIS:
                raise CloseConnection(f"{described(header)} came during authentication")
            problem = f"Unexpected Kafka request of type {_name(header)} during SASL authentication."
            refusal = self._registry.refusal(frame, KafkaError(Error.ILLEGAL_SASL_STATE, problem), session)
            self._refuse(problem, refusal)
        message = bytes(decoded(SaslAuthenticateRequest, header, frame).auth_bytes)
        try:
            progress = self._authenticator.evaluate(message, self._clock.now_ms())
        except SaslRefused as refused:
            error = Error.SASL_AUTHENTICATION_FAILED
            failure = SaslAuthenticateResponse(error_code=error, error_message=fitting(str(refused)))
            self._refuse(_reason(refused), framed(failure, header, header.api_version))
        self._let_in(session)
        response = SaslAuthenticateResponse(
            auth_bytes=progress.answer, session_lifetime_ms=progress.session_lifetime_ms
        )
        return _at_once(framed(response, header, header.api_version))

    def _evaluate_raw(self, frame: memoryview, session: Session) -> Answers:
        try:
            progress = self._authenticator.evaluate(bytes(frame), self._clock.now_ms())
        except SaslRefused as refused:
            self._refuse(_reason(refused), None)
        self._let_in(session)
        return _at_once([_LENGTH.pack(len(progress.answer)), progress.answer])

    def _refuse(self, why: str, answer: Sequence[Any] | None) -> NoReturn:
        why = repr(why)[1:-1]  # a stranger's words make no lines of their own in the log
        moment = self._clock.monotonic() + self._settings.failed_delay_ms / 1000
        raise RefuseConnection(f"failed {self._authenticator.during}: {why}", answer, moment)

    def _let_in(self, session: Session) -> None:
        """Have the registry answer from now on, if the client has authenticated by now."""
        authenticator = self._authenticator
        if authenticator.state is not State.COMPLETE or authenticator.user is None:
            return
        session.principal = Principal("User", authenticator.user)
        session.token_authenticated = authenticator.by_token
        if authenticator.session_lifetime_ms is None:
            self._link.welcome(self._answer)
        else:
            self._session_ends_at = self._clock.monotonic() + authenticator.session_lifetime_ms / 1000
            self._link.welcome(self._after)

    # -- in a session that ends

    def _after(self, frame: memoryview, session: Session) -> Answers:
        now = self._clock.monotonic()
        handshake = len(frame) >= _KEY.size and _KEY.unpack_from(frame)[0] == SaslHandshakeRequest.API_KEY
        if handshake and now - self._reauthenticated_at >= _SECONDS_BETWEEN_REAUTHENTICATIONS:
            self._reauthenticated_at = now
            self._authenticator.reauthenticate()
            self._link.dispatch = self._before
            return self._before(frame, session)
        if now > self._session_ends_at:
            raise CloseConnection("its session has expired, and it did not authenticate again")
        return self._answer(frame, session)


async def _at_once(answer: Sequence[Any]) -> Sequence[Any]:
    return answer


def _name(header: RequestHeader) -> str:
    """The API as Kafka spells it in such texts."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", APIS[header.api_key].name).upper()


def _reason(refused: SaslRefused) -> str:
    """What was wrong, for the log alone."""
    return f"{refused} ({refused.__cause__})" if refused.__cause__ is not None else str(refused)
