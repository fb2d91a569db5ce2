"""Listeners with SASL, by raw requests: what comes in which order, who is refused how, and sessions that end."""

import logging
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import ManualClock
from kafkapy.config.setting import ConfigError
from kafkapy.errors import Error
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.protocol.messages.describe_acls import DescribeAclsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from kafkapy.protocol.messages.sasl_handshake import SaslHandshakeRequest
from tests.broker.wire import Wire
from tests.security.scram_client import ScramClient

OURS = "listener.name.sasl_plaintext"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
SETTINGS = {
    "listeners": "SASL_PLAINTEXT://127.0.0.1:0",
    "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
    f"{OURS}.plain.sasl.jaas.config": f'{PLAIN} required user_alice="secret" user_bob="bobs";',
    f"{OURS}.scram-sha-512.sasl.jaas.config": f'{SCRAM} required user_alice="secret";',
    "connection.failed.authentication.delay.ms": "0",
}


@asynccontextmanager
async def connected(start_broker: Any, clock: ManualClock | None = None, **settings: str) -> AsyncIterator[Wire]:
    given = {**SETTINGS, **{name.replace("_", "."): value for name, value in settings.items()}}
    async with (
        start_broker(memory=True, settings=given, clock=clock) as broker,
        await Wire.connect(broker.port) as wire,
    ):
        with trio.fail_after(60):
            yield wire


async def shake_hands(wire: Wire, mechanism: str = "PLAIN", version: int = 1) -> Any:
    return await wire.ask(SaslHandshakeRequest(mechanism=mechanism), version)


async def authenticate(wire: Wire, message: bytes = b"\0alice\0secret", version: int = 2) -> Any:
    return await wire.ask(SaslAuthenticateRequest(auth_bytes=message), version)


async def works(wire: Wire) -> bool:
    return len((await wire.ask(MetadataRequest(topics=[]), 12)).brokers) == 1


@pytest.mark.parametrize("asks_for_versions", [True, False])
async def test_who_knows_the_password_is_let_in(start_broker: Any, asks_for_versions: bool) -> None:
    async with connected(start_broker) as wire:
        if asks_for_versions:
            assert (await wire.ask(ApiVersionsRequest(), 0)).error_code == 0
        answer = await shake_hands(wire)
        assert (answer.error_code, answer.mechanisms) == (0, ["PLAIN", "SCRAM-SHA-512"])
        answer = await authenticate(wire)
        assert (answer.error_code, answer.error_message, answer.auth_bytes) == (0, "", b"")
        assert answer.session_lifetime_ms == 0
        assert await works(wire)


@pytest.mark.parametrize(("user", "error"), [("alice", Error.NONE), ("bob", Error.CLUSTER_AUTHORIZATION_FAILED)])
async def test_the_authorizer_hears_who_it_is(start_broker: Any, user: str, error: Error) -> None:
    authorizer = {
        "authorizer_class_name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super_users": "User:alice",
    }
    async with connected(start_broker, **authorizer) as wire:
        await shake_hands(wire)
        await authenticate(wire, f"\0{user}\0{'secret' if user == 'alice' else 'bobs'}".encode())
        assert (
            await wire.ask(DescribeAclsRequest(resource_type_filter=1, operation=1, permission_type=1), 3)
        ).error_code == error


async def test_scram_in_two_rounds(start_broker: Any) -> None:
    async with connected(start_broker) as wire:
        await shake_hands(wire, "SCRAM-SHA-512")
        client = ScramClient("sha512", "alice", "secret")
        offer = await authenticate(wire, client.first())
        assert (await authenticate(wire, client.final(offer.auth_bytes))).auth_bytes == client.server_signature
        assert await works(wire)


async def test_messages_by_themselves_after_the_first_version_of_the_handshake(start_broker: Any) -> None:
    async with connected(start_broker) as wire:
        await shake_hands(wire, version=0)
        await wire.send_frame(b"\0alice\0secret")
        assert await wire.receive_frame() == b""
        assert await works(wire)


async def test_a_wrong_password_by_itself_ends_the_connection(start_broker: Any) -> None:
    async with connected(start_broker) as wire:
        await shake_hands(wire, version=0)
        await wire.send_frame(b"\0alice\0wrong")
        assert await wire.is_closed()


