"""DescribeConfigs, DescribeCluster and DescribeTopicPartitions, as tools and consoles see them."""

import logging
from typing import Any

import pytest

from kafkapy.cluster.machine import NewTopic
from kafkapy.config.setting import Source, Type
from kafkapy.errors import Error
from kafkapy.handlers.context import CLUSTER_NAME, Operation, ResourceType
from kafkapy.protocol.messages.describe_cluster import DescribeClusterRequest
from kafkapy.protocol.messages.describe_configs import DescribeConfigsRequest
from kafkapy.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
NOT_ASKED = -2147483648
ALL_OF_A_TOPIC = 0b1101_1111_1000


async def create(broker: Any, name: str, partitions: int = 1, **overrides: str) -> None:
    settings = {key.replace("_", "."): value for key, value in overrides.items()}
    await broker.cluster.create_topics([NewTopic(name, partitions, overrides=settings)])


async def describe(
    broker: Any, kind: int, name: str, keys: list[str] | None = None, version: int = 4, **fields: Any
) -> Any:
    resource = DescribeConfigsRequest.DescribeConfigsResource(
        resource_type=kind, resource_name=name, configuration_keys=keys
    )
    [result] = (await broker.ask(DescribeConfigsRequest(resources=[resource], **fields), version)).results
    assert (result.resource_type, result.resource_name) == (kind, name)
    return result


@pytest.mark.parametrize("version", range(1, 5))
async def test_a_topic_with_every_setting(broker: Any, version: int) -> None:
    await create(broker, "t", retention_ms="1000")
    result = await describe(broker, TOPIC, "t", version=version)
    assert (result.error_code, result.error_message) == (Error.NONE, "")
    configs = {config.name: config for config in result.configs}
    assert {"cleanup.policy", "retention.bytes", "segment.bytes", "max.message.bytes"} < configs.keys()
    own = configs["retention.ms"]
    assert (own.value, own.config_source, own.read_only) == ("1000", Source.DYNAMIC_TOPIC_CONFIG, False)
    assert all(config.synonyms == [] for config in result.configs)
    if version >= 3:
        assert own.config_type == Type.LONG
        assert all(config.documentation is None for config in result.configs)


async def test_synonyms_show_what_a_value_hides(open_broker: Any) -> None:
    broker = await open_broker({"log.retention.hours": "5"})
    await create(broker, "t", retention_ms="1000")
    [config] = (await describe(broker, TOPIC, "t", ["retention.ms"], include_synonyms=True)).configs
    assert config.synonyms[0].name == "retention.ms"
    assert [(synonym.value, synonym.source) for synonym in config.synonyms] == [("1000", Source.DYNAMIC_TOPIC_CONFIG)]
    [config] = (await describe(broker, BROKER, "1", ["log.retention.hours"], include_synonyms=True)).configs
    assert [(synonym.name, synonym.value, synonym.source) for synonym in config.synonyms] == [
        ("log.retention.hours", "5", Source.STATIC_BROKER_CONFIG),
        ("log.retention.hours", "168", Source.DEFAULT_CONFIG),
    ]


async def test_documentation_when_asked_for(broker: Any) -> None:
    [config] = (await describe(broker, BROKER, "1", ["num.partitions"], include_documentation=True)).configs
    assert len(config.documentation) > 20


async def test_chosen_settings_only(broker: Any) -> None:
    await create(broker, "t")
    chosen = await describe(broker, TOPIC, "t", ["retention.ms", "no.such", "cleanup.policy"])
    assert sorted(config.name for config in chosen.configs) == ["cleanup.policy", "retention.ms"]
    assert len((await describe(broker, TOPIC, "t", [])).configs) > 30


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing", Error.UNKNOWN_TOPIC_OR_PARTITION, ""),
        ("a b", Error.INVALID_TOPIC_EXCEPTION, None),
        ("", Error.INVALID_TOPIC_EXCEPTION, "Topic name is invalid: the empty string is not allowed"),
    ],
)
async def test_topics_that_are_not_there(broker: Any, name: str, error: Error, message: str | None) -> None:
    result = await describe(broker, TOPIC, name)
    assert (result.error_code, result.configs) == (error, [])
    assert message is None or result.error_message == message


async def test_the_broker_shows_what_it_does_with_unknown_topics(open_broker: Any) -> None:
    broker = await open_broker({"auto.create.topics.enable": "false"})
    [config] = (await describe(broker, BROKER, "1", ["auto.create.topics.enable"])).configs
    assert (config.value, config.config_source) == ("false", Source.STATIC_BROKER_CONFIG)


async def test_secrets_are_not_shown(open_broker: Any) -> None:
    """Of what a plugin may be given, too, for Kafka does not know what that is."""
    broker = await open_broker({"my.plugin.password": "hunter2"})
    [config] = (await describe(broker, BROKER, "1", ["my.plugin.password"], include_synonyms=True)).configs
    assert (config.value, config.is_sensitive) == (None, True)
    assert [synonym.value for synonym in config.synonyms] == [None]


