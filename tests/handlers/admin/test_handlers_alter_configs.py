"""AlterConfigs and IncrementalAlterConfigs, as tools see them: what changes, what acts, and what is refused."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from kafkapy.cluster.machine import NewTopic
from kafkapy.config.altering import Op
from kafkapy.config.setting import Source
from kafkapy.errors import Error
from kafkapy.handlers.context import CLUSTER_NAME, Operation, ResourceType
from kafkapy.protocol.messages.alter_configs import AlterConfigsRequest
from kafkapy.protocol.messages.describe_configs import DescribeConfigsRequest
from kafkapy.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from kafkapy.protocol.messages.list_config_resources import ListConfigResourcesRequest

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
Change = tuple[str, int, str | None]


def resource(kind: int, name: str, *changes: Change) -> Any:
    return IncrementalAlterConfigsRequest.AlterConfigsResource(
        resource_type=kind,
        resource_name=name,
        configs=[
            IncrementalAlterConfigsRequest.AlterableConfig(name=key, config_operation=op, value=value)
            for key, op, value in changes
        ],
    )


async def change(broker: Any, *resources: Any, version: int = 1, validate_only: bool = False) -> list[tuple[int, Any]]:
    request = IncrementalAlterConfigsRequest(resources=list(resources), validate_only=validate_only)
    answer = await broker.ask(request, version)
    told = [(result.resource_type, result.resource_name) for result in answer.responses]
    assert told == [(asked.resource_type, asked.resource_name) for asked in resources]
    return [(result.error_code, result.error_message) for result in answer.responses]


async def replace(broker: Any, kind: int, name: str, version: int = 2, **settings: str | None) -> tuple[int, Any]:
    one = AlterConfigsRequest.AlterConfigsResource(
        resource_type=kind,
        resource_name=name,
        configs=[
            AlterConfigsRequest.AlterableConfig(name=key.replace("_", "."), value=value)
            for key, value in settings.items()
        ],
    )
    [result] = (await broker.ask(AlterConfigsRequest(resources=[one]), version)).responses
    return result.error_code, result.error_message


async def shown(broker: Any, kind: int, name: str, *keys: str) -> dict[str, tuple[str | None, int]]:
    one = DescribeConfigsRequest.DescribeConfigsResource(
        resource_type=kind, resource_name=name, configuration_keys=list(keys)
    )
    [result] = (await broker.ask(DescribeConfigsRequest(resources=[one]), 4)).results
    return {config.name: (config.value, config.config_source) for config in result.configs}


@pytest.fixture
async def topic(broker: Any) -> str:
    await broker.cluster.create_topics([NewTopic("t", 1, overrides={"retention.ms": "1000"})])
    return "t"


@pytest.mark.parametrize("version", [0, 1])
async def test_single_settings_of_a_topic_change(broker: Any, topic: str, version: int) -> None:
    changes: list[Change] = [
        ("max.message.bytes", Op.SET, "5000"),
        ("retention.ms", Op.DELETE, None),
        ("cleanup.policy", Op.APPEND, "compact"),
    ]
    assert await change(broker, resource(TOPIC, topic, *changes), version=version) == [(Error.NONE, None)]
    assert await shown(broker, TOPIC, topic, "max.message.bytes", "retention.ms", "cleanup.policy") == {
        "max.message.bytes": ("5000", Source.DYNAMIC_TOPIC_CONFIG),
        "retention.ms": ("604800000", Source.DEFAULT_CONFIG),
        "cleanup.policy": ("delete,compact", Source.DYNAMIC_TOPIC_CONFIG),
    }
    await change(broker, resource(TOPIC, topic, ("cleanup.policy", Op.SUBTRACT, "delete")), version=version)
    assert await shown(broker, TOPIC, topic, "cleanup.policy") == {
        "cleanup.policy": ("compact", Source.DYNAMIC_TOPIC_CONFIG)
    }
    assert broker.cluster.image.topic(topic).config["max.message.bytes"] == 5000


async def test_a_resource_changes_whole_or_not_and_others_are_not_stopped(broker: Any, topic: str) -> None:
    await broker.cluster.create_topics([NewTopic("u", 1)])
    answers = await change(
        broker,
        resource(TOPIC, topic, ("retention.ms", Op.SET, "2000"), ("segment.bytes", Op.SET, "x")),
        resource(TOPIC, "missing", ("retention.ms", Op.SET, "2000")),
        resource(TOPIC, "u", ("retention.ms", Op.SET, "3000")),
    )
    assert [code for code, _ in answers] == [Error.INVALID_CONFIG, Error.UNKNOWN_TOPIC_OR_PARTITION, Error.NONE]
    assert answers[1][1] == "The topic 'missing' does not exist."
    assert (await shown(broker, TOPIC, topic, "retention.ms"))["retention.ms"][0] == "1000"
    assert (await shown(broker, TOPIC, "u", "retention.ms"))["retention.ms"][0] == "3000"


@pytest.mark.parametrize(
    ("kind", "name", "changes", "error"),
    [
        (TOPIC, "t", [("nonsense", Op.SET, "1")], Error.INVALID_CONFIG),
        (TOPIC, "t", [("retention.ms", Op.SET, None)], Error.INVALID_REQUEST),
        (TOPIC, "t", [("retention.ms", Op.APPEND, "5")], Error.INVALID_CONFIG),
        (TOPIC, "t", [("retention.ms", 9, "5")], Error.INVALID_REQUEST),
        (TOPIC, "t", [("retention.ms", Op.SET, "1"), ("retention.ms", Op.SET, "2")], Error.INVALID_REQUEST),
        (TOPIC, "", [("retention.ms", Op.SET, "1")], Error.INVALID_REQUEST),
        (TOPIC, "..", [("retention.ms", Op.SET, "1")], Error.INVALID_TOPIC_EXCEPTION),
        (5, "t", [("retention.ms", Op.SET, "1")], Error.INVALID_REQUEST),
        (BROKER, "1", [("node.id", Op.SET, "2")], Error.INVALID_REQUEST),
        (BROKER, "1", [("log.retention.ms", Op.SET, "0")], Error.INVALID_REQUEST),
        (BROKER, "1", [("ssl.keystore.location", Op.SET, "/x")], Error.INVALID_REQUEST),
        (BROKER, "1", [("listener.name.plaintext.ssl.keystore.location", Op.SET, "/x")], Error.INVALID_REQUEST),
        (BROKER, "", [("listeners", Op.SET, "PLAINTEXT://:1")], Error.INVALID_REQUEST),
        (BROKER, "1", [("listeners", Op.SET, "PLAINTEXT://:1")], Error.INVALID_REQUEST),
        (BROKER, "1", [("min.insync.replicas", Op.SET, "1")], Error.INVALID_CONFIG),
        (BROKER, "", [("min.insync.replicas", Op.DELETE, None)], Error.INVALID_CONFIG),
        (BROKER, "", [("num.io.threads", Op.SET, "17")], Error.INVALID_REQUEST),
        (BROKER, "2", [("log.retention.ms", Op.SET, "1")], Error.INVALID_REQUEST),
        (BROKER, "x", [("log.retention.ms", Op.SET, "1")], Error.INVALID_REQUEST),
        (GROUP, "", [("consumer.session.timeout.ms", Op.SET, "50000")], Error.INVALID_REQUEST),
        (GROUP, "g", [("consumer.session.timeout.ms", Op.SET, "1")], Error.INVALID_CONFIG),
        (GROUP, "g", [("consumer.heartbeat.interval.ms", Op.SET, "16000")], Error.INVALID_CONFIG),
        (GROUP, "g", [("nonsense", Op.SET, "1")], Error.INVALID_CONFIG),
        (CLIENT_METRICS, "", [("interval.ms", Op.SET, "1000")], Error.INVALID_REQUEST),
        (CLIENT_METRICS, "m", [("interval.ms", Op.SET, "99")], Error.INVALID_REQUEST),
        (CLIENT_METRICS, "m", [("match", Op.SET, "client_id=(")], Error.INVALID_CONFIG),
        (CLIENT_METRICS, "m", [("match", Op.SET, "nonsense=a")], Error.INVALID_CONFIG),
        (CLIENT_METRICS, "m", [("metrics", Op.APPEND, "a")], Error.INVALID_CONFIG),
        (CLIENT_METRICS, "m", [("nonsense", Op.SET, "a")], Error.INVALID_REQUEST),
        (BROKER_LOGGER, "2", [("root", Op.SET, "INFO")], Error.INVALID_REQUEST),
        (BROKER_LOGGER, "1", [("root", Op.SET, "info")], Error.INVALID_CONFIG),
        (BROKER_LOGGER, "1", [("root", Op.DELETE, None)], Error.INVALID_REQUEST),
        (BROKER_LOGGER, "1", [("root", Op.APPEND, "INFO")], Error.INVALID_REQUEST),
        (BROKER_LOGGER, "1", [("elsewhere", Op.SET, "INFO")], Error.INVALID_CONFIG),
    ],
)
async def test_what_is_refused(
    broker: Any, topic: str, kind: int, name: str, changes: list[Change], error: Error
) -> None:
    before = broker.cluster.image
    [(code, message)] = await change(broker, resource(kind, name, *changes))
    assert code == error
    assert message
    assert broker.cluster.image is before


async def test_a_resource_that_is_named_twice_stays_as_it_is(broker: Any, topic: str) -> None:
    twice = resource(TOPIC, topic, ("retention.ms", Op.SET, "2000"))
    again = resource(TOPIC, topic, ("retention.ms", Op.SET, "3000"))
    answers = await change(broker, twice, again)
    assert answers == [(Error.INVALID_REQUEST, "Each resource must appear at most once.")] * 2
    assert (await shown(broker, TOPIC, topic, "retention.ms"))["retention.ms"][0] == "1000"


async def test_what_is_only_validated_changes_nothing(broker: Any, topic: str) -> None:
    good = resource(TOPIC, topic, ("retention.ms", Op.SET, "2000"))
    bad = resource(BROKER, "1", ("log.retention.ms", Op.SET, "x"))
    logger = resource(BROKER_LOGGER, "1", ("root", Op.SET, "TRACE"))
    before = broker.cluster.image, logging.root.level
    answers = await change(broker, good, bad, logger, validate_only=True)
    assert [code for code, _ in answers] == [Error.NONE, Error.INVALID_REQUEST, Error.NONE]
    assert (broker.cluster.image, logging.root.level) == before


async def test_a_brokers_setting_is_its_topics_default_until_it_goes(broker: Any, topic: str) -> None:
    async def retention() -> tuple[str | None, int]:
        return (await shown(broker, TOPIC, "u", "retention.ms"))["retention.ms"]

    await broker.cluster.create_topics([NewTopic("u", 1)])
    await change(broker, resource(BROKER, "", ("log.retention.ms", Op.SET, "7200000")))
    assert await retention() == ("7200000", Source.DYNAMIC_DEFAULT_BROKER_CONFIG)
    await change(broker, resource(BROKER, "1", ("log.retention.ms", Op.SET, "3600000")))
    assert await retention() == ("3600000", Source.DYNAMIC_BROKER_CONFIG)
    assert broker.cluster.image.topic("u").config["retention.ms"] == 3_600_000
    assert (await shown(broker, BROKER, "", "log.retention.ms"))["log.retention.ms"][0] == "7200000"
    for name in ("1", ""):
        await change(broker, resource(BROKER, name, ("log.retention.ms", Op.DELETE, None)))
    assert await retention() == ("604800000", Source.DEFAULT_CONFIG)


async def test_what_kafka_does_not_know_is_kept_and_not_shown(broker: Any) -> None:
    assert await change(broker, resource(BROKER, "1", ("my.plugin.secret", Op.SET, "s"))) == [(Error.NONE, None)]
    assert (await shown(broker, BROKER, "1"))["my.plugin.secret"] == (None, Source.DYNAMIC_BROKER_CONFIG)


async def test_how_logins_are_renewed_may_be_set_where_there_are_none(broker: Any) -> None:
    name = "sasl.kerberos.min.time.before.relogin"
    assert await change(broker, resource(BROKER, "1", (name, Op.SET, "58000"))) == [(Error.NONE, None)]
    assert (await shown(broker, BROKER, "1", name))[name] == ("58000", Source.DYNAMIC_BROKER_CONFIG)


async def test_groups_and_subscriptions_have_settings(broker: Any) -> None:
    group = resource(GROUP, "g", ("consumer.session.timeout.ms", Op.SET, "50000"))
    subscription = resource(CLIENT_METRICS, "m", ("match", Op.SET, "client_id=a.*,client_source_port=9.*"))
    assert await change(broker, group, subscription) == [(Error.NONE, None)] * 2
    assert (await shown(broker, GROUP, "g"))["consumer.session.timeout.ms"] == ("50000", Source.DYNAMIC_GROUP_CONFIG)
    found = (await shown(broker, CLIENT_METRICS, "m"))["match"]
    assert found == ("client_id=a.*,client_source_port=9.*", Source.DYNAMIC_CLIENT_METRICS_CONFIG)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("kafkapy.tests.altered")
    yield logger
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("level", ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"])
async def test_a_loggers_level_is_set_and_unset(broker: Any, logger: logging.Logger, level: str) -> None:
    before = (await shown(broker, BROKER_LOGGER, "1", logger.name))[logger.name][0]
    assert await change(broker, resource(BROKER_LOGGER, "1", (logger.name, Op.SET, level))) == [(Error.NONE, None)]
    assert (await shown(broker, BROKER_LOGGER, "1", logger.name))[logger.name][0] == level
    await change(broker, resource(BROKER_LOGGER, "1", (logger.name, Op.DELETE, None)))
    assert (await shown(broker, BROKER_LOGGER, "1", logger.name))[logger.name][0] == before


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_all_settings_of_a_resource_are_replaced(broker: Any, topic: str, version: int) -> None:
    assert await replace(broker, TOPIC, topic, version, segment_bytes="1048577") == (Error.NONE, None)
    assert await shown(broker, TOPIC, topic, "segment.bytes", "retention.ms") == {
        "segment.bytes": ("1048577", Source.DYNAMIC_TOPIC_CONFIG),
        "retention.ms": ("604800000", Source.DEFAULT_CONFIG),
    }
    assert (await replace(broker, TOPIC, topic, version, nonsense="1"))[0] == Error.INVALID_CONFIG
    assert (await replace(broker, BROKER_LOGGER, "1", version, root="INFO"))[0] == Error.INVALID_REQUEST
    # The brokers' min.insync.replicas may not go, and what is not named would.
    assert (await replace(broker, BROKER, "", version, log_retention_ms="3600000"))[0] == Error.NONE
    assert (await replace(broker, TOPIC, topic, version)) == (Error.NONE, None)
    assert (await shown(broker, TOPIC, topic, "segment.bytes"))["segment.bytes"][1] == Source.DEFAULT_CONFIG


@pytest.mark.parametrize(
    ("kind", "name", "guarded", "error"),
    [
        (TOPIC, "t", (ResourceType.TOPIC, "t"), Error.TOPIC_AUTHORIZATION_FAILED),
        (GROUP, "g", (ResourceType.GROUP, "g"), Error.GROUP_AUTHORIZATION_FAILED),
        (BROKER, "1", (ResourceType.CLUSTER, CLUSTER_NAME), Error.CLUSTER_AUTHORIZATION_FAILED),
        (BROKER_LOGGER, "1", (ResourceType.CLUSTER, CLUSTER_NAME), Error.CLUSTER_AUTHORIZATION_FAILED),
        (CLIENT_METRICS, "m", (ResourceType.CLUSTER, CLUSTER_NAME), Error.CLUSTER_AUTHORIZATION_FAILED),
    ],
)
async def test_who_may_not_is_told_so(
    broker: Any,
    topic: str,
    deny: Any,
    kind: int,
    name: str,
    guarded: tuple[ResourceType, str],
    error: Error,
) -> None:
    deny(Operation.ALTER_CONFIGS, *guarded)
    assert (await change(broker, resource(kind, name)))[0][0] == error


async def listed(broker: Any, *kinds: int, version: int = 1) -> Any:
    answer = await broker.ask(ListConfigResourcesRequest(resource_types=list(kinds)), version)
    return answer.error_code or [(entry.resource_type, entry.resource_name) for entry in answer.config_resources]


async def test_what_has_settings_is_listed(broker: Any, topic: str) -> None:
    assert await listed(broker) == [(BROKER_LOGGER, "1"), (BROKER, "1"), (TOPIC, topic)]
    await change(broker, resource(GROUP, "g", ("consumer.session.timeout.ms", Op.SET, "50000")))
    await change(broker, resource(CLIENT_METRICS, "m", ("interval.ms", Op.SET, "1000")))
    assert await listed(broker, TOPIC, GROUP) == [(GROUP, "g"), (TOPIC, topic)]
    assert await listed(broker, version=0) == [(CLIENT_METRICS, "m")]
    assert await listed(broker, TOPIC, 5) == Error.UNSUPPORTED_VERSION
    await change(broker, resource(GROUP, "g", ("consumer.session.timeout.ms", Op.DELETE, None)))
    assert await listed(broker, GROUP) == []
