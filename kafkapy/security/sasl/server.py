"""What the server's side of a SASL mechanism is, and how an exchange fails.

Pure. Mechanisms keep the state of one exchange. What they need to know about users comes as functions.
"""

from typing import Protocol


class SaslRefused(Exception):
    """The client is not let in, and its text may be told to it (Kafka's SaslAuthenticationException)."""


class SaslFailed(Exception):
    """The client is not let in, and why is for the broker's log alone (Java's SaslException)."""


class SaslServer(Protocol):
    """One exchange of messages with one client."""

    user: str | None
    """Who it is: known when, and only when, the exchange is complete."""
    expires_at_ms: int | None
    """When the credential ends, in milliseconds since 1970; None when it does not."""
    by_token: bool
    """Whether a delegation token was the credential."""

    def evaluate(self, message: bytes, now_ms: int) -> bytes:
        """The answer to the client's message. Raises SaslRefused, SaslFailed."""
