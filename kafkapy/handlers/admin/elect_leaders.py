"""ElectLeaders (key 43), versions 0 to 2.

Has the preferred replica lead again, or an unclean one where nobody leads (from version 1 on). Who leads follows from
leases, which are not moved on demand: a partition that is led as it is wanted needs no election, which asking for all
partitions leaves out, and one that is not cannot have one. A request that allows no time gets REQUEST_TIMED_OUT.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context
from kafkapy.model import NOBODY, Operation, ResourceType
from kafkapy.protocol.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse

TopicResult = ElectLeadersResponse.ReplicaElectionResult
PartitionResult = ElectLeadersResponse.PartitionResult

_PREFERRED, _UNCLEAN = 0, 1
_ERROR_FROM_VERSION = 1


async def handle(request: ElectLeadersRequest, ctx: Context) -> ElectLeadersResponse:
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    asked = request.topic_partitions
    if asked is not None and not asked:
        return ElectLeadersResponse()
    if request.timeout_ms <= 0:
        raise KafkaError(Error.REQUEST_TIMED_OUT)
    if request.election_type not in (_PREFERRED, _UNCLEAN):
        raise KafkaError(Error.INVALID_REQUEST, f"Unknown election type {request.election_type}")
    is_unclean = request.election_type == _UNCLEAN
    if asked is None:
        results = [
            TopicResult(topic=topic.name, partition_result=_all_that_need_one(topic.name, is_unclean, ctx))
            for topic in ctx.rooms.cluster.image.topics.values()
        ]
    else:
        results = [
            TopicResult(
                topic=topic.topic,
                partition_result=[
                    _told(index, _refusal(topic.topic, index, is_unclean, ctx)) for index in topic.partitions
                ],
            )
            for topic in asked
        ]
    return ElectLeadersResponse(replica_election_results=results)


def _all_that_need_one(topic: str, is_unclean: bool, ctx: Context) -> list[PartitionResult]:
    count = len(ctx.rooms.cluster.image.topics[topic].partitions)
    refusals = [(index, _refusal(topic, index, is_unclean, ctx)) for index in range(count)]
    return [_told(index, refusal) for index, refusal in refusals if refusal.error is not Error.ELECTION_NOT_NEEDED]


def _refusal(topic: str, index: int, is_unclean: bool, ctx: Context) -> KafkaError:
    """Why the partition's leader stays who it is."""
    cluster = ctx.rooms.cluster
    if cluster.image.topic(topic) is None:
        return KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {topic}")
    partition = cluster.image.partition(topic, index)
    if partition is None:
        return KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {topic}-{index}")
    leader = cluster.leadership.of(partition).leader
    if leader != NOBODY and (is_unclean or leader == partition.replicas[0]):
        return KafkaError(Error.ELECTION_NOT_NEEDED)
    return KafkaError(Error.ELIGIBLE_LEADERS_NOT_AVAILABLE if is_unclean else Error.PREFERRED_LEADER_NOT_AVAILABLE)


def _told(index: int, refusal: KafkaError) -> PartitionResult:
    return PartitionResult(
        partition_id=index, error_code=refusal.error, error_message=refusal.message or refusal.error.text
    )


def refuse(request: ElectLeadersRequest, refusal: KafkaError, ctx: Context) -> ElectLeadersResponse:
    """The error response: the error at every partition, and from version 1 on at the top."""
    return ElectLeadersResponse(
        error_code=refusal.error if ctx.api_version >= _ERROR_FROM_VERSION else Error.NONE,
        replica_election_results=[
            TopicResult(
                topic=topic.topic,
                partition_result=[
                    PartitionResult(partition_id=index, error_code=refusal.error, error_message=refusal.message)
                    for index in topic.partitions
                ],
            )
            for topic in request.topic_partitions or ()
        ],
    )
