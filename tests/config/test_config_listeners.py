"""Listeners: Kafka's grammar and checks, and what a client is told."""

import socket

import pytest

from kafkapy.config.layers import BrokerConfig
from kafkapy.config.listeners import advertised_listeners, announced_endpoints, bound_listeners, told_addresses
from kafkapy.config.setting import ConfigError
from kafkapy.model import Endpoint


def load(**given: str) -> BrokerConfig:
    return BrokerConfig.load(file={name.replace("_", "."): value for name, value in given.items()})


MAP = "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT"


def test_out_of_the_box_only_this_machine_can_connect() -> None:
    assert bound_listeners(BrokerConfig.load()) == [Endpoint("PLAINTEXT", "127.0.0.1", 9092, "PLAINTEXT")]
    assert advertised_listeners(BrokerConfig.load()) == {}


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("PLAINTEXT://:9092", "", 9092),
        ("PLAINTEXT://0.0.0.0:0", "0.0.0.0", 0),
        ("plaintext://broker-1.example:9092", "broker-1.example", 9092),
        ("PLAINTEXT://[::1]:9092", "::1", 9092),
        ("PLAINTEXT://::1:9092", "::1", 9092),
        ("PLAINTEXT://[fe80::1%eth0]:9092", "fe80::1%eth0", 9092),
    ],
)
def test_a_listener_is_a_name_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert bound_listeners(load(listeners=text)) == [Endpoint("PLAINTEXT", host, port, "PLAINTEXT")]


@pytest.mark.parametrize(
    "text", ["127.0.0.1:9092", "PLAINTEXT://127.0.0.1", "PLAINTEXT://h:x", "PLAINTEXT://h:70000", "PLAINTEXT://a b:1"]
)
def test_what_is_no_listener_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="unable to parse"):
        bound_listeners(load(listeners=text))


def test_the_controllers_listener_is_left_out_and_needs_no_protocol() -> None:
    config = load(listeners="PLAINTEXT://:9092,CONTROLLER://:9093", controller_listener_names="CONTROLLER")
    assert [endpoint.listener for endpoint in bound_listeners(config)] == ["PLAINTEXT"]
    with pytest.raises(ConfigError, match="no listener for clients"):
        bound_listeners(load(listeners="CONTROLLER://:9093", controller_listener_names="CONTROLLER"))


def test_a_name_of_its_own_needs_a_protocol() -> None:
    with pytest.raises(ConfigError, match="no security protocol defined for listener INSIDE"):
        bound_listeners(load(listeners="INSIDE://:9092"))
    config = load(listeners="INSIDE://:9092", listener_security_protocol_map="inside:plaintext")
    assert bound_listeners(config) == [Endpoint("INSIDE", "", 9092, "PLAINTEXT")]