@pytest.mark.parametrize(
    ("mechanism", "message", "words"),
    [
        ("PLAIN", b"\0alice\0wrong", "Authentication failed: Invalid username or password"),
        (
            "SCRAM-SHA-512",
            b"nonsense",
            "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512",
        ),
    ],
)
async def test_who_is_refused_is_told_so_and_dropped(
    start_broker: Any, mechanism: str, message: bytes, words: str
) -> None:
    async with connected(start_broker) as wire:
        await shake_hands(wire, mechanism)
        await wire.send(SaslAuthenticateRequest(auth_bytes=message), 2)
        await wire.send(MetadataRequest(topics=[]), 12)
        answer = await wire.receive()
        assert (answer.error_code, answer.error_message) == (Error.SASL_AUTHENTICATION_FAILED, words)
        assert await wire.is_closed()


@pytest.mark.parametrize("over_sasl", [True, False])
async def test_the_log_has_neither_passwords_nor_lines_of_a_stranger(
    start_broker: Any, caplog: pytest.LogCaptureFixture, over_sasl: bool
) -> None:
    caplog.set_level(logging.DEBUG, "kafkapy")
    async with connected(start_broker) as wire:
        if over_sasl:
            await shake_hands(wire)
            await wire.send(SaslAuthenticateRequest(auth_bytes=b"\0alice\0hunter2"), 2)
        else:
            await wire.send(SaslHandshakeRequest(mechanism="X\nINFO all is well"), 1)
        await wire.receive()
        assert await wire.is_closed()
        await wait_all_tasks_blocked(0.02)
    assert "failed authentication" in caplog.text
    assert "hunter2" not in caplog.text
    assert not any("\n" in record.getMessage() for record in caplog.records)


async def test_an_unknown_mechanism_is_refused_with_those_there_are(start_broker: Any) -> None:
    async with connected(start_broker) as wire:
        answer = await shake_hands(wire, "GSSAPI")
        assert (answer.error_code, answer.mechanisms) == (
            Error.UNSUPPORTED_SASL_MECHANISM,
            ["PLAIN", "SCRAM-SHA-512"],
        )
        assert await wire.is_closed()


@pytest.mark.parametrize(
    ("request_", "version"),
    [(MetadataRequest(topics=[]), 12), (SaslAuthenticateRequest(auth_bytes=b"\0alice\0secret"), 2)],
)
async def test_nothing_is_answered_before_the_handshake(start_broker: Any, request_: Any, version: int) -> None:
    async with connected(start_broker) as wire:
        await wire.send(request_, version)
        assert await wire.is_closed()


async def test_apiversions_comes_once(start_broker: Any) -> None:
    async with connected(start_broker) as wire:
        assert (await wire.ask(ApiVersionsRequest(client_software_name="not ok!"), 3)).error_code != 0
        answer = await wire.ask(ApiVersionsRequest(client_software_name="x", client_software_version="1"), 3)
        assert answer.error_code == 0
        await wire.send(ApiVersionsRequest(), 0)
        assert await wire.is_closed()


async def test_another_request_in_the_middle_is_answered_with_an_error_and_ends_it(start_broker: Any) -> None:
    async with connected(start_broker) as wire:
        await shake_hands(wire)
        topic = MetadataRequest.MetadataRequestTopic(name="t")
        answer = await wire.ask(MetadataRequest(topics=[topic]), 12)
        assert answer.topics[0].error_code == Error.ILLEGAL_SASL_STATE
        assert await wire.is_closed()


@pytest.mark.parametrize(
    "frame", [b"", b"\x60\x82", bytes(100), b"GET / HTTP/1.1\r\n\r\n", struct.pack(">hhi", 17, 9, 1)]
)
async def test_what_is_no_request_ends_the_connection(start_broker: Any, frame: bytes) -> None:
    async with connected(start_broker) as wire:
        await wire.send_frame(frame)
        assert await wire.is_closed()


