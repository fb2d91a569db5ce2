"""Listeners: where the broker binds, and what it tells clients.

Grammar and checks are Kafka's: `NAME://host:port`, separated by commas; an empty host binds all interfaces; IPv6
addresses stand in brackets; names and ports are used once; every name has a security protocol. More lenient than Kafka
in one point: `advertised.listeners` is not needed beside a listener on all interfaces, since a client hears the address
by which it came.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import NamedTuple

from kafkapy.config.hosts import HOST, is_loopback, told_address
from kafkapy.config.layers import BrokerConfig
from kafkapy.config.setting import ConfigError
from kafkapy.model import Endpoint

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")

_LISTENER = re.compile(rf"(?P<name>.*)://\[?(?P<host>(?:{HOST.pattern})?)\]?:(?P<port>[0-9]+)")
_HIGHEST_PORT = 65535
_ANY_ADDRESS = ("", "0.0.0.0", "::")


class _Listener(NamedTuple):
    name: str
    host: str
    port: int


def bound_listeners(config: BrokerConfig) -> list[Endpoint]:
    """Where to listen; ConfigError when the settings make no sense.

    The controller's listeners are left out: there is no separate controller here.
    """
    listeners = _parse("listeners", config)
    _refuse_repeated_ports(listeners)
    endpoints = _for_clients("listeners", listeners, config)
    if not endpoints:
        raise ConfigError(
            "listeners names no listener for clients; perhaps all of them appear in controller.listener.names?"
        )
    _check_between_brokers(endpoints, config)
    return endpoints


def advertised_listeners(config: BrokerConfig) -> dict[str, Endpoint]:
    """What to tell clients, by listener name; empty when nothing is set, and clients hear where they connected.

    As in Kafka an empty host stands for this machine's name.
    """
    if config["advertised.listeners"] is None:
        return {}
    endpoints = _for_clients("advertised.listeners", _parse("advertised.listeners", config), config)
    bound = [endpoint.listener for endpoint in bound_listeners(config)]
    if not endpoints:
        raise ConfigError("advertised.listeners names no listener for clients")
    for endpoint in endpoints:
        if endpoint.listener not in bound:
            raise ConfigError(
                "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. "
                f"Found {endpoint.listener}. The valid options based on the current configuration are {','.join(bound)}"
            )
        if endpoint.host == "0.0.0.0":
            raise ConfigError(
                "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address."
            )
    return {
        endpoint.listener: endpoint if endpoint.host else endpoint._replace(host=socket.getfqdn())
        for endpoint in endpoints
    }


def listener_between_brokers(config: BrokerConfig) -> Endpoint:
    """Where brokers of other processes reach this one, of the bound listeners. Raises ConfigError.

    As in Kafka it is the one named for that, else the one named as security.inter.broker.protocol; more lenient than
    Kafka, where neither is set and there is only one listener, it is that.
    """
    endpoints = bound_listeners(config)
    given = config["inter.broker.listener.name"]
    if given is None and len(endpoints) == 1 and "security.inter.broker.protocol" not in config.static:
        return endpoints[0]
    name = (given or config["security.inter.broker.protocol"]).upper()
    for endpoint in endpoints:
        if endpoint.listener == name:
            return endpoint
    raise ConfigError(
        f"brokers of a cluster reach each other at listener {name}, which is not one of "
        f"{', '.join(endpoint.listener for endpoint in endpoints)}: see inter.broker.listener.name"
    )


def announced_endpoints(config: BrokerConfig, host: str | None = None) -> list[Endpoint]:
    """What is told of each listener: what is set for it, else an empty host and port 0, for how a client came.

    `host` is told in any case, if given. Raises ConfigError.
    """
    advertised = advertised_listeners(config)
    endpoints = [
        advertised.get(endpoint.listener) or endpoint._replace(host="", port=0) for endpoint in bound_listeners(config)
    ]
    return [endpoint._replace(host=host or endpoint.host) for endpoint in endpoints]


def reachable_endpoints(bound: Sequence[Endpoint], announced: Sequence[Endpoint]) -> list[Endpoint]:
    """What brokers of other processes tell clients of this one's listeners: a host and a port in any case.

    What is not announced is as it is bound; on all interfaces, by this machine's name.
    """
    return [
        own._replace(
            host=other.host or (socket.getfqdn() if own.host in _ANY_ADDRESS else own.host), port=other.port or own.port
        )
        for own, other in zip(bound, announced, strict=True)
    ]


def told_addresses(bound: Sequence[Endpoint], announced: Sequence[Endpoint]) -> dict[str, str]:
    """What clients are told, as host:port by listener; those that clients on this machine can use come first.

    `bound` are the listeners with the ports that they got, `announced` what is announced of each.
    """
    told = [
        own._replace(host=other.host or _reachable(own.host), port=other.port or own.port)
        for own, other in zip(bound, announced, strict=True)
    ]
    here = {own.host for own in bound}
    told.sort(key=lambda endpoint: not (is_loopback(endpoint.host) or endpoint.host in here))
    return {endpoint.listener: told_address(endpoint.host, endpoint.port) for endpoint in told}


def _reachable(host: str) -> str:
    """A name by which this machine reaches a bound address."""
    return "127.0.0.1" if host in _ANY_ADDRESS else host


def _parse(setting: str, config: BrokerConfig) -> list[_Listener]:
    listeners: list[_Listener] = []
    for entry in config[setting]:
        match = _LISTENER.fullmatch(entry)
        if match is None or int(match["port"]) > _HIGHEST_PORT:
            raise ConfigError(f"{setting}: unable to parse {entry} to a broker endpoint, as in NAME://host:port")
        name = match["name"].upper()
        if any(listener.name == name for listener in listeners):
            raise ConfigError(f"{setting}: each listener must have a different name, and {name} appears twice")
        listeners.append(_Listener(name, match["host"], int(match["port"])))
    return listeners


def _refuse_repeated_ports(listeners: list[_Listener]) -> None:
    """Two may share a port only if one has an IPv4 address, the other an IPv6 address; port 0 takes a free one."""
    for port in {listener.port for listener in listeners if listener.port}:
        hosts = [listener.host for listener in listeners if listener.port == port]
        if len(hosts) > 1 and sorted(map(_ip_version, hosts)) != [4, 6]:
            raise ConfigError(
                f"listeners: each listener must have a different port unless exactly one listener has an IPv4 address "
                f"and the other IPv6 address, port: {port}"
            )


def _ip_version(host: str) -> int:
    """4 or 6 for an address, 0 for a name."""
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0


def _for_clients(setting: str, listeners: list[_Listener], config: BrokerConfig) -> list[Endpoint]:
    controllers = {name.upper() for name in config["controller.listener.names"] or ()}
    protocols = _protocol_map(config)
    endpoints = []
    for name, host, port in listeners:
        if name in controllers:
            continue
        if name not in protocols:
            raise ConfigError(
                f"{setting}: no security protocol defined for listener {name}; see listener.security.protocol.map"
            )
        endpoints.append(Endpoint(name, host, port, protocols[name]))
    return endpoints


def _protocol_map(config: BrokerConfig) -> dict[str, str]:
    protocols = {}
    text = config["listener.security.protocol.map"]
    for entry in text.split(",") if text else ():
        name, separator, protocol = (part.strip() for part in entry.partition(":"))
        if not separator:
            raise ConfigError(f"listener.security.protocol.map: {entry.strip()!r} is not of the form NAME:PROTOCOL")
        if protocol.upper() not in PROTOCOLS:
            raise ConfigError(
                f"Invalid security protocol `{protocol}` defined in listener.security.protocol.map; "
                f"there are {', '.join(PROTOCOLS)}"
            )
        protocols[name.upper()] = protocol.upper()
    return protocols


def _check_between_brokers(endpoints: list[Endpoint], config: BrokerConfig) -> None:
    """The listener between brokers must exist when it is named, though a single broker never uses it."""
    given = config["inter.broker.listener.name"]
    if given is None:
        return
    if "security.inter.broker.protocol" in config.static:
        raise ConfigError("Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.")
    names = [endpoint.listener for endpoint in endpoints]
    if given.upper() not in names:
        raise ConfigError(
            f"inter.broker.listener.name must be a listener name defined in listeners. The valid options based on "
            f"currently configured listeners are {','.join(names)}"
        )
