"""IncrementalAlterConfigs (key 44), versions 0 to 1.

Sets, removes, appends to and subtracts from single settings of topics, brokers, groups and client metrics
subscriptions, and sets the levels of this broker's loggers (KIP-339, KIP-412). Each resource is answered by itself, and
changes as a whole or not at all; what is changed acts when the answer leaves. Settings of a listener, and those of TLS
and SASL, are refused for a running broker.
"""

from collections.abc import Sequence

from kafkapy.errors import KafkaError
from kafkapy.handlers.admin.altering import Asked, AskedResource, PassOn, Told, alter, in_order
from kafkapy.handlers.context import Context
from kafkapy.handlers.forwarding import Send
from kafkapy.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

Result = IncrementalAlterConfigsResponse.AlterConfigsResourceResponse


async def handle(request: IncrementalAlterConfigsRequest, ctx: Context) -> IncrementalAlterConfigsResponse:
    return await _alter(request, ctx, None)


async def forward(request: IncrementalAlterConfigsRequest, ctx: Context, send: Send) -> IncrementalAlterConfigsResponse:
    """The same where the controller is elsewhere: it hears of what is neither refused nor done here."""

    async def pass_on(places: Sequence[int]) -> list[Told]:
        resources = [request.resources[place] for place in places]
        response = await send(IncrementalAlterConfigsRequest(resources=resources, validate_only=request.validate_only))
        return in_order(places, request.resources, response.responses)

    return await _alter(request, ctx, pass_on)


async def _alter(
    request: IncrementalAlterConfigsRequest, ctx: Context, pass_on: PassOn | None
) -> IncrementalAlterConfigsResponse:
    resources = [
        AskedResource(
            resource.resource_type,
            resource.resource_name,
            [Asked(setting.name, setting.config_operation, setting.value) for setting in resource.configs],
        )
        for resource in request.resources
    ]
    told = await alter(resources, ctx, replaces=False, validate_only=request.validate_only, pass_on=pass_on)
    return IncrementalAlterConfigsResponse(responses=[Result(**one._asdict()) for one in told])


def refuse(
    request: IncrementalAlterConfigsRequest, refusal: KafkaError, ctx: Context
) -> IncrementalAlterConfigsResponse:
    """The error response: the error at every resource."""
    told = (Told.of(asked.resource_type, asked.resource_name, refusal) for asked in request.resources)
    return IncrementalAlterConfigsResponse(responses=[Result(**one._asdict()) for one in told])
