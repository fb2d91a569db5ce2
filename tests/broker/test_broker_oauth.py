"""OAUTHBEARER against a running broker, with keys from a server that is there, and from one that is not."""

import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import trio
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import ManualClock
from kafkapy.config.setting import ConfigError
from kafkapy.errors import Error
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from kafkapy.protocol.messages.sasl_handshake import SaslHandshakeRequest
from tests.broker.wire import Wire

OURS = "listener.name.sasl_plaintext.oauthbearer"
UNSIGNED = {"listeners": "SASL_PLAINTEXT://127.0.0.1:0", "sasl.enabled.mechanisms": "OAUTHBEARER"}
SIGNED = {
    **UNSIGNED,
    f"{OURS}.sasl.server.callback.handler.class": (
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
    ),
    "connection.failed.authentication.delay.ms": "0",
}
FIRST, SECOND = (RSAKey.generate_key(2048, {"kid": name}) for name in ("first", "second"))


class Issuer:
    """Serves the public keys of an issuer of tokens."""

    def __init__(self, server: HTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}/keys"
        self.keys = [FIRST]
        self.answers = 0
        self.broken = False


@contextmanager
def issuing() -> Iterator[Issuer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.answers += 1
            self.send_response(503 if issuer.broken else 200)
            self.end_headers()
            self.wfile.write(json.dumps(KeySet(issuer.keys).as_dict(private=False)).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer = Issuer(server)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield issuer
        server.shutdown()
        thread.join()


async def offer(port: int, clock: ManualClock, key: RSAKey) -> Any:
    """What a token signed by the key is worth; its session is tried, too."""
    now = clock.now_ms() // 1000
    token = jwt.encode({"alg": "RS256", "kid": key.kid}, {"sub": "alice", "iat": now, "exp": now + 5}, key)
    async with await Wire.connect(port) as wire:
        await wire.ask(SaslHandshakeRequest(mechanism="OAUTHBEARER"), 1)
        message = b"n,,\x01auth=Bearer " + token.encode() + b"\x01\x01"
        answer = await wire.ask(SaslAuthenticateRequest(auth_bytes=message), 2)
        if answer.auth_bytes:
            answer = await wire.ask(SaslAuthenticateRequest(auth_bytes=b"\x01"), 2)
            assert answer.error_code == Error.SASL_AUTHENTICATION_FAILED
            assert answer.error_message == '{"status":"invalid_token"}'
            assert await wire.is_closed()
            return None
        assert len((await wire.ask(MetadataRequest(topics=[]), 12)).brokers) == 1
        return answer.session_lifetime_ms


async def comes_true(clock: ManualClock, step_ms: int, worth: Any) -> None:
    with trio.fail_after(60):
        while await worth() is None:
            clock.advance_ms(step_ms)
            await wait_all_tasks_blocked(0.02)


async def test_a_session_lasts_as_long_as_its_token(start_broker: Any) -> None:
    clock = ManualClock()
    with issuing() as issuer:
        settings = {**SIGNED, "sasl.oauthbearer.jwks.endpoint.url": issuer.url}
        async with start_broker(memory=True, clock=clock, settings=settings) as broker:
            await comes_true(clock, 0, lambda: offer(broker.port, clock, FIRST))
            assert 0 < await offer(broker.port, clock, FIRST) <= 5000
            asked = issuer.answers
            assert await offer(broker.port, clock, FIRST)
            assert issuer.answers == asked, "keys are not fetched for each token"


async def test_a_key_that_is_new_is_fetched_before_long(start_broker: Any) -> None:
    clock = ManualClock()
    with issuing() as issuer:
        settings = {**SIGNED, "sasl.oauthbearer.jwks.endpoint.url": issuer.url}
        async with start_broker(memory=True, clock=clock, settings=settings) as broker:
            await comes_true(clock, 0, lambda: offer(broker.port, clock, FIRST))
            issuer.keys.append(SECOND)
            assert await offer(broker.port, clock, SECOND) is None
            asked = issuer.answers
            assert await offer(broker.port, clock, SECOND) is None
            assert issuer.answers == asked, "not for each unknown key"
            await comes_true(clock, 1000, lambda: offer(broker.port, clock, SECOND))


async def test_nobody_is_let_in_while_there_are_no_keys(start_broker: Any) -> None:
    clock = ManualClock()
    with issuing() as issuer:
        issuer.broken = True
        settings = {**SIGNED, "sasl.oauthbearer.jwks.endpoint.url": issuer.url}
        async with start_broker(memory=True, clock=clock, settings=settings) as broker:
            assert await offer(broker.port, clock, FIRST) is None
            issuer.broken = False
            await comes_true(clock, 1000, lambda: offer(broker.port, clock, FIRST))


async def test_odd_claims_end_one_connection_and_not_the_broker(start_broker: Any) -> None:
    odd: list[dict[str, Any]] = [
        {name: value}
        for name in ("sub", "scope", "exp", "iat")
        for value in (5, None, [], {}, [[]], "\ud83d", True, -1e99)
    ]
    async with start_broker(
        memory=True, settings={**UNSIGNED, "connection.failed.authentication.delay.ms": "0"}
    ) as broker:
        for claims in odd:
            header, body = (
                urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
                for part in ({"alg": "none"}, {"sub": "u", "exp": 9e9, **claims})
            )
            async with await Wire.connect(broker.port) as wire:
                await wire.ask(SaslHandshakeRequest(mechanism="OAUTHBEARER"), 1)
                message = b"n,a=x,\x01auth=Bearer " + header + b"." + body + b".\x01\x01"
                answer = await wire.ask(SaslAuthenticateRequest(auth_bytes=message), 2)
                assert answer.error_code == Error.SASL_AUTHENTICATION_FAILED or "invalid_token" in str(
                    answer.auth_bytes
                )


async def test_keys_without_what_checks_signatures_are_refused_at_start(start_broker: Any) -> None:
    """Apache Kafka starts, and takes tokens without a signature."""
    settings = {**UNSIGNED, "sasl.oauthbearer.jwks.endpoint.url": "https://127.0.0.1/keys"}
    with pytest.raises(ConfigError, match="tokens without a signature would be taken, unless"):
        async with start_broker(memory=True, settings=settings):
            pass


async def test_signatures_without_keys_are_refused_at_start(start_broker: Any) -> None:
    for url in ({}, {"sasl.oauthbearer.jwks.endpoint.url": "ftp://127.0.0.1/keys"}):
        with pytest.raises(ConfigError, match="says where the keys are"):
            async with start_broker(memory=True, settings={**SIGNED, **url}):
                pass
