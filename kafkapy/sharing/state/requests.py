"""The share coordinator's commands as requests of Kafka's protocol, and what their responses say.

Used where the coordinator is another broker, one command a request; the handlers of these APIs are the other end.
"""

from typing import Any

from kafkapy.errors import Error, KafkaError
from kafkapy.protocol.messages.delete_share_group_state import DeleteShareGroupStateRequest
from kafkapy.protocol.messages.initialize_share_group_state import InitializeShareGroupStateRequest
from kafkapy.protocol.messages.read_share_group_state import ReadShareGroupStateRequest
from kafkapy.protocol.messages.read_share_group_state_summary import ReadShareGroupStateSummaryRequest
from kafkapy.protocol.messages.write_share_group_state import WriteShareGroupStateRequest
from kafkapy.sharing.batches import UNKNOWN_COUNT, StateBatch
from kafkapy.sharing.state.commands import (
    DeleteState,
    InitializeState,
    PartitionCommand,
    ReadState,
    ReadStateSummary,
    WriteState,
)
from kafkapy.sharing.state.facts import ShareState

_SUMMARY_LEADER_EPOCH = 0


def request_of(command: PartitionCommand) -> Any:
    """The request that asks for this."""
    cls: Any
    match command:
        case InitializeState(key, state_epoch, start_offset):
            cls = InitializeShareGroupStateRequest
            data, topic = cls.PartitionData(state_epoch=state_epoch, start_offset=start_offset), cls.InitializeStateData
        case ReadState(key, leader_epoch):
            cls = ReadShareGroupStateRequest
            data, topic = cls.PartitionData(leader_epoch=leader_epoch), cls.ReadStateData
        case WriteState(key, state_epoch, leader_epoch, start_offset, complete_count, batches):
            cls = WriteShareGroupStateRequest
            topic = cls.WriteStateData
            data = cls.PartitionData(
                state_epoch=state_epoch,
                leader_epoch=leader_epoch,
                start_offset=start_offset,
                delivery_complete_count=complete_count,
                state_batches=[
                    cls.StateBatch(first_offset=first, last_offset=last, delivery_state=state, delivery_count=count)
                    for first, last, state, count in batches
                ],
            )
        case DeleteState(key):
            cls = DeleteShareGroupStateRequest
            data, topic = cls.PartitionData(), cls.DeleteStateData
        case ReadStateSummary(key):
            cls = ReadShareGroupStateSummaryRequest
            data, topic = cls.PartitionData(leader_epoch=_SUMMARY_LEADER_EPOCH), cls.ReadStateSummaryData
    data.partition = key.partition
    return cls(group_id=key.group_id, topics=[topic(topic_id=key.topic_id, partitions=[data])])


def answer_of(command: PartitionCommand, response: Any) -> Any:
    """What the response to that request says. Raises the refusal in it."""
    results = [result for topic in response.results for result in topic.partitions]
    if len(results) != 1:
        raise KafkaError(Error.UNKNOWN_SERVER_ERROR, "the share coordinator's answer makes no sense")
    result = results[0]
    if result.error_code:
        raise KafkaError(Error.of(result.error_code), result.error_message or "")
    match command:
        case ReadState():
            batches = tuple(
                StateBatch(batch.first_offset, batch.last_offset, batch.delivery_state, batch.delivery_count)
                for batch in result.state_batches
            )
            return ShareState(0, result.state_epoch, command.leader_epoch, result.start_offset, UNKNOWN_COUNT, batches)
        case ReadStateSummary():
            return ShareState(
                0, result.state_epoch, result.leader_epoch, result.start_offset, result.delivery_complete_count
            )
    return True
