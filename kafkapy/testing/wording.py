"""The words in which faults are told of: what may be said of a rule, the same in Python, in JSON and on a command line.

A rule as JSON is an object of an API and these words; `version` is a number, or the first and the last in a list.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Generic, Protocol, TypedDict, TypeVar, Unpack, get_type_hints

from kafkapy.errors import Error


class Words(TypedDict, total=False):
    """What `add` takes beside the API; `Faults.add` says what each means."""

    error: Error | str | None
    delay: float
    close: bool
    drop: bool
    truncate: int | None
    throttle_ms: int
    node: int | None
    hold: bool
    when: str
    version: int | range | None
    client_id: str | None
    topic: str | None
    partition: int | None
    group: str | None
    skip: int
    times: int | None
    probability: float
    seed: int | None
    must: bool


_TYPES: Final[Mapping[str, Any]] = get_type_hints(Words)


class AnyRule(Protocol):
    """A rule, here or elsewhere: how many requests it was about, and upon how many of these it acted."""

    @property
    def must(self) -> bool: ...
    @property
    def hits(self) -> int: ...


R = TypeVar("R", bound=AnyRule)


class FaultWords(ABC, Generic[R]):
    """What can be said about rules, wherever they are kept."""

    @abstractmethod
    def add(self, api: str, **words: Unpack[Words]) -> R:
        """Set a rule."""

    @abstractmethod
    def remove(self, rule: R) -> None:
        """Forget a rule; what it holds goes on."""

    @abstractmethod
    def __iter__(self) -> Iterator[R]:
        """The rules, in the order in which they were set."""

    def observe(self, api: str, **which: Unpack[Words]) -> R:
        """Only count requests: `add` without anything that goes wrong, and without an end."""
        which.setdefault("times", None)
        return self.add(api, **which)

    @contextmanager
    def hold(self, api: str, **which: Unpack[Words]) -> Iterator[R]:
        """Hold requests at that point until the block ends; `wait` on the rule returns when one is held."""
        which["hold"] = True
        rule = self.add(api, **which)
        try:
            yield rule
        finally:
            self.remove(rule)

    def check(self) -> None:
        """Raises AssertionError for rules that must act, and never did."""
        if idle := self.unmet():
            raise AssertionError("faults that never fired:\n" + "\n".join(f"  {rule}" for rule in idle))

    def unmet(self) -> list[R]:
        """The rules that must act, and have not yet."""
        return [rule for rule in self if rule.must and not rule.hits]


def as_json(api: str, words: Words) -> dict[str, Any]:
    """A rule as JSON has it."""
    told: dict[str, Any] = {"api": api, **words}
    if isinstance(error := words.get("error"), Error):
        told["error"] = error.name
    if isinstance(version := words.get("version"), range):
        told["version"] = [version.start, version.stop - 1]
    return told


def from_json(told: Any) -> tuple[str, Words]:
    """The API and the words of such an object. Raises ValueError for what is none, in words."""
    if not isinstance(told, dict):
        raise ValueError(f"a rule is an object, not {_cut(told)}")
    words = dict(told)
    api = words.pop("api", None)
    if not isinstance(api, str):
        raise ValueError('a rule names an "api"')
    if isinstance(version := words.get("version"), list):
        if len(version) != 2 or not all(_fits(number, int) for number in version):
            raise ValueError(f"version is a number, or a list of the first and the last, not {_cut(version)}")
        words["version"] = range(version[0], version[1] + 1)
    for name, value in words.items():
        if name not in _TYPES:
            raise ValueError(f"a rule knows no {_cut(name)}; it knows {', '.join(_TYPES)}")
        if not _fits(value, _TYPES[name]):
            raise ValueError(f"{name} cannot be {_cut(value)}")
    return api, words  # type: ignore[return-value]


def from_text(api: str, parts: list[str]) -> tuple[str, Words]:
    """The same of `word=value` each; a word alone is true. Versions are 3 or 3-5, `times=all` has no end."""
    told: dict[str, Any] = {"api": api}
    for part in parts:
        name, has_value, value = part.partition("=")
        told[name] = _value_of(_TYPES.get(name), name, value) if has_value else True
    return from_json(told)


def _value_of(kind: Any, name: str, text: str) -> Any:
    first, is_range, last = text.partition("-")
    if name == "version" and is_range:
        return [_number(name, first), _number(name, last)]
    if name == "times" and text == "all":
        return None
    if kind is bool and text in ("true", "false"):
        return text == "true"
    if kind is float or _fits(0, kind):
        return _number(name, text)
    return text


def _number(name: str, text: str) -> int | float:
    try:
        return int(text) if text.removeprefix("-").isdigit() else float(text)
    except ValueError:
        raise ValueError(f"{name} is a number, not {_cut(text)}") from None


def _fits(value: Any, kind: Any) -> bool:
    """Whether it is of that type; true and false are no numbers, and a whole number is a fraction, too."""
    if isinstance(value, bool):
        return kind is bool
    return kind is not None and isinstance(value, int | float if kind is float else kind)


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