@pytest.mark.parametrize(
    ("protocol_map", "message"),
    [
        ("PLAINTEXT", "not of the form NAME:PROTOCOL"),
        ("PLAINTEXT:PLAIN", "Invalid security protocol `PLAIN`"),
        ("", "no security protocol defined for listener PLAINTEXT"),
    ],
)
def test_a_bad_protocol_map_is_refused(protocol_map: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bound_listeners(load(listener_security_protocol_map=protocol_map))


def test_names_are_used_once() -> None:
    with pytest.raises(ConfigError, match="different name"):
        bound_listeners(load(listeners="PLAINTEXT://:9092,PLAINTEXT://:9093"))
    with pytest.raises(ConfigError, match="different name"):
        advertised_listeners(load(advertised_listeners="PLAINTEXT://a:9092,PLAINTEXT://b:9092"))


@pytest.mark.parametrize(
    ("first", "second", "allowed"),
    [
        ("127.0.0.1:9092", "[::1]:9092", True),
        (":0", ":0", True),
        ("127.0.0.1:9092", "127.0.0.2:9092", False),
        (":9092", "[::1]:9092", False),
        ("localhost:9092", "[::1]:9092", False),
        ("localhost:9092", ":9092", False),
    ],
)
def test_a_port_is_shared_only_between_ipv4_and_ipv6(first: str, second: str, allowed: bool) -> None:
    config = load(listeners=f"INSIDE://{first},OUTSIDE://{second}", listener_security_protocol_map=MAP)
    if allowed:
        assert len(bound_listeners(config)) == 2
    else:
        with pytest.raises(ConfigError, match="different port"):
            bound_listeners(config)


def test_the_controllers_port_counts_too() -> None:
    config = load(listeners="PLAINTEXT://:9092,CONTROLLER://:9092", controller_listener_names="CONTROLLER")
    with pytest.raises(ConfigError, match="different port"):
        bound_listeners(config)


def test_each_listener_is_advertised_by_its_name() -> None:
    config = load(
        listeners="INSIDE://:9092,OUTSIDE://:9094,CONTROLLER://:9093",
        advertised_listeners="INSIDE://kafka:9092,OUTSIDE://localhost:19094,CONTROLLER://kafka:9093",
        listener_security_protocol_map=MAP,
        controller_listener_names="CONTROLLER",
        inter_broker_listener_name="INSIDE",
    )
    assert advertised_listeners(config) == {
        "INSIDE": Endpoint("INSIDE", "kafka", 9092, "PLAINTEXT"),
        "OUTSIDE": Endpoint("OUTSIDE", "localhost", 19094, "PLAINTEXT"),
    }


def test_two_listeners_may_be_advertised_on_one_port() -> None:
    config = load(
        listeners="INSIDE://:9092,OUTSIDE://:9094",
        advertised_listeners="INSIDE://a:9092,OUTSIDE://b:9092",
        listener_security_protocol_map=MAP,
    )
    assert len(advertised_listeners(config)) == 2


@pytest.mark.parametrize(
    ("advertised", "message"),
    [
        ("PLAINTEXT://0.0.0.0:9092", "nonroutable meta-address 0.0.0.0"),
        ("PLAINTEXT://h:9092,SSL://h:9093", "must be equal to or a subset"),
        ("CONTROLLER://h:9093", "no listener for clients"),
    ],
)
def test_what_clients_could_not_use_is_not_advertised(advertised: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        advertised_listeners(load(advertised_listeners=advertised, controller_listener_names="CONTROLLER"))


def test_an_empty_advertised_host_is_this_machines_name() -> None:
    config = load(advertised_listeners="PLAINTEXT://:9092")
    assert advertised_listeners(config)["PLAINTEXT"].host == socket.getfqdn()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inter.broker.listener.name": "SSL"}, "must be a listener name defined in listeners"),
        (
            {"inter.broker.listener.name": "PLAINTEXT", "security.inter.broker.protocol": "PLAINTEXT"},
            "Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.",
        ),
    ],
)
def test_the_listener_between_brokers_must_exist(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bound_listeners(BrokerConfig.load(file=given))


@pytest.mark.parametrize(
    ("listeners", "advertised", "told"),
    [
        ("PLAINTEXT://:9092", None, ["127.0.0.1:9092"]),
        ("PLAINTEXT://0.0.0.0:9092", None, ["127.0.0.1:9092"]),
        ("PLAINTEXT://[::]:9092", None, ["127.0.0.1:9092"]),
        ("PLAINTEXT://[::1]:9092", None, ["[::1]:9092"]),
        ("PLAINTEXT://:9092", "PLAINTEXT://broker:19092", ["broker:19092"]),
        ("A://:1,B://:2", "A://broker:1,B://localhost:2", ["localhost:2", "broker:1"]),
        ("A://:1,B://:2", "A://broker:1,B://127.0.0.2:3", ["127.0.0.2:3", "broker:1"]),
        ("A://:1,B://:2", "A://broker:1", ["127.0.0.1:2", "broker:1"]),
        ("A://:1,B://:2", "B://broker:2", ["127.0.0.1:1", "broker:2"]),
        ("A://:1,B://10.0.0.5:2", "A://broker:1,B://10.0.0.5:2", ["10.0.0.5:2", "broker:1"]),
        ("A://:1,B://:2", "A://one:1,B://two:2", ["one:1", "two:2"]),
        ("A://:1,B://:2,C://:3", "A://x:1,B://[::1]:2,C://LOCALHOST:3", ["[::1]:2", "LOCALHOST:3", "x:1"]),
    ],
)
def test_what_clients_are_told_begins_with_what_this_machine_can_use(
    listeners: str, advertised: str | None, told: list[str]
) -> None:
    config = load(
        listeners=listeners,
        listener_security_protocol_map="PLAINTEXT:PLAINTEXT,A:PLAINTEXT,B:PLAINTEXT,C:PLAINTEXT",
        **({"advertised_listeners": advertised} if advertised else {}),
    )
    assert list(told_addresses(bound_listeners(config), announced_endpoints(config)).values()) == told
