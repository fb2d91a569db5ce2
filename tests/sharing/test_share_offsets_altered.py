"""Where share groups are told to begin, over the wire, with the share coordinator that decides."""

import logging
from typing import Any

import pytest
import trio

from kafkapy.errors import Error
from kafkapy.protocol.messages.alter_share_group_offsets import AlterShareGroupOffsetsRequest
from kafkapy.protocol.messages.delete_groups import DeleteGroupsRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from tests.broker.wire import Wire
from tests.sharing.members import Topic

GROUP = "altered"


async def alter(wire: Wire, starts: dict[int, int]) -> Any:
    asked = AlterShareGroupOffsetsRequest
    partitions = [
        asked.AlterShareGroupOffsetsRequestPartition(partition_index=number, start_offset=start)
        for number, start in starts.items()
    ]
    topics = [asked.AlterShareGroupOffsetsRequestTopic(topic_name="t", partitions=partitions)]
    return await wire.ask(asked(group_id=GROUP, topics=topics), 0)


async def test_a_group_that_was_told_of_partitions_that_cannot_be_can_be_deleted(
    topic: Topic, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is it the broker's trouble."""
    with trio.fail_after(10):
        found = FindCoordinatorRequest(key_type=0, coordinator_keys=[GROUP])
        while (await topic.wire.ask(found, 4)).coordinators[0].error_code:
            await trio.lowlevel.checkpoint()
    [altered] = (await alter(topic.wire, {-1: 5, -(2**31): 5, 0: 5})).responses
    assert [(each.partition_index, Error.of(each.error_code)) for each in altered.partitions] == [
        (-1, Error.INVALID_REQUEST),
        (-(2**31), Error.INVALID_REQUEST),
        (0, Error.NONE),
    ]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    [deleted] = (await topic.wire.ask(DeleteGroupsRequest(groups_names=[GROUP]), 2)).results
    assert Error.of(deleted.error_code) is Error.NONE
