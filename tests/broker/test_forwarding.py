"""What the controller decides, asked of another broker: forwarded with who asks, and answered as if asked there."""

import ipaddress
import logging
import struct
import traceback
from typing import Any

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from kafkapy.config.setting import ConfigError, ConfigResource
from kafkapy.errors import Error
from kafkapy.handlers import ALL
from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest
from kafkapy.protocol.messages.alter_client_quotas import AlterClientQuotasRequest
from kafkapy.protocol.messages.alter_configs import AlterConfigsRequest
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.protocol.messages.create_acls import CreateAclsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from kafkapy.protocol.messages.describe_configs import DescribeConfigsRequest
from kafkapy.protocol.messages.describe_quorum import DescribeQuorumRequest
from kafkapy.protocol.messages.envelope import EnvelopeRequest
from kafkapy.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from kafkapy.protocol.messages.sasl_handshake import SaslHandshakeRequest
from kafkapy.storage.base import LogId
from tests.broker.between import apart, port_of
from tests.broker.conftest import StartBroker
from tests.broker.test_broker_tls import CA, STRANGER, inline
from tests.broker.wire import Wire

CONTROLLER, OTHER = 1, 2
CREATE_TOPICS, ALTER_CONFIGS, INCREMENTAL_ALTER_CONFIGS, ENVELOPE = 19, 33, 44, 58

OURS = "org.apache.kafka.common.security.plain.PlainLoginModule required"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required"
ENTRY = 'username="broker" password="inside" user_broker="inside" user_alice="secret";'


def guarded(mechanism: str = "PLAIN", **more: str) -> dict[str, str]:
    """Clients and brokers come by listeners of their own, and say who they are; brokers alone may do everything."""
    jaas = f"{OURS if mechanism == 'PLAIN' else SCRAM} {ENTRY}"
    return {
        "listeners": "CLIENTS://127.0.0.1:0,BROKERS://127.0.0.1:0",
        "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,BROKERS:SASL_PLAINTEXT",
        "inter.broker.listener.name": "BROKERS",
        "sasl.enabled.mechanisms": f"PLAIN,{mechanism}" if mechanism != "PLAIN" else "PLAIN",
        "sasl.mechanism.inter.broker.protocol": mechanism,
        "listener.name.clients.plain.sasl.jaas.config": f"{OURS} {ENTRY}",
        "listener.name.brokers.plain.sasl.jaas.config": f"{OURS} {ENTRY}",
        f"listener.name.brokers.{mechanism.lower()}.sasl.jaas.config": jaas,
        f"listener.name.clients.{mechanism.lower()}.sasl.jaas.config": jaas,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:broker",
        **more,
    }


async def connect_as(user: str, password: str, port: int) -> Wire:
    wire = await Wire.connect(port)
    assert (await wire.ask(SaslHandshakeRequest(mechanism="PLAIN"), 1)).error_code == 0
    message = f"\0{user}\0{password}".encode()
    assert (await wire.ask(SaslAuthenticateRequest(auth_bytes=message), 2)).error_code == 0
    return wire


def creating(*names: str, partitions: int = 1) -> CreateTopicsRequest:
    return CreateTopicsRequest(
        topics=[
            CreateTopicsRequest.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)
            for name in names
        ],
        timeout_ms=30_000,
    )


def codes(answer: CreateTopicsResponse) -> list[tuple[str, int]]:
    return [(topic.name, topic.error_code) for topic in answer.topics]


