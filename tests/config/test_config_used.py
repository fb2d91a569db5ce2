"""`used` tells the truth: a setting is marked when some room reads it, and only then.

A read is `config["name"]`, or a call that is given the name. Reads through a variable are listed here.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafkapy.config.broker import BROKER
from kafkapy.config.client_metrics import CLIENT_METRICS
from kafkapy.config.group import GROUP
from kafkapy.config.layers import SYNONYMS, BrokerConfig
from kafkapy.config.own import OWN
from kafkapy.config.setting import Setting
from kafkapy.config.topic import TOPIC

PACKAGE = Path(__file__).resolve().parent.parent.parent / "kafkapy"

READ_THROUGH_A_VARIABLE = {
    "authorizer.class.name": "config/authorizer.py",
    "compression.gzip.level": "log/recompressing.py",
    "compression.lz4.level": "log/recompressing.py",
    "compression.zstd.level": "log/recompressing.py",
    "errors.deadletterqueue.copy.record.enable": "sharing/settings.py",
    "errors.deadletterqueue.group.enable": "sharing/dead_letters.py",
    "errors.deadletterqueue.topic.name": "sharing/settings.py",
    "listeners": "config/listeners.py",
    "log.dir": "cli/start.py",
    "log.dirs": "cli/start.py",
    "share.auto.offset.reset": "sharing/settings.py",
    "share.isolation.level": "sharing/settings.py",
    "share.renew.acknowledge.enable": "sharing/settings.py",
    "sasl.server.callback.handler.class": "security/sasl/settings.py",
    "sasl.jaas.config": "security/sasl/settings.py",
    "ssl.keystore.location": "security/tls.py",
    "ssl.truststore.location": "security/tls.py",
}
RESTS = ("session.timeout.ms", "heartbeat.interval.ms", "assignment.interval.ms")
SHARE_RESTS = ("delivery.count.limit", "partition.max.record.locks", "record.lock.duration.ms")
STREAMS_RESTS = (
    "acceptable.recovery.lag",
    "initial.rebalance.delay.ms",
    "num.standby.replicas",
    "rack.aware.assignment.tags",
    "task.offset.interval.ms",
)
OF_GROUPS = {
    "groups/modern/settings.py": (("consumer", "share", "streams"), RESTS),
    "groups/streams/settings.py": (("streams",), STREAMS_RESTS),
    "sharing/settings.py": (("share",), SHARE_RESTS),
}
"""What is read by a protocol's name and the rest of a setting's: a group's own, the broker's, and both their bounds."""
NOT_READERS = {"layers.py", "checks.py", "advice.py", "setting.py"}


def reads_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            yield str(node.slice.value)


def names_read() -> set[str]:
    names = set(READ_THROUGH_A_VARIABLE)
    for protocols, rests in OF_GROUPS.values():
        for protocol in protocols:
            names |= {f"{protocol}.{rest}" for rest in rests}
            names |= {f"group.{protocol}.{bound}{rest}" for rest in rests for bound in ("", "min.", "max.")}
    for path in PACKAGE.rglob("*.py"):
        generated = PACKAGE / "protocol" in path.parents
        if generated or (path.parent == PACKAGE / "config" and path.name in NOT_READERS):
            continue
        names.update(reads_in(ast.parse(path.read_text(encoding="utf-8"))))
    return names & (BROKER.keys() | TOPIC.keys() | GROUP.keys() | CLIENT_METRICS.keys() | OWN.keys())


def family(name: str) -> tuple[str, ...]:
    return next((family for family in SYNONYMS if name in family), (name,))


def used(table: dict[str, Setting]) -> set[str]:
    return {setting.name for setting in table.values() if setting.used}


def test_topic_group_subscription_and_own_settings_are_marked_when_read() -> None:
    for table in (TOPIC, GROUP, CLIENT_METRICS, OWN):
        assert used(table) == names_read() & table.keys()


def test_broker_settings_are_marked_when_read_or_when_a_topic_falls_back_on_them() -> None:
    direct = names_read() & (BROKER.keys() - TOPIC.keys())
    defaults = {setting.synonym for setting in TOPIC.values() if setting.used and setting.synonym}
    read = {other for name in direct | defaults for other in family(name)}
    # Read by the layers themselves, for they give the node its number.
    assert used(BROKER) == read | {"broker.id"}


def test_names_read_through_a_variable_are_still_there() -> None:
    for name, path in READ_THROUGH_A_VARIABLE.items():
        assert f'"{name}"' in (PACKAGE / path).read_text(encoding="utf-8"), name
    for path, (_, rests) in OF_GROUPS.items():
        for rest in rests:
            assert f'"{rest}"' in (PACKAGE / path).read_text(encoding="utf-8"), rest


def test_own_settings_cannot_be_taken_for_kafkas() -> None:
    assert all(name.startswith("kafkapy.") for name in OWN)
    assert BrokerConfig.load(flags={name: str(row.default) for name, row in OWN.items()}).warnings == []


@pytest.mark.parametrize("name", ["num.partitions", "listeners", "log.dirs"])
def test_setting_what_is_read_warns_of_nothing(name: str) -> None:
    assert BrokerConfig.load(flags={name: BROKER[name].default or "/data"}).warnings == []