async def test_what_is_set_for_all_brokers(broker: Any) -> None:
    result = await describe(broker, BROKER, "")
    assert [(config.name, config.config_source) for config in result.configs] == [
        ("min.insync.replicas", Source.DYNAMIC_DEFAULT_BROKER_CONFIG)
    ]


@pytest.mark.parametrize("name", ["1", "+1", "01"])
async def test_this_broker_by_number(broker: Any, name: str) -> None:
    assert (await describe(broker, BROKER, name, ["num.partitions"])).error_code == Error.NONE


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (BROKER, "7", "Unexpected broker id, expected 1 or empty string, but received 7"),
        (BROKER, "-1", "Unexpected broker id, expected 1 or empty string, but received -1"),
        (BROKER_LOGGER, "7", "Unexpected broker id, expected 1 but received 7"),
        (BROKER_LOGGER, "", "Broker id must not be empty"),
        (CLIENT_METRICS, "", "Client metrics subscription name must not be empty"),
        (GROUP, "", "Group name must not be empty"),
    ]
    + [
        (BROKER, name, f"Broker id must be an integer, but it is: {name}")
        for name in ("x", " 1", "1_0", "99999999999", "٣")
    ],
)
async def test_resources_that_are_not_here(broker: Any, kind: int, name: str, message: str) -> None:
    result = await describe(broker, kind, name)
    assert (result.error_code, result.error_message) == (Error.INVALID_REQUEST, message)


async def test_loggers_and_their_levels(broker: Any) -> None:
    logging.getLogger("kafkapy.cluster.service").setLevel(logging.WARNING)
    levels = {config.name: config for config in (await describe(broker, BROKER_LOGGER, "1")).configs}
    logging.getLogger("kafkapy.cluster.service").setLevel(logging.NOTSET)
    assert "root" in levels
    assert levels["kafkapy.cluster.service"].value == "WARN"
    assert levels["kafkapy.cluster.service"].config_source == Source.DYNAMIC_BROKER_LOGGER_CONFIG


async def test_groups_and_metrics_subscriptions_have_their_defaults(open_broker: Any) -> None:
    broker = await open_broker({"group.consumer.session.timeout.ms": "50000"})
    [config] = (await describe(broker, GROUP, "g", ["consumer.session.timeout.ms"])).configs
    assert (config.value, config.config_source) == ("50000", Source.STATIC_BROKER_CONFIG)
    metrics = {config.name: config.value for config in (await describe(broker, CLIENT_METRICS, "m")).configs}
    assert metrics == {"interval.ms": "300000", "match": "", "metrics": ""}


async def test_a_kind_that_nobody_knows_refuses_the_whole_request(broker: Any) -> None:
    await create(broker, "t")
    resources = [
        DescribeConfigsRequest.DescribeConfigsResource(resource_type=kind, resource_name="t", configuration_keys=None)
        for kind in (TOPIC, 3)
    ]
    response = await broker.ask(DescribeConfigsRequest(resources=resources))
    assert [result.error_code for result in response.results] == [Error.INVALID_REQUEST] * 2


async def test_settings_are_shown_to_who_may_see_them(broker: Any, deny: Any) -> None:
    await create(broker, "t")
    deny(Operation.DESCRIBE_CONFIGS, ResourceType.TOPIC, "t")
    result = await describe(broker, TOPIC, "t")
    assert (result.error_code, result.configs) == (Error.TOPIC_AUTHORIZATION_FAILED, [])


# DescribeCluster


@pytest.mark.parametrize("version", range(3))
async def test_the_cluster(open_broker: Any, version: int) -> None:
    broker = await open_broker({"broker.rack": "here"})
    response = await broker.ask(DescribeClusterRequest(), version)
    assert (response.error_code, response.cluster_id, response.controller_id) == (Error.NONE, "the-cluster", 1)
    assert response.cluster_authorized_operations == NOT_ASKED
    [node] = response.brokers
    assert (node.broker_id, node.host, node.port, node.rack) == (1, "broker.test", 9092, "here")
    if version >= 1:
        assert response.endpoint_type == 1
    if version >= 2:
        assert node.is_fenced is False


