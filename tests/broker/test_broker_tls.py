"""Listeners with TLS: real sockets, real certificates, and clients that misbehave at every step."""

import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import CertificateBuilder, Name, NameAttribute, load_pem_x509_certificate
from cryptography.x509.oid import NameOID
from trio.testing import wait_all_tasks_blocked

from kafkapy.broker import Broker
from kafkapy.clock import ManualClock
from kafkapy.config.setting import ConfigError
from kafkapy.errors import Error
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.describe_acls import DescribeAclsRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from kafkapy.protocol.messages.sasl_handshake import SaslHandshakeRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record, read_records
from kafkapy.security.tls import LOOK_SECONDS
from tests.broker.wire import Wire

CA = trustme.CA()
SERVER = CA.issue_cert("localhost", "127.0.0.1")
ALICE = CA.issue_cert("alice@example.com", common_name="alice")
STRANGER = trustme.CA().issue_cert("mallory@example.com", common_name="mallory")


def pem(certificate: trustme.LeafCert) -> str:
    return certificate.private_key_and_cert_chain_pem.bytes().decode()


def inline(certificate: trustme.LeafCert = SERVER) -> dict[str, str]:
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.key": certificate.private_key_pem.bytes().decode(),
        "ssl.keystore.certificate.chain": "".join(blob.bytes().decode() for blob in certificate.cert_chain_pems),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": CA.cert_pem.bytes().decode(),
    }


SETTINGS = {"listeners": "SSL://127.0.0.1:0", **inline()}


