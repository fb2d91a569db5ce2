"""Settings as text: .properties files by Java's grammar, and the environment of Kafka's container images."""

import pytest

from kafkapy.config.properties import from_environment, parse_properties
from kafkapy.config.setting import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", {"a": "1"}),
        ("a = 1\nb : 2\nc 3\n  d\t=\t4", {"a": "1", "b": "2", "c": "3", "d": "4"}),
        ("# a\n! b\n\n   # c\na=1", {"a": "1"}),
        ("a=1 # not a comment", {"a": "1 # not a comment"}),
        ("a=1\na=2", {"a": "2"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("a==b", {"a": "=b"}),
        ("a: =b", {"a": "=b"}),
        ("a=1\r\nb=2\rc=3", {"a": "1", "b": "2", "c": "3"}),
        ("a=x,\\\n    y,\\\n    z", {"a": "x,y,z"}),
        ("a=x\\\\\nb=y", {"a": "x\\", "b": "y"}),
        ("a=x\\\n# part of it", {"a": "x# part of it"}),
        ("# comment \\\na=1", {"a": "1"}),
        ("a\\ b=c\\:d", {"a b": "c:d"}),
        ("a\\=b=1", {"a=b": "1"}),
        ("a=\\t\\n\\u0041\\q", {"a": "\t\nAq"}),
        ("a=x\\", {"a": "x"}),
        ("a=\u2028 b", {"a": "\u2028 b"}),
        ("path=C:\\\\kafka\\\\data", {"path": "C:\\kafka\\data"}),
    ],
)
def test_a_file_is_read_by_javas_grammar(text: str, expected: dict[str, str]) -> None:
    assert parse_properties(text) == expected


@pytest.mark.parametrize("text", ["a=\\u12", "a=\\uzzzz"])
def test_a_malformed_escape_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="malformed"):
        parse_properties(text)


def test_names_in_the_environment_follow_the_rules_of_the_image() -> None:
    environ = {
        "KAFKA_NUM_PARTITIONS": "3",
        "KAFKA_LISTENER_NAME_SASL__SSL_PLAIN_SASL_JAAS_CONFIG": "x",
        "KAFKA_FOO___BAR": "y",
        "KAFKA_CFG_FETCH_MAX_BYTES": "4096",
        "PATH": "/bin",
    }
    assert from_environment(environ) == {
        "num.partitions": "3",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": "x",
        "foo-bar": "y",
        "fetch.max.bytes": "4096",
    }


def test_what_configures_the_jvm_or_the_image_is_no_setting() -> None:
    names = (
        "VERSION HOME HEAP_OPTS OPTS LOG4J_OPTS LOG4J_ROOT_LOGLEVEL LOG4J_LOGGERS TOOLS_LOG4J_LOGLEVEL JMX_OPTS "
        "JMX_PORT JMX_HOSTNAME JVM_PERFORMANCE_OPTS GC_LOG_OPTS CLUSTER_ID"
    )
    assert from_environment({f"KAFKA_{name}": "x" for name in names.split()}) == {}


def test_kafkas_own_variable_beats_the_other_images() -> None:
    both = {"KAFKA_NUM_PARTITIONS": "1", "KAFKA_CFG_NUM_PARTITIONS": "2"}
    assert from_environment(both) == from_environment(dict(reversed(both.items()))) == {"num.partitions": "1"}


@pytest.mark.parametrize(
    ("advertised", "listeners"),
    [
        ("PLAINTEXT://kafka:9092", "PLAINTEXT://0.0.0.0:9092"),
        ("INSIDE://kafka:9092,OUTSIDE://localhost:9094", "INSIDE://0.0.0.0:9092,OUTSIDE://0.0.0.0:9094"),
        ("PLAINTEXT://[2001:db8::1]:9092", "PLAINTEXT://0.0.0.0:9092"),
    ],
)
def test_listeners_are_derived_from_what_is_advertised(advertised: str, listeners: str) -> None:
    assert from_environment({"KAFKA_ADVERTISED_LISTENERS": advertised})["listeners"] == listeners
    given = {"KAFKA_ADVERTISED_LISTENERS": advertised, "KAFKA_LISTENERS": "PLAINTEXT://:1"}
    assert from_environment(given)["listeners"] == "PLAINTEXT://:1"
