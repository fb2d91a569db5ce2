"""Faults at will: rules that say which requests go wrong, how, and how often; and barriers that hold a request.

A rule is looked at when a request has come in, before its handler. Of several that fit, the one set first acts, as long
as it has hits left. An error stands where the API has it: of a rule that names a topic, or a partition of it, the rest
of the request is served as ever. A broker's disk may fail, too: what it does is named like APIs are (`DISK`).
"""

import errno
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Any, Final

import trio

from kafkapy.errors import Error
from kafkapy.handlers import ALL
from kafkapy.protocol.messages import APIS, request_class, response_class
from kafkapy.testing.nouns import NotInTime
from kafkapy.testing.wording import FaultWords

_TOPICS: Final = ("topic", "topics", "topic_data", "topic_names")
"""Fields by which a request names topics. A bare `name` may be anything's."""
_MOST_SECONDS: Final = 24 * 3600
_MOST_REQUESTS: Final = 2**31 - 1
_OBSERVES: Final = "observe"
_ROUTES: Final = {route.key: route for route in ALL}
DISK: Final = {"DiskWrite": -1, "DiskSync": -2, "DiskRead": -3}
"""What a disk does, and the keys by which rules go for it."""

NO_DISK: Final = "this broker's data is in memory, where no disk fails: give it a directory"
_NAMES: Final = {**{key: APIS[key].name for key in _ROUTES}, **{key: name for name, key in DISK.items()}}
_KEYS: Final = {name.lower(): key for key, name in _NAMES.items()}
_METADATA: Final = 3
_FIND_COORDINATOR: Final = 10
_DESCRIBE_TOPIC_PARTITIONS: Final = 75
_NAME_NODES: Final = (_METADATA, _FIND_COORDINATOR, _DESCRIBE_TOPIC_PARTITIONS)
"""APIs that say where others are served."""


class When(Enum):
    """At which point of a request a rule acts."""

    BEFORE = "before"
    """Its handler has not seen it: nothing was done."""
    AFTER = "after"
    """What it asks for was done, and its answer has not left."""


@dataclass(eq=False)
class Rule:
    """Which requests, what happens to them, how often; and how often it did. Made by `Faults`."""

    api_key: int
    versions: range | None = None
    client_id: str | None = None
    topic: str | None = None
    partition: int | None = None
    group: str | None = None
    error: Error | None = None
    disk_error: int = 0
    """What the disk says: an errno."""
    delay: float = 0.0
    close: bool = False
    drop: bool = False
    truncate: int | None = None
    throttle_ms: int = 0
    node: int | None = None
    hold: bool = False
    when: When = When.BEFORE
    skip: int = 0
    times: int | None = 1
    probability: float = 1.0
    must: bool = False
    chance: random.Random = field(default_factory=random.Random)
    number: int = 0
    """Its place among all rules that the broker was ever given."""
    seen: int = 0
    hits: int = 0
    _hit: threading.Condition = field(default_factory=threading.Condition)
    _met: trio.Event = field(default_factory=trio.Event)
    _released: trio.Event = field(default_factory=trio.Event)

    def __str__(self) -> str:
        names = ("topic", "partition", "group", "client_id")
        who = "".join(f" {name}={getattr(self, name)}" for name in names if getattr(self, name) is not None)
        return f"{_NAMES[self.api_key]}{who}: {self._what()}, {self.hits} of {self.seen} requests"

    @property
    def only_counts(self) -> bool:
        """Whether it lets everything be as it is."""
        return self._what() == _OBSERVES

    def _what(self) -> str:
        does = [self.error.name] if self.error is not None else []
        does += [errno.errorcode[self.disk_error]] if self.disk_error else []
        does += [f"delay={self.delay:g} s"] if self.delay else []
        does += [name for name in ("close", "drop", "hold") if getattr(self, name)]
        does += [f"throttle_ms={self.throttle_ms}"] if self.throttle_ms else []
        does += [f"{name}={getattr(self, name)}" for name in ("truncate", "node") if getattr(self, name) is not None]
        return " ".join(does) or _OBSERVES

    def wait(self, hits: int = 1, timeout: float = 10.0) -> None:
        """Return when so many requests have met it. Raises NotInTime."""
        with self._hit:
            if not self._hit.wait_for(lambda: self.hits >= hits, timeout):
                raise NotInTime(f"after {timeout:g} s: {self}, not {hits}")

    async def met(self, hits: int = 1) -> None:
        """Return when so many requests have met it. In the broker's event loop."""
        while self.hits < hits:
            await self._met.wait()

    def takes(self, version: int, client_id: str | None) -> bool:
        """Whether a request of this header is one that it is about; its topics and groups are yet to be looked at."""
        return (
            (self.times is None or self.hits < self.times)
            and (self.versions is None or version in self.versions)
            and self.client_id in (None, client_id)
        )

    def strikes(self) -> bool:
        """A request has come that it is about: whether it acts on this one."""
        self.seen += 1
        if self.seen <= self.skip or self.chance.random() >= self.probability:
            return False
        with self._hit:
            self.hits += 1
            self._hit.notify_all()
        met, self._met = self._met, trio.Event()
        met.set()
        return True

    async def held(self) -> None:
        """Wait until it is let go."""
        await self._released.wait()

    def let_go(self) -> None:
        """Let go what is held, and hold nothing more. In the broker's event loop."""
        self._released.set()


