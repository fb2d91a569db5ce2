"""Hosts in settings: how they may be written, and what is counted by them. Names are not resolved here."""

import ipaddress
import re
from typing import Final

from kafkapy.config.setting import ConfigError

HOST: Final = re.compile(r"[0-9a-zA-Z\-%._:]+")

_PER_IP: Final = "max.connections.per.ip.overrides"
_INT32: Final = range(-(1 << 31), 1 << 31)


def is_host(text: str) -> bool:
    """Whether a listener may have this host."""
    return HOST.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def address_of(text: str) -> tuple[str, int]:
    """The host and the port of HOST:PORT, or of a port of this machine. Raises ConfigError."""
    host, has_host, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536) or (
        has_host and not is_host(host)
    ):
        raise ConfigError(f"an address is HOST:PORT, or a port of this machine, not {text!r}")
    return host or "127.0.0.1", int(port)


def told_address(host: str, port: int) -> str:
    """HOST:PORT, as clients write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connections_per_host(text: str) -> dict[str, int]:
    """What `max.connections.per.ip.overrides` says, by host. Raises ConfigError."""
    counts = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        host, _, count = (part.strip() for part in entry.rpartition(":"))
        try:
            counts[host] = int(count)
        except ValueError:
            raise ConfigError(f"Error parsing configuration property '{_PER_IP}': {entry} is not host:count") from None
        if not is_host(host):
            raise ConfigError(f"{_PER_IP} contains invalid addresses : {host}")
        if counts[host] not in _INT32:
            raise ConfigError(f"Error parsing configuration property '{_PER_IP}': {count} is too large")
    return counts
