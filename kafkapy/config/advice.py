"""What an operator should hear about the settings that were given: unknown, old, or of no effect yet."""

import re
from collections.abc import Mapping

from kafkapy.config.broker import BROKER
from kafkapy.config.own import OWN
from kafkapy.config.topic import TOPIC

_KRAFT = r"process\.roles|controller\..*|metadata\..*|early\.start\.listeners|.*\.quorum\..*"
"""Kafka's own arrangement of nodes: accepted, and of no consequence here."""

_FOREIGN = r"listener\.name\..*|.*\.class\.name|confluent\..*|rsm\.config\..*|rlmm\.config\..*|sasl\..*|ssl\..*"
"""Families of keys that Kafka passes on to listeners and plugins without knowing them."""

_AUTHORIZER = {"super.users", "allow.everyone.if.no.acl.found"}
"""Settings of Kafka's authorizer, which Kafka's own table leaves out."""

_DEPRECATED = {
    "group.coordinator.rebalance.protocols": "Kafka 5 will serve every protocol",
    "log.cleaner.enable": "Kafka 5 will always clean",
    "remote.log.manager.thread.pool.size": "use remote.log.manager.follower.thread.pool.size",
}

_REMOVED = {
    "advertised.host.name": "use advertised.listeners",
    "advertised.port": "use advertised.listeners",
    "broker.id.generation.enable": "set node.id",
    "control.plane.listener.name": "there is no controller apart",
    "delegation.token.master.key": "use delegation.token.secret.key",
    "host.name": "use listeners",
    "inter.broker.protocol.version": "the version follows the software",
    "log.message.format.version": "records have format version 2",
    "log.message.timestamp.difference.max.ms": "use log.message.timestamp.before.max.ms and .after.max.ms",
    "offsets.commit.required.acks": "commits always wait for all replicas",
    "port": "use listeners",
    "reserved.broker.max.id": "set node.id",
    "unstable.metadata.versions.enable": "use unstable.feature.versions.enable",
}
"""Settings of older Kafkas that 4.4 does not know, and what came instead."""


def complaints(given: Mapping[str, str]) -> list[str]:
    """One line for each given setting that does not do what one may expect; names alone, since values can be secret."""
    return [complaint for name in given if (complaint := _complaint(name)) is not None]


def idle_topic_settings(overrides: Mapping[str, str]) -> list[str]:
    """One line for each of a topic's own settings that nothing acts on yet."""
    return [f"{name} is accepted, but nothing in kafkapy reads it yet" for name in overrides if not TOPIC[name].used]


def _complaint(name: str) -> str | None:
    if re.fullmatch(_KRAFT, name) or name in OWN or name in _AUTHORIZER:
        return None
    if name in BROKER:
        if name in _DEPRECATED:
            return f"{name} is deprecated: {_DEPRECATED[name]}"
        return None if BROKER[name].used else f"{name} is accepted, but nothing in kafkapy reads it yet"
    if name in _REMOVED:
        return f"{name} is ignored, as Kafka 4 has no such setting: {_REMOVED[name]}"
    if name.startswith("zookeeper."):
        return f"{name} is ignored: there is no ZooKeeper"
    if re.fullmatch(_FOREIGN, name):
        return None
    import difflib  # only a mistake needs it

    near = difflib.get_close_matches(name, [*BROKER, *OWN], n=1, cutoff=0.75)
    return f"unknown setting {name}" + (f"; did you mean {near[0]}?" if near else "")
