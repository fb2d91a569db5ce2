"""StreamsGroupTopologyDescriptionUpdate (key 93), version 0.

Brings a description of a streams application's topology, for a plugin of the broker to keep (KIP-1331). Such plugins
are Java classes; as in a Kafka without one, the answer is UNSUPPORTED_VERSION, and no heartbeat asks for a description.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.groups.requests import require_streams_protocol
from kafkapy.protocol.messages.streams_group_topology_description_update import (
    StreamsGroupTopologyDescriptionUpdateRequest as Request,
)
from kafkapy.protocol.messages.streams_group_topology_description_update import (
    StreamsGroupTopologyDescriptionUpdateResponse as Response,
)


async def handle(request: Request, ctx: Context) -> Response:
    require_streams_protocol(ctx)
    ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
    return Response(
        error_code=Error.UNSUPPORTED_VERSION,
        error_message="The broker has no streams group topology description plugin configured.",
    )


def refuse(request: Request, refusal: KafkaError, ctx: Context) -> Response:
    """The error response."""
    return Response(error_code=refusal.error)
