#!/usr/bin/env python3
"""The fuzz target of SASL: what a stranger sends is refused, or waits for more, and lets nobody in.

    tests/fuzz/fuzz_sasl.py DIRECTORY      fuzz until something breaks, beginning with the samples (needs atheris)

An input is a byte that chooses the parser (its place in `PARSERS`), and messages, each after its length in two bytes.
The samples are exchanges of which everything but the secret is right. `test_fuzz_sasl.py` runs this target on them and
on mutations of them, always the same ones.
"""

import contextlib
import json
import sys
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from joserfc import jwt  # noqa: E402
from joserfc.jwk import ECKey, KeySet  # noqa: E402

from kafkapy.config.layers import BrokerConfig  # noqa: E402
from kafkapy.config.of_listener import ListenerConfig  # noqa: E402
from kafkapy.config.setting import ConfigError  # noqa: E402
from kafkapy.errors import CloseConnection  # noqa: E402
from kafkapy.model import ScramCredential  # noqa: E402
from kafkapy.security.jaas import parse_entry, parse_file  # noqa: E402
from kafkapy.security.sasl.authenticator import Authenticator, Mechanism, State  # noqa: E402
from kafkapy.security.sasl.jwks import SignedTokens  # noqa: E402
from kafkapy.security.sasl.oauthbearer import InvalidToken, OAuthBearerServer, unsecured  # noqa: E402
from kafkapy.security.sasl.plain import PlainServer  # noqa: E402
from kafkapy.security.sasl.scram import ScramServer, TokenCredential, credential_of  # noqa: E402
from kafkapy.security.sasl.server import SaslFailed, SaslRefused  # noqa: E402
from tests.security.scram_client import ScramClient  # noqa: E402

