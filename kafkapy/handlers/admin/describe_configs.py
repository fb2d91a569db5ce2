"""DescribeConfigs (key 32), versions 1 to 4.

Every setting of a topic, of this broker, of the brokers' common defaults (the empty name), of a group or of a client
metrics subscription: its value, where that comes from, and the values it hides. `configuration_keys` chooses settings;
null or none means all. The loggers of this broker are Python's, at their present levels.
"""

import re
from collections.abc import Sequence

from kafkapy.cluster.topic_names import validate_topic_name
from kafkapy.config.describing import (
    DescribedConfig,
    describe_broker,
    describe_client_metrics,
    describe_group,
    describe_topic,
)
from kafkapy.config.setting import ConfigResource, Source, Type
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.admin.loggers import levels
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResponse

Result = DescribeConfigsResponse.DescribeConfigsResult

_DESCRIBED = frozenset(ConfigResource)

_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT32 = range(-(1 << 31), 1 << 31)


async def handle(request: DescribeConfigsRequest, ctx: Context) -> DescribeConfigsResponse:
    for resource in request.resources:
        if resource.resource_type not in _DESCRIBED:
            raise KafkaError(Error.INVALID_REQUEST)
    return DescribeConfigsResponse(results=[_describe(resource, request, ctx) for resource in request.resources])


def _describe(
    resource: DescribeConfigsRequest.DescribeConfigsResource, request: DescribeConfigsRequest, ctx: Context
) -> Result:
    result = Result(resource_type=resource.resource_type, resource_name=resource.resource_name)
    try:
        described = _settings(resource.resource_type, resource.resource_name, ctx)
    except KafkaError as refusal:
        result.error_code = refusal.error
        result.error_message = refusal.error.text if refusal.message is None else refusal.message
        return result
    wanted = resource.configuration_keys
    result.configs = [
        DescribeConfigsResponse.DescribeConfigsResourceResult(
            name=config.name,
            value=config.value,
            read_only=config.read_only,
            config_source=config.source,
            is_sensitive=config.sensitive,
            config_type=config.type,
            documentation=config.documentation if request.include_documentation else None,
            synonyms=[
                DescribeConfigsResponse.DescribeConfigsSynonym(
                    name=synonym.name, value=synonym.value, source=synonym.source
                )
                for synonym in config.synonyms
            ]
            if request.include_synonyms
            else [],
        )
        for config in described
        if not wanted or config.name in wanted
    ]
    return result


def _settings(resource_type: int, name: str, ctx: Context) -> Sequence[DescribedConfig]:
    image = ctx.rooms.cluster.image
    config = image.config
    if resource_type == ConfigResource.TOPIC:
        ctx.require(Operation.DESCRIBE_CONFIGS, ResourceType.TOPIC, name)
        validate_topic_name(name)
        topic = image.topic(name)
        if topic is None:
            raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION, "")  # Kafka says no more here
        return describe_topic(topic.config)
    if resource_type == ConfigResource.GROUP:
        ctx.require(Operation.DESCRIBE_CONFIGS, ResourceType.GROUP, name)
        if not name:
            raise KafkaError(Error.INVALID_REQUEST, "Group name must not be empty")
        return describe_group(image.overrides_of(ConfigResource.GROUP, name), config)
    if not ctx.permits(Operation.DESCRIBE_CONFIGS, ResourceType.CLUSTER, CLUSTER_NAME):
        raise KafkaError(Error.CLUSTER_AUTHORIZATION_FAILED)
    if resource_type == ConfigResource.CLIENT_METRICS:
        if not name:
            raise KafkaError(Error.INVALID_REQUEST, "Client metrics subscription name must not be empty")
        return describe_client_metrics(image.overrides_of(ConfigResource.CLIENT_METRICS, name))
    if resource_type == ConfigResource.BROKER and not name:
        return describe_broker(config, cluster_defaults=True)
    if not name:
        raise KafkaError(Error.INVALID_REQUEST, "Broker id must not be empty")
    if not _INTEGER.fullmatch(name) or int(name) not in _INT32:
        raise KafkaError(Error.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name}")
    node_id = ctx.rooms.cluster.leadership.node_id
    if int(name) != node_id:
        expected = f"{node_id} or empty string," if resource_type == ConfigResource.BROKER else f"{node_id}"
        raise KafkaError(Error.INVALID_REQUEST, f"Unexpected broker id, expected {expected} but received {name}")
    return describe_broker(config) if resource_type == ConfigResource.BROKER else _loggers()


def _loggers() -> list[DescribedConfig]:
    return [
        DescribedConfig(
            name=name,
            value=level,
            source=Source.DYNAMIC_BROKER_LOGGER_CONFIG,
            read_only=False,
            sensitive=False,
            synonyms=[],
            type=Type.UNKNOWN,
            documentation="",
        )
        for name, level in levels()
    ]


def refuse(request: DescribeConfigsRequest, refusal: KafkaError, ctx: Context) -> DescribeConfigsResponse:
    """The error response: the error at every resource."""
    return DescribeConfigsResponse(
        results=[
            Result(
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
                error_code=refusal.error,
                error_message=refusal.message or refusal.error.text,
            )
            for resource in request.resources
        ]
    )