class Faults(FaultWords[Rule]):
    """The rules of one broker. Every method may be called in any thread."""

    def __init__(self, call: Callable[[Callable[[], Any]], Any], *, no_disk: str | None = None) -> None:
        """`no_disk`: why its disk cannot fail."""
        self._call = call  # runs a function in the broker's event loop
        self._no_disk = no_disk
        self._rules: list[Rule] = []
        self._numbers = count(1)

    def add(
        self,
        api: str,
        *,
        error: Error | str | None = None,
        delay: float = 0.0,
        close: bool = False,
        drop: bool = False,
        truncate: int | None = None,
        throttle_ms: int = 0,
        node: int | None = None,
        hold: bool = False,
        when: str = "before",
        version: int | range | None = None,
        client_id: str | None = None,
        topic: str | None = None,
        partition: int | None = None,
        group: str | None = None,
        skip: int = 0,
        times: int | None = 1,
        probability: float = 1.0,
        seed: int | None = None,
        must: bool = False,
    ) -> Rule:
        """Have requests of this API go wrong: `times` of them (None: all), after the first `skip`.

        They are answered with `error`, after `delay` seconds, or never (`drop`), or their connection is closed, be it
        when the first bytes of the answer have left (`truncate`: so many); or they are served and throttled, or told of
        the wrong `node` as leader or coordinator; or held until the rule is removed (`hold`). With none of that the
        rule only counts. `when="after"` does the work first. `must` has `check` complain if it never acted.

        The broker's disk fails by the same words: of DiskWrite, DiskSync and DiskRead the `error` is the system's,
        ENOSPC or EIO for one. Raises ValueError for what cannot be.
        """
        key = _key_of(api)
        of_disk = key in DISK.values()
        if of_disk and self._no_disk is not None:
            raise ValueError(self._no_disk)
        rule = Rule(
            key,
            versions=range(version, version + 1) if isinstance(version, int) else version,
            client_id=client_id,
            topic=topic,
            partition=partition,
            group=group,
            error=None if of_disk else _error(error),
            disk_error=_errno(error) if of_disk else 0,
            delay=delay,
            close=close,
            drop=drop,
            truncate=truncate,
            throttle_ms=throttle_ms,
            node=node,
            hold=hold,
            when=_when(when),
            skip=skip,
            times=times,
            probability=probability,
            must=must,
            chance=random.Random(seed),
        )
        if of_disk:
            _refuse_what_no_disk_does(rule)
        else:
            _refuse_what_cannot_be(rule)
        _refuse_numbers_beyond(rule)
        return self._set(rule)

    def remove(self, rule: Rule) -> None:
        """Forget a rule; what it holds goes on."""

        def remove() -> None:
            if rule in self._rules:
                self._rules.remove(rule)
            rule.let_go()

        self._call(remove)

    def clear(self) -> None:
        """Forget all rules; what they hold goes on."""
        for rule in [*self._rules]:
            self.remove(rule)

    def __iter__(self) -> Iterator[Rule]:
        return iter([*self._rules])

    def about(self, api_key: int) -> list[Rule]:
        """The rules for an API, in the order in which they were set. In the broker's event loop."""
        return [rule for rule in self._rules if rule.api_key == api_key] if self._rules else self._rules

    def _set(self, rule: Rule) -> Rule:
        rule.number = next(self._numbers)
        self._call(lambda: self._rules.append(rule))
        return rule


