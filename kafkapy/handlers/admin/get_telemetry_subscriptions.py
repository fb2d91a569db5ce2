"""GetTelemetrySubscriptions (key 71), version 0.

Which metrics a client is asked to push, and how often: what the subscriptions that match it come to (KIP-714). A client
that has no instance id yet gets one. Told of by ApiVersions only where metrics are told (`kafkapy.metrics.port`), as in
Kafka where nothing receives them.
"""

from collections.abc import Mapping

from kafkapy.config.setting import ConfigResource
from kafkapy.handlers.context import Context
from kafkapy.model import ZERO_UUID, random_uuid
from kafkapy.protocol.messages.get_telemetry_subscriptions import (
    GetTelemetrySubscriptionsRequest,
    GetTelemetrySubscriptionsResponse,
)
from kafkapy.telemetry.subscriptions import Settings, instance_attributes

_COMPRESSIONS = [4, 3, 1, 2]  # zstd, lz4, gzip, snappy: the order of preference


async def handle(request: GetTelemetrySubscriptionsRequest, ctx: Context) -> GetTelemetrySubscriptionsResponse:
    instance = request.client_instance_id
    if instance == ZERO_UUID:
        instance = random_uuid()
    subscription = ctx.rooms.telemetry.subscriptions.ask(
        instance, attributes_of(instance, ctx), settings_of(ctx), ctx.rooms.clock.now_ms()
    )
    return GetTelemetrySubscriptionsResponse(
        client_instance_id=instance,
        subscription_id=subscription.subscription_id,
        accepted_compression_types=_COMPRESSIONS,
        push_interval_ms=subscription.interval_ms,
        telemetry_max_bytes=ctx.rooms.config["telemetry.max.bytes"],
        delta_temporality=True,
        requested_metrics=list(subscription.metrics),
    )


def attributes_of(instance: bytes, ctx: Context) -> Mapping[str, str | None]:
    """What subscriptions may choose this client by."""
    session = ctx.session
    return instance_attributes(
        instance,
        ctx.client_id,
        (session.software_name, session.software_version),
        (session.peer_host, session.peer_port),
    )


def settings_of(ctx: Context) -> Settings:
    """All subscriptions that there are."""
    overrides = ctx.rooms.cluster.image.overrides
    return {name: own for (kind, name), own in overrides.items() if kind == ConfigResource.CLIENT_METRICS}