@pytest.mark.parametrize("version", [2, 5, 7])
async def test_who_asks_another_broker_gets_the_controllers_answer_in_its_own_version(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    async with apart(start_broker, monkeypatch) as (broker, seen):
        async with await Wire.connect(port_of(broker, OTHER)) as wire:
            answer = await wire.ask(creating("t", "bad name"), version)
            assert codes(answer) == [("t", Error.NONE), ("bad name", Error.INVALID_TOPIC_EXCEPTION)]
            if version >= 5:
                assert (answer.topics[0].num_partitions, len(answer.topics[0].configs or [])) > (0, 10)
            again = await wire.ask(creating("t"), version)
            assert codes(again) == [("t", Error.TOPIC_ALREADY_EXISTS)]
        assert (seen.of(OTHER, CREATE_TOPICS), seen.of(OTHER, ENVELOPE)) == (2, 0)
        assert (seen.of(CONTROLLER, CREATE_TOPICS), seen.of(CONTROLLER, ENVELOPE)) == (0, 2)


async def test_the_controller_forwards_nothing(start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    async with apart(start_broker, monkeypatch) as (broker, seen):
        async with await Wire.connect(port_of(broker, CONTROLLER)) as wire:
            assert codes(await wire.ask(creating("t"), 7)) == [("t", Error.NONE)]
        assert [seen.of(node_id, ENVELOPE) for node_id in seen] == [0, 0]


async def test_a_controller_whose_lease_is_in_doubt_decides_when_it_is_not(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others take it for the controller, and so does it; but it leads nothing until its lease is renewed."""
    async with apart(start_broker, monkeypatch) as (broker, _):
        leadership = broker.fleet.nodes[CONTROLLER].rooms.cluster.leadership
        asked = trio.Event()

        def in_doubt(log: LogId) -> None:
            asked.set()

        async with await Wire.connect(port_of(broker, CONTROLLER)) as wire:
            with monkeypatch.context() as doubt:
                doubt.setattr(leadership, "epoch", in_doubt)
                await wire.send(creating("t"), 7)
                await asked.wait()
                await wait_all_tasks_blocked(0.01)
            assert codes(await wire.receive()) == [("t", Error.NONE)]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_client_has_its_own_rights_wherever_it_asks(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch, mechanism: str
) -> None:
    async with (
        apart(start_broker, monkeypatch, guarded(mechanism)) as (broker, _),
        await connect_as("alice", "secret", port_of(broker, OTHER, "CLIENTS")) as alice,
        await connect_as("broker", "inside", port_of(broker, OTHER, "CLIENTS")) as admin,
    ):
        assert codes(await alice.ask(creating("t"), 7)) == [("t", Error.TOPIC_AUTHORIZATION_FAILED)]
        creation = CreateAclsRequest.AclCreation(
            resource_type=2,
            resource_name="t",
            resource_pattern_type=3,
            principal="User:alice",
            host="127.0.0.1",
            operation=5,
            permission_type=3,
        )
        [result] = (await admin.ask(CreateAclsRequest(creations=[creation]), 3)).results
        assert result.error_code == 0
        assert codes(await alice.ask(creating("t", "u"), 7)) == [
            ("t", Error.NONE),
            ("u", Error.TOPIC_AUTHORIZATION_FAILED),
        ]


def between_by(protocol: str, certificate: trustme.LeafCert) -> dict[str, str]:
    """The settings of brokers that show each other this certificate, and trust ours."""
    own = inline(certificate).items()
    return {
        **guarded(),
        "listener.security.protocol.map": f"CLIENTS:SASL_PLAINTEXT,BROKERS:{protocol}",
        **{f"listener.name.brokers.{name}": value for name, value in own},
        "listener.name.brokers.ssl.client.auth": "required",
    }


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
async def test_brokers_know_each_other_by_certificates(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    settings = between_by(protocol, CA.issue_cert("127.0.0.1", common_name="kafka", organization_unit_name="brokers"))
    settings["super.users"] = "User:broker;User:CN=kafka,OU=brokers,O=trustme v" + trustme.__version__
    async with (
        apart(start_broker, monkeypatch, settings) as (broker, _),
        await connect_as("alice", "secret", port_of(broker, OTHER, "CLIENTS")) as alice,
    ):
        assert codes(await alice.ask(creating("t"), 7)) == [("t", Error.TOPIC_AUTHORIZATION_FAILED)]


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        (CA.issue_cert("elsewhere.example"), "IP address mismatch"),
        (STRANGER, "certificate"),
    ],
)
async def test_a_broker_does_not_speak_to_one_that_shows_another_certificate(
    start_broker: StartBroker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    certificate: trustme.LeafCert,
    why: str,
) -> None:
    caplog.set_level(logging.INFO, "kafkapy.handlers.network_peers")
    async with (
        apart(start_broker, monkeypatch, between_by("SSL", certificate)) as (broker, _),
        await connect_as("alice", "secret", port_of(broker, OTHER, "CLIENTS")) as alice,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(alice.ask, creating("t"), 7)
        with trio.fail_after(60):
            while not any("no TLS with 127.0.0.1" in line and why in line for line in caplog.messages):
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_brokers_that_may_not_speak_for_others_are_no_use_and_clients_hear_of_a_broken_server(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = guarded(**{"super.users": "User:nobody"})
    async with (
        apart(start_broker, monkeypatch, settings) as (broker, _),
        await connect_as("alice", "secret", port_of(broker, OTHER, "CLIENTS")) as alice,
    ):
        assert codes(await alice.ask(creating("t"), 7)) == [("t", Error.UNKNOWN_SERVER_ERROR)]


def principal(name: str = "alice", version: int = 0) -> bytes:
    return struct.pack(">h", version) + bytes([5]) + b"User" + bytes([len(name) + 1]) + name.encode() + b"\0\0"


def inner(request: Any, version: int = 7) -> bytes:
    out = bytearray()
    encode_request_header(request.API_KEY, version, 77, "c", out)
    return b"".join(request.encode(version, out))


HERE = ipaddress.ip_address("127.0.0.1").packed


def envelope(data: bytes, who: bytes | None = None, host: bytes = HERE) -> EnvelopeRequest:
    return EnvelopeRequest(request_data=data, request_principal=who or principal(), client_host_address=host)


async def test_an_envelope_is_taken_from_brokers_alone_at_their_listener_alone(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = envelope(inner(creating("t")))
    async with apart(start_broker, monkeypatch, guarded()) as (broker, _):
        async with await connect_as("broker", "inside", port_of(broker, CONTROLLER, "CLIENTS")) as wire:
            await wire.send(asked, 0)
            assert await wire.receive_frame() is None
        for node_id, user, password, error in (
            (CONTROLLER, "alice", "secret", Error.CLUSTER_AUTHORIZATION_FAILED),
            (OTHER, "broker", "inside", Error.NOT_CONTROLLER),
            (CONTROLLER, "broker", "inside", Error.NONE),
        ):
            async with await connect_as(user, password, port_of(broker, node_id, "BROKERS")) as wire:
                answer = await wire.ask(asked, 0)
                assert answer.error_code == error
        correlation_id, offset = decode_response_header(CREATE_TOPICS, 7, answer.response_data)
        response, end = CreateTopicsResponse.decode(7, answer.response_data, offset)
        assert (correlation_id, end) == (77, len(answer.response_data))
        assert codes(response) == [("t", Error.TOPIC_AUTHORIZATION_FAILED)]  # it is alice's, whoever brings it


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (envelope(inner(creating("t")), who=b"\0"), Error.PRINCIPAL_DESERIALIZATION_FAILURE),
        (envelope(inner(creating("t")), who=principal(version=1)), Error.PRINCIPAL_DESERIALIZATION_FAILURE),
        (envelope(inner(creating("t")), who=principal()[:-4]), Error.PRINCIPAL_DESERIALIZATION_FAILURE),
        (envelope(inner(creating("t")), host=b"abc"), Error.INVALID_REQUEST),
        (envelope(inner(MetadataRequest(), 12)), Error.INVALID_REQUEST),
        (envelope(inner(envelope(inner(creating("t"))), 0)), Error.INVALID_REQUEST),
        (envelope(inner(creating("t"))[:-3]), Error.UNSUPPORTED_VERSION),
        (envelope(b""), Error.UNSUPPORTED_VERSION),
        (envelope(struct.pack(">hhi", CREATE_TOPICS, 99, 1)), Error.UNSUPPORTED_VERSION),
    ],
)
async def test_what_makes_no_sense_is_the_envelopes_error(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch, asked: EnvelopeRequest, error: Error
) -> None:
    async with (
        apart(start_broker, monkeypatch) as (broker, _),
        await Wire.connect(port_of(broker, CONTROLLER)) as wire,
    ):
        answer = await wire.ask(asked, 0)
        assert (answer.error_code, answer.response_data) == (error, None)
        assert (await wire.ask(envelope(inner(creating("t"))), 0)).error_code == 0


async def test_what_only_brokers_ask_is_told_at_their_listener_alone(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {}
    async with apart(start_broker, monkeypatch, guarded()) as (broker, _):
        for listener in ("CLIENTS", "BROKERS"):
            async with await Wire.connect(port_of(broker, OTHER, listener)) as wire:
                told[listener] = {api.api_key for api in (await wire.ask(ApiVersionsRequest(), 0)).api_keys}
    assert told["BROKERS"] - told["CLIENTS"] == {58, 67}


async def test_a_broker_of_one_process_knows_nothing_of_envelopes(start_broker: StartBroker) -> None:
    async with start_broker(memory=True) as alone, await Wire.connect(alone.port) as wire:
        assert not {58, 67} & {api.api_key for api in (await wire.ask(ApiVersionsRequest(), 0)).api_keys}
        await wire.send(envelope(inner(creating("t"))), 0)
        assert await wire.receive_frame() is None


async def test_a_broker_judges_its_own_settings_and_loggers_and_the_controller_the_rest(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource, setting = (
        IncrementalAlterConfigsRequest.AlterConfigsResource,
        IncrementalAlterConfigsRequest.AlterableConfig,
    )

    def setting_of(kind: ConfigResource, name: str, key: str, value: str) -> Any:
        return resource(resource_type=kind, resource_name=name, configs=[setting(name=key, value=value)])

    level = logging.getLogger("kafkapy.log").level
    async with (
        apart(start_broker, monkeypatch) as (broker, seen),
        await Wire.connect(port_of(broker, OTHER)) as wire,
    ):
        assert codes(await wire.ask(creating("t"), 7)) == [("t", Error.NONE)]
        asked = IncrementalAlterConfigsRequest(
            resources=[
                setting_of(ConfigResource.BROKER_LOGGER, "2", "kafkapy.log", "ERROR"),
                setting_of(ConfigResource.TOPIC, "t", "retention.ms", "1000"),
                setting_of(ConfigResource.BROKER, "1", "background.threads", "3"),  # the controller's, not this one's
                setting_of(ConfigResource.BROKER, "2", "background.threads", "12"),
                setting_of(ConfigResource.TOPIC, "nosuch", "retention.ms", "1000"),
            ]
        )
        try:
            answer = await wire.ask(asked, 1)
            assert logging.getLogger("kafkapy.log").level == logging.ERROR
        finally:
            logging.getLogger("kafkapy.log").setLevel(level)
        assert [(one.resource_name, one.error_code) for one in answer.responses] == [
            ("2", 0),
            ("t", 0),
            ("1", Error.INVALID_REQUEST),
            ("2", 0),
            ("nosuch", Error.UNKNOWN_TOPIC_OR_PARTITION),
        ]
        replaced = AlterConfigsRequest(
            resources=[
                AlterConfigsRequest.AlterConfigsResource(
                    resource_type=ConfigResource.TOPIC,
                    resource_name="t",
                    configs=[AlterConfigsRequest.AlterableConfig(name="retention.bytes", value="77")],
                )
            ]
        )
        assert [one.error_code for one in (await wire.ask(replaced, 2)).responses] == [0]
        described = DescribeConfigsRequest(
            resources=[
                DescribeConfigsRequest.DescribeConfigsResource(resource_type=kind, resource_name=name)
                for kind, name in ((ConfigResource.TOPIC, "t"), (ConfigResource.BROKER, "2"))
            ]
        )
        topic, node = (await wire.ask(described, 4)).results
        assert {c.name: c.value for c in topic.configs}["retention.bytes"] == "77"
        assert {c.name: c.value for c in node.configs}["background.threads"] == "12"
        assert seen.of(CONTROLLER, ENVELOPE) == 3


async def test_only_what_is_done_by_the_broker_itself_needs_no_controller(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = IncrementalAlterConfigsRequest(
        resources=[IncrementalAlterConfigsRequest.AlterConfigsResource(resource_type=8, resource_name="2", configs=[])]
    )
    async with apart(start_broker, monkeypatch) as (broker, seen):
        async with await Wire.connect(port_of(broker, OTHER)) as wire:
            assert [one.error_code for one in (await wire.ask(asked, 1)).responses] == [0]
        assert seen.of(CONTROLLER, ENVELOPE) == 0


async def test_the_controller_counts_what_a_client_changes_and_the_broker_that_was_asked_holds_it_back(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = AlterClientQuotasRequest.EntityData
    limit = AlterClientQuotasRequest(
        entries=[
            AlterClientQuotasRequest.EntryData(
                entity=[part(entity_type="client-id", entity_name="wire")],
                ops=[AlterClientQuotasRequest.OpData(key="controller_mutation_rate", value=0.1)],
            )
        ]
    )
    async with apart(start_broker, monkeypatch) as (broker, _):
        async with await Wire.connect(port_of(broker, OTHER)) as wire:
            [entry] = (await wire.ask(limit, 1)).entries
            assert entry.error_code == 0
            answer = await wire.ask(creating("t", partitions=20), 5)  # which is not refused, and pays later
            assert codes(answer) == [("t", Error.NONE)]
            assert answer.throttle_time_ms > 1000
            await wire.send(MetadataRequest(topics=[]), 12)
            with trio.move_on_after(0.2) as unanswered:
                await wire.receive()
            assert unanswered.cancelled_caught  # it is muted, here
        async with await Wire.connect(port_of(broker, CONTROLLER)) as wire:
            assert codes(await wire.ask(creating("u", partitions=20), 6)) == [("u", Error.THROTTLING_QUOTA_EXCEEDED)]


async def test_a_request_waits_for_the_next_controller(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with apart(start_broker, monkeypatch, brokers=3) as (broker, seen):
        answers: list[Any] = []

        async def ask(node_id: int, name: str) -> None:
            async with await Wire.connect(port_of(broker, node_id)) as wire:
                answers.append(codes(await wire.ask(creating(name), 7)))

        async with trio.open_nursery() as nursery:
            broker.fleet.nodes[
                CONTROLLER
            ].kill()  # nobody is told yet: it is the controller still, and cannot be reached
            await broker.fleet.nodes[CONTROLLER].ended.wait()
            for node_id in (2, 3):
                nursery.start_soon(ask, node_id, f"t{node_id}")
        assert sorted(answers) == [[("t2", Error.NONE)], [("t3", Error.NONE)]]
        assert seen.of(2, ENVELOPE) == 1


async def test_producer_ids_come_in_blocks_that_nobody_else_has(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with apart(start_broker, monkeypatch) as (broker, _):
        registered = broker.rooms.cluster.image.brokers[OTHER]
        asked = AllocateProducerIdsRequest(broker_id=OTHER, broker_epoch=registered.epoch)
        async with await Wire.connect(port_of(broker, CONTROLLER)) as wire:
            blocks = [await wire.ask(asked, 0) for _ in range(2)]
            assert [block.error_code for block in blocks] == [0, 0]
            first, second = (range(b.producer_id_start, b.producer_id_start + b.producer_id_len) for b in blocks)
            assert first and second and not set(first) & set(second)
            asked.broker_epoch -= 1
            assert (await wire.ask(asked, 0)).error_code == Error.STALE_BROKER_EPOCH


async def test_the_quorum_is_described_by_its_leader(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = DescribeQuorumRequest.TopicData(
        topic_name="__cluster_metadata", partitions=[DescribeQuorumRequest.PartitionData(partition_index=0)]
    )
    async with apart(start_broker, monkeypatch) as (broker, seen):
        async with await Wire.connect(port_of(broker, OTHER)) as wire:
            answer = await wire.ask(DescribeQuorumRequest(topics=[topic]), 2)
        assert answer.topics[0].partitions[0].leader_id == CONTROLLER
        assert seen.of(CONTROLLER, ENVELOPE) == 1


def test_what_kafka_forwards_is_forwarded() -> None:
    """Kafka's list (ApiKeys.forwardable), without what only brokers ask for, and voters, of which there are none."""
    assert {route.key for route in ALL if route.by_controller} == {
        *(19, 20, 30, 31, 33, 37, 38, 39, 40, 43, 44, 45, 46, 49, 51, 55, 57, 64),
    }


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sasl.mechanism.inter.broker.protocol": "GSSAPI"}, "brokers can say to each other who they are by PLAIN"),
        (
            {"listener.name.brokers.plain.sasl.jaas.config": f"{OURS} user_alice=x;"},
            "as whom brokers come to each other",
        ),
        (
            {"inter.broker.listener.name": "", "security.inter.broker.protocol": "SSL"},
            "reach each other at listener SSL",
        ),
    ],
)
async def test_what_brokers_lack_to_reach_each_other_is_said_at_start(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], says: str
) -> None:
    given = {name: value for name, value in {**guarded(), **settings}.items() if value}
    with pytest.raises(BaseExceptionGroup) as failed:
        async with apart(start_broker, monkeypatch, given):
            pass
    problems = failed.value.subgroup(ConfigError)
    assert problems is not None
    assert says in "".join(traceback.format_exception(problems))


async def test_without_settings_for_it_the_only_listener_is_the_one_between_brokers(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"listeners": "OURS://127.0.0.1:0", "listener.security.protocol.map": "OURS:PLAINTEXT"}
    async with apart(start_broker, monkeypatch, settings) as (broker, seen):
        async with await Wire.connect(port_of(broker, OTHER)) as wire:
            assert codes(await wire.ask(creating("t"), 7)) == [("t", Error.NONE)]
        assert seen.of(CONTROLLER, ENVELOPE) == 1
