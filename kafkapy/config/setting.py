"""What a setting is: its type, default, bounds, and how a value is read from text.

The tables (`broker.py`, `topic.py`, `group.py`, `client_metrics.py`) hold one row a setting. Parsing, validation,
DescribeConfigs and the generated documentation all read the row. What is refused, and in which words, is Kafka's
ConfigDef: clients show these messages.
"""

import re
from enum import IntEnum
from typing import Any, NamedTuple

from kafkapy.errors import Error, KafkaError


class Type(IntEnum):
    """A setting's type; the value is the code that DescribeConfigs answers."""

    UNKNOWN = 0
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


class ConfigResource(IntEnum):
    """What has settings; the value is the code on the wire and in metadata records."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class ConfigError(KafkaError):
    """A setting's value is not valid; the message names the setting, the value and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(Error.INVALID_CONFIG, message)


_BITS = {Type.SHORT: 16, Type.INT: 32, Type.LONG: 64}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?(?:NaN|Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fFdD]?)")
_DURATION = r"\+?P(?!$)(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+(?:[.,]\d{0,9})?S)?)?"
_RESET_TO = f"latest|earliest|by_duration:(?i:{_DURATION})"
_REPLICA = r"(?:[0-9]+:[0-9]+)?"

_IGNORING_CASE = "(case insensitive) "


class Setting(NamedTuple):
    """One setting.

    `default` is text, None where Kafka's default is null. `valid` is what Kafka prints as the valid values. `dynamic`:
    Kafka can change it while running. `used`: kafkapy acts on it. `internal`: not listed by DescribeConfigs unless set.
    `synonym`: for topic and group settings, the broker setting that gives the default. Of lists: `non_empty` ones need
    an entry, and repeated entries are refused unless `drops_repeats`.
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
    non_empty: bool = False
    drops_repeats: bool = False

    @property
    def sensitive(self) -> bool:
        """Whether the value may be shown to nobody: passwords, and what Kafka does not know."""
        return self.type in (Type.PASSWORD, Type.UNKNOWN)

    def shown(self, text: str | None) -> str | None:
        """The text as it may be shown."""
        return None if self.sensitive else text

    def parse(self, text: str | None) -> Any:
        """The value behind the text: bool, int, float, list of str, or str; ConfigError when it is not valid."""
        if text is None:
            return None
        value = self._convert(text)
        self._check(value)
        return value

    @property
    def default_value(self) -> Any:
        """The default, read but not checked: some of Kafka's defaults lie outside of what may be set."""
        return None if self.default is None else self._convert(self.default)

    def _convert(self, text: str) -> Any:
        bare = text.strip()
        if self.type is Type.BOOLEAN:
            if bare.lower() not in ("true", "false"):
                raise self._invalid(text, "Expected value to be either true or false")
            return bare.lower() == "true"
        if self.type in _BITS:
            number = int(bare) if _INTEGER.fullmatch(bare) else None
            limit = 1 << (_BITS[self.type] - 1)
            if number is None or not -limit <= number < limit:
                raise self._invalid(text, f"Not a number of type {self.type.name}")
            return number
        if self.type is Type.DOUBLE:
            if not _DECIMAL.fullmatch(bare):
                raise self._invalid(text, "Not a number of type DOUBLE")
            return float(bare.rstrip("fFdD"))
        if self.type is Type.LIST:
            entries = [entry.strip() for entry in bare.split(",")] if bare else []
            return list(dict.fromkeys(entries)) if self.drops_repeats else entries
        return bare

    def _check(self, value: Any) -> None:
        if isinstance(value, list):
            self._check_list(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if problem := _out_of_bounds(value, self.valid):
                raise self._invalid(text_of(value), problem)
        elif isinstance(value, str):
            self._check_string(value)

    def _check_list(self, entries: list[str]) -> None:
        if self.valid.startswith("[partitionId]"):
            if entries != ["*"] and not all(re.fullmatch(_REPLICA, entry) for entry in entries):
                wanted = f"the literal '*' or a list of replicas in the following format: {self.valid}"
                raise self._invalid(f"[{', '.join(entries)}]", f"{self.name} must be {wanted}")
            return
        if self.non_empty and not entries:
            choices = self.valid or "any non-empty value"
            raise ConfigError(f"Configuration '{self.name}' must not be empty. Valid values include: {choices}")
        if len(set(entries)) != len(entries):
            raise ConfigError(f"Configuration '{self.name}' values must not be duplicated.")
        for entry in entries:
            if not entry:
                raise ConfigError(f"Configuration '{self.name}' values must not be empty.")
            self._check_string(entry)

    def _check_string(self, value: str) -> None:
        valid = self.valid
        if valid == "non-empty string" and not value:
            raise self._invalid(value, "String must be non-empty")
        if valid.startswith(_IGNORING_CASE):
            choices = valid.removeprefix(_IGNORING_CASE).strip("[]")
            if value.upper() not in choices.split(", "):
                raise self._invalid(value, f"String must be one of (case insensitive): {choices}")
        elif "by_duration" in valid:
            if not re.fullmatch(_RESET_TO, value):
                form = "'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'"
                again = f"Invalid value `{value}` for configuration {self.name}. The value must be either {form}."
                raise self._invalid(value, again)
        elif valid.startswith("["):
            choices = valid.strip("[]")
            if value not in choices.split(", "):
                raise self._invalid(value, f"String must be one of: {choices}")

    def _invalid(self, value: str | None, problem: str) -> ConfigError:
        shown = "[hidden]" if self.sensitive else value
        return ConfigError(f"Invalid value {shown} for configuration {self.name}: {problem}")


def _out_of_bounds(value: float, valid: str) -> str | None:
    """What is wrong with a number, by bounds of the forms `[1,...]`, `[1,...,9]` and `[1,...,9] or -1`."""
    bounds, _, exception = valid.partition(" or ")
    low, _, high = bounds.strip("[]").partition(",...")
    high = high.lstrip(",")
    if exception:
        if value == int(exception) or int(low) <= value <= int(high):
            return None
        return f"Value must be between {low} and {high} or equal to {exception}"
    if low and value < float(low):
        return f"Value must be at least {low}"
    if high and value > float(high):
        return f"Value must be no more than {high}"
    return None


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
    """As Java prints a double: the shortest digits that give it back, with an exponent from 10 000 000 on."""
    if value != value:
        return "NaN"
    if abs(value) == float("inf"):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(float(value))
    shortest = next(text for digits in range(1, 18) if float(text := f"{value:.{digits}e}") == value)
    mantissa, _, exponent = shortest.partition("e")
    return f"{mantissa}E{int(exponent)}"
