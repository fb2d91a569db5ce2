"""A share partition as it is led here: its window, and what of it is under way. Kept by `partitions.py`."""

from typing import Final

import trio

from kafkapy.errors import KafkaError
from kafkapy.model import LogId
from kafkapy.sharing.in_flight import DeadLetter, StateWrite
from kafkapy.sharing.state.facts import SharePartitionKey
from kafkapy.sharing.window import Window

FIRST_GUESS_BYTES: Final = 1024
"""What a record may take, as long as nothing of the partition was read."""


class Writing:
    """A write that is under way, for who waits for its end."""

    __slots__ = ("_done", "error", "write")

    def __init__(self, write: StateWrite) -> None:
        self.write = write
        self.error: KafkaError | None = None
        self._done = trio.Event()

    def end(self, error: KafkaError | None) -> None:
        self.error = error
        self._done.set()

    async def wait(self) -> KafkaError | None:
        await self._done.wait()
        return self.error


class SharePartition:
    """A group's share of one log, as it is led here under one leader epoch."""

    __slots__ = (
        "failure",
        "is_burying",
        "is_over",
        "is_read",
        "is_wanted",
        "is_writing",
        "key",
        "leader_epoch",
        "letters",
        "log",
        "record_bytes",
        "state_epoch",
        "window",
        "writes",
    )

    def __init__(self, key: SharePartitionKey, log: LogId, leader_epoch: int) -> None:
        self.key = key
        self.log = log
        self.leader_epoch = leader_epoch
        self.state_epoch = -1
        self.window: Window | None = None
        """None until it is loaded."""
        self.failure: KafkaError | None = None
        """Why it could not be loaded."""
        self.is_over = False
        """Nobody may acquire anything of it: another one has taken its place, or will."""
        self.is_read = False
        """A fetch reads from its log, and will acquire what it finds."""
        self.is_wanted = False
        """Others wait for the end of that."""
        self.is_writing = False
        self.writes: list[Writing] = []
        self.is_burying = False
        self.letters: list[DeadLetter] = []
        """What is to go into the group's dead-letter queue."""
        self.record_bytes = FIRST_GUESS_BYTES
        """About how many bytes a record takes, by what was read last."""

    @property
    def is_busy(self) -> bool:
        """Whether something of it has yet to be written."""
        return self.is_writing or self.is_burying
