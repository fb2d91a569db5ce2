"""Envelope (key 58), version 0.

A request that another broker forwards for its client (KIP-590), to be decided here: as that client's, with its
principal and its address. The answer holds what the client is to get; the error is that of the envelope alone, such as
NOT_CONTROLLER where this broker is not the one to decide. For brokers, at the listener between them.
"""

from kafkapy.cluster.image import METADATA_LOG
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.handlers.forwarding import has_other_controller, session_of
from kafkapy.protocol.messages.envelope import EnvelopeRequest, EnvelopeResponse


async def handle(request: EnvelopeRequest, ctx: Context) -> EnvelopeResponse:
    forwarding = ctx.rooms.forwarding
    assert forwarding is not None  # the registry has no such API elsewhere
    forwarding.require_listener(ctx)
    ctx.require(Operation.CLUSTER_ACTION, ResourceType.CLUSTER, CLUSTER_NAME)
    session = session_of(request, ctx.session)
    if ctx.rooms.cluster.leadership.epoch(METADATA_LOG) is None:
        raise KafkaError(Error.NOT_CONTROLLER)
    answer, response = await forwarding.carry_out(request.request_data, session)
    if has_other_controller(response):
        raise KafkaError(Error.NOT_CONTROLLER)
    return EnvelopeResponse(response_data=answer)
