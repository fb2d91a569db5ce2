"""ReadShareGroupStateSummary (key 87), versions 0 to 1.

The group coordinator asks how far a group is with partitions. Where nothing is known the start offset is -1. From
version 1 on it hears, too, how many records beyond the start are done with (KIP-1226).
"""

from typing import Any

from kafkapy.handlers.context import Context
from kafkapy.handlers.sharing.state_requests import answered, refused
from kafkapy.protocol.messages.read_share_group_state_summary import (
    ReadShareGroupStateSummaryRequest,
    ReadShareGroupStateSummaryResponse,
)
from kafkapy.sharing.state.commands import ReadStateSummary
from kafkapy.sharing.state.facts import SharePartitionKey, ShareState

refuse = refused


async def handle(request: ReadShareGroupStateSummaryRequest, ctx: Context) -> ReadShareGroupStateSummaryResponse:
    response: ReadShareGroupStateSummaryResponse = await answered(request, ctx, _command, _pack)
    return response


def _command(key: SharePartitionKey, partition: Any) -> ReadStateSummary:
    return ReadStateSummary(key)


def _pack(result: ReadShareGroupStateSummaryResponse.PartitionResult, state: ShareState) -> None:
    result.state_epoch, result.leader_epoch = state.state_epoch, state.leader_epoch
    result.start_offset, result.delivery_complete_count = state.start_offset, state.complete_count
