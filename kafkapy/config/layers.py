"""Which value a setting has, and where it comes from.

Static layers, strongest first: command line, environment, file, kafkapy's development profile; then Kafka's defaults.
To a client the first four are one (STATIC_BROKER_CONFIG). Above them lie the dynamic layers: this broker's, and all
brokers'. A topic's own settings lie above the broker's.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar

from kafkapy.config.advice import complaints
from kafkapy.config.authorizer import authorizer_problem
from kafkapy.config.broker import BROKER
from kafkapy.config.checks import check_together
from kafkapy.config.own import OWN
from kafkapy.config.protection import refused_protections
from kafkapy.config.setting import ConfigError, Setting, Source, Type
from kafkapy.config.topic import TOPIC

T = TypeVar("T")

_KNOWN = {**BROKER, **OWN}

DEVELOPMENT_PROFILE = {
    "node.id": "1",
    "listeners": "PLAINTEXT://127.0.0.1:9092",
    "group.initial.rebalance.delay.ms": "0",
    "socket.receive.buffer.bytes": "-1",
    "socket.send.buffer.bytes": "-1",
}
"""What kafkapy sets where Kafka's default does not suit one node on a developer's machine.

There is nobody to wait for when a group begins; and the kernel sizes a connection's buffers better than a fixed
100 KiB, which costs a batch of 1 MB several trips through the loop, either way.
"""

_COUNTS_OF_REPLICAS = (
    "default.replication.factor",
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "transaction.state.log.min.isr",
    "share.coordinator.state.topic.replication.factor",
    "share.coordinator.state.topic.min.isr",
)
"""What cannot be more than there are brokers."""

_OF_A_LISTENER = r"listener\.name\.[^.]*\.(.*)"
_OF_A_MECHANISM = (
    r".*(sasl\.jaas\.config|sasl\.login\.callback\.handler\.class|sasl\.login\.class"
    r"|sasl\.server\.callback\.handler\.class|connections\.max\.reauth\.ms)"
)
"""Settings that a listener's prefix, and for some a mechanism's name after it, gives one listener alone."""

SYNONYMS = (
    ("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
    ("log.roll.ms", "log.roll.hours"),
    ("log.roll.jitter.ms", "log.roll.jitter.hours"),
    ("log.flush.interval.ms", "log.flush.scheduler.interval.ms"),
)
"""Settings that say the same; the earlier ones win."""

_MILLISECONDS = {"hours": 3_600_000, "minutes": 60_000, "ms": 1}


class Synonym(NamedTuple):
    """A setting that gives a value, as DescribeConfigs lists them."""

    name: str
    value: str | None
    source: Source


class Config(ABC):
    """Settings by name: `config[name]` is the parsed value. Immutable."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._made: dict[Callable[[Any], Any], Any] = {}

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            value = self._values[name] = self._value(name)
            return value

    def once(self, make: Callable[[Self], T]) -> T:
        """What `make` makes of these settings: made once, for those who need it with every request."""
        try:
            made: T = self._made[make]
        except KeyError:
            made = self._made[make] = make(self)
        return made

    @abstractmethod
    def _value(self, name: str) -> Any:
        """Read the setting; done once for each."""


