"""Listeners: where the broker binds, and what it tells clients.

Grammar and checks are Kafka's: `NAME://host:port`, separated by commas; an empty host binds all interfaces; IPv6
addresses stand in brackets; names and ports are used once; every name has a security protocol.
"""

import re

from kafkapy.config.layers import BrokerConfig
from kafkapy.config.setting import ConfigError
from kafkapy.model import Endpoint

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SERVED_PROTOCOLS = ("PLAINTEXT",)

_LISTENER = re.compile(r"(?P<name>[^:/]+)://(?P<host>\[[0-9a-zA-Z.:%_]*\]|[^\[\]:/]*):(?P<port>-?\d+)")
_ANY_ADDRESS = ("0.0.0.0", "::", "0:0:0:0:0:0:0:0")


def bound_listeners(config: BrokerConfig) -> list[Endpoint]:
    """Where to listen. The controller's listeners are left out: there is no separate controller here."""
    controllers = {name.upper() for name in config["controller.listener.names"] or []}
    endpoints = [
        endpoint
        for endpoint in _parse("listeners", config["listeners"], config)
        if endpoint.listener not in controllers
    ]
    if not endpoints:
        raise ConfigError("listeners names no listener for clients")
    _refuse_repeats("listeners", endpoints, ports=True)
    for endpoint in endpoints:
        if endpoint.security_protocol not in SERVED_PROTOCOLS:
            raise ConfigError(
                f"listener {endpoint.listener} uses {endpoint.security_protocol}, which kafkapy does not serve yet; "
                f"it serves {', '.join(SERVED_PROTOCOLS)}"
            )
    return endpoints


def advertised_listeners(config: BrokerConfig) -> dict[str, Endpoint]:
    """What to tell clients, by listener name; empty when nothing is set, and clients hear where they connected."""
    given = config["advertised.listeners"]
    if given is None:
        return {}
    endpoints = _parse("advertised.listeners", given, config)
    _refuse_repeats("advertised.listeners", endpoints, ports=False)
    bound = {endpoint.listener for endpoint in bound_listeners(config)}
    for endpoint in endpoints:
        if endpoint.host in _ANY_ADDRESS:
            raise ConfigError(
                f"advertised.listeners cannot use the address {endpoint.host}: no client can connect to it"
            )
    return {endpoint.listener: endpoint for endpoint in endpoints if endpoint.listener in bound}


def _parse(setting: str, entries: list[str], config: BrokerConfig) -> list[Endpoint]:
    protocols = _protocol_map(config)
    endpoints = []
    for entry in entries:
        match = _LISTENER.fullmatch(entry)
        if match is None or not 0 <= int(match["port"]) <= 65535:
            raise ConfigError(f"{setting}: {entry!r} is not of the form NAME://host:port")
        name = match["name"].upper()
        if name not in protocols:
            raise ConfigError(
                f"{setting}: no security protocol is defined for listener {name}; see listener.security.protocol.map"
            )
        endpoints.append(Endpoint(name, match["host"].strip("[]"), int(match["port"]), protocols[name]))
    return endpoints


def _protocol_map(config: BrokerConfig) -> dict[str, str]:
    protocols = {}
    for entry in config["listener.security.protocol.map"].split(","):
        name, _, protocol = entry.strip().partition(":")
        if protocol.strip() not in PROTOCOLS:
            raise ConfigError(
                f"listener.security.protocol.map: {entry.strip()!r} does not name one of {', '.join(PROTOCOLS)}"
            )
        protocols[name.strip().upper()] = protocol.strip()
    return protocols


def _refuse_repeats(setting: str, endpoints: list[Endpoint], *, ports: bool) -> None:
    names = [endpoint.listener for endpoint in endpoints]
    if len(set(names)) != len(names):
        raise ConfigError(f"{setting}: each listener must have a different name")
    # The same port may be bound once for IPv4 and once for IPv6.
    numbers = [(endpoint.port, ":" in endpoint.host) for endpoint in endpoints if endpoint.port]
    if ports and len(set(numbers)) != len(numbers):
        raise ConfigError(f"{setting}: each listener must have a different port")