async def test_a_large_frame_is_not_taken_from_a_stranger(start_broker: Any) -> None:
    async with connected(start_broker, sasl_server_max_receive_size="1000") as wire:
        await wire.stream.send_all(struct.pack(">i", 1001))
        assert await wire.is_closed()
    async with connected(start_broker, sasl_server_max_receive_size="1000") as wire:
        await shake_hands(wire)
        await authenticate(wire)
        names = [MetadataRequest.MetadataRequestTopic(name=f"{number:0200}") for number in range(20)]
        assert len((await wire.ask(MetadataRequest(topics=names, allow_auto_topic_creation=False), 12)).topics) == 20


async def test_who_is_in_has_nothing_to_authenticate(start_broker: Any) -> None:
    async with connected(start_broker) as wire:
        await shake_hands(wire)
        await authenticate(wire)
        assert (await shake_hands(wire)).error_code == Error.ILLEGAL_SASL_STATE
        answer = await authenticate(wire)
        assert answer.error_code == Error.ILLEGAL_SASL_STATE
        assert answer.error_message == "SaslAuthenticate request received after successful authentication"
        assert await works(wire)


# -- sessions that end


async def test_a_session_is_renewed_by_the_same_user_alone(start_broker: Any) -> None:
    async with connected(start_broker, connections_max_reauth_ms="3600000") as wire:
        await shake_hands(wire)
        assert (await authenticate(wire)).session_lifetime_ms == 3_600_000
        assert (await shake_hands(wire)).error_code == 0
        assert (await authenticate(wire)).error_code == 0
        assert await works(wire)
        assert (await shake_hands(wire)).error_code == Error.ILLEGAL_SASL_STATE, "at most once a second"
    async with connected(start_broker, connections_max_reauth_ms="3600000") as wire:
        await shake_hands(wire)
        await authenticate(wire)
        await shake_hands(wire)
        answer = await authenticate(wire, b"\0bob\0bobs")
        assert (answer.error_code, answer.error_message) == (
            Error.SASL_AUTHENTICATION_FAILED,
            "Cannot change principals during re-authentication from User.alice: User.bob",
        )
        assert await wire.is_closed()


async def test_a_session_is_renewed_by_the_same_mechanism_alone(start_broker: Any) -> None:
    async with connected(start_broker, connections_max_reauth_ms="3600000") as wire:
        await shake_hands(wire)
        await authenticate(wire)
        assert (await shake_hands(wire, "SCRAM-SHA-512")).error_code == 0
        await wire.send(SaslAuthenticateRequest(auth_bytes=ScramClient("sha512", "alice", "secret").first()), 2)
        assert await wire.is_closed()


async def test_an_unknown_mechanism_does_not_renew_a_session(start_broker: Any) -> None:
    async with connected(start_broker, connections_max_reauth_ms="3600000") as wire:
        await shake_hands(wire)
        await authenticate(wire)
        await wire.send(SaslHandshakeRequest(mechanism="GSSAPI"), 1)
        assert await wire.is_closed()


async def test_only_authentication_is_answered_while_a_session_is_renewed(start_broker: Any) -> None:
    async with connected(start_broker, connections_max_reauth_ms="3600000") as wire:
        await shake_hands(wire)
        await authenticate(wire)
        await shake_hands(wire)
        answer = await wire.ask(MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name="t")]), 12)
        assert answer.topics[0].error_code == Error.ILLEGAL_SASL_STATE
        assert await wire.is_closed()


async def test_a_session_that_is_over_ends_at_the_next_request(start_broker: Any) -> None:
    clock = ManualClock()
    async with connected(start_broker, clock, connections_max_reauth_ms="5000") as wire:
        await shake_hands(wire)
        assert (await authenticate(wire)).session_lifetime_ms == 5000
        clock.advance_ms(5000)
        assert await works(wire)
        clock.advance_ms(1)
        await wire.send(MetadataRequest(topics=[]), 12)
        assert await wire.is_closed()


async def test_a_session_that_was_renewed_goes_on(start_broker: Any) -> None:
    clock = ManualClock()
    async with connected(start_broker, clock, connections_max_reauth_ms="5000") as wire:
        for _ in range(3):
            await shake_hands(wire)
            assert (await authenticate(wire)).session_lifetime_ms == 5000
            clock.advance_ms(4000)
            assert await works(wire)


