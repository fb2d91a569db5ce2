"""IncrementalAlterConfigs (key 44), versions 0 to 1.

Sets, removes, appends to and subtracts from single settings of topics, brokers, groups and client metrics
subscriptions, and sets the levels of this broker's loggers (KIP-339, KIP-412). Each resource is answered by itself, and
changes as a whole or not at all; what is changed acts when the answer leaves. Settings of a listener, and those of TLS
and SASL, are refused for a running broker.
"""

from kafkapy.errors import KafkaError
from kafkapy.handlers.admin.altering import Asked, AskedResource, Told, alter
from kafkapy.handlers.context import Context
from kafkapy.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

Result = IncrementalAlterConfigsResponse.AlterConfigsResourceResponse


async def handle(request: IncrementalAlterConfigsRequest, ctx: Context) -> IncrementalAlterConfigsResponse:
    resources = [
        AskedResource(
            resource.resource_type,
            resource.resource_name,
            [Asked(setting.name, setting.config_operation, setting.value) for setting in resource.configs],
        )
        for resource in request.resources
    ]
    told = await alter(resources, ctx, replaces=False, validate_only=request.validate_only)
    return IncrementalAlterConfigsResponse(responses=[Result(**one._asdict()) for one in told])


def refuse(
    request: IncrementalAlterConfigsRequest, refusal: KafkaError, ctx: Context
) -> IncrementalAlterConfigsResponse:
    """The error response: the error at every resource."""
    told = (Told.of(asked.resource_type, asked.resource_name, refusal) for asked in request.resources)
    return IncrementalAlterConfigsResponse(responses=[Result(**one._asdict()) for one in told])
