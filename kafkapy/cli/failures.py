"""Why the process ends: a line for what a user can mend, a traceback for what they cannot."""

import logging
import sys

from kafkapy.config.setting import ConfigError
from kafkapy.errors import KafkaError
from kafkapy.network.listening import CannotListen, PortTaken

_log = logging.getLogger(__name__)


class StartError(Exception):
    """The broker cannot start; the text says why and what to do."""


def complain(text: str) -> None:
    """Say on stderr what is wrong, each line under the program's name."""
    for line in text.splitlines():
        print(f"kafkapy: {line}", file=sys.stderr)


def explain(failure: BaseException, *, ready: bool) -> None:
    """Say why the broker could not start, or if it was `ready`, why it had to end."""
    from kafkapy.coordination.replaying import DamagedLog
    from kafkapy.storage.embedded.directory import DirectoryInUse, DirectoryLost, DirectoryMismatch
    from kafkapy.storage.shared.problems import DatabaseError, DatabaseInUse, UnfitDatabase

    if isinstance(failure, BaseExceptionGroup) and (lost := failure.subgroup(DirectoryLost)) is not None:
        failure = lost  # whatever else failed, failed for that
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    if isinstance(failure, PortTaken):
        from kafkapy.cli.ports import holder_of

        port = failure.endpoint.port
        holder = holder_of(port)
        by = f" by {holder}" if holder else ""
        complain(f"port {port} is in use{by}; stop that, or choose another port (--port 0 takes a free one)")
    elif isinstance(failure, DirectoryInUse | DirectoryMismatch):
        complain(f"{failure}; name another one with --data-dir")
    elif isinstance(failure, UnfitDatabase):
        complain(f"this database cannot be used: {failure}")
    elif isinstance(failure, DatabaseError) and not ready:
        complain(f"the database cannot be used: {failure}")
    elif isinstance(failure, DirectoryLost | DatabaseInUse | ConfigError | CannotListen | StartError):
        complain(str(failure))
    elif isinstance(failure, OSError) and failure.filename and not ready:
        complain(f"cannot start: {failure.filename}: {failure.strerror}; name another directory with --data-dir")
    elif isinstance(failure, OSError | KafkaError | DamagedLog) and not ready:
        complain(f"cannot start: {failure}")
        if isinstance(failure, DamagedLog):
            complain("`kafkapy check` names file and position; docs/storage_format.md says what can be done")
    else:
        _log.critical("kafkapy ends because it cannot trust its own state", exc_info=failure)
