"""Which members of a consumer group may commit and fetch offsets: those whose epoch is the one they were told last.

A commit may come from an older epoch for partitions that the member had by then and still has (KIP-1251). Members that
speak the classic protocol hear ILLEGAL_GENERATION where the others hear STALE_MEMBER_EPOCH. Called by the machine.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import CommitOffsets, FetchOffsets
from kafkapy.groups.modern.group import ConsumerGroup, Member


def validate_commit(group: ConsumerGroup, command: CommitOffsets) -> None:
    """Raises UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, ILLEGAL_GENERATION; UNSUPPORTED_VERSION for versions before 9."""
    epoch, in_transaction = command.generation, command.transaction is not None
    if epoch < 0 and group.is_empty:
        return
    if in_transaction and epoch == -1 and not command.member_id and command.instance_id is None:
        return
    member = group.member(command.member_id)
    if not (in_transaction or member.uses_classic or command.knows_member_epochs):
        raise KafkaError(
            Error.UNSUPPORTED_VERSION,
            "OffsetCommit version 9 or above must be used by members using the consumer group protocol",
        )
    if epoch == member.current.epoch:
        return
    if epoch > member.current.epoch:
        raise _stale(member, command.knows_member_epochs)
    assigned, revoking = member.current.assigned, member.current.revoking
    for topic in command.topics:
        for asked in topic.partitions:
            since = assigned.get(topic.topic_id, {}).get(asked.partition)
            if since is None:
                since = revoking.get(topic.topic_id, {}).get(asked.partition)
            if since is None or epoch < since:
                raise _stale(member, command.knows_member_epochs)


def validate_fetch(group: ConsumerGroup, query: FetchOffsets) -> None:
    """Raises UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, ILLEGAL_GENERATION. Who names no member is an administrator."""
    if query.member_id is None and query.member_epoch < 0:
        return
    member = group.member(query.member_id or "")
    if query.member_epoch != member.current.epoch:
        raise _stale(member, knows_member_epochs=True)


def _stale(member: Member, knows_member_epochs: bool) -> KafkaError:
    is_told = knows_member_epochs and not member.uses_classic
    return KafkaError(Error.STALE_MEMBER_EPOCH if is_told else Error.ILLEGAL_GENERATION)
