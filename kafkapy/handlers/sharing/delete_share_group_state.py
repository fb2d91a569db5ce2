"""DeleteShareGroupState (key 86), version 0.

The group coordinator has the state of share partitions forgotten. To forget what is not there is no error.
"""

from typing import Any

from kafkapy.handlers.context import Context
from kafkapy.handlers.sharing.state_requests import answered, nothing_more, refused
from kafkapy.protocol.messages.delete_share_group_state import (
    DeleteShareGroupStateRequest,
    DeleteShareGroupStateResponse,
)
from kafkapy.sharing.state.commands import DeleteState
from kafkapy.sharing.state.facts import SharePartitionKey

refuse = refused


async def handle(request: DeleteShareGroupStateRequest, ctx: Context) -> DeleteShareGroupStateResponse:
    response: DeleteShareGroupStateResponse = await answered(request, ctx, _command, nothing_more)
    return response


def _command(key: SharePartitionKey, partition: Any) -> DeleteState:
    return DeleteState(key)
