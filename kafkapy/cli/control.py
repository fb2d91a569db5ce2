"""`kafkapy fault`, `clock`, `reset`, `snapshot`, `restore`, `activity`: asked of a broker at its `--control`."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from kafkapy.cli.failures import complain
from kafkapy.config.hosts import address_of
from kafkapy.config.setting import ConfigError
from kafkapy.testing.connection import Disconnected
from kafkapy.testing.nouns import NotInTime
from kafkapy.testing.remote import Refused, Remote, RemoteTime, asked_of
from kafkapy.testing.wording import as_json, from_text

_WHERE: Final = "KAFKAPY_CONTROL"
_MOVES: Final = {"advance": "a number of seconds", "set": "a moment: 2030-01-01T00:00:00+00:00"}
_STANDARD: Final = "-"
_FAILED: Final = 1
_MISUSED: Final = 2


def run(options: argparse.Namespace) -> int:
    """Do what the command says; 0 when that was done, 1 when it could not be, 2 when it makes no sense."""
    where = options.control or os.environ.get(_WHERE)
    if not where:
        complain(f"name the address that the broker was started with: --control HOST:PORT, or {_WHERE}")
        return _MISUSED
    try:
        return _COMMANDS[options.command](Remote(*address_of(where)), options) or 0
    except (NotInTime, Refused, Disconnected) as problem:
        complain(str(problem))
        return _FAILED
    except OSError as problem:
        complain(f"{problem.filename}: {problem.strerror}")
        return _FAILED
    except (ConfigError, ValueError) as problem:
        complain(str(problem))
        return _MISUSED
    except KeyboardInterrupt:
        return 0


def _fault(remote: Remote, options: argparse.Namespace) -> int | None:
    what, of = options.what, options.of
    if what == "add":
        if not of:
            raise ValueError("kafkapy fault add takes an API, and words: Produce error=NOT_LEADER_OR_FOLLOWER times=2")
        _print([remote.ask("POST", "/faults", as_json(*from_text(of[0], of[1:])))])
    elif what == "script":
        _print(_listed(json.loads(remote.exchange("POST", "/faults", _read(_one(of, "a file, or -"))))))
    elif what == "wait":
        number, hits = _one(of, "the number of a rule"), {"hits": options.hits, "timeout": options.timeout}
        _print([remote.ask("POST", f"/faults/{number}/wait", hits, longer=options.timeout)])
    elif what == "remove":
        _print([remote.ask("DELETE", f"/faults/{_one(of, 'the number of a rule')}")])
    elif what == "clear":
        remote.ask("DELETE", "/faults")
    else:
        rules = remote.ask("GET", "/faults")
        if what == "check":
            rules = [rule for rule in rules if rule["must"] and not rule["hits"]]
        _print(rules)
        return _FAILED if what == "check" and rules else 0
    return None


def _clock(remote: Remote, options: argparse.Namespace) -> None:
    time, what, to = RemoteTime(lambda: remote), options.what, options.to
    if (what in _MOVES) != (to is not None):
        raise ValueError(f"kafkapy clock {what} takes {_MOVES.get(what, 'nothing more')}")
    if what == "advance":
        time.advance(float(to))
    elif what == "set":
        time.set(datetime.fromisoformat(to))
    elif what != "show":
        remote.ask("POST", f"/clock/{what}")
    now = remote.ask("GET", "/clock")
    moment = datetime.fromtimestamp(now["now_ms"] / 1000).astimezone()
    print(f"{moment.isoformat(timespec='milliseconds')}{', frozen' if now['is_frozen'] else ''}")


def _reset(remote: Remote, options: argparse.Namespace) -> None:
    remote.reset()


def _snapshot(remote: Remote, options: argparse.Namespace) -> None:
    written = remote.exchange("GET", "/snapshot")
    if options.file == _STANDARD:
        sys.stdout.buffer.write(written)
        sys.stdout.buffer.flush()
    else:
        Path(options.file).write_bytes(written)


def _restore(remote: Remote, options: argparse.Namespace) -> None:
    remote.exchange("POST", "/restore", _read(options.file))


def _activity(remote: Remote, options: argparse.Namespace) -> int | None:
    if not options.follow:
        for one in remote.ask("GET", "/activity"):
            print(one)
        return None
    with remote.lines("/activity/follow") as (told, _):
        for one in told:
            if "error" in one:
                raise Refused(one["error"])
            print(json.dumps(one) if options.json else asked_of(one), flush=True)
    raise Disconnected("the broker has gone")


_COMMANDS: Final[dict[str, Callable[[Remote, argparse.Namespace], int | None]]] = {
    "fault": _fault,
    "clock": _clock,
    "reset": _reset,
    "snapshot": _snapshot,
    "restore": _restore,
    "activity": _activity,
}


def _print(rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        print(f"{rule['number']}: {rule['text']}{' (must)' if rule['must'] else ''}")


def _listed(told: Any) -> list[dict[str, Any]]:
    return told if isinstance(told, list) else [told]


def _one(of: list[str], what: str) -> str:
    if len(of) != 1:
        raise ValueError(f"that takes {what}")
    return of[0]


def _read(path: str) -> bytes:
    return sys.stdin.buffer.read() if path == _STANDARD else Path(path).read_bytes()
