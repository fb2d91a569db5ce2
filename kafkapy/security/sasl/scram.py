"""SCRAM-SHA-256 and SCRAM-SHA-512: a password proved without being sent (RFC 5802, 7677), as in Kafka.

Pure: nonces, and the secret that hides which users there are, come from outside.

Invariants
 1. `user` is known only after a proof that fits the stored key. There is no other way to the end of an exchange.
 2. An unknown user is asked for a proof like a known one, with a salt that stays the same, and then refused. Kafka
    refuses it a message earlier, which tells who exists; what clients see is the same.
 3. What the proof covers are the messages as they were sent, nothing put together anew.
"""

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import new as new_hash
from hashlib import pbkdf2_hmac
from typing import Final, NamedTuple, Protocol

from kafkapy.model import ScramCredential
from kafkapy.security.sasl.server import SaslFailed, SaslRefused

HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
"""The mechanisms, and the hash function of each."""

MIN_ITERATIONS: Final = 4096

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_NAME: Final = r"(?:[\x01-\x2b\x2d-\x3c\x3e-\x7f]|=2C|=3D)+"
_PRINTABLE: Final = r"[\x21-\x2b\x2d-\x7e]+"
_BASE64: Final = r"(?:[a-zA-Z0-9/+]{4})*(?:[a-zA-Z0-9/+]{3}=|[a-zA-Z0-9/+]{2}==)?"
_EXTENSIONS: Final = r"(?:,[A-Za-z]+=[\x01-\x2b\x2d-\x7f]+)*"
_CLIENT_FIRST: Final = re.compile(
    rf"(?P<gs2>n,(?:a=(?P<authzid>{_NAME}))?,)"
    rf"(?P<bare>n=(?P<name>{_NAME}),r=(?P<nonce>{_PRINTABLE})(?P<extensions>{_EXTENSIONS}))"
)
_CLIENT_FINAL: Final = re.compile(
    rf"(?P<without_proof>c=(?P<channel>{_BASE64}),r=(?P<nonce>{_PRINTABLE}){_EXTENSIONS}),p=(?P<proof>{_BASE64})"
)


class TokenCredential(NamedTuple):
    """What a delegation token proves."""

    credential: ScramCredential
    owner: str
    expires_at_ms: int


class Credentials(Protocol):
    """Where the credentials are; None for what is not there."""

    def of_user(self, mechanism: str, user: str) -> ScramCredential | None: ...

    def of_token(self, mechanism: str, token_id: str) -> TokenCredential | None: ...


class ScramServer:
    """One exchange, which is two messages each way."""

    def __init__(self, mechanism: str, credentials: Credentials, nonce: Callable[[], str], hiding: bytes) -> None:
        self.user: str | None = None
        self.expires_at_ms: int | None = None
        self.by_token = False
        self._mechanism = mechanism
        self._hash = HASHES[mechanism]
        self._credentials = credentials
        self._new_nonce = nonce
        self._hiding = hiding
        self._claimed = ""  # who it will be, if the proof fits
        self._known = False
        self._credential: ScramCredential | None = None  # what the proof must fit, from the first message on
        self._gs2 = self._client_first = self._server_first = self._nonce = ""
        self._over = False

    def evaluate(self, message: bytes, now_ms: int) -> bytes:
        """The server's first message, or its last. Raises SaslRefused, SaslFailed; then the exchange is over."""
        if self._over:
            raise SaslFailed("the exchange is over")
        text = message.decode("utf-8", "replace")
        credential, self._over = self._credential, True
        if credential is not None:
            return self._finish(text, credential)
        answer = self._begin(text)
        self._over = False
        return answer

    def _begin(self, text: str) -> bytes:
        first = _CLIENT_FIRST.fullmatch(text)
        if first is None:
            raise SaslFailed("Invalid SCRAM client first message format")
        name = _plain_name(first["name"])
        extensions = dict(entry.split("=", 1) for entry in first["extensions"].split(",")[1:])
        self._look_up(name, by_token=extensions.get("tokenauth", "").lower() == "true")
        if first["authzid"] not in (None, name):
            raise SaslRefused(
                "Authentication failed: Client requested an authorization id that is different from username"
            )
        credential = self._credential
        assert credential is not None
        if credential.iterations < MIN_ITERATIONS:
            raise SaslFailed(f"Iterations {credential.iterations} is less than the minimum {MIN_ITERATIONS}")
        self._gs2, self._client_first = first["gs2"], first["bare"]
        self._nonce = first["nonce"] + self._new_nonce()
        salt = b64encode(credential.salt).decode("ascii")
        self._server_first = f"r={self._nonce},s={salt},i={credential.iterations}"
        return self._server_first.encode("utf-8")

    def _look_up(self, name: str, *, by_token: bool) -> None:
        found: ScramCredential | None
        if by_token:
            token = self._credentials.of_token(self._mechanism, name)
            found = None if token is None else token.credential
            if token is not None:
                self._claimed, self.expires_at_ms, self.by_token = token.owner, token.expires_at_ms, True
        else:
            found = self._credentials.of_user(self._mechanism, name)
            self._claimed = name
        self._known = found is not None
        self._credential = found or _of_nobody(name, self._hash, self._hiding)

    def _finish(self, text: str, credential: ScramCredential) -> bytes:
        final = _CLIENT_FINAL.fullmatch(text)
        if final is None:
            raise SaslFailed("Invalid SCRAM client final message format")
        if final["nonce"] != self._nonce:
            raise SaslFailed("Invalid client nonce in the final client message.")
        if b64decode(final["channel"]) != self._gs2.encode("utf-8"):
            raise SaslFailed("the channel binding is not that of the first message")
        signed = f"{self._client_first},{self._server_first},{final['without_proof']}".encode()
        signature = hmac.digest(credential.stored_key, signed, self._hash)
        proof = b64decode(final["proof"])
        if len(proof) != len(signature):
            raise SaslFailed("Invalid client credentials")
        client_key = bytes(a ^ b for a, b in zip(signature, proof, strict=True))
        fits = hmac.compare_digest(_hashed(self._hash, client_key), credential.stored_key)
        if not (fits and self._known):
            raise SaslFailed("Invalid client credentials")
        self.user = self._claimed
        return b"v=" + b64encode(hmac.digest(credential.server_key, signed, self._hash))


def credential_of(mechanism: str, password: str, salt: bytes, iterations: int) -> ScramCredential:
    """What is stored of a password. Slow by intention: some milliseconds for 4,096 iterations."""
    name = HASHES[mechanism]
    salted = pbkdf2_hmac(name, password.encode("utf-8"), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", name)
    return ScramCredential(salt, _hashed(name, client_key), hmac.digest(salted, b"Server Key", name), iterations)


def _of_nobody(name: str, hash_name: str, hiding: bytes) -> ScramCredential:
    """A credential that nobody's proof fits, the same for a name each time."""
    salt, stored_key, server_key = (hmac.digest(hiding, part + name.encode(), hash_name) for part in (b"0", b"1", b"2"))
    return ScramCredential(random_text(int.from_bytes(salt)).encode(), stored_key, server_key, MIN_ITERATIONS)


def random_text(number: int) -> str:
    """130 bits of a random number as Kafka writes its nonces and salts: in digits and letters."""
    number &= (1 << 130) - 1
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits


def _plain_name(name: str) -> str:
    """The name without SCRAM's escapes: the pattern leaves no `=` that is not one."""
    return name.replace("=2C", ",").replace("=3D", "=")


def _hashed(name: str, data: bytes) -> bytes:
    return new_hash(name, data).digest()
