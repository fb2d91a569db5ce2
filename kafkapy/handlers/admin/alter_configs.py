"""AlterConfigs (key 33), versions 0 to 2.

Replaces all settings that a topic, a broker, a group or a client metrics subscription has of its own by those that are
given: what is not named goes back to its default. Kafka calls it deprecated for IncrementalAlterConfigs (KIP-339); the
rules are the same, but for loggers, which it does not know.
"""

from kafkapy.config.altering import Op
from kafkapy.errors import KafkaError
from kafkapy.handlers.admin.altering import Asked, AskedResource, Told, alter
from kafkapy.handlers.context import Context
from kafkapy.protocol.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse

Result = AlterConfigsResponse.AlterConfigsResourceResponse


async def handle(request: AlterConfigsRequest, ctx: Context) -> AlterConfigsResponse:
    resources = [
        AskedResource(
            resource.resource_type,
            resource.resource_name,
            [Asked(setting.name, Op.SET, setting.value) for setting in resource.configs],
        )
        for resource in request.resources
    ]
    told = await alter(resources, ctx, replaces=True, validate_only=request.validate_only)
    return AlterConfigsResponse(responses=[Result(**one._asdict()) for one in told])


def refuse(request: AlterConfigsRequest, refusal: KafkaError, ctx: Context) -> AlterConfigsResponse:
    """The error response: the error at every resource."""
    told = (Told.of(asked.resource_type, asked.resource_name, refusal) for asked in request.resources)
    return AlterConfigsResponse(responses=[Result(**one._asdict()) for one in told])
