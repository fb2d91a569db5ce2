"""Faults, time, resets, snapshots and activity, asked for over HTTP in the words of Python.

    GET  /                                   which cluster this is of
    GET  /faults          the rules          POST /faults         set one (an object), or several at once (a list)
    DELETE /faults        forget all         DELETE /faults/N     forget one; what it holds goes on (GET tells it)
    POST /faults/N/wait   {"hits": 1, "timeout": 10}: the rule, as soon as so many requests have met it
    GET  /clock           its time           POST /clock/freeze · thaw · advance {"seconds": 5} · set {"moment": "…"}
    POST /reset                              forget what is in the broker, faults, and what was done to its clock
    GET  /snapshot        JSON lines         POST /restore        have it hold what those say, and nothing else
    GET  /activity        the last requests  GET  /activity/follow  JSON lines, one a request, until one hangs up

What is refused is told as `{"error": "…"}`. Whoever reaches the address may do all of this: browsers that were sent by
a stranger's page are turned away, and there is no other guard.
"""

import ipaddress
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import trio

from kafkapy.clock import SystemClock
from kafkapy.config.hosts import is_loopback
from kafkapy.console.http import HttpEndpoint, HttpLimits, Question, Refusal, Reply, told_as_json
from kafkapy.errors import KafkaError
from kafkapy.testing.activity import Activity, Asked
from kafkapy.testing.connection import Disconnected
from kafkapy.testing.entries import parsed, written
from kafkapy.testing.faults import Faults, Rule
from kafkapy.testing.operations import Operations
from kafkapy.testing.time_travel import TimeTravel
from kafkapy.testing.wording import from_json

_log = logging.getLogger(__name__)

MOST_WAIT_SECONDS: Final = 600.0
MOST_RESTORED_BYTES: Final = 256 << 20
_MOST_BODY_BYTES: Final = 1 << 20
_MOST_RULES: Final = 1000
_MOST_AT_ONCE: Final = 64
_MOST_BEHIND: Final = 100_000
"""Requests that a follower may have yet to read."""
_OPERATION_SECONDS: Final = 120.0
_LAST_REQUESTS: Final = 50
_READING_SECONDS: Final = 10.0
_PIECE_BYTES: Final = 1 << 16

Words = Mapping[str, Any]


Answers = Callable[[Question], Awaitable[Reply]]


