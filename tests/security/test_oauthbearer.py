"""OAUTHBEARER: messages, tokens without a signature and with one."""

import hmac
import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from kafkapy.config.layers import BrokerConfig
from kafkapy.config.of_listener import ListenerConfig
from kafkapy.config.setting import ConfigError
from kafkapy.security.sasl.jwks import SignedTokens
from kafkapy.security.sasl.oauthbearer import InvalidToken, OAuthBearerServer, Token, unsecured
from kafkapy.security.sasl.server import SaslFailed, SaslRefused

NOW_MS = 1_700_000_000_000
NOW = NOW_MS // 1000
GOOD: dict[str, Any] = {"sub": "alice", "iat": NOW - 10, "exp": NOW + 60}


def encoded(part: object) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def bare(claims: object, header: object = {"alg": "none"}, signature: str = "") -> str:
    return f"{encoded(header)}.{encoded(claims)}.{signature}"


def message(token: str, *, authzid: str = "", extensions: str = "") -> bytes:
    return f"n,{authzid},\x01auth=Bearer {token}\x01{extensions}\x01".encode()


# -- messages


def test_a_bearer_is_let_in_until_its_token_expires() -> None:
    server = OAuthBearerServer(unsecured({}))
    assert server.evaluate(message(bare(GOOD), extensions="traceId=123\x01"), NOW_MS) == b""
    assert (server.user, server.expires_at_ms) == ("alice", NOW_MS + 60_000)


def test_a_bad_token_is_told_of_and_refused_once_the_client_has_heard() -> None:
    server = OAuthBearerServer(unsecured({}))
    answer = server.evaluate(message(bare({**GOOD, "exp": NOW})), NOW_MS)
    assert json.loads(answer) == {"status": "invalid_token"}
    assert server.user is None
    with pytest.raises(SaslRefused, match='"invalid_token"'):
        server.evaluate(b"\x01", NOW_MS)
    assert server.user is None


def test_a_missing_scope_is_named() -> None:
    server = OAuthBearerServer(unsecured({"unsecuredValidatorRequiredScope": "read write"}))
    answer = server.evaluate(message(bare({**GOOD, "scope": ["read"]})), NOW_MS)
    assert answer == b'{"status":"insufficient_scope", "scope":"[read, write]"}'
    server.evaluate(message(bare({**GOOD, "scope": ["write", "read"]})), NOW_MS)
    assert server.user == "alice"


def test_another_authorization_id_is_refused() -> None:
    with pytest.raises(SaslRefused, match=r"authorization id \(bob\) that is different from .* \(alice\)"):
        OAuthBearerServer(unsecured({})).evaluate(message(bare(GOOD), authzid="a=bob"), NOW_MS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x01",
        "n,,\x01\x01",
        "n,,\x01auth=Basic abc\x01\x01",
        "n,,\x01auth=Bearer \x01\x01",
        "y,,\x01auth=Bearer a\x01\x01",
        "n,,\x01auth=Bearer a\x01",
        "n,,\x01a1=b\x01auth=Bearer a\x01\x01",
    ],
)
def test_what_is_no_first_message_is_refused(text: str) -> None:
    with pytest.raises(SaslFailed, match="Invalid OAUTHBEARER client first message"):
        OAuthBearerServer(unsecured({})).evaluate(text.encode(), NOW_MS)


@given(st.lists(st.binary(max_size=80) | st.text("n,a=\1 uthBearer.eyJ{}", max_size=80).map(str.encode), max_size=3))
def test_no_nonsense_gets_in(messages: list[bytes]) -> None:
    server = OAuthBearerServer(unsecured({}))
    for each in messages:
        try:
            server.evaluate(each, NOW_MS)
        except (SaslFailed, SaslRefused):
            break
    assert server.user is None


# -- tokens without a signature


@pytest.mark.parametrize(
    "token",
    [
        bare({**GOOD, "sub": 1}),
        bare({**GOOD, "sub": " "}),
        bare({**GOOD, "sub": "half of \ud83d"}),
        bare({**GOOD, "scope": 5}),
        bare({name: value for name, value in GOOD.items() if name != "sub"}),
        bare({name: value for name, value in GOOD.items() if name != "exp"}),
        bare({**GOOD, "exp": "never"}),
        bare({**GOOD, "exp": True}),
        bare({**GOOD, "iat": NOW + 1}),
        bare({**GOOD, "exp": NOW}),
        bare({**GOOD, "exp": 1e300}),
        bare(GOOD, {"alg": "RS256"}),
        bare(GOOD, {}),
        bare(GOOD, signature="AAAA"),
        bare([1]),
        bare("x"),
        "a.b",
        "!.!.",
        f"{encoded({'alg': 'none'})}.{'W' * 4000}.",
    ],
)
def test_a_bad_bare_token_is_not_valid(token: str) -> None:
    with pytest.raises(InvalidToken):
        unsecured({})(token, NOW_MS)


def test_options_of_the_login_module() -> None:
    options = {"unsecuredValidatorPrincipalClaimName": "user", "unsecuredValidatorAllowableClockSkewMs": "3000"}
    assert unsecured(options)(bare({"user": "bob", "exp": NOW - 2}), NOW_MS) == Token("bob", NOW_MS - 2000)
    with pytest.raises(ConfigError):
        unsecured({"unsecuredValidatorAllowableClockSkewMs": "-1"})


