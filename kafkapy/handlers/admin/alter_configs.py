"""AlterConfigs (key 33), versions 0 to 2.

Replaces all settings that a topic, a broker, a group or a client metrics subscription has of its own by those that are
given: what is not named goes back to its default. Kafka calls it deprecated for IncrementalAlterConfigs (KIP-339); the
rules are the same, but for loggers, which it does not know.
"""

from collections.abc import Sequence

from kafkapy.config.altering import Op
from kafkapy.errors import KafkaError
from kafkapy.handlers.admin.altering import Asked, AskedResource, PassOn, Told, alter, in_order
from kafkapy.handlers.context import Context
from kafkapy.handlers.forwarding import Send
from kafkapy.protocol.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse

Result = AlterConfigsResponse.AlterConfigsResourceResponse


async def handle(request: AlterConfigsRequest, ctx: Context) -> AlterConfigsResponse:
    return await _alter(request, ctx, None)


async def forward(request: AlterConfigsRequest, ctx: Context, send: Send) -> AlterConfigsResponse:
    """The same where the controller is elsewhere: it hears of what is not refused here."""

    async def pass_on(places: Sequence[int]) -> list[Told]:
        resources = [request.resources[place] for place in places]
        response = await send(AlterConfigsRequest(resources=resources, validate_only=request.validate_only))
        return in_order(places, request.resources, response.responses)

    return await _alter(request, ctx, pass_on)


async def _alter(request: AlterConfigsRequest, ctx: Context, pass_on: PassOn | None) -> AlterConfigsResponse:
    resources = [
        AskedResource(
            resource.resource_type,
            resource.resource_name,
            [Asked(setting.name, Op.SET, setting.value) for setting in resource.configs],
        )
        for resource in request.resources
    ]
    told = await alter(resources, ctx, replaces=True, validate_only=request.validate_only, pass_on=pass_on)
    return AlterConfigsResponse(responses=[Result(**one._asdict()) for one in told])


def refuse(request: AlterConfigsRequest, refusal: KafkaError, ctx: Context) -> AlterConfigsResponse:
    """The error response: the error at every resource."""
    told = (Told.of(asked.resource_type, asked.resource_name, refusal) for asked in request.resources)
    return AlterConfigsResponse(responses=[Result(**one._asdict()) for one in told])
