"""How a broker says to another one who it is: the client's side of PLAIN and SCRAM.

Pure; nonces come from outside. A client is a generator of its messages: it is sent the server's answers, and returns
when the exchange is over and the server has proved, where the mechanism has it do so, that it knows the password, too.
"""

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator
from hashlib import new as new_hash
from hashlib import pbkdf2_hmac
from typing import Final, NamedTuple

from kafkapy.security.sasl.scram import HASHES, MIN_ITERATIONS
from kafkapy.security.sasl.server import SaslRefused

Messages = Generator[bytes, bytes, None]
"""The client's messages. Raises SaslRefused when the server's make no sense."""

_SERVER_FIRST: Final = re.compile(
    r"r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+),s=(?P<salt>[a-zA-Z0-9/+=]+),i=(?P<iterations>[0-9]{1,9})(?:,.*)?"
)
_SERVER_FINAL: Final = re.compile(r"v=(?P<signature>[a-zA-Z0-9/+=]+)(?:,.*)?")
_MOST_ITERATIONS: Final = 1_000_000
"""Who asks for more keeps this process busy with hashing."""
_GS2: Final = "n,,"


class Login(NamedTuple):
    """As whom a broker comes, and by which mechanism."""

    mechanism: str
    user: str
    password: str

    def messages(self, nonce: Callable[[], str]) -> Messages:
        """One exchange."""
        return _plain(self) if self.mechanism == "PLAIN" else _scram(self, nonce())


def _plain(login: Login) -> Messages:
    yield f"\0{login.user}\0{login.password}".encode()


def _scram(login: Login, own_nonce: str) -> Messages:
    name = HASHES[login.mechanism]
    user = login.user.replace("=", "=3D").replace(",", "=2C")
    first = f"n={user},r={own_nonce}"
    server_first = (yield f"{_GS2}{first}".encode()).decode("utf-8", "replace")
    told = _SERVER_FIRST.fullmatch(server_first)
    if told is None or not told["nonce"].startswith(own_nonce) or told["nonce"] == own_nonce:
        raise SaslRefused("the other broker's first message is none of SCRAM")
    iterations = int(told["iterations"])
    if not MIN_ITERATIONS <= iterations <= _MOST_ITERATIONS:
        raise SaslRefused(f"the other broker asks for {iterations} iterations")
    salted = pbkdf2_hmac(name, login.password.encode(), _decoded(told["salt"]), iterations)
    client_key = hmac.digest(salted, b"Client Key", name)
    final = f"c={b64encode(_GS2.encode()).decode('ascii')},r={told['nonce']}"
    signed = f"{first},{server_first},{final}".encode()
    signature = hmac.digest(new_hash(name, client_key).digest(), signed, name)
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    answer = (yield f"{final},p={b64encode(proof).decode('ascii')}".encode()).decode("utf-8", "replace")
    ended = _SERVER_FINAL.fullmatch(answer)
    expected = hmac.digest(hmac.digest(salted, b"Server Key", name), signed, name)
    if ended is None or not hmac.compare_digest(_decoded(ended["signature"]), expected):
        raise SaslRefused("the other broker does not know the password")


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise SaslRefused("the other broker's message is none of SCRAM") from None
