"""The settings of one of several brokers of a process, made from those that all have.

Each has the next node id, and listeners beyond those of the one before: with one listener at port 9092 the second
broker's is at 9093. Port 0 takes a free one for each.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from kafkapy.config.layers import BrokerConfig

_WITH_PORTS: Final = ("listeners", "advertised.listeners")


def config_of(common: BrokerConfig, number: int, rack: str | None = None) -> BrokerConfig:
    """The settings of the broker with this number; that of 0 has the common ones. `rack`: where it stands, if given."""
    static = dict(common.static)
    if rack is not None:
        static["broker.rack"] = rack
    if number:
        static["node.id"] = static["broker.id"] = str(common["node.id"] + number)
        static["kafkapy.metrics.port"] = "-1"  # the first tells of the process
        for setting in _WITH_PORTS:
            if common[setting] is not None:
                static[setting] = ",".join(_beyond(common[setting], number))
    elif rack is None:
        return common
    return BrokerConfig(static, warnings=common.warnings)


def with_node_id(config: BrokerConfig, node_id: int) -> BrokerConfig:
    """The settings of a broker that is given its node id only when it joins its cluster."""
    static = {**config.static, "node.id": str(node_id), "broker.id": str(node_id)}
    return BrokerConfig(static, warnings=config.warnings)


def with_ports(config: BrokerConfig, ports: Mapping[str, int]) -> BrokerConfig:
    """The same broker, listening where it was before: its listeners' ports by name."""
    static, listeners = dict(config.static), []
    for entry in config["listeners"]:
        address, _, port = entry.rpartition(":")
        listeners.append(f"{address}:{ports.get(entry.partition('://')[0].upper(), port)}")
    static["listeners"] = ",".join(listeners)
    return BrokerConfig(static, warnings=config.warnings)


def _beyond(entries: Sequence[str], number: int) -> list[str]:
    moved = []
    for entry in entries:
        address, _, port = entry.rpartition(":")
        taken = port.isdigit() and int(port) > 0
        moved.append(f"{address}:{int(port) + number * len(entries)}" if taken else entry)
    return moved
