"""What a setting is: its type, default, bounds, and how a value is read from text.

The tables (`broker.py`, `topic.py`, `group.py`, `client_metrics.py`) hold one row a setting. Parsing, validation,
DescribeConfigs and the generated documentation all read the row.
"""

from enum import IntEnum
from typing import Any, NamedTuple

from kafkapy.errors import Error, KafkaError


class Type(IntEnum):
    """A setting's type; the value is the code that DescribeConfigs answers."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class Source(IntEnum):
    """Where a value comes from; the value is the code that DescribeConfigs answers."""

    DYNAMIC_TOPIC_CONFIG = 1
    DYNAMIC_BROKER_CONFIG = 2
    DYNAMIC_DEFAULT_BROKER_CONFIG = 3
    STATIC_BROKER_CONFIG = 4
    DEFAULT_CONFIG = 5
    DYNAMIC_BROKER_LOGGER_CONFIG = 6
    DYNAMIC_CLIENT_METRICS_CONFIG = 7
    DYNAMIC_GROUP_CONFIG = 8


class ConfigError(KafkaError):
    """A setting's value is not valid; the message names the setting, the value and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(Error.INVALID_CONFIG, message)


_BITS = {Type.SHORT: 16, Type.INT: 32, Type.LONG: 64}


class Setting(NamedTuple):
    """One setting.

    `default` is text, None where Kafka's default is null. `valid` is what Kafka prints as the valid values. `dynamic`:
    Kafka can change it while running. `used`: kafkapy acts on it. `internal`: not listed by DescribeConfigs.
    `synonym`: for topic and group settings, the broker setting that gives the default.
    """

    name: str
    type: Type
    default: str | None
    doc: str
    valid: str = ""
    dynamic: bool = False
    used: bool = False
    internal: bool = False
    synonym: str | None = None

    @property
    def sensitive(self) -> bool:
        return self.type is Type.PASSWORD

    def parse(self, text: str | None) -> Any:
        """The value behind the text: bool, int, float, list of str, or str; ConfigError when it is not valid."""
        if text is None:
            return None
        value = self._convert(text.strip())
        if problem := self._violation(value):
            raise self._invalid(text, problem)
        return value

    @property
    def default_value(self) -> Any:
        """The default, read but not checked: some of Kafka's defaults lie outside of what may be set."""
        return None if self.default is None else self._convert(self.default)

    def _convert(self, text: str) -> Any:
        if self.type is Type.BOOLEAN:
            if text.lower() not in ("true", "false"):
                raise self._invalid(text, "Expected value to be either true or false")
            return text.lower() == "true"
        if self.type in _BITS:
            try:
                number = int(text)
            except ValueError:
                raise self._invalid(text, f"Not a number of type {self.type.name}") from None
            if not -(1 << (_BITS[self.type] - 1)) <= number < 1 << (_BITS[self.type] - 1):
                raise self._invalid(text, f"Not a number of type {self.type.name}")
            return number
        if self.type is Type.DOUBLE:
            try:
                return float(text)
            except ValueError:
                raise self._invalid(text, "Not a number of type DOUBLE") from None
        if self.type is Type.LIST:
            return [entry.strip() for entry in text.split(",")] if text else []
        return text

    def _violation(self, value: Any) -> str | None:
        """What is wrong with a value, by the bounds in `valid`; None when nothing is."""
        valid = self.valid
        if not valid:
            return None
        if self.type in (Type.INT, Type.LONG, Type.SHORT, Type.DOUBLE):
            return _number_violation(value, valid)
        if valid in ("non-empty string", "non-null string"):
            return "String must be non-empty" if valid == "non-empty string" and not value else None
        if valid == "non-empty list":
            return None if value else "Configuration must not be empty"
        if valid.startswith("[partitionId]"):
            return None if _are_replicas(value) else f"must be the literal '*' or {valid}"
        if valid.startswith("(case insensitive) "):
            choices = valid.removeprefix("(case insensitive) ")[1:-1].lower().split(", ")
            entries = value if isinstance(value, list) else [value]
            wrong = next((entry for entry in entries if entry.lower() not in choices), None)
        elif valid.startswith("[") and "PnDTnHnMn.nS" not in valid:
            choices = valid[1:-1].split(", ")
            entries = value if isinstance(value, list) else [value]
            if isinstance(value, list) and len(set(value)) != len(value):
                return "Configuration values must be unique"
            wrong = next((entry for entry in entries if entry not in choices), None)
        else:
            return None
        return None if wrong is None else f"String must be one of: {', '.join(choices)}"

    def _invalid(self, text: str, problem: str) -> ConfigError:
        shown = "[hidden]" if self.sensitive else text
        return ConfigError(f"Invalid value {shown} for configuration {self.name}: {problem}")


def _number_violation(value: float, valid: str) -> str | None:
    bounds, _, exception = valid.partition(" or ")
    if exception and value == int(exception):
        return None
    low, *rest = bounds.strip("[]").split(",...")
    high = rest[0].lstrip(",") if rest else ""
    if value < float(low):
        return f"Value must be at least {low}"
    if high and value > float(high):
        return f"Value must be no more than {high}"
    return None


def _are_replicas(entries: list[str]) -> bool:
    if entries == ["*"]:
        return True
    return all(
        len(parts := entry.split(":")) == 2 and all(part.strip().isdigit() for part in parts) for entry in entries
    )


def text_of(value: Any) -> str | None:
    """A parsed value as Kafka prints it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, float):
        return _java_double(value)
    return str(value)


def _java_double(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(float(value))
    mantissa, exponent = f"{value!r}".split("e") if "e" in repr(value) else f"{value:e}".split("e")
    if "." not in mantissa:
        mantissa += ".0"
    return f"{mantissa}E{int(exponent)}"
