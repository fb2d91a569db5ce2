"""Tokens with a signature: checked against the keys of whoever issues them (sasl.oauthbearer.jwks.endpoint.url).

The keys lie in a file, or are fetched now and then over HTTP in a thread. An unknown key makes the next fetch come
soon: the token is refused, as in Kafka, and the client's next try may find it. While no keys could be had, nobody is
let in. The only module that knows `joserfc`.

Only signatures by private keys count: with a shared secret whoever can check a token can make one, and a token that
says `none` of its algorithm has no signature.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
)

import trio
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import Key, KeySet

from kafkapy.clock import Clock
from kafkapy.config.of_listener import ListenerConfig
from kafkapy.config.setting import ConfigError
from kafkapy.security.sasl.oauthbearer import InvalidToken, Token, name_in

_log = logging.getLogger(__name__)

_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
_FETCH_SECONDS: Final = 10.0
_MAX_BYTES: Final = 1 << 20
_LONGEST_TOKEN: Final = 64 * 1024


class SignedTokens:
    """What takes tokens with a signature on one listener."""

    def __init__(self, config: ListenerConfig) -> None:
        """Raises ConfigError, OSError."""
        self.listener = config.listener
        self._url: str = config["sasl.oauthbearer.jwks.endpoint.url"] or ""
        if urlsplit(self._url).scheme not in ("file", "http", "https"):
            raise ConfigError(
                f"listener {config.listener}: sasl.oauthbearer.jwks.endpoint.url says where the keys are that sign "
                "tokens, by file:, https: or http:"
            )
        self._issuer: str | None = config["sasl.oauthbearer.expected.issuer"]
        self._audiences = set(config["sasl.oauthbearer.expected.audience"])
        self._user_claim: str = config["sasl.oauthbearer.sub.claim.name"]
        self._scope_claim: str = config["sasl.oauthbearer.scope.claim.name"]
        skew = config["sasl.oauthbearer.clock.skew.seconds"]
        self._skew_ms = 1000 * int(skew)
        self._refresh_seconds = config["sasl.oauthbearer.jwks.endpoint.refresh.ms"] / 1000
        self._first_pause = config["sasl.oauthbearer.jwks.endpoint.retry.backoff.ms"] / 1000
        self._longest_pause = config["sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms"] / 1000
        self._keys: KeySet | None = None
        self._missed = trio.Event()  # a key that is not known has been asked for
        if self._url.startswith("file:"):
            self._take(_read_file(self._url))

    def validate(self, text: str, now_ms: int) -> Token:
        """What a token is worth. Raises InvalidToken."""
        if self._keys is None:
            raise InvalidToken("the keys that sign tokens could not be fetched yet")
        if len(text) > _LONGEST_TOKEN:
            raise InvalidToken("it is too long")
        try:
            claims = jwt.decode(text, self._keys, algorithms=_ALGORITHMS).claims
        except InvalidKeyIdError as unknown:
            self._missed.set()
            raise InvalidToken(f"its key is unknown: {unknown}") from None
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as problem:
            raise InvalidToken(f"it has no good signature: {problem}") from None
        if not isinstance(claims, dict):
            raise InvalidToken("it holds no claims")
        return self._check(claims, now_ms)

    def _check(self, claims: Mapping[str, Any], now_ms: int) -> Token:
        expires_at_ms, issued_at_ms = _time_ms(claims, "exp"), _time_ms(claims, "iat")
        if expires_at_ms is None or issued_at_ms is None:
            raise InvalidToken("it lacks exp or iat")
        if now_ms - self._skew_ms >= expires_at_ms:
            raise InvalidToken("it has expired")
        begins_at_ms = _time_ms(claims, "nbf")
        if begins_at_ms is not None and now_ms + self._skew_ms < begins_at_ms:
            raise InvalidToken("it is not valid yet")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise InvalidToken("somebody else has issued it")
        audience = claims.get("aud", [])
        meant = audience if isinstance(audience, list) else [audience]
        if self._audiences and not any(isinstance(each, str) and each in self._audiences for each in meant):
            raise InvalidToken("it is for somebody else")
        scope = claims.get(self._scope_claim, [])
        scopes = scope if isinstance(scope, list) else [scope]
        if not all(isinstance(each, str) and each.strip() for each in scopes):
            raise InvalidToken(f"its claim {self._scope_claim} holds no scopes")
        return Token(name_in(claims, self._user_claim).strip(), expires_at_ms)

    async def keep_fresh(self, clock: Clock) -> None:
        """Fetch the keys for ever: at once, every so often, and soon where one was missed."""
        pause = self._first_pause
        while not self._url.startswith("file:"):
            try:
                self._take(await trio.to_thread.run_sync(_fetch, self._url, abandon_on_cancel=True))
            except (ConfigError, OSError) as problem:
                _log.error("listener %s: cannot fetch the keys that sign tokens: %s", self.listener, problem)
                await clock.sleep(pause)
                pause = min(2 * pause, self._longest_pause)
                continue
            pause = self._first_pause
            self._missed = trio.Event()
            with clock.until(clock.monotonic() + self._refresh_seconds):
                await self._missed.wait()
                await clock.sleep(self._longest_pause)  # whoever invents keys does not have us fetch all the time

    def _take(self, text: bytes) -> None:
        """Check by these keys from now on. One that is of no use here, as an issuer may have some, is left out."""
        keys: list[Key] = []
        problem = "it has no keys"
        try:
            entries = list(json.loads(text)["keys"])
        except (ValueError, KeyError, TypeError) as malformed:
            entries, problem = [], str(malformed)
        for entry in entries:
            try:
                keys += KeySet.import_key_set({"keys": [entry]}).keys
            except (JoseError, ValueError, KeyError, TypeError, AttributeError) as unknown:
                problem = str(unknown)
                _log.warning("listener %s: a key of %s is of no use here: %s", self.listener, self._url, unknown)
        if not keys:
            raise ConfigError(f"listener {self.listener}: {self._url} is no set of keys (JWKS): {problem}")
        self._keys = KeySet(keys)


def _time_ms(claims: Mapping[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 53:
        raise InvalidToken(f"its claim {name} is no time")
    return int(value * 1000)


def _read_file(url: str) -> bytes:
    from pathlib import Path
    from urllib.request import url2pathname

    return Path(url2pathname(urlsplit(url).path)).read_bytes()[:_MAX_BYTES]


def _fetch(url: str) -> bytes:
    """What lies there; no redirection is followed. Raises OSError."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler(), HTTPDefaultErrorHandler(), HTTPErrorProcessor()):
        opener.add_handler(handler)
    with opener.open(url, timeout=_FETCH_SECONDS) as response:
        if response is None:
            raise URLError("nothing there")
        found: bytes = response.read(_MAX_BYTES)
        return found
