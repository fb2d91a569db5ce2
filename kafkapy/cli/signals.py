"""How a process is told to stop: by SIGINT or SIGTERM, and at once by the second one."""

import logging
import os
import signal
from types import FrameType
from typing import Final

import trio

_log = logging.getLogger("kafkapy")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED_TWICE: Final = 130


def watch_signals() -> trio.Event:
    """The event of the first SIGINT or SIGTERM. The second ends the process at once, whatever it is busy with."""
    told_to_stop = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def first(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, second)
        token.run_sync_soon(tell, number)

    def tell(number: int) -> None:
        _log.info("%s: stopping; a second one stops at once", signal.Signals(number).name)
        told_to_stop.set()

    def second(number: int, frame: FrameType | None) -> None:
        # Nothing is lost that was acknowledged: the next start recovers, as after a crash.
        os._exit(_INTERRUPTED_TWICE)

    for each in _SIGNALS:
        signal.signal(each, first)
    return told_to_stop
