"""WriteShareGroupState (key 85), versions 0 to 1.

The leader of a partition tells what became of records. Answered once that is in the log; a leader that is deposed, or
that has not heard of a reset, is refused (FENCED_LEADER_EPOCH, FENCED_STATE_EPOCH). From version 1 on it tells, too,
how many records beyond the start are done with (KIP-1226).
"""

from typing import Any

from kafkapy.handlers.context import Context
from kafkapy.handlers.sharing.state_requests import answered, nothing_more, refused
from kafkapy.protocol.messages.write_share_group_state import WriteShareGroupStateRequest, WriteShareGroupStateResponse
from kafkapy.sharing.batches import StateBatch
from kafkapy.sharing.state.commands import WriteState
from kafkapy.sharing.state.facts import SharePartitionKey

refuse = refused


async def handle(request: WriteShareGroupStateRequest, ctx: Context) -> WriteShareGroupStateResponse:
    response: WriteShareGroupStateResponse = await answered(request, ctx, _command, nothing_more)
    return response


def _command(key: SharePartitionKey, partition: Any) -> WriteState:
    return WriteState(
        key,
        partition.state_epoch,
        partition.leader_epoch,
        partition.start_offset,
        partition.delivery_complete_count,
        tuple(
            StateBatch(batch.first_offset, batch.last_offset, batch.delivery_state, batch.delivery_count)
            for batch in partition.state_batches
        ),
    )
