"""TxnOffsetCommit (key 28), versions 0 to 6.

Stores how far a group has come as part of a transaction: pending until that ends. The transaction's coordinator is
asked first whether the log of the group's coordinator is part of it; from version 5 on it is added by that. Topics and
partitions that do not exist are answered before the group is asked, and their neighbours are still committed; what the
coordinators refuse, they refuse for all of them. Members are named from version 3 on; before, whoever has the
transaction is believed. Topics are named, from version 6 on identified.
"""

from typing import Final

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import CommitOffsets, Transaction
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.groups.committing import Preparation, Results
from kafkapy.model import NO_SEQUENCE
from kafkapy.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitResponse
from kafkapy.storage.verification import Verification
from kafkapy.transactions.verifying import Claimed

FIRST_LOADING_VERSION: Final = 2
"""Older clients may crash at COORDINATOR_LOAD_IN_PROGRESS (KAFKA-7296)."""
KNOWS_ABORTABLE_FROM_VERSION: Final = 4
ADDS_FROM_VERSION: Final = 5
FIRST_GROUP_NOT_FOUND_VERSION: Final = 6
FIRST_TOPIC_ID_VERSION: Final = 6

TopicResult = TxnOffsetCommitResponse.TxnOffsetCommitResponseTopic

_RESULTS: Final = Results(
    lambda name, topic_id: TopicResult(name=name, topic_id=topic_id),
    TxnOffsetCommitResponse.TxnOffsetCommitResponsePartition,
)

# What a log or its verification says, as it is to be heard of a coordinator.
_TOLD: Final = {
    Error.NETWORK_EXCEPTION: Error.COORDINATOR_LOAD_IN_PROGRESS,  # old clients try again at that, without a look-up
    Error.UNKNOWN_TOPIC_OR_PARTITION: Error.COORDINATOR_NOT_AVAILABLE,
    Error.NOT_LEADER_OR_FOLLOWER: Error.NOT_COORDINATOR,
    Error.KAFKA_STORAGE_ERROR: Error.NOT_COORDINATOR,
}


async def handle(request: TxnOffsetCommitRequest, ctx: Context) -> TxnOffsetCommitResponse:
    ctx.require(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, request.transactional_id)
    ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
    preparation = Preparation(_RESULTS)
    for topic in request.topics:
        preparation.add(topic, ctx, by_id=ctx.api_version >= FIRST_TOPIC_ID_VERSION)
    if commits := preparation.commits:
        try:
            if not request.group_id:
                raise KafkaError(Error.INVALID_GROUP_ID)
            command = CommitOffsets(
                group_id=request.group_id,
                member_id=request.member_id,
                instance_id=request.group_instance_id,
                generation=request.generation_id_or_member_epoch,
                retention_ms=-1,
                topics=commits,
                knows_member_epochs=ctx.api_version >= FIRST_GROUP_NOT_FOUND_VERSION,
                transaction=Transaction(
                    ProducerEpoch(request.producer_id, request.producer_epoch), await _verified(request, ctx)
                ),
            )
            preparation.fill_in(await ctx.rooms.groups.commit_offsets(command))
        except KafkaError as refusal:
            preparation.fill_in(_told(refusal.error, ctx))
    return TxnOffsetCommitResponse(topics=preparation.answers)


async def _verified(request: TxnOffsetCommitRequest, ctx: Context) -> Verification | None:
    """What shows the group's log that the transaction's coordinator knows of it. Raises what speaks against it."""
    adds, is_verified = (
        ctx.api_version >= ADDS_FROM_VERSION,
        ctx.rooms.config["transaction.partition.verification.enable"],
    )
    log = ctx.rooms.groups.log_of(request.group_id)
    if ctx.rooms.cluster.leadership.epoch(log) is None:
        raise KafkaError(Error.NOT_COORDINATOR)
    if not (adds or is_verified):
        return None
    claimed = Claimed(
        request.transactional_id,
        request.producer_id,
        request.producer_epoch,
        adds,
        ctx.api_version >= KNOWS_ABORTABLE_FROM_VERSION,
    )
    [outcome] = (await ctx.rooms.verifier.verify(claimed, {log: NO_SEQUENCE})).values()
    if isinstance(outcome, Error):
        raise KafkaError(outcome)
    return outcome if is_verified else None


def _told(error: Error, ctx: Context) -> Error:
    error = _TOLD.get(error, error)
    if error is Error.COORDINATOR_LOAD_IN_PROGRESS and ctx.api_version < FIRST_LOADING_VERSION:
        return Error.COORDINATOR_NOT_AVAILABLE
    return error


def refuse(request: TxnOffsetCommitRequest, refusal: KafkaError, ctx: Context) -> TxnOffsetCommitResponse:
    """The error response: the error at every partition."""
    preparation = Preparation(_RESULTS)
    for topic in request.topics:
        preparation.refuse(topic, topic.name, refusal.error)
    return TxnOffsetCommitResponse(topics=preparation.answers)
