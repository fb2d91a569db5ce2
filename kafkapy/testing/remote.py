"""Faults, time and activity of a broker in another process: what `control.py` serves, asked for as if it were here.

Everything blocks its thread. Raises ValueError for what makes no sense, `Refused` for what could not be done, and
`Disconnected` when nobody answers.
"""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final, Unpack

from kafkapy.config.hosts import told_address
from kafkapy.testing.activity import Asked
from kafkapy.testing.connection import Disconnected
from kafkapy.testing.nouns import NotInTime
from kafkapy.testing.wording import FaultWords, Words, as_json

_TIMEOUT_SECONDS: Final = 150.0
"""Longer than the broker takes to say that it could not be done."""


class Refused(RuntimeError):
    """The broker could not do what it was asked for."""


_KINDS: Final[dict[int, type[Exception]]] = {
    http.client.BAD_REQUEST: ValueError,
    http.client.NOT_FOUND: ValueError,
    http.client.REQUEST_TIMEOUT: NotInTime,
    http.client.REQUEST_ENTITY_TOO_LARGE: ValueError,
}


class Remote:
    """An address at which a broker is controlled."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    def ask(self, method: str, path: str, told: Any = None, *, longer: float = 0.0) -> Any:
        """What is answered, as JSON. `longer` is how many seconds more than usual that may take."""
        body = None if told is None else json.dumps(told).encode()
        return json.loads(self.exchange(method, path, body, longer=longer))

    def exchange(self, method: str, path: str, body: bytes | None = None, *, longer: float = 0.0) -> bytes:
        """The same as it comes."""
        connection = http.client.HTTPConnection(*self._address, timeout=_TIMEOUT_SECONDS + longer)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as problem:
            raise Disconnected(f"no control at {self}: {problem}") from problem
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise _refusal(response.status, answer)
        return answer

    def reset(self) -> None:
        """Forget all that is in the broker, faults, and what was done to its clock."""
        self.ask("POST", "/reset")

    def __str__(self) -> str:
        return told_address(*self._address)

    @contextmanager
    def lines(self, path: str) -> "Iterator[tuple[Iterator[dict[str, Any]], Callable[[], None]]]":
        """Objects as they come, a line each, and what asks for their end: what was answered before still comes."""
        connection = http.client.HTTPConnection(*self._address, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            stream = connection.sock
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise _refusal(response.status, response.read())
            response.readline()
        except (OSError, http.client.HTTPException) as problem:
            connection.close()
            raise Disconnected(f"no control at {self}: {problem}") from problem
        stream.settimeout(None)

        def end() -> None:
            with suppress(OSError):  # the broker has gone
                stream.shutdown(socket.SHUT_WR)

        with response:
            yield _objects(response), end


class RemoteRule:
    """A rule there; its counts are asked for each time."""

    def __init__(self, remote: Callable[[], Remote], told: dict[str, Any]) -> None:
        self._remote = remote
        self.number: int = told["number"]
        self.must: bool = told["must"]

    @property
    def seen(self) -> int:
        """How many requests it was about."""
        return int(self._told()["seen"])

    @property
    def hits(self) -> int:
        """Upon how many of these it acted."""
        return int(self._told()["hits"])

    def wait(self, hits: int = 1, timeout: float = 10.0) -> None:
        """Return when so many requests have met it. Raises NotInTime."""
        words = {"hits": hits, "timeout": timeout}
        self._remote().ask("POST", f"/faults/{self.number}/wait", words, longer=timeout)

    def __str__(self) -> str:
        return str(self._told()["text"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteRule) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)

    def _told(self) -> dict[str, Any]:
        told: dict[str, Any] = self._remote().ask("GET", f"/faults/{self.number}")
        return told


class RemoteFaults(FaultWords[RemoteRule]):
    """The rules there. `remote` tells where that is, and raises RuntimeError when it is nowhere."""

    def __init__(self, remote: Callable[[], Remote]) -> None:
        self._remote = remote

    def add(self, api: str, **words: Unpack[Words]) -> RemoteRule:
        """As `Faults.add`."""
        return RemoteRule(self._remote, self._remote().ask("POST", "/faults", as_json(api, words)))

    def remove(self, rule: RemoteRule) -> None:
        """Forget a rule; what it holds goes on."""
        self._remote().ask("DELETE", f"/faults/{rule.number}")

    def clear(self) -> None:
        """Forget all rules; what they hold goes on."""
        self._remote().ask("DELETE", "/faults")

    def __iter__(self) -> Iterator[RemoteRule]:
        return iter([RemoteRule(self._remote, told) for told in self._remote().ask("GET", "/faults")])


class RemoteTime:
    """The clock there, as `TimeTravel`."""

    def __init__(self, remote: Callable[[], Remote]) -> None:
        self._remote = remote

    def now_ms(self) -> int:
        """The broker's time, in milliseconds since the epoch."""
        return int(self._remote().ask("GET", "/clock")["now_ms"])

    @property
    def is_frozen(self) -> bool:
        """Whether it moves only when told to."""
        return bool(self._remote().ask("GET", "/clock")["is_frozen"])

    def freeze(self) -> None:
        """Stop it: from now on it moves only by `advance` and `set`."""
        self._remote().ask("POST", "/clock/freeze")

    def thaw(self) -> None:
        """Have it go on from where it is."""
        self._remote().ask("POST", "/clock/thaw")

    def advance(self, seconds: float) -> None:
        """Move it forward; whatever becomes due begins at once. Raises ValueError for what is not forward."""
        self._remote().ask("POST", "/clock/advance", {"seconds": seconds})

    def set(self, moment: datetime) -> None:
        """Move it forward to that moment. Raises ValueError for one that is past."""
        self._remote().ask("POST", "/clock/set", {"moment": moment.astimezone().isoformat()})


class RemoteActivity:
    """Who asks what there, as `Activity`."""

    def __init__(self, remote: Callable[[], Remote]) -> None:
        self._remote = remote

    @contextmanager
    def follow(self, tell: Callable[[Asked], None] | None = None) -> Iterator[list[Asked]]:
        """All requests that are answered during the block: a list that grows, and is whole once the block has ended.

        `tell` hears of each, in a thread of its own. Raises RuntimeError when there were too many to be told.
        """
        asked: list[Asked] = []
        problems: list[str] = []
        with self._remote().lines("/activity/follow") as (told, end):

            def read() -> None:
                for one in told:
                    if "error" in one:
                        problems.append(one["error"])
                    else:
                        asked.append(asked_of(one))
                        if tell is not None:
                            tell(asked[-1])

            reader = threading.Thread(target=read, name="kafkapy-activity", daemon=True)
            reader.start()
            try:
                yield asked
            finally:
                end()
                reader.join(_TIMEOUT_SECONDS)
        if problems:
            raise Refused(problems[0])

    def last(self, most: int) -> list[str]:
        """The last requests of clients, the oldest first."""
        return [str(one) for one in self._remote().ask("GET", f"/activity?most={most}")]


def asked_of(told: dict[str, Any]) -> Asked:
    """A request as JSON tells it."""
    return Asked(**{**told, "topics": tuple(told["topics"]), "errors": tuple(told["errors"])})


def _objects(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    try:
        while line := response.readline():
            yield json.loads(line)
    except (OSError, json.JSONDecodeError):
        return  # the broker has gone, maybe within a line


def _refusal(status: int, answer: bytes) -> Exception:
    try:
        text = str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        text = f"it answered {status}, which is no broker's: {answer[:100]!r}"
    return _KINDS.get(status, Refused)(text)