def _key_of(api: str) -> int:
    key = _KEYS.get(api.lower())
    if key is None:
        raise ValueError(f"no API is called {api!r}; there are {', '.join(sorted(_NAMES.values()))}")
    return key


def _when(when: str) -> When:
    try:
        return When(when)
    except ValueError:
        raise ValueError(f"a rule acts {' or '.join(one.value for one in When)} the work, not {when!r}") from None


def _error(error: Error | str | None) -> Error | None:
    if isinstance(error, str):
        try:
            return Error[error]
        except KeyError:
            raise ValueError(f"Kafka has no error {error}") from None
    return error


def _errno(error: Error | str | None) -> int:
    found = getattr(errno, str(error), None)
    if not isinstance(found, int):
        raise ValueError(f"a disk fails with an error of the system's, ENOSPC or EIO for one, not {error}")
    return found


def _refuse_what_cannot_be(rule: Rule) -> None:
    route, response = _ROUTES[rule.api_key], response_class(rule.api_key)
    name = APIS[rule.api_key].name
    if rule.error is not None and not _mentions(response, "error_code"):
        raise ValueError(f"an answer to {name} has no place for an error")
    if rule.throttle_ms and not _mentions(response, "throttle_time_ms"):
        raise ValueError(f"an answer to {name} has no place for a throttle time")
    if rule.node is not None and rule.api_key not in _NAME_NODES:
        raise ValueError(f"an answer to {name} tells of no leader or coordinator; {_told_of_nodes()} do")
    low, high = route.min_version, route.max_version
    if rule.versions is not None and not (rule.versions and rule.versions.start <= high and low < rule.versions.stop):
        raise ValueError(f"{name} is served in versions {low} to {high}")
    if rule.topic is not None and not _mentions(request_class(rule.api_key), *_TOPICS):
        raise ValueError(f"{name} names no topic")
    if rule.group is not None and not _mentions(request_class(rule.api_key), "group_id", "groups", "key", "group_ids"):
        raise ValueError(f"{name} names no group")
    does = (rule.error, rule.close or None, rule.drop or None, rule.throttle_ms or None, rule.truncate, rule.node)
    if len(does) - does.count(None) > 1:
        raise ValueError("of error, close, drop, truncate, throttle_ms and node one request gets one")


def _refuse_what_no_disk_does(rule: Rule) -> None:
    others = ("versions", "client_id", "group", "delay", "close", "drop", "truncate", "throttle_ms", "node", "hold")
    if rule.when is When.AFTER or any(getattr(rule, name) not in (None, False, 0) for name in others):
        raise ValueError("a disk knows error, topic, partition, skip, times, probability, seed and must")


def _refuse_numbers_beyond(rule: Rule) -> None:
    if rule.partition is not None and rule.topic is None:
        raise ValueError("a partition is one of a topic: name that, too")
    for what, value, least, most in (
        ("delay", rule.delay, 0, _MOST_SECONDS),
        ("throttle_ms", rule.throttle_ms, 0, _MOST_SECONDS * 1000),
        ("truncate", rule.truncate or 0, 0, _MOST_REQUESTS),
        ("node", rule.node or 0, -1, _MOST_REQUESTS),
        ("probability", rule.probability, 0, 1),
        ("skip", rule.skip, 0, _MOST_REQUESTS),
        ("times", 1 if rule.times is None else rule.times, 1, _MOST_REQUESTS),
    ):
        if not least <= value <= most:
            raise ValueError(f"{what} is from {least} to {most}, not {value}")


def _told_of_nodes() -> str:
    return ", ".join(_NAMES[key] for key in _NAME_NODES)


def _mentions(struct: Any, *names: str) -> bool:
    """Whether a message, or a struct within it, has one of these fields."""
    if any(name in struct.__slots__ for name in names):
        return True
    inner = [value for value in vars(struct).values() if isinstance(value, type) and hasattr(value, "__slots__")]
    return any(_mentions(one, *names) for one in inner)
