"""Removes deleted logs and segments, some time after they were set aside (file.delete.delay.ms).

Folders of logs have names that end in `-delete`, files of segments in `.deleted`, as Kafka's do: whatever is left of
them at a stop goes at the next start. Called by the store.
"""

from pathlib import Path

import trio

from kafkapy.clock import Clock
from kafkapy.storage.embedded.files import Disk
from kafkapy.timers import Timers


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