async def test_who_is_refused_hears_of_it_after_a_while(start_broker: Any, nursery: trio.Nursery) -> None:
    clock, heard = ManualClock(), trio.Event()
    async with connected(start_broker, clock, connection_failed_authentication_delay_ms="300") as wire:
        await shake_hands(wire)
        await wire.send(SaslAuthenticateRequest(auth_bytes=b"\0alice\0wrong"), 2)

        async def hear() -> None:
            assert (await wire.receive()).error_code == Error.SASL_AUTHENTICATION_FAILED
            heard.set()

        nursery.start_soon(hear)
        await wait_all_tasks_blocked(0.02)
        clock.advance_ms(299)
        await wait_all_tasks_blocked(0.02)
        assert not heard.is_set()
        clock.advance_ms(1)
        await heard.wait()
        assert await wire.is_closed()


async def test_a_stranger_has_a_minute_to_say_who_it_is(start_broker: Any) -> None:
    clock = ManualClock()
    async with connected(start_broker, clock) as wire:
        await shake_hands(wire)
        for _ in range(5):  # it is looked for four times a minute
            clock.advance_ms(15_000)
            await wait_all_tasks_blocked(0.02)
        assert await wire.is_closed()
    async with connected(start_broker, clock) as wire:
        await shake_hands(wire)
        await authenticate(wire)
        for _ in range(5):
            clock.advance_ms(15_000)
            await wait_all_tasks_blocked(0.02)
        assert await works(wire)


async def test_strangers_make_room_for_each_other(start_broker: Any) -> None:
    async with connected(start_broker, max_connections="4") as known:
        await shake_hands(known)
        await authenticate(known)
        port = known.stream.socket.getpeername()[1]
        async with await Wire.connect(port) as first, await Wire.connect(port) as second:
            await shake_hands(first)
            await shake_hands(second)
            async with await Wire.connect(port) as third:
                assert await first.is_closed(), "half of max.connections are for strangers"
                await shake_hands(third)
                assert (await authenticate(second)).error_code == 0
        assert await works(known)


async def test_one_mechanism_of_one_listener_has_its_own_length_of_a_session(start_broker: Any) -> None:
    given = {**SETTINGS, f"{OURS}.plain.connections.max.reauth.ms": "5000"}
    async with start_broker(memory=True, settings=given) as broker, await Wire.connect(broker.port) as wire:
        await shake_hands(wire)
        assert (await authenticate(wire, version=0)).session_lifetime_ms == 0, "not told before version 1"
    async with start_broker(memory=True, settings=given) as broker, await Wire.connect(broker.port) as wire:
        await shake_hands(wire)
        assert (await authenticate(wire)).session_lifetime_ms == 5000


# -- settings


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"sasl.enabled.mechanisms": "GSSAPI"},
            "the SASL mechanism GSSAPI needs Kerberos, which kafkapy does not speak",
        ),
        ({"sasl.enabled.mechanisms": "CRAM-MD5"}, "the SASL mechanism CRAM-MD5 is unknown"),
        ({f"{OURS}.plain.sasl.jaas.config": f"{PLAIN} required;"}, "PLAIN knows no users"),
        ({f"{OURS}.plain.sasl.jaas.config": f'{SCRAM} required user_a="b";'}, "PLAIN knows no users"),
    ],
)
async def test_what_would_let_nobody_or_anybody_in_is_refused_at_start(
    start_broker: Any, changed: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        async with start_broker(memory=True, settings={**SETTINGS, **changed}):
            pass


async def test_users_of_a_jaas_file(start_broker: Any, tmp_path: Path) -> None:
    file = tmp_path / "kafka_jaas.conf"
    file.write_text(f'KafkaServer {{ {PLAIN} required user_carol="carols"; }};')
    given = {name: value for name, value in SETTINGS.items() if "jaas" not in name}
    given |= {"sasl.enabled.mechanisms": "PLAIN", "kafkapy.jaas.file": str(file)}
    async with start_broker(memory=True, settings=given) as broker, await Wire.connect(broker.port) as wire:
        await shake_hands(wire)
        assert (await authenticate(wire, b"\0carol\0carols")).error_code == 0
