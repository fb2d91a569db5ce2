"""OAUTHBEARER: a token that says who its bearer is (RFC 7628), as Kafka's OAuthBearerSaslServer takes it.

Pure; what a token is worth is told by a function. A token that is not valid is answered with an error in JSON, which
the client acknowledges before it is refused. Tokens without a signature, Kafka's default, are for development: anybody
can make one.
"""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from kafkapy.config.setting import ConfigError
from kafkapy.security.sasl.server import SaslFailed, SaslRefused

_NAME: Final = r"(?:[\x01-\x2b\x2d-\x3c\x3e-\x7f]|=2C|=3D)+"
_PAIR: Final = r"[A-Za-z]+=[\x21-\x7e \t\r\n]+\x01"
_CLIENT_FIRST: Final = re.compile(rf"n,(?:a=(?P<authzid>{_NAME}))?,\x01(?P<pairs>(?:{_PAIR})*)\x01")
_AUTH: Final = re.compile(r"(?P<scheme>\w+) +(?P<token>[-_~+/.a-zA-Z0-9]+=*)", re.ASCII)
_ACKNOWLEDGED: Final = b"\x01"
_BASE64: Final = re.compile(r"[A-Za-z0-9_-]*={0,2}")
_HALF: Final = re.compile(r"[\ud800-\udfff]")
_OPTION: Final = "unsecuredValidator"


class Token(NamedTuple):
    """A token that is valid."""

    user: str
    expires_at_ms: int


class InvalidToken(Exception):
    """A token is not valid; what the client is told of it, and for the log, why."""

    def __init__(self, why: str, scope: str | None = None) -> None:
        super().__init__(why)
        self.answer = '{"status":"invalid_token"}'
        if scope is not None:
            self.answer = f'{{"status":"insufficient_scope", "scope":"{scope}"}}'


Validate = Callable[[str, int], Token]
"""What is a token worth at that time, in milliseconds since 1970? Raises InvalidToken."""


class OAuthBearerServer:
    """One exchange: the token, and for one that is not valid the acknowledgement of that."""

    def __init__(self, validate: Validate) -> None:
        self.user: str | None = None
        self.expires_at_ms: int | None = None
        self.by_token = False
        self._validate = validate
        self._invalid: InvalidToken | None = None

    def evaluate(self, message: bytes, now_ms: int) -> bytes:
        """Let the bearer in, tell that its token is not valid, or raise SaslRefused, SaslFailed."""
        if message == _ACKNOWLEDGED and self._invalid is not None:
            raise SaslRefused(self._invalid.answer) from self._invalid
        authorization_id, token_text = _read(message.decode("utf-8", "replace"))
        try:
            token = self._validate(token_text, now_ms)
        except InvalidToken as invalid:
            self._invalid = invalid
            return invalid.answer.encode("utf-8")
        if authorization_id not in ("", token.user):
            raise SaslRefused(
                f"Authentication failed: Client requested an authorization id ({authorization_id}) that is different "
                f"from the token's principal name ({token.user})"
            )
        self.user, self.expires_at_ms = token.user, token.expires_at_ms
        return b""


def _read(text: str) -> tuple[str, str]:
    """The authorization id, or nothing, and the token of a client's first message. Raises SaslFailed."""
    first = _CLIENT_FIRST.fullmatch(text)
    if first is None:
        raise SaslFailed("Invalid OAUTHBEARER client first message")
    pairs = dict(pair.split("=", 1) for pair in first["pairs"].split("\x01") if pair)
    auth = _AUTH.fullmatch(pairs.get("auth", ""))
    if auth is None or auth["scheme"].lower() != "bearer":
        raise SaslFailed("Invalid OAUTHBEARER client first message: 'auth' has no bearer token")
    return first["authzid"] or "", auth["token"]


def name_in(claims: Mapping[str, Any], claim: str) -> str:
    """Whom a claim names. Raises InvalidToken, also for what no answer or record could hold: half a character."""
    name = claims.get(claim)
    if not isinstance(name, str) or not name.strip() or _HALF.search(name):
        raise InvalidToken(f"No principal name in JWT claim: {claim}")
    return name


# -- tokens without a signature


def unsecured(options: Mapping[str, str]) -> Validate:
    """What takes tokens without a signature, as the login module's options have it. Raises ConfigError."""
    user_claim = _option(options, "PrincipalClaimName") or "sub"
    scope_claim = _option(options, "ScopeClaimName") or "scope"
    required = _option(options, "RequiredScope").split()
    skew = _option(options, "AllowableClockSkewMs") or "0"
    if not skew.isdecimal():
        raise ConfigError(f"Allowable clock skew millis must be a number, and not negative: {skew}")

    def validate(text: str, now_ms: int) -> Token:
        claims = _unsigned_claims(text)
        user = name_in(claims, user_claim)
        begins, ends = _seconds(claims, "iat"), _seconds(claims, "exp")
        if ends is None:
            raise InvalidToken("No expiration time in JWT")
        if begins is not None and 1000 * begins > now_ms + int(skew):
            raise InvalidToken("it was issued after now")
        if now_ms - int(skew) >= 1000 * ends:
            raise InvalidToken("it has expired")
        if begins is not None and ends <= begins:
            raise InvalidToken("it expires before it was issued")
        scope = claims.get(scope_claim, [])
        if not isinstance(scope, str | list):
            raise InvalidToken(f"The '{scope_claim}' claim was neither a String nor a List")
        found = {entry.strip() for entry in ([scope] if isinstance(scope, str) else scope)}
        if not found.issuperset(required):
            raise InvalidToken("it lacks a required scope", f"[{', '.join(required)}]")
        return Token(user, round(ends * 1000))

    return validate


def _unsigned_claims(text: str) -> dict[str, Any]:
    parts = text.split(".")
    if len(parts) != 3:
        raise InvalidToken("Unsecured JWS compact serializations must have 3 dot-separated Base64URL-encoded values")
    header, claims = _object(parts[0]), _object(parts[1])
    if header.get("alg") != "none":
        raise InvalidToken("Unsecured JWS must have 'none' for an algorithm")
    if parts[2]:
        raise InvalidToken("Unsecured JWS must not contain a digital signature")
    return claims


def _object(part: str) -> dict[str, Any]:
    """A JSON object with numbers, texts and lists of texts, as Kafka reads it."""
    if not _BASE64.fullmatch(part):
        raise InvalidToken("malformed Base64 URL encoded value")
    try:
        found = json.loads(urlsafe_b64decode(part.rstrip("=") + "=" * (-len(part.rstrip("=")) % 4)))
    except (ValueError, RecursionError):
        raise InvalidToken("malformed JSON") from None
    if not isinstance(found, dict):
        raise InvalidToken("malformed JSON")
    return {
        name: [_text(each) for each in value] if isinstance(value, list) else _value(value)
        for name, value in found.items()
    }


def _value(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if isinstance(value, dict | list) else json.dumps(value)


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or not abs(value) < 1 << 53:
        raise InvalidToken(f"The '{name}' claim was not of type Number")
    return value


def _option(options: Mapping[str, str], name: str) -> str:
    return options.get(_OPTION + name, "").strip()
