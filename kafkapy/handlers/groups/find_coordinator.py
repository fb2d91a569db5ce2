"""FindCoordinator (key 10), versions 0 to 6.

Names the broker that coordinates a group, a transactional id, or a share partition's state, at the address that
Metadata gives out too: the one that leads its partition of the internal topic. The first question brings that topic
into being; as in Kafka its answer is COORDINATOR_NOT_AVAILABLE, upon which clients ask again, or with
`kafkapy.auto.create.wait` it waits. From version 4 on many keys are asked for in one request, each with an error of its
own, which as in Kafka says no more about itself. Which broker keeps the state of a share partition only brokers ask,
from version 6 on.
"""

from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.model import Endpoint, parse_uuid
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from kafkapy.sharing.state.facts import SharePartitionKey

FIRST_BATCHED_VERSION: Final = 4
FIRST_SHARE_VERSION: Final = 6

_GROUP, _TRANSACTION, _SHARE = 0, 1, 2
_NOBODY = Endpoint("", "", -1, "")


async def handle(request: FindCoordinatorRequest, ctx: Context) -> FindCoordinatorResponse:
    if ctx.api_version >= FIRST_BATCHED_VERSION:
        coordinators = []
        for key in request.coordinator_keys:
            error, message, node_id, endpoint = await _find(request.key_type, key, ctx)
            coordinators.append(
                FindCoordinatorResponse.Coordinator(
                    key=key,
                    node_id=node_id,
                    host=endpoint.host,
                    port=endpoint.port,
                    error_code=error,
                    error_message=message,
                )
            )
        return FindCoordinatorResponse(coordinators=coordinators)
    error, message, node_id, endpoint = await _find(request.key_type, request.key, ctx)
    if error is Error.NONE:
        message = error.name  # the text that Kafka has always put here
    return FindCoordinatorResponse(
        error_code=error, error_message=message, node_id=node_id, host=endpoint.host, port=endpoint.port
    )


def refuse(request: FindCoordinatorRequest, refusal: KafkaError, ctx: Context) -> FindCoordinatorResponse:
    """The error response: the error at every key, or before version 4 at the only one."""
    message = refusal.message or refusal.error.text
    if ctx.api_version < FIRST_BATCHED_VERSION:
        return FindCoordinatorResponse(error_code=refusal.error, error_message=message, node_id=-1, port=-1)
    return FindCoordinatorResponse(
        coordinators=[
            FindCoordinatorResponse.Coordinator(
                key=key, node_id=-1, port=-1, error_code=refusal.error, error_message=message
            )
            for key in request.coordinator_keys
        ]
    )


async def _find(key_type: int, key: str, ctx: Context) -> tuple[Error, str, int, Endpoint]:
    try:
        if key_type == _GROUP:
            ctx.require(Operation.DESCRIBE, ResourceType.GROUP, key)
            log = await ctx.rooms.groups.coordinating_log(key)
        elif key_type == _TRANSACTION:
            ctx.require(Operation.DESCRIBE, ResourceType.TRANSACTIONAL_ID, key)
            log = await ctx.rooms.transactions.coordinating_log(key)
        elif key_type == _SHARE:
            log = await ctx.rooms.share_state.coordinating_log(_share_key(key, ctx))
        else:
            raise KafkaError(Error.INVALID_REQUEST, Error.INVALID_REQUEST.text)
    except KafkaError as refusal:
        return refusal.error, _message(refusal, ctx), -1, _NOBODY
    leadership = ctx.rooms.cluster.leadership
    broker = leadership.broker(leadership.holder(log).node_id)
    endpoint = None if broker is None else ctx.endpoint_of(broker)
    if broker is None or endpoint is None:
        nobody = KafkaError(Error.COORDINATOR_NOT_AVAILABLE)
        return nobody.error, _message(nobody, ctx), -1, _NOBODY
    return Error.NONE, "", broker.node_id, endpoint


def _message(refusal: KafkaError, ctx: Context) -> str:
    return refusal.message or ("" if ctx.api_version >= FIRST_BATCHED_VERSION else refusal.error.text)


def _share_key(key: str, ctx: Context) -> SharePartitionKey:
    """A share coordinator is asked for by brokers only, with a key of the form group:topic id:partition (KIP-932)."""
    if ctx.api_version < FIRST_SHARE_VERSION:
        raise KafkaError(Error.INVALID_REQUEST)
    ctx.require(Operation.CLUSTER_ACTION, ResourceType.CLUSTER, CLUSTER_NAME)
    group_id, _, rest = key.partition(":")
    *middle, topic_id, partition = rest.split(":") if ":" in rest else ("", "")
    try:
        share_key = SharePartitionKey(":".join((group_id, *middle)).strip(), parse_uuid(topic_id), int(partition))
    except ValueError:
        raise KafkaError(Error.INVALID_REQUEST) from None
    if not share_key.group_id:
        raise KafkaError(Error.INVALID_REQUEST)
    return share_key
