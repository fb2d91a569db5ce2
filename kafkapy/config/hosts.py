"""Hosts in settings: how they may be written, and what is counted by them. Names are not resolved here."""

import re
from typing import Final

from kafkapy.config.setting import ConfigError

HOST: Final = re.compile(r"[0-9a-zA-Z\-%._:]+")

_PER_IP: Final = "max.connections.per.ip.overrides"
_INT32: Final = range(-(1 << 31), 1 << 31)


def is_host(text: str) -> bool:
    """Whether a listener may have this host."""
    return HOST.fullmatch(text) is not None


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