class BrokerConfig(Config):
    """The broker's settings."""

    def __init__(
        self,
        static: Mapping[str, str],
        dynamic_broker: Mapping[str, str] | None = None,
        dynamic_default: Mapping[str, str] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.static = dict(static)
        self.dynamic_broker = dict(dynamic_broker or {})
        # A fresh Kafka cluster keeps min.insync.replicas as a cluster-wide dynamic default (KIP-966).
        self.dynamic_default = {"min.insync.replicas": static.get("min.insync.replicas", "1")}
        self.dynamic_default.update(dynamic_default or {})
        self.warnings = list(warnings)

    @classmethod
    def load(
        cls,
        *,
        file: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        flags: Mapping[str, str] | None = None,
        profile: Mapping[str, str] = DEVELOPMENT_PROFILE,
        brokers: int = 1,
    ) -> "BrokerConfig":
        """Merge the static layers and check every value; ConfigError with a line for each that is not valid.

        And with one for those that would keep people out, and cannot yet. `brokers`: how many there are to be with
        these settings.
        """
        given = {**(file or {}), **(environment or {}), **(flags or {})}
        static = {**profile, **given}
        if "broker.id" in given and "node.id" not in given:
            static["node.id"] = given["broker.id"]
        if "node.id" in static:
            static.setdefault("broker.id", static["node.id"])
        problems = []
        for name, text in static.items():
            if name in _KNOWN:
                try:
                    _KNOWN[name].parse(text)
                except ConfigError as problem:
                    problems.append(str(problem))
        if not problems:
            problems += filter(None, (refused_protections(given), authorizer_problem(given)))
        if problems:
            raise ConfigError("\n".join(problems))
        warnings = complaints(given)
        for name in _COUNTS_OF_REPLICAS:
            if int(static.get(name) or BROKER[name].default or 1) > brokers:
                if name in given:
                    nodes = "one node" if brokers == 1 else f"{brokers} nodes"
                    warnings.append(f"{name}={given[name]} is more than {nodes} can hold; using {brokers}")
                static[name] = str(brokers)
        config = cls(static, warnings=warnings)
        if config["node.id"] not in (None, config["broker.id"]):
            raise ConfigError("You must set `node.id` to the same value as `broker.id`.")
        check_together(config.__getitem__, config.milliseconds)
        return config

    def with_dynamic(self, *, broker: Mapping[str, str], default: Mapping[str, str]) -> "BrokerConfig":
        """The same static layers under other dynamic ones; what cannot be changed while a broker runs is left out."""
        return BrokerConfig(self.static, _dynamic(broker), _dynamic(default), self.warnings)

    def is_set(self, name: str) -> bool:
        """Whether a value was given, in whatever layer; the development profile counts."""
        return any(name in layer for layer in (self.dynamic_broker, self.dynamic_default, self.static))

    def milliseconds(self, name: str) -> int | None:
        """A duration that has coarser synonyms (log.roll.ms and log.roll.hours): the finest that has a value.

        None when none has. Any negative retention is -1, for ever.
        """
        for synonym in _family(name):
            if (value := self[synonym]) is not None:
                duration_ms = int(value) * _MILLISECONDS[synonym.rpartition(".")[2]]
                return -1 if duration_ms < 0 and name == "log.retention.ms" else duration_ms
        return None

    def synonyms(self, name: str) -> list[Synonym]:
        """The values that could apply, strongest first, beginning with the setting's own name."""
        found = []
        for layer, source in (
            (self.dynamic_broker, Source.DYNAMIC_BROKER_CONFIG),
            (self.dynamic_default, Source.DYNAMIC_DEFAULT_BROKER_CONFIG),
            (self.static, Source.STATIC_BROKER_CONFIG),
        ):
            found += [
                Synonym(other, definition(other).shown(layer[other]), source)
                for other in _family(name)
                if other in layer
            ]
        found += [
            Synonym(other, default, Source.DEFAULT_CONFIG)
            for other in _family(name)
            if other in BROKER and (default := BROKER[other].default) is not None
        ]
        # What is said under another name alone does not count as said of this one.
        while found and found[0].name != name:
            del found[0]
        return found

    def _value(self, name: str) -> Any:
        for layer in (self.dynamic_broker, self.dynamic_default, self.static):
            if name in layer:
                return _KNOWN[name].parse(layer[name])
        return _KNOWN[name].default_value


def _dynamic(overrides: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in overrides.items() if name not in BROKER or BROKER[name].dynamic}


class TopicConfig(Config):
    """One topic's settings: its own, else the broker's."""

    def __init__(self, overrides: Mapping[str, str], broker: BrokerConfig) -> None:
        super().__init__()
        self.overrides = overrides
        self.broker = broker

    def _value(self, name: str) -> Any:
        setting = TOPIC[name]
        if name in self.overrides:
            return setting.parse(self.overrides[name])
        if setting.synonym is None:
            return setting.default_value
        if name in ("segment.ms", "segment.jitter.ms", "retention.ms", "flush.ms"):
            duration = self.broker.milliseconds(setting.synonym)
            return setting.default_value if duration is None else duration
        return self.broker[setting.synonym]


def validate_topic_overrides(overrides: Mapping[str, str], broker: BrokerConfig | None = None) -> None:
    """Check a topic's own settings by themselves and with the broker's; ConfigError for the first problem."""
    for name in overrides:
        if name not in TOPIC:
            raise ConfigError(f"Unknown topic config name: {name}")
    for name, text in overrides.items():
        TOPIC[name].parse(text)
    config = TopicConfig(overrides, broker or BrokerConfig({}))
    low, high = config["min.compaction.lag.ms"], config["max.compaction.lag.ms"]
    if low > high:
        raise ConfigError(
            f"conflict topic config setting min.compaction.lag.ms ({low}) > max.compaction.lag.ms ({high})"
        )
    if config["remote.storage.enable"]:
        raise ConfigError(
            "Tiered Storage functionality is disabled in the broker. "
            "Topic cannot be configured with remote log storage."
        )


def _family(name: str) -> tuple[str, ...]:
    """The setting and those that say the same, strongest first."""
    for family in SYNONYMS:
        if name in family:
            return family
    if name.startswith("listener.name.") and (of_listener := re.fullmatch(_OF_A_LISTENER, name)):
        of_mechanism = re.fullmatch(_OF_A_MECHANISM, of_listener[1])
        return name, of_mechanism[1] if of_mechanism else of_listener[1]
    return (name,)


def definition(name: str) -> Setting:
    """The row of a setting; made up for one that only a listener has, and for one that Kafka does not know."""
    if name in _KNOWN:
        return _KNOWN[name]
    for other in _family(name):
        if other in BROKER:
            return BROKER[other]._replace(name=name, doc="", dynamic=False)
    return Setting(name, Type.UNKNOWN, None, "")
