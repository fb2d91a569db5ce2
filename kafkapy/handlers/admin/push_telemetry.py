"""PushTelemetry (key 72), version 0.

A client's metrics, as it was asked for them (KIP-714): under the subscription that it was told, not more often than
that says, in a compression that there is, and within `telemetry.max.bytes`. After a push that says it is the last,
nothing more is taken. Where metrics are not told, what comes is unpacked and dropped.
"""

from kafkapy.cluster.image import METADATA_TOPIC_ID
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.admin.get_telemetry_subscriptions import attributes_of, settings_of
from kafkapy.handlers.context import Context
from kafkapy.model import ZERO_UUID
from kafkapy.protocol.messages.push_telemetry import PushTelemetryRequest, PushTelemetryResponse
from kafkapy.records.batch import Compression

_CODECS = frozenset(Compression)


async def handle(request: PushTelemetryRequest, ctx: Context) -> PushTelemetryResponse:
    instance, telemetry = request.client_instance_id, ctx.rooms.telemetry
    if instance in (ZERO_UUID, METADATA_TOPIC_ID):
        raise KafkaError(Error.INVALID_REQUEST)
    telemetry.subscriptions.push(
        instance,
        attributes_of(instance, ctx),
        settings_of(ctx),
        ctx.rooms.clock.now_ms(),
        subscription_id=request.subscription_id,
        terminating=request.terminating,
        problem=_problem(request, ctx),
    )
    if request.metrics:
        try:
            telemetry.receive(instance, ctx.client_id or "", request.compression_type, bytes(request.metrics))
        except KafkaError:
            telemetry.subscriptions.spoil(instance)
            raise
    return PushTelemetryResponse()


def _problem(request: PushTelemetryRequest, ctx: Context) -> KafkaError | None:
    if request.compression_type not in _CODECS:
        return KafkaError(Error.UNSUPPORTED_COMPRESSION_TYPE)
    if len(request.metrics) > ctx.rooms.config["telemetry.max.bytes"]:
        return KafkaError(Error.TELEMETRY_TOO_LARGE)
    return None