async def test_the_cluster_may_be_seen_by_all_and_rights_by_who_may_see_them(broker: Any, deny: Any) -> None:
    asked = DescribeClusterRequest(include_cluster_authorized_operations=True)
    assert (await broker.ask(asked)).cluster_authorized_operations == 0b1_1111_1010_0000
    deny(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    response = await broker.ask(asked)
    assert (response.error_code, response.cluster_authorized_operations, len(response.brokers)) == (0, 0, 1)


@pytest.mark.parametrize(
    ("endpoint_type", "error"), [(2, Error.MISMATCHED_ENDPOINT_TYPE), (9, Error.UNSUPPORTED_ENDPOINT_TYPE)]
)
async def test_controllers_are_not_asked_here(broker: Any, endpoint_type: int, error: Error) -> None:
    response = await broker.ask(DescribeClusterRequest(endpoint_type=endpoint_type))
    assert (response.error_code, response.brokers) == (error, [])
    assert response.error_message


# DescribeTopicPartitions


async def pages(broker: Any, *names: str, cursor: tuple[str, int] | None = None, limit: int = 2000) -> Any:
    """One page: [(topic, error, partitions)], and the cursor after it."""
    request = DescribeTopicPartitionsRequest(
        topics=[DescribeTopicPartitionsRequest.TopicRequest(name=name) for name in names],
        response_partition_limit=limit,
    )
    if cursor is not None:
        request.cursor = DescribeTopicPartitionsRequest.Cursor(topic_name=cursor[0], partition_index=cursor[1])
    response = await broker.ask(request)
    after = response.next_cursor
    return (
        [(topic.name, topic.error_code, [p.partition_index for p in topic.partitions]) for topic in response.topics],
        None if after is None else (after.topic_name, after.partition_index),
    )


async def test_topics_come_sorted_each_once_with_what_a_page_needs(broker: Any) -> None:
    await create(broker, "b", 2)
    await create(broker, "a", 3)
    assert await pages(broker, "b", "a", "b") == ([("a", 0, [0, 1, 2]), ("b", 0, [0, 1])], None)
    assert await pages(broker) == ([("a", 0, [0, 1, 2]), ("b", 0, [0, 1])], None)
    response = await broker.ask(DescribeTopicPartitionsRequest())
    topic = response.topics[0]
    assert (topic.topic_id, topic.is_internal) == (broker.cluster.image.topic("a").topic_id, False)
    assert topic.topic_authorized_operations == ALL_OF_A_TOPIC
    partition = topic.partitions[0]
    assert (partition.leader_id, partition.leader_epoch, partition.replica_nodes) == (1, 0, [1])
    assert (partition.isr_nodes, partition.eligible_leader_replicas, partition.last_known_elr) == ([1], [], [])


@pytest.mark.parametrize("limit", range(1, 9))
async def test_pages_put_together_are_everything(broker: Any, limit: int) -> None:
    for name, count in (("a", 3), ("b", 1), ("c", 4)):
        await create(broker, name, count)
    cursor, seen = None, []
    for _ in range(9):
        topics, cursor = await pages(broker, cursor=cursor, limit=limit)
        assert sum(len(partitions) for _, _, partitions in topics) <= limit
        seen += [(name, partition) for name, _, partitions in topics for partition in partitions]
        if cursor is None:
            break
    assert seen == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0), ("c", 1), ("c", 2), ("c", 3)]


async def test_a_page_has_a_limit_whatever_is_asked(open_broker: Any) -> None:
    broker = await open_broker({"max.request.partition.size.limit": "2"})
    await create(broker, "a", 4)
    assert await pages(broker, "a") == ([("a", 0, [0, 1])], ("a", 2))
    for limit in (0, -1):
        assert await pages(broker, "a", limit=limit) == ([("a", 0, [0])], ("a", 1))


async def test_missing_topics_take_no_room_and_a_full_page_ends_before_them(broker: Any) -> None:
    await create(broker, "b", 1)
    unknown = Error.UNKNOWN_TOPIC_OR_PARTITION
    assert await pages(broker, "a", "b", limit=1) == ([("a", unknown, []), ("b", 0, [0])], None)
    assert await pages(broker, "b", "c", limit=1) == ([("b", 0, [0])], ("c", 0))
    assert await pages(broker, "c", cursor=("c", 0)) == ([("c", unknown, [])], None)
    assert await pages(broker, "a b") == ([("a b", Error.INVALID_TOPIC_EXCEPTION, [])], None)


async def test_a_cursor_whose_topic_went_goes_on_behind_it(broker: Any) -> None:
    await create(broker, "a")
    await create(broker, "c", 2)
    assert await pages(broker, cursor=("b", 5)) == ([("c", 0, [0, 1])], None)
    assert await pages(broker, "c", cursor=("c", 9)) == ([("c", 0, [])], None)


@pytest.mark.parametrize("cursor", [("b", 0), ("a", -1)])
async def test_cursors_that_make_no_sense(broker: Any, cursor: tuple[str, int]) -> None:
    await create(broker, "a")
    assert await pages(broker, "a", cursor=cursor) == ([("a", Error.INVALID_REQUEST, [])], None)


async def test_hidden_topics_are_refused_when_named_and_left_out_otherwise(broker: Any, deny: Any) -> None:
    await create(broker, "a")
    await create(broker, "b")
    deny(Operation.DESCRIBE, ResourceType.TOPIC, "a")
    assert await pages(broker) == ([("b", 0, [0])], None)
    assert await pages(broker, "a", "b") == ([("b", 0, [0]), ("a", Error.TOPIC_AUTHORIZATION_FAILED, [])], None)