# -- tokens with a signature

KEYS = [RSAKey.generate_key(2048, {"kid": "rsa"}), ECKey.generate_key("P-256", {"kid": "ec"})]
CLAIMS = {**GOOD, "iss": "https://issuer", "aud": ["kafka", "other"]}


def signed(claims: dict[str, Any] = CLAIMS, key: Any = KEYS[0], alg: str = "RS256", **header: str) -> str:
    return jwt.encode({"alg": alg, "kid": key.kid, **header}, claims, key, algorithms=[alg])


@pytest.fixture
def tokens(tmp_path: Path) -> SignedTokens:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(KeySet(KEYS).as_dict(private=False)))
    settings = {
        "sasl.oauthbearer.jwks.endpoint.url": path.as_uri(),
        "sasl.oauthbearer.expected.issuer": "https://issuer",
        "sasl.oauthbearer.expected.audience": "kafka",
    }
    return SignedTokens(ListenerConfig(BrokerConfig(settings), "SASL_SSL"))


def test_a_signed_token_is_good(tokens: SignedTokens) -> None:
    assert tokens.validate(signed(), NOW_MS) == Token("alice", NOW_MS + 60_000)
    assert tokens.validate(signed(key=KEYS[1], alg="ES256"), NOW_MS).user == "alice"
    assert tokens.validate(signed(), NOW_MS + 60_000 + 29_999).user == "alice", "clocks may differ by 30 seconds"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"exp": NOW - 30}, "it has expired"),
        ({"exp": None}, "it lacks exp or iat"),
        ({"iat": None}, "it lacks exp or iat"),
        ({"nbf": NOW + 31}, "not valid yet"),
        ({"iss": "https://another"}, "somebody else has issued it"),
        ({"aud": "other"}, "it is for somebody else"),
        ({"aud": None}, "it is for somebody else"),
        ({"sub": ""}, "No principal name"),
        ({"sub": 7}, "No principal name"),
        ({"exp": "soon"}, "its claim exp is no time"),
        ({"scope": [""]}, "holds no scopes"),
    ],
)
def test_a_claim_that_does_not_fit(tokens: SignedTokens, changed: dict[str, Any], words: str) -> None:
    claims = {name: value for name, value in {**CLAIMS, **changed}.items() if value is not None}
    with pytest.raises(InvalidToken, match=words):
        tokens.validate(signed(claims), NOW_MS)


def test_a_signature_that_is_not_the_issuers(tokens: SignedTokens) -> None:
    stranger = RSAKey.generate_key(2048, {"kid": "rsa"})
    public = KEYS[0].as_pem(private=False)
    head, body, signature = signed().split(".")
    by_secret = f"{encoded({'alg': 'HS256', 'kid': 'rsa'})}.{body}"  # with the public key as a shared secret
    for token in (
        signed(key=stranger),
        signed(key=RSAKey.generate_key(2048, {"kid": "unknown"})),
        f"{by_secret}.{urlsafe_b64encode(hmac.digest(public, by_secret.encode(), 'sha256')).rstrip(b'=').decode()}",
        bare(CLAIMS),
        bare(CLAIMS, {"alg": "none", "kid": "rsa"}),
        f"{encoded({'alg': 'none', 'kid': 'rsa'})}.{body}.{signature}",
        f"{head}.{encoded({**CLAIMS, 'sub': 'admin'})}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        "a" * 100_000,
    ):
        with pytest.raises(InvalidToken):
            tokens.validate(token, NOW_MS)


@given(st.data())
def test_no_bent_token_is_good(data: st.DataObject) -> None:
    tokens = SignedTokens.__new__(SignedTokens)
    tokens.__dict__.update(_keys=KeySet(KEYS), _missed=Missed())
    token = signed()
    position = data.draw(st.integers(0, len(token) - 2))  # the last character has bits that say nothing
    other = data.draw(st.sampled_from("AQZaqz059-_.=!").filter(lambda char: char != token[position]))
    with pytest.raises(InvalidToken):
        tokens.validate(token[:position] + other + token[position + 1 :], NOW_MS)


class Missed:
    def set(self) -> None:
        """An unknown key was asked for."""


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": 3}', '{"keys": []}', '{"keys": [{"kty": "RSA"}]}'])
def test_what_is_no_set_of_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is no set of keys"):
        SignedTokens(ListenerConfig(BrokerConfig({"sasl.oauthbearer.jwks.endpoint.url": path.as_uri()}), "L"))


@pytest.mark.parametrize(
    "odd",
    [{"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA"}, {"kty": "RSA", "n": "!", "e": "AQAB"}, {"kty": "new"}, {}, 5],
)
def test_one_key_that_is_of_no_use_does_not_take_the_others_along(tmp_path: Path, odd: object) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [odd, *KeySet(KEYS).as_dict(private=False)["keys"]]}))
    tokens = SignedTokens(ListenerConfig(BrokerConfig({"sasl.oauthbearer.jwks.endpoint.url": path.as_uri()}), "L"))
    assert tokens.validate(signed(), NOW_MS).user == "alice"
    assert tokens.validate(signed(key=KEYS[1], alg="ES256"), NOW_MS).user == "alice"
