"""PLAIN: a name and a password (RFC 4616), as Kafka's PlainSaslServer reads them.

Pure. The comparison takes the same time whatever the password is, and whether there is such a user.
"""

import hmac
from collections.abc import Mapping
from hashlib import sha256

from kafkapy.security.sasl.server import SaslRefused

_TOKENS = 3


class PlainServer:
    """One exchange, which is one message. `passwords` are those of all users, by name."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self.user: str | None = None
        self.expires_at_ms: int | None = None
        self.by_token = False
        self._passwords = passwords

    def evaluate(self, message: bytes, now_ms: int) -> bytes:
        """Let the user in, or raise SaslRefused."""
        tokens = message.decode("utf-8", "replace").split("\0", _TOKENS)
        if len(tokens) != _TOKENS:
            raise SaslRefused(f"Invalid SASL/PLAIN response: expected 3 tokens, got {len(tokens)}")
        authorization_id, user, password = tokens
        if not user:
            raise SaslRefused("Authentication failed: username not specified")
        if not password:
            raise SaslRefused("Authentication failed: password not specified")
        expected = self._passwords.get(user)
        matches = hmac.compare_digest(_digest(password), _digest(expected or ""))
        if expected is None or not matches:
            raise SaslRefused("Authentication failed: Invalid username or password")
        if authorization_id not in ("", user):
            raise SaslRefused(
                "Authentication failed: Client requested an authorization id that is different from username"
            )
        self.user = user
        return b""


def _digest(password: str) -> bytes:
    """As long for every password, so that not even the length can be learned from how long a comparison takes."""
    return sha256(password.encode("utf-8", "surrogatepass")).digest()
