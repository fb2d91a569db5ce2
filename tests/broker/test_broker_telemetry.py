"""Clients' own metrics on the wire: asked for by a subscription, pushed, read and told."""

from collections.abc import AsyncIterator, Callable

import pytest
import trio
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, MetricsData

from kafkapy.broker import Broker
from kafkapy.config.setting import ConfigResource
from kafkapy.errors import Error
from kafkapy.model import ZERO_UUID
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.protocol.messages.get_telemetry_subscriptions import GetTelemetrySubscriptionsRequest
from kafkapy.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from kafkapy.protocol.messages.push_telemetry import PushTelemetryRequest
from kafkapy.records.batch import Compression
from kafkapy.records.compression import compress
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire


@pytest.fixture
async def broker(start_broker: StartBroker) -> AsyncIterator[Broker]:
    async with start_broker(
        memory=True, settings={"kafkapy.metrics.port": "0", "telemetry.max.bytes": "100000"}
    ) as started:
        yield started


@pytest.fixture
async def wire(broker: Broker) -> AsyncIterator[Wire]:
    async with await Wire.connect(broker.port) as connected:
        resource = IncrementalAlterConfigsRequest.AlterConfigsResource(
            resource_type=ConfigResource.CLIENT_METRICS,
            resource_name="all",
            configs=[
                IncrementalAlterConfigsRequest.AlterableConfig(name=name, config_operation=0, value=value)
                for name, value in (("metrics", "*"), ("interval.ms", "100"))
            ],
        )
        answer = await connected.ask(IncrementalAlterConfigsRequest(resources=[resource]), 1)
        assert answer.responses[0].error_code == 0
        yield connected


def pushed(value: float) -> bytes:
    data = MetricsData()
    scope = data.resource_metrics.add().scope_metrics.add()
    gauge = scope.metrics.add(name="org.apache.kafka.consumer.lag")
    point = gauge.gauge.data_points.add(as_double=value)
    point.attributes.add(key="topic").value.string_value = "t"
    total = scope.metrics.add(name="org.apache.kafka.consumer.polls")
    total.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    total.sum.data_points.add(as_int=3)
    return data.SerializeToString()


async def push_again(wire: Wire, make: Callable[[], PushTelemetryRequest]) -> int:
    """The error of a push that does not come too soon."""
    with trio.fail_after(20):
        while True:
            answer = await wire.ask(make(), 0)
            if answer.error_code != Error.THROTTLING_QUOTA_EXCEEDED:
                return int(answer.error_code)


async def test_what_a_client_pushes_is_read_in_every_compression_and_told(broker: Broker, wire: Wire) -> None:
    told = await wire.ask(GetTelemetrySubscriptionsRequest(client_instance_id=ZERO_UUID), 0)
    assert (told.error_code, told.requested_metrics, told.push_interval_ms) == (0, ["*"], 100)
    assert (told.telemetry_max_bytes, told.accepted_compression_types) == (100_000, [4, 3, 1, 2])
    assert told.client_instance_id != ZERO_UUID
    for codec in Compression:
        request = PushTelemetryRequest(
            client_instance_id=told.client_instance_id,
            subscription_id=told.subscription_id,
            compression_type=codec,
            metrics=compress(codec, pushed(float(codec))),
        )
        assert await push_again(wire, lambda request=request: request) == 0
    values = {labels[1:]: value for labels, value in broker.rooms.telemetry.gauge().values.items()}
    assert values == {
        ("wire", "org.apache.kafka.consumer.lag", "topic=t"): float(max(Compression)),
        ("wire", "org.apache.kafka.consumer.polls", ""): 3.0 * len(Compression),
    }


async def test_pushes_that_are_wrong_are_refused(broker: Broker, wire: Wire) -> None:
    nobody = PushTelemetryRequest(client_instance_id=ZERO_UUID, metrics=b"")
    assert (await wire.ask(nobody, 0)).error_code == Error.INVALID_REQUEST
    told = await wire.ask(GetTelemetrySubscriptionsRequest(client_instance_id=ZERO_UUID), 0)

    def push(**fields: object) -> PushTelemetryRequest:
        usual = {"client_instance_id": told.client_instance_id, "subscription_id": told.subscription_id}
        return PushTelemetryRequest(**{**usual, "metrics": b"", **fields})

    for fields, error in (
        ({"compression_type": 9}, Error.UNSUPPORTED_COMPRESSION_TYPE),
        ({"metrics": bytes(100_001)}, Error.TELEMETRY_TOO_LARGE),
        ({"metrics": b"no OTLP"}, Error.INVALID_RECORD),
        ({"metrics": b"no gzip", "compression_type": 1}, Error.INVALID_RECORD),
        ({"metrics": compress(Compression.GZIP, bytes(8 << 20)), "compression_type": 1}, Error.INVALID_RECORD),
        ({"subscription_id": told.subscription_id + 1}, Error.UNKNOWN_SUBSCRIPTION_ID),
        ({"terminating": True}, Error.NONE),
        ({}, Error.INVALID_REQUEST),
    ):
        assert await push_again(wire, lambda fields=fields: push(**fields)) == error, fields
    assert broker.rooms.telemetry.gauge().values == {}


async def test_clients_are_told_of_it_only_where_somebody_listens(broker: Broker, start_broker: StartBroker) -> None:
    async with await Wire.connect(broker.port) as wire:
        keys = {row.api_key for row in (await wire.ask(ApiVersionsRequest(), 0)).api_keys}
        assert {71, 72} <= keys
    async with start_broker(memory=True) as deaf, await Wire.connect(deaf.port) as wire:
        keys = {row.api_key for row in (await wire.ask(ApiVersionsRequest(), 0)).api_keys}
        assert not {71, 72} & keys
        assert (await wire.ask(GetTelemetrySubscriptionsRequest(client_instance_id=ZERO_UUID), 0)).error_code == 0
