"""The journal of a client that is a process of its own, and may be killed at any moment: a line is there or is not.

A line is a time of the system's monotonic clock and words; SIGTERM asks the client to end.
"""

import os
import signal
import time


class Journal:
    """`ending`: the client was asked to."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.ending = False
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, *_: object) -> None:
        self.ending = True

    def note(self, *words: object) -> None:
        os.write(self._file, f"{time.monotonic():.6f} {' '.join(map(str, words))}\n".encode())
