"""Removes deleted logs and segments, some time after they were set aside (file.delete.delay.ms).

Folders of logs have names that end in `-delete`, files of segments in `.deleted`, as Kafka's do: whatever is left of
them at a stop goes at the next start. Called by the store.
"""

import uuid
from pathlib import Path
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.storage.embedded.files import Disk
from kafkapy.timers import Timers

DELETED_SUFFIX: Final = "-delete"
STRAY_SUFFIX: Final = "-stray"
"""Of a log that no topic is known for: kept, for somebody to look at. Kafka gives it the same name."""

_MAX_FILE_NAME: Final = 255


class Removal:
    """What waits to be removed."""

    def __init__(self, disk: Disk, clock: Clock) -> None:
        self._disk = disk
        self._clock = clock
        self._timers: Timers[Path, None] = Timers()
        self._nap = trio.CancelScope()

    def add(self, path: Path, delay_ms: int) -> None:
        """Remove this file, or folder with all it holds, when the delay is over."""
        deadline = self._clock.monotonic() + delay_ms / 1000
        self._timers.set(path, deadline, None)
        if deadline < self._nap.deadline:
            self._nap.cancel()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            with self._clock.until(self._timers.next) as self._nap:
                await trio.sleep_forever()
            while (due := self._timers.pop_due(self._clock.monotonic())) is not None:
                await trio.to_thread.run_sync(self._disk.remove_set_aside, due[0])


def set_aside_name(name: str, suffix: str) -> str:
    """A folder's name once its log is gone from where it was; cut so that file systems take it."""
    ending = f".{uuid.uuid4().hex}{suffix}"
    return name[: _MAX_FILE_NAME - len(ending)] + ending
