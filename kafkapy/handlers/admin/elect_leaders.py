"""ElectLeaders (key 43), versions 0 to 2.

Has the preferred replica lead again, or an unclean one where nobody leads (from version 1 on). A partition that is led
as it is wanted needs no election, which asking for all partitions leaves out. A request that allows no time gets
REQUEST_TIMED_OUT.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context
from kafkapy.model import Operation, ResourceType
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
    wanted = None if asked is None else [(topic.topic, index) for topic in asked for index in topic.partitions]
    results = await ctx.rooms.cluster.elect_leaders(
        wanted, is_unclean=request.election_type == _UNCLEAN, timeout_ms=request.timeout_ms
    )
    if asked is not None:
        return ElectLeadersResponse(
            replica_election_results=[
                TopicResult(
                    topic=topic.topic,
                    partition_result=[_told(index, results[topic.topic, index]) for index in topic.partitions],
                )
                for topic in asked
            ]
        )
    told: dict[str, list[PartitionResult]] = {name: [] for name in ctx.rooms.cluster.image.topics}
    for (name, index), refusal in results.items():
        told.setdefault(name, []).append(_told(index, refusal))
    return ElectLeadersResponse(
        replica_election_results=[TopicResult(topic=name, partition_result=told[name]) for name in told]
    )


def _told(index: int, refusal: KafkaError | None) -> PartitionResult:
    if refusal is None:
        return PartitionResult(partition_id=index, error_message=None)
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
