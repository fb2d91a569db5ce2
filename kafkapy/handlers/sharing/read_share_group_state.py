"""ReadShareGroupState (key 84), version 0.

The leader of a partition begins with what is known of it; leaders of earlier epochs are refused from then on
(FENCED_LEADER_EPOCH). What was not initialized is refused, too (INVALID_REQUEST).
"""

from typing import Any

from kafkapy.handlers.context import Context
from kafkapy.handlers.sharing.state_requests import answered, refused
from kafkapy.protocol.messages.read_share_group_state import ReadShareGroupStateRequest, ReadShareGroupStateResponse
from kafkapy.sharing.state.commands import ReadState
from kafkapy.sharing.state.facts import SharePartitionKey, ShareState

refuse = refused


async def handle(request: ReadShareGroupStateRequest, ctx: Context) -> ReadShareGroupStateResponse:
    response: ReadShareGroupStateResponse = await answered(request, ctx, _command, _pack)
    return response


def _command(key: SharePartitionKey, partition: Any) -> ReadState:
    return ReadState(key, partition.leader_epoch)


def _pack(result: ReadShareGroupStateResponse.PartitionResult, state: ShareState) -> None:
    result.state_epoch, result.start_offset = state.state_epoch, state.start_offset
    result.state_batches = [
        ReadShareGroupStateResponse.StateBatch(
            first_offset=first, last_offset=last, delivery_state=delivery_state, delivery_count=count
        )
        for first, last, delivery_state, count in state.batches
    ]
