"""The tables and what DescribeConfigs is told, row by row against what `scripts/kafka_facts` read from Apache Kafka.

`data/config_definitions.tsv` is Kafka's definition of every setting; `data/described_configs.tsv` what a single node
answered to DescribeConfigs for every kind of resource; `data/parsed_values.tsv` what Kafka's parser made of good and
bad values, for one setting of every type and bound. In the second, `/data` and the ports 9092 and 9093 stand for that
machine's own.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kafkapy.config.broker import BROKER
from kafkapy.config.client_metrics import CLIENT_METRICS
from kafkapy.config.describing import (
    DescribedConfig,
    describe_broker,
    describe_client_metrics,
    describe_group,
    describe_topic,
)
from kafkapy.config.group import GROUP
from kafkapy.config.layers import (
    BrokerConfig,
    TopicConfig,
)
from kafkapy.config.setting import ConfigError, Setting, text_of
from kafkapy.config.topic import TOPIC

DATA = Path(__file__).parent / "data"
TABLES = {"broker": BROKER, "topic": TOPIC, "group": GROUP, "client-metrics": CLIENT_METRICS}
INTERNAL_TOPICS = ("__consumer_offsets", "__transaction_state", "__share_group_state")


def facts(name: str) -> list[list[str]]:
    lines = (DATA / name).read_text(encoding="utf-8").split("\n")
    return [line.split("\t") for line in lines[1:] if line]


def row_of(setting: Setting) -> list[str]:
    default = "null" if setting.default is None else setting.default
    synonym = setting.synonym if setting.synonym in BROKER else ""
    return [setting.name, setting.type.name, default, setting.valid, "internal" if setting.internal else "", synonym]


def definition_of(fact: list[str]) -> list[str]:
    name, kind, default, valid, internal, synonym = (*fact[1:5], *fact[6:])
    return [name, kind, "null" if default == "(none)" else default, valid, internal, synonym]


@pytest.mark.parametrize("scope", TABLES)
def test_every_setting_is_defined_as_in_kafka(scope: str) -> None:
    expected = [definition_of(fact) for fact in facts("config_definitions.tsv") if fact[0] == scope]
    assert expected
    assert [row_of(setting) for setting in TABLES[scope].values()] == expected


def resource_rows(resource: str) -> list[list[str]]:
    return [fact[1:] for fact in facts("described_configs.tsv") if fact[0] == resource]


def described_row(config: DescribedConfig) -> list[str]:
    synonyms = "".join(
        f"{synonym.source.name}:{synonym.name}={'null' if synonym.value is None else synonym.value} | "
        for synonym in config.synonyms
    )
    return [
        config.name,
        config.type.name,
        "null" if config.value is None else config.value,
        config.source.name,
        "ro" if config.read_only else "rw",
        "sensitive" if config.sensitive else "",
        synonyms,
    ]


@pytest.fixture(scope="module")
def broker() -> BrokerConfig:
    """Settings given as that node's were."""
    given = {row[0]: row[2] for row in resource_rows("BROKER") if "STATIC_BROKER_CONFIG:" in row[6]}
    return BrokerConfig.load(file=given, profile={})


def descriptions(broker: BrokerConfig) -> Iterator[tuple[str, list[DescribedConfig]]]:
    yield "BROKER", describe_broker(broker)
    yield "TOPIC", describe_topic(TopicConfig({}, broker))
    yield "GROUP", describe_group({}, broker)
    yield "CLIENT_METRICS", describe_client_metrics({})
    for topic in INTERNAL_TOPICS:
        rows = resource_rows(f"TOPIC:{topic}")
        overrides = {row[0]: row[2] for row in rows if row[3] == "DYNAMIC_TOPIC_CONFIG"}
        yield f"TOPIC:{topic}", describe_topic(TopicConfig(overrides, broker))


def test_every_resource_is_described_as_by_kafka(broker: BrokerConfig) -> None:
    for resource, described in descriptions(broker):
        expected = resource_rows(resource)
        assert expected
        assert [described_row(config) for config in described] == expected, resource


def test_values_are_read_and_refused_as_by_kafka() -> None:
    checked = 0
    for scope, name, given, result, text in facts("parsed_values.tsv"):
        setting = TABLES[scope][name]
        try:
            answer = ["ok", text_of(setting.parse(given))]
        except ConfigError as refusal:
            answer = ["refused", refusal.message]
        assert answer == [result, text], (scope, name, given)
        checked += 1
    assert checked > 500


def test_every_setting_says_in_a_line_what_it_does() -> None:
    for scope, table in TABLES.items():
        for setting in table.values():
            assert setting.doc.endswith(".") and len(setting.doc) < 160, (scope, setting.name, setting.doc)


def test_every_default_can_be_read() -> None:
    for table in TABLES.values():
        for setting in table.values():
            value = setting.default_value
            # Kafka prints a default as it prints any value of the type.
            if setting.type.name != "DOUBLE":
                assert text_of(value) == setting.default


def test_a_topic_setting_takes_its_default_from_a_broker_setting_of_its_type() -> None:
    for setting in TOPIC.values():
        if setting.synonym is not None:
            assert BROKER[setting.synonym].type is setting.type, setting.name
