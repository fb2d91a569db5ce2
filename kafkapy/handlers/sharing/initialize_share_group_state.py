"""InitializeShareGroupState (key 83), version 0.

The group coordinator has a share partition begin anew at an offset, or at -1: then its leader looks up where. An
earlier state epoch than the one that is known is refused (FENCED_STATE_EPOCH).
"""

from typing import Any

from kafkapy.handlers.context import Context
from kafkapy.handlers.sharing.state_requests import answered, nothing_more, refused
from kafkapy.protocol.messages.initialize_share_group_state import (
    InitializeShareGroupStateRequest,
    InitializeShareGroupStateResponse,
)
from kafkapy.sharing.state.commands import InitializeState
from kafkapy.sharing.state.facts import SharePartitionKey

refuse = refused


async def handle(request: InitializeShareGroupStateRequest, ctx: Context) -> InitializeShareGroupStateResponse:
    response: InitializeShareGroupStateResponse = await answered(request, ctx, _command, nothing_more)
    return response


def _command(key: SharePartitionKey, partition: Any) -> InitializeState:
    return InitializeState(key, partition.state_epoch, partition.start_offset)