def client_context(shown: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    if shown is not None:
        shown.configure_cert(context)
    return context


@asynccontextmanager
async def encrypted(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context or client_context())
    await stream.do_handshake()
    wire = Wire(stream)  # type: ignore[arg-type]
    try:
        yield wire
    finally:
        await trio.aclose_forcefully(stream)


@pytest.fixture
def start(start_broker: Any) -> Any:
    @asynccontextmanager
    async def starting(clock: ManualClock | None = None, **settings: str) -> AsyncIterator[Broker]:
        given = {**SETTINGS, **settings}
        with trio.fail_after(120):
            async with start_broker(memory=True, settings=given, clock=clock) as broker:
                yield broker

    return starting


async def works(wire: Wire) -> bool:
    return len((await wire.ask(MetadataRequest(topics=[]), 12)).brokers) == 1


async def let_in(port: int, context: ssl.SSLContext) -> bool:
    """Whether a client is served: with TLS 1.3 it learns only after its handshake that its certificate is no good."""
    try:
        async with encrypted(port, context) as wire:
            return await works(wire)
    except (trio.BrokenResourceError, AssertionError):
        return False


def produce(value: bytes) -> ProduceRequest:
    partition = ProduceRequest.PartitionProduceData(index=0, records=build_batch([Record(0, 1000, b"k", value, [])]))
    return ProduceRequest(
        acks=-1, timeout_ms=1000, topic_data=[ProduceRequest.TopicProduceData(name="t", partition_data=[partition])]
    )


async def test_records_of_every_size_go_there_and_back(start_broker: Any) -> None:
    """Small ones in one record of TLS, large ones in thousands, from memory and from a file."""
    sizes = [0, 1, 16_000, 16_384, 70_000, 900_000, 9_000_000]
    settings = {**SETTINGS, "message.max.bytes": "10000000"}
    with trio.fail_after(120):
        async with start_broker(settings=settings) as broker, encrypted(broker.port) as wire:
            topic = CreateTopicsRequest.CreatableTopic(name="t", num_partitions=1, replication_factor=1)
            await wire.ask(CreateTopicsRequest(topics=[topic], timeout_ms=1000), 7)
            for size in sizes:
                answer = await wire.ask(produce(b"%7d" % size * (size // 7)), 9)
                assert answer.responses[0].partition_responses[0].error_code == 0
            await wire.send(produce(b"pipelined"), 9, times=40)
            for _ in range(40):
                await wire.receive()
            for offset, size in enumerate(sizes):
                partition = FetchRequest.FetchPartition(
                    partition=0, fetch_offset=offset, partition_max_bytes=20_000_000
                )
                topics = [FetchRequest.FetchTopic(topic="t", partitions=[partition])]
                answer = await wire.ask(
                    FetchRequest(max_wait_ms=0, min_bytes=1, max_bytes=20_000_000, topics=topics), 12
                )
                first = read_records(answer.responses[0].partitions[0].records)[0]
                assert first.value == b"%7d" % size * (size // 7)


async def test_what_is_no_tls_ends_the_connection_and_nothing_else(start: Any) -> None:
    async with start() as broker, encrypted(broker.port) as good:
        async with await Wire.connect(broker.port) as wire:
            await wire.send(MetadataRequest(topics=[]), 12)
            first = await wire.stream.receive_some()
            assert first == b"" or first[0] == 21, "an alert of TLS, or nothing"
        assert await works(good)


async def test_a_half_handshake_is_given_up_after_a_minute(start: Any) -> None:
    clock = ManualClock()
    async with start(clock) as broker, await Wire.connect(broker.port) as wire, encrypted(broker.port) as good:
        assert await works(good)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = client_context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with contextlib.suppress(ssl.SSLWantReadError):
            hello.do_handshake()
        await wire.stream.send_all(outgoing.read()[:100])
        for _ in range(5):
            clock.advance_ms(15_000)
            await wait_all_tasks_blocked(0.02)
        assert await wire.is_closed()
        assert await works(good)


@pytest.mark.parametrize(
    ("auth", "nobody", "mallory"), [("none", True, True), ("requested", True, False), ("required", False, False)]
)
async def test_who_must_show_a_certificate(start: Any, auth: str, nobody: bool, mallory: bool) -> None:
    async with start(**{"ssl.client.auth": auth}) as broker:
        assert await let_in(broker.port, client_context(ALICE))
        assert await let_in(broker.port, client_context()) is nobody
        assert await let_in(broker.port, client_context(STRANGER)) is mallory


@pytest.mark.parametrize(
    ("rules", "known"), [("RULE:^CN=(.*?),.*$/$1/U", True), ("DEFAULT", True), ("RULE:^CN=bob.*$/bob/", False)]
)
async def test_a_certificate_that_no_rule_maps_is_not_let_in(start: Any, rules: str, known: bool) -> None:
    async with start(**{"ssl.client.auth": "required", "ssl.principal.mapping.rules": rules}) as broker:
        assert await let_in(broker.port, client_context(ALICE)) is known


async def test_a_certificate_whose_name_cannot_be_read_is_not_let_in(start: Any, tmp_path: Path) -> None:
    """OpenSSL takes bits for a name, and who is trusted may have signed them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = Name([NameAttribute(NameOID.COMMON_NAME, "\0bits")])
    begin, end = datetime.datetime(2020, 1, 1), datetime.datetime(2050, 1, 1)
    made = CertificateBuilder(name, name, key.public_key(), 1, begin, end).sign(key, SHA256())
    odd = ssl.DER_cert_to_PEM_cert(made.public_bytes(Encoding.DER).replace(b"\x0c\x05\0bits", b"\x03\x05\0bits"))
    shown = tmp_path / "odd.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    shown.write_text(private + odd)
    context = client_context()
    context.load_cert_chain(shown)
    trusted = SETTINGS["ssl.truststore.certificates"] + odd
    async with start(**{"ssl.client.auth": "required", "ssl.truststore.certificates": trusted}) as broker:
        assert not await let_in(broker.port, context)
        assert await let_in(broker.port, client_context(ALICE))


@pytest.mark.parametrize(
    ("user", "error"),
    [("User:ALICE", Error.NONE), ("User:alice", Error.CLUSTER_AUTHORIZATION_FAILED)],
)
async def test_the_authorizer_hears_whom_a_certificate_names(start: Any, user: str, error: Error) -> None:
    settings = {
        "ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^CN=(.*?),.*$/$1/U",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": user,
    }
    async with start(**settings) as broker, encrypted(broker.port, client_context(ALICE)) as wire:
        assert (
            await wire.ask(DescribeAclsRequest(resource_type_filter=1, operation=1, permission_type=1), 3)
        ).error_code == error


async def test_sasl_within_tls(start: Any) -> None:
    jaas = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="secret";'
    settings = {
        **SETTINGS,
        "listeners": "SASL_SSL://127.0.0.1:0",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": jaas,
        "ssl.client.auth": "required",  # is for listeners without SASL, as in Kafka
    }
    async with start(**settings) as broker, encrypted(broker.port) as wire:
        await wire.ask(SaslHandshakeRequest(mechanism="PLAIN"), 1)
        assert (await wire.ask(SaslAuthenticateRequest(auth_bytes=b"\0alice\0secret"), 2)).error_code == 0
        assert await works(wire)
    async with start(**settings, **{"listener.name.sasl_ssl.ssl.client.auth": "required"}) as broker:
        assert not await let_in(broker.port, client_context())


@pytest.mark.parametrize(
    ("settings", "version", "allowed"),
    [
        ({}, ssl.TLSVersion.TLSv1_2, True),
        ({"ssl.enabled.protocols": "TLSv1.3"}, ssl.TLSVersion.TLSv1_2, False),
        ({"ssl.enabled.protocols": "TLSv1.2"}, ssl.TLSVersion.TLSv1_3, False),
        ({"ssl.cipher.suites": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}, ssl.TLSVersion.TLSv1_2, True),
        ({"ssl.cipher.suites": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}, ssl.TLSVersion.TLSv1_3, False),
        ({"ssl.cipher.suites": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}, ssl.TLSVersion.TLSv1_2, False),
    ],
)
async def test_versions_and_suites(
    start: Any, settings: dict[str, str], version: ssl.TLSVersion, allowed: bool
) -> None:
    context = client_context()
    context.minimum_version = context.maximum_version = version
    async with start(**settings) as broker:
        assert await let_in(broker.port, context) is allowed


async def test_new_certificates_are_shown_to_new_connections(start: Any, tmp_path: Path) -> None:
    store = tmp_path / "broker.pem"
    store.write_text(pem(SERVER))
    clock = ManualClock()
    settings = {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(store)}
    given = {name: value for name, value in SETTINGS.items() if not name.startswith("ssl.keystore")} | settings

    async def shown(port: int) -> bytes | None:
        async with encrypted(port) as wire:
            assert await works(wire)
            stream: Any = wire.stream
            certificate: bytes | None = stream.getpeercert(binary_form=True)
            return certificate

    async def look_again() -> None:
        clock.advance_ms(int(LOOK_SECONDS * 1000))
        await wait_all_tasks_blocked(0.2)

    async with start_with(given, clock) as broker, encrypted(broker.port) as old:
        first = await shown(broker.port)
        store.write_text("half a file")
        await look_again()
        assert await shown(broker.port) == first, "what cannot be used leaves things as they were"
        store.write_text(pem(CA.issue_cert("127.0.0.1")))
        with trio.fail_after(60):
            while await shown(broker.port) == first:
                await look_again()
        assert await works(old), "connections stay"


@asynccontextmanager
async def start_with(given: dict[str, str], clock: ManualClock) -> AsyncIterator[Broker]:
    from kafkapy.broker import open_broker
    from kafkapy.config.layers import BrokerConfig

    async with open_broker(BrokerConfig.load(flags=given), data_dir=None, clock=clock) as broker:
        yield broker


def pkcs12_of(certificate: trustme.LeafCert, password: bytes) -> bytes:
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    shown, *others = [load_pem_x509_certificate(blob.bytes()) for blob in certificate.cert_chain_pems]
    return pkcs12.serialize_key_and_certificates(b"kafka", key, shown, others, BestAvailableEncryption(password))  # type: ignore[arg-type]


@pytest.mark.parametrize("type_", ["PKCS12", "JKS"])
async def test_a_key_store_in_pkcs12_whatever_it_is_called(start_broker: Any, tmp_path: Path, type_: str) -> None:
    """Java reads PKCS12 as JKS, too, and that is the default type."""
    store = tmp_path / "broker.p12"
    store.write_bytes(pkcs12_of(SERVER, b"changeit"))
    settings = {
        "listeners": "SSL://127.0.0.1:0",
        "ssl.keystore.type": type_,
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": "changeit",
    }
    async with start_broker(memory=True, settings=settings) as broker:
        assert await let_in(broker.port, client_context())
    with pytest.raises(ConfigError, match="is its password right") as refusal:
        async with start_broker(memory=True, settings={**settings, "ssl.keystore.password": "hunter2"}):
            pass
    assert "hunter2" not in str(refusal.value)


async def test_an_encrypted_key(start: Any) -> None:
    key = load_pem_private_key(SERVER.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"changeit")).decode()
    async with start(**{"ssl.keystore.key": locked, "ssl.key.password": "changeit"}) as broker:
        assert await let_in(broker.port, client_context())
    for wrong in ({"ssl.key.password": "wrong"}, {}):
        with pytest.raises(ConfigError, match="the key store cannot be used"):
            async with start(**{"ssl.keystore.key": locked, **wrong}):
                pass


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ssl.keystore.key": ""}, "the key store cannot be used"),
        ({"ssl.enabled.protocols": "TLSv1.1,TLSv1.2"}, r"may have TLSv1\.2 and TLSv1\.3, not TLSv1\.1"),
        ({"ssl.cipher.suites": "NULL"}, "NULL in ssl.cipher.suites is unknown"),
        ({"ssl.cipher.suites": "TLS_AES_256_GCM_SHA384"}, "must have all or none"),
        ({"ssl.principal.mapping.rules": "RULE:^(/x/"}, "Invalid rule in ssl.principal.mapping.rules"),
    ],
)
async def test_settings_that_make_no_sense_are_refused_at_start(
    start: Any, settings: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        async with start(**settings):
            pass


async def test_a_listener_without_a_key_is_refused_at_start(start_broker: Any) -> None:
    with pytest.raises(ConfigError, match="listener SSL needs a key and a certificate"):
        async with start_broker(memory=True, settings={"listeners": "SSL://127.0.0.1:0"}):
            pass


async def test_jks_is_refused_with_how_to_convert_it(start_broker: Any, tmp_path: Path) -> None:
    store = tmp_path / "broker.jks"
    store.write_bytes(b"\xfe\xed\xfe\xed\0\0\0\2")
    settings = {"listeners": "SSL://127.0.0.1:0", "ssl.keystore.location": str(store)}
    with pytest.raises(ConfigError, match=f"keytool -importkeystore -srckeystore {store} -destkeystore {store}.p12"):
        async with start_broker(memory=True, settings=settings):
            pass