class Control:
    """What is controlled has this beside what is not. All of it in its event loop."""

    def __init__(self, time: TimeTravel | None, *, no_disk: str | None) -> None:
        """`time` is what can be moved, if it can; `no_disk`: why no disk can fail."""
        self.faults = Faults(at_once, no_disk=no_disk)
        self.activity = Activity(at_once)
        self.time = time
        self._alone = trio.Lock()
        self._operations: Operations
        self._about: Callable[[], Mapping[str, Any]]
        self._host, self._is_private = "", True

    async def serve(
        self,
        operations: Operations,
        about: Callable[[], Mapping[str, Any]],
        host: str,
        port: int,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer until cancelled; started with the port. `about` says what this is. Raises ConfigError."""
        self._operations, self._about = operations, about
        self._host, self._is_private = host.lower(), is_loopback(host)
        # What is waited for here goes by the machine's time, whatever becomes of the broker's.
        limits = HttpLimits(_MOST_AT_ONCE, MOST_WAIT_SECONDS + _OPERATION_SECONDS, _most_body_bytes)
        endpoint = HttpEndpoint(self._answer, limits, SystemClock(), self._admit)
        try:
            await endpoint.serve("control", host, port, task_status)
        finally:
            self.faults.clear()
            if self.time is not None:
                self.time.thaw()  # the grace of requests under way has an end
            with trio.CancelScope(shield=True):
                await self._operations.close()

    def _admit(self, question: Question) -> None:
        """A page of somebody else's can have a browser ask, and its name can be given our address."""
        host = question.headers.get("host", "localhost").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        is_stranger = self._is_private and name not in ("localhost", self._host) and not _is_address(name)
        if "origin" in question.headers or is_stranger:
            raise Refusal("403 Forbidden", "this is not for browsers")

    async def _answer(self, question: Question) -> Reply:
        work = self._found(question)
        try:
            return await work(question)
        except Refusal:
            raise
        except (ValueError, TypeError, OverflowError, RecursionError) as problem:  # what was asked with
            raise Refusal("400 Bad Request", str(problem)) from None
        except (KafkaError, Disconnected) as problem:  # what the broker said
            raise Refusal("409 Conflict", str(problem)) from None
        except Exception:  # noqa: BLE001  it costs this question, not the broker
            _log.exception("%s %s failed", question.method, question.path)
            raise Refusal("500 Internal Server Error", "that failed; the broker's log says how") from None

    def _found(self, question: Question) -> Answers:
        methods = self.paths(question.path.strip("/").split("/"))
        if methods is None:
            raise Refusal("404 Not Found", f"there is no {question.path[:200]}")
        if question.method not in methods:
            raise Refusal("405 Method Not Allowed", f"{question.path} takes {' or '.join(methods)}")
        return methods[question.method]

    def paths(self, parts: list[str]) -> Mapping[str, Answers] | None:
        """What answers questions about that path, by their methods; None where there is no such path."""
        match parts:
            case [""]:
                return {"GET": self._tell_broker}
            case ["faults"]:
                return {"GET": self._tell_rules, "POST": self._set_rules, "DELETE": self._clear}
            case ["faults", number]:
                return {
                    "GET": lambda question: self._tell_rule(number),
                    "DELETE": lambda question: self._remove(number),
                }
            case ["faults", number, "wait"]:
                return {"POST": lambda question: self._wait(number, question)}
            case ["clock"]:
                return {"GET": self._tell_clock}
            case ["clock", "freeze" | "thaw" | "advance" | "set" as what]:
                return {"POST": lambda question: self._move(what, question)}
            case ["reset"]:
                return {"POST": self._reset}
            case ["snapshot"]:
                return {"GET": self._snapshot}
            case ["restore"]:
                return {"POST": self._restore}
            case ["activity"]:
                return {"GET": self._tell_last}
            case ["activity", "follow"]:
                return {"GET": self._follow}
        return None

    async def _tell_broker(self, question: Question) -> Reply:
        return told_as_json(self._about())

    # Faults

    async def _tell_rules(self, question: Question) -> Reply:
        return told_as_json([_told(rule) for rule in self.faults])

    async def _tell_rule(self, number: str) -> Reply:
        return told_as_json(_told(self._rule(number)))

    async def _set_rules(self, question: Question) -> Reply:
        """All of them, or none."""
        asked = _json(question)
        script = asked if isinstance(asked, list) else [asked]
        if len([*self.faults]) + len(script) > _MOST_RULES:
            raise ValueError(f"more than {_MOST_RULES} rules: forget some")
        rules: list[Rule] = []
        try:
            for one in script:
                api, words = from_json(one)
                rules.append(self.faults.add(api, **words))
        except ValueError as problem:
            for rule in rules:
                self.faults.remove(rule)
            raise ValueError(f"rule {len(rules) + 1}: {problem}" if len(script) > 1 else str(problem)) from None
        told = [_told(rule) for rule in rules]
        return told_as_json(told if isinstance(asked, list) else told[0])

    async def _clear(self, question: Question) -> Reply:
        self.faults.clear()
        return told_as_json([])

    async def _remove(self, number: str) -> Reply:
        rule = self._rule(number)
        self.faults.remove(rule)
        return told_as_json(_told(rule))

    async def _wait(self, number: str, question: Question) -> Reply:
        rule, words = self._rule(number), words_of(question, "hits", "timeout")
        hits, timeout = words.get("hits", 1), words.get("timeout", 10.0)
        if not isinstance(hits, int) or not isinstance(timeout, int | float) or not 0 <= timeout <= MOST_WAIT_SECONDS:
            raise ValueError(f"hits is a whole number, and timeout one of seconds, up to {MOST_WAIT_SECONDS:g}")
        clock = SystemClock()
        with clock.until(clock.monotonic() + timeout):
            await rule.met(hits)
        if rule.hits < hits:
            raise Refusal("408 Request Timeout", f"after {timeout:g} s: {rule}, not {hits}")
        return told_as_json(_told(rule))

    def _rule(self, number: str) -> Rule:
        for rule in self.faults:
            if str(rule.number) == number:
                return rule
        raise Refusal("404 Not Found", f"there is no rule {number[:20]}")

    # Time

    async def _tell_clock(self, question: Question) -> Reply:
        time = self._movable()
        return told_as_json({"now_ms": time.now_ms(), "is_frozen": time.is_frozen})

    def _movable(self) -> TimeTravel:
        if self.time is None:
            raise Refusal("409 Conflict", "this has no clock that could be moved")
        return self.time

    async def _move(self, what: str, question: Question) -> Reply:
        time = self._movable()
        if what == "advance":
            seconds = words_of(question, "seconds").get("seconds")
            if isinstance(seconds, bool) or not isinstance(seconds, int | float):
                raise ValueError('advance takes {"seconds": 5}')
            time.advance(seconds)
        elif what == "set":
            moment = words_of(question, "moment").get("moment")
            if not isinstance(moment, str):
                raise ValueError('set takes {"moment": "2030-01-01T00:00:00Z"}')
            time.set(datetime.fromisoformat(moment))
        else:
            words_of(question)
            getattr(time, what)()
        return await self._tell_clock(question)

    # What is in the broker

    async def _reset(self, question: Question) -> Reply:
        self.faults.clear()
        self.activity.forget()
        if self.time is not None:
            self.time.thaw()
        await self._operate(self._operations.reset)
        return told_as_json({})

    async def _snapshot(self, question: Question) -> Reply:
        entries = await self._operate(self._operations.snapshot)
        return Reply(content_type="application/jsonl", body=written(entries).encode())

    async def _restore(self, question: Question) -> Reply:
        entries = [*parsed(question.body.decode())]
        await self._operate(lambda: self._operations.restore(entries))
        return told_as_json({"entries": len(entries)})

    async def _operate(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """One after the other, and not for ever: a rule may hold what is asked for here, too."""
        clock, done = SystemClock(), []
        with clock.until(clock.monotonic() + _OPERATION_SECONDS):
            async with self._alone:
                done.append(await work())
        if not done:
            raise Refusal("504 Gateway Timeout", f"not done after {_OPERATION_SECONDS:g} s; a fault may hold it")
        return done[0]

    # Who asks what

    async def _tell_last(self, question: Question) -> Reply:
        most = question.query.get("most", str(_LAST_REQUESTS))
        if not (most.isascii() and most.isdigit() and len(most) < 10):
            raise ValueError(f"most is a number, not {most[:50]!r}")
        return told_as_json(self.activity.last(int(most)))

    async def _follow(self, question: Question) -> Reply:
        return Reply(content_type="application/jsonl", follow=self._tell_all)

    async def _tell_all(self, stream: trio.SocketStream) -> None:
        """Each request, until the other side has nothing more to say; what was answered before that is told."""
        clock, untold = SystemClock(), deque[Asked]()
        news = trio.Event()
        ended = lost = False

        def hear(one: Asked) -> None:
            nonlocal lost
            lost = lost or len(untold) >= _MOST_BEHIND
            if not lost:
                untold.append(one)
            news.set()

        async def hear_end() -> None:
            nonlocal ended
            with suppress(trio.BrokenResourceError):
                while await stream.receive_some(_PIECE_BYTES):
                    pass
            ended = True
            news.set()

        async def send(text: str) -> None:
            with clock.until(clock.monotonic() + _READING_SECONDS) as late:
                await stream.send_all(text.encode())
            if late.cancelled_caught:
                raise trio.BrokenResourceError("whoever follows does not read")

        try:
            with self.activity.heard(hear):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(hear_end)
                    await send("\n")  # from here on nothing is missed
                    is_last = False
                    while not is_last:
                        await news.wait()
                        news, is_last = trio.Event(), ended or lost
                        await send("".join(_line_of(untold.popleft()) for _ in range(len(untold))))
                    if lost:
                        await send('{"error": "too far behind to be told of more"}\n')
                    nursery.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            _log.debug("lost whoever followed the activity")


def at_once(work: Callable[[], Any]) -> Any:
    """How what is in its own event loop is called."""
    return work()


def _most_body_bytes(path: str) -> int:
    return MOST_RESTORED_BYTES if path.strip("/") == "restore" else _MOST_BODY_BYTES


def _json(question: Question) -> Any:
    try:
        return json.loads(question.body)
    except json.JSONDecodeError as problem:
        raise ValueError(f"that is no JSON: {problem}") from None


def words_of(question: Question, *known: str) -> Words:
    """The members of an object that comes with a question, of which there are no others than these."""
    words = _json(question) if question.body.strip() else {}
    if not isinstance(words, dict) or not set(words) <= set(known):
        raise ValueError(f"{question.path} takes {{{', '.join(known)}}}, not {str(words)[:200]}")
    return words


def _told(rule: Rule) -> dict[str, Any]:
    return {"number": rule.number, "text": str(rule), "seen": rule.seen, "hits": rule.hits, "must": rule.must}


def _line_of(one: Asked) -> str:
    return json.dumps(one._asdict()) + "\n"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
