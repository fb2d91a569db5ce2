"""Runs the checks of one client, one process a check, and prints one JSON line for each.

Imported by every `compat/<client>/run.py`, in that client's own environment (standard library only). What `compat/run`
reads on stdout, a JSON object a line:

    {"client": "kafka-python", "version": "3.0.12", "checks": ["…", …]}    once, first
    {"began": "…"}                                                         a check starts
    {"check": "…", "passed": true, "seconds": 0.8, "detail": "…"}          and ends; null: it did not run
    {"ask": "restart", "token": "…"}        kill -9 the broker and start it again; answered on stdin with the token
    {"ask": "kill", "of": 0, "token": "…"}  kill -9 one of several brokers, "start" it again: likewise

1. Each check runs in a forked process and process group of its own, so that a hang or a crash costs that check alone.
2. Nothing is reported that was not run.
"""

import argparse
import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class NotRun(Exception):
    """The test did not run, or ran nothing; the text says why."""


class Check(NamedTuple):
    """`run` may return a detail for the report; it fails by raising, and is not counted when it raises `NotRun`."""

    name: str
    run: Callable[[], str | None]
    limit_s: float = 30.0
    quick: bool = False
    restarts: bool = False  # it has the broker killed


def main(client: str, version: str, make_checks: Callable[[str], Iterable[Check]]) -> None:
    """The body of a run.py: `make_checks(bootstrap)` gives the checks in the order in which they run."""
    parser = argparse.ArgumentParser(description=f"The checks of {client}; compat/run calls this.")
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--quick", action="store_true", help="only the fast ones")
    parser.add_argument("--no-restarts", action="store_true", help="leave out what has the broker killed")
    parser.add_argument("--only", metavar="TEXT", help="only checks whose name contains TEXT")
    options = parser.parse_args()
    checks = [
        check
        for check in make_checks(options.bootstrap)
        if (check.quick or not options.quick)
        and not (check.restarts and options.no_restarts)
        and (not options.only or options.only in check.name)
    ]
    _say({"client": client, "version": version, "checks": [check.name for check in checks]})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for check in checks:
        _say({"began": check.name})
        print(f"== {check.name}", file=sys.stderr, flush=True)
        begin = time.monotonic()
        outcome = _run_apart(check)
        _say({"check": check.name, "seconds": round(time.monotonic() - begin, 2), **outcome})


def restart_broker() -> None:
    """Have the broker killed with SIGKILL and started again on its port and data; returns once it answers.

    Of several brokers each, one after the other.
    """
    ask("restart")


def ask(what: str, of: int = 0) -> None:
    """Have `compat/run` do something with the broker; returns once it is done."""
    token = uuid.uuid4().hex
    _say({"ask": what, "of": of, "token": token})
    # unbuffered, so that an answer to a check that was given up cannot hide the one wanted here
    line = b""
    while True:
        byte = os.read(0, 1)
        if not byte:
            raise RuntimeError("nobody answers what is asked of the broker")
        line += byte
        if byte == b"\n":
            answer = json.loads(line)
            line = b""
            if answer["token"] == token:
                break
    if answer["error"]:
        raise RuntimeError(answer["error"])


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time in this block, of those that name the same folder: fetching and building is for one."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Lines:
    """The lines that another process writes into a pipe, as far as they are there."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.ended = False
        self._pending = b""

    def read(self, timeout_s: float) -> list[bytes]:
        """The complete lines by now, waiting up to `timeout_s` for something to come. Sets `ended` at the end."""
        if self.ended or not select.select([self.descriptor], [], [], max(0.0, timeout_s))[0]:
            return []
        chunk = os.read(self.descriptor, 1 << 16)
        if not chunk:
            self.ended = True
            os.close(self.descriptor)
            return []
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        return lines


def fork(body: Callable[[Callable[[object], None]], None]) -> tuple[int, int]:
    """A process that runs `body(report)`: its id, and the descriptor from which its reports come, a JSON line each."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write_end)
        return pid, read_end
    # the child: whatever happens, it must not return into its parent's code
    code = 1
    try:
        os.close(read_end)
        body(lambda thing: _write_line(write_end, thing))
        code = 0
    finally:
        if code:
            traceback.print_exc()
        sys.stderr.flush()
        # not sys.exit: a client's leftover threads and exit hooks may hang
        os._exit(code)


def _run_apart(check: Check) -> dict[str, object]:
    def body(report: Callable[[object], None]) -> None:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            detail = check.run()
        except NotRun as reason:
            report({"passed": None, "detail": _one_line(reason)})
            raise
        except BaseException as error:
            report({"passed": False, "detail": _one_line(error)})
            raise
        report({"passed": True, "detail": detail or ""})

    pid, descriptor = fork(body)
    with contextlib.suppress(OSError):  # both sides set it: whichever comes first
        os.setpgid(pid, pid)
    lines = Lines(descriptor)
    try:
        deadline = time.monotonic() + check.limit_s
        while not lines.ended and time.monotonic() < deadline:
            for line in lines.read(deadline - time.monotonic()):
                return dict(json.loads(line))
        reason = "the process of the check died" if lines.ended else f"not done within its {check.limit_s:g} s"
        return {"passed": False, "detail": reason}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if not lines.ended:
            os.close(descriptor)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, NotRun):
        return text[:300]
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__


def _say(thing: object) -> None:
    _write_line(1, thing)


def _write_line(descriptor: int, thing: object) -> None:
    data = json.dumps(thing).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]
