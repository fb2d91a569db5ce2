"""ListConfigResources (key 74), versions 0 to 1.

The names of what has settings (KIP-1142): of client metrics subscriptions in version 0, where the API was theirs alone;
in version 1 of the kinds that are asked for, all kinds when none is. Groups and subscriptions are listed that have
settings of their own, topics and brokers whether they have any or not. An unknown kind is UNSUPPORTED_VERSION for all.
"""

from collections.abc import Iterable

from kafkapy.config.setting import ConfigResource
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.list_config_resources import ListConfigResourcesRequest, ListConfigResourcesResponse

_OF_VERSION_0 = (ConfigResource.CLIENT_METRICS,)
_IN_ORDER = (
    ConfigResource.GROUP,
    ConfigResource.CLIENT_METRICS,
    ConfigResource.BROKER_LOGGER,
    ConfigResource.BROKER,
    ConfigResource.TOPIC,
)


async def handle(request: ListConfigResourcesRequest, ctx: Context) -> ListConfigResourcesResponse:
    if not ctx.permits(Operation.DESCRIBE_CONFIGS, ResourceType.CLUSTER, CLUSTER_NAME):
        raise KafkaError(Error.CLUSTER_AUTHORIZATION_FAILED)
    known = _OF_VERSION_0 if ctx.api_version == 0 else _IN_ORDER
    asked = set(request.resource_types or known)
    if not asked.issubset(known):
        raise KafkaError(Error.UNSUPPORTED_VERSION)
    return ListConfigResourcesResponse(
        config_resources=[
            ListConfigResourcesResponse.ConfigResource(resource_name=name, resource_type=kind)
            for kind in known
            if kind in asked
            for name in _names(kind, ctx)
        ]
    )


def _names(kind: ConfigResource, ctx: Context) -> Iterable[str]:
    cluster = ctx.rooms.cluster
    if kind is ConfigResource.TOPIC:
        return cluster.image.topics
    if kind in (ConfigResource.BROKER, ConfigResource.BROKER_LOGGER):
        return [str(broker.node_id) for broker in cluster.leadership.brokers()]
    return [name for overridden, name in cluster.image.overrides if overridden == kind]


def refuse(request: ListConfigResourcesRequest, refusal: KafkaError, ctx: Context) -> ListConfigResourcesResponse:
    """The error response."""
    return ListConfigResourcesResponse(error_code=refusal.error)
