"""Authentication over SASL, the server's side, as one connection goes through it (Kafka's SaslServerAuthenticator).

Pure: told what came and when, it says what to answer and who it is. What is not allowed raises CloseConnection, where
Kafka drops the connection without a word, or SaslRefused, whose text the client may be told.

First ApiVersions, which may be left out; then SaslHandshake, which names a mechanism; then its messages.
Re-authenticating (KIP-368) begins with the handshake, and must come to the same user by the same mechanism.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple

from kafkapy.errors import CloseConnection
from kafkapy.security.sasl.server import SaslFailed, SaslRefused, SaslServer


class Mechanism(NamedTuple):
    """A mechanism that a listener has enabled."""

    new_server: Callable[[], SaslServer]
    max_reauth_ms: int
    """How long a session lasts at most, connections.max.reauth.ms; 0: for ever."""


class State(Enum):
    """What may come next."""

    HANDSHAKE_OR_VERSIONS_REQUEST = "ApiVersions or SaslHandshake"
    HANDSHAKE_REQUEST = "SaslHandshake"
    AUTHENTICATE = "a message of the mechanism"
    COMPLETE = "any request, or SaslHandshake to authenticate again"
    FAILED = "nothing"


class Progress(NamedTuple):
    """What a message of the mechanism came to."""

    answer: bytes
    session_lifetime_ms: int
    """How long the client may stay, once it is authenticated; 0: for ever."""


class Authenticator:
    """Where one connection stands. `user` is known in the state COMPLETE."""

    def __init__(self, mechanisms: Mapping[str, Mechanism]) -> None:
        self.state = State.HANDSHAKE_OR_VERSIONS_REQUEST
        self.raw = False
        """Messages come by themselves, not in SaslAuthenticate requests: so says a SaslHandshake of version 0."""
        self.user: str | None = None
        self.by_token = False
        self.session_lifetime_ms: int | None = None
        """How long the session lasts from when it began; None: for ever. 0: it is over."""
        self._mechanisms = mechanisms
        self._mechanism = ""
        self._previous: tuple[str, str] | None = None  # the mechanism and the user before re-authentication
        self._server: SaslServer

    @property
    def during(self) -> str:
        return "authentication" if self._previous is None else "re-authentication"

    def versions_requested(self) -> None:
        """ApiVersions has come. Raises CloseConnection unless it may."""
        if self.state is not State.HANDSHAKE_OR_VERSIONS_REQUEST:
            raise CloseConnection(f"ApiVersions came during {self.during}, where {self.state.value} was expected")

    def versions_answered(self) -> None:
        """It was answered without an error, and is not to come again."""
        self.state = State.HANDSHAKE_REQUEST

    def handshake(self, mechanism: str, version: int) -> bool:
        """SaslHandshake has come; whether its mechanism is enabled. If not it is over.

        Raises CloseConnection for one that is not where a client authenticates again: Kafka gives no answer there.
        """
        self.raw = version == 0
        self.state = State.FAILED
        if mechanism not in self._mechanisms:
            if self._previous is not None:
                raise CloseConnection(f"Unsupported SASL mechanism {mechanism!r:.80}")
            return False
        self._mechanism = mechanism
        self._server = self._mechanisms[mechanism].new_server()
        self.state = State.AUTHENTICATE
        return True

    def evaluate(self, message: bytes, now_ms: int) -> Progress:
        """A message of the mechanism has come. Raises SaslRefused, CloseConnection; then it is over."""
        self.state = State.FAILED
        if self._previous is not None and self._previous[0] != self._mechanism:
            raise CloseConnection(
                f"SASL mechanism '{self._mechanism}' requested by client is not supported for re-authentication of "
                f"mechanism '{self._previous[0]}'"
            )
        server = self._server
        try:
            answer = server.evaluate(message, now_ms)
        except SaslFailed as failed:
            raise SaslRefused(
                f"Authentication failed during {self.during} due to invalid credentials with SASL mechanism "
                f"{self._mechanism}"
            ) from failed
        if server.user is None:
            self.state = State.AUTHENTICATE
            return Progress(answer, 0)
        if self._previous is not None and self._previous[1] != server.user:
            raise SaslRefused(
                f"Cannot change principals during re-authentication from User.{self._previous[1]}: User.{server.user}"
            )
        self.user, self.by_token = server.user, server.by_token
        self.session_lifetime_ms = self._lifetime_ms(server.expires_at_ms, now_ms)
        self.state = State.COMPLETE
        return Progress(answer, self.session_lifetime_ms or 0)

    def reauthenticate(self) -> None:
        """The client, which is authenticated, begins once more; SaslHandshake is next."""
        assert self.state is State.COMPLETE and self.user is not None
        self._previous = self._mechanism, self.user
        self.state = State.HANDSHAKE_REQUEST

    def _lifetime_ms(self, expires_at_ms: int | None, now_ms: int) -> int | None:
        """How long the session lasts: to the end of the credential, and as long as sessions may last."""
        most = self._mechanisms[self._mechanism].max_reauth_ms
        bounds = [most] if most > 0 else []
        if expires_at_ms is not None:
            bounds.append(expires_at_ms - now_ms)
        return max(min(bounds), 0) if bounds else None