NOW_MS = 1_700_000_000_000
USER, PASSWORD, TOKEN = "alice", "alice-secret", "token-1"
SCRAM = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
CREDENTIALS = {mechanism: credential_of(mechanism, PASSWORD, b"salt", 4096) for mechanism in SCRAM}
KEY, STRANGERS_KEY = (ECKey.generate_key("P-256", {"kid": "ec"}) for _ in range(2))
CLAIMS = {"sub": USER, "iat": NOW_MS // 1000 - 10, "exp": NOW_MS // 1000 + 60}


class Known:
    """A user, and a token of that user's, with the same secret."""

    def of_user(self, mechanism: str, user: str) -> ScramCredential | None:
        return CREDENTIALS[mechanism] if user == USER else None

    def of_token(self, mechanism: str, token_id: str) -> TokenCredential | None:
        return TokenCredential(CREDENTIALS[mechanism], USER, NOW_MS + 1000) if token_id == TOKEN else None


def _signed_tokens() -> SignedTokens:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(KeySet([KEY]).as_dict(private=False), file)
        file.flush()
        settings = {"sasl.oauthbearer.jwks.endpoint.url": Path(file.name).as_uri()}
        return SignedTokens(ListenerConfig(BrokerConfig(settings), "SASL_SSL"))


SIGNED = _signed_tokens()


def _scram(mechanism: str) -> ScramServer:
    numbers = count()
    return ScramServer(mechanism, Known(), lambda: f"server{next(numbers)}", b"hidden")


MECHANISMS = {
    "PLAIN": Mechanism(lambda: PlainServer({USER: PASSWORD}), 0),
    **{mechanism: Mechanism(lambda mechanism=mechanism: _scram(mechanism), 0) for mechanism in SCRAM},
    "OAUTHBEARER": Mechanism(lambda: OAuthBearerServer(SIGNED.validate), 0),
}


def _exchange(mechanism: str) -> Callable[[Sequence[bytes]], str | None]:
    """Messages to the mechanism's server; who is let in. It goes on after a refusal, as no connection does."""

    def parse(messages: Sequence[bytes]) -> str | None:
        server = MECHANISMS[mechanism].new_server()
        for message in messages:
            with contextlib.suppress(SaslFailed, SaslRefused):
                server.evaluate(message, NOW_MS)
        return server.user

    return parse


def _conversation(messages: Sequence[bytes]) -> str | None:
    """The same through a connection's authenticator, until it is closed: where a mechanism may come, it does."""
    authenticator = Authenticator(MECHANISMS)
    with contextlib.suppress(SaslRefused, CloseConnection):
        for message in messages:
            if authenticator.state is State.AUTHENTICATE:
                authenticator.evaluate(message, NOW_MS)
            elif not authenticator.handshake(message.decode("utf-8", "replace"), 1):
                break
    return authenticator.user


def _unsecured(messages: Sequence[bytes]) -> None:
    """Anybody may be let in there; it must be somebody."""
    server = OAuthBearerServer(unsecured({}))
    for message in messages:
        with contextlib.suppress(SaslFailed, SaslRefused):
            server.evaluate(message, NOW_MS)
    assert server.user is None or server.user.strip()


def _token(messages: Sequence[bytes]) -> str | None:
    for message in messages:
        with contextlib.suppress(InvalidToken):
            return SIGNED.validate(message.decode("utf-8", "replace"), NOW_MS).user
    return None


def _login_modules(messages: Sequence[bytes]) -> None:
    for message in messages:
        for parse in (parse_entry, parse_file):
            with contextlib.suppress(ConfigError):
                parse(message.decode("utf-8", "replace"))


PARSERS: dict[str, Callable[[Sequence[bytes]], str | None]] = {
    **{mechanism: _exchange(mechanism) for mechanism in MECHANISMS},
    "conversation": _conversation,
    "unsecured token": _unsecured,
    "signed token": _token,
    "login modules": _login_modules,
}


def check(data: bytes) -> None:
    """The target."""
    if data:
        parse = list(PARSERS.values())[data[0] % len(PARSERS)]
        assert parse(list(_messages(data))) is None


def _messages(data: bytes) -> Iterator[bytes]:
    at = 1
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        yield data[at + 2 : at + 2 + size]
        at += 2 + size


def packed(parser: str, messages: Sequence[bytes]) -> bytes:
    """An input."""
    parts = [len(message).to_bytes(2, "big") + message for message in messages]
    return bytes([list(PARSERS).index(parser)]) + b"".join(parts)


def exchanges(password: str, key: ECKey) -> dict[str, list[tuple[str, list[bytes]]]]:
    """Whole exchanges with this secret, and tokens signed with this key, by the parser that they are for."""
    found = {
        "PLAIN": [("", [f"\0{USER}\0{password}".encode()]), ("of itself", [f"{USER}\0{USER}\0{password}".encode()])]
    }
    for mechanism, hash_name in SCRAM.items():
        found[mechanism] = []
        for which, name, extensions in (("", USER, ""), ("by token", TOKEN, ",tokenauth=true")):
            client = ScramClient(hash_name, name, password, extensions=extensions)
            first = client.first()
            found[mechanism].append((which, [first, client.final(_scram(mechanism).evaluate(first, NOW_MS))]))
    token = jwt.encode({"alg": "ES256", "kid": "ec"}, CLAIMS, key, algorithms=["ES256"])
    bearer = f"n,,\x01auth=Bearer {token}\x01ext=1\x01\x01".encode()
    found["OAUTHBEARER"] = [("", [bearer, b"\x01"])]
    found["signed token"] = [("", [token.encode()])]
    found["conversation"] = [
        (mechanism, [mechanism.encode(), *messages]) for mechanism in MECHANISMS for _, messages in found[mechanism][:1]
    ]
    return found


def samples() -> dict[str, bytes]:
    """Inputs by name; none of them lets anybody in."""
    found = {
        f"{parser} {which}".strip(): packed(parser, messages)
        for parser, made in exchanges("not-the-secret", STRANGERS_KEY).items()
        for which, messages in made
    }
    head, claims = (
        urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": "none"}, CLAIMS)
    )
    found["unsecured token"] = packed("unsecured token", [f"n,,\x01auth=Bearer {head}.{claims}.\x01\x01".encode()])
    entry = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="a\\"b" c=\'d\'; // e'
    found["login modules"] = packed("login modules", [entry.encode(), f"KafkaServer {{ {entry}\n}};".encode()])
    return found


def main() -> None:
    import atheris

    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for name, data in samples().items():
        (corpus / name.replace(" ", "-")).write_bytes(data)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
