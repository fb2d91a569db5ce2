"""How records that a share group gives up leave its window, where the group has a dead-letter queue (KIP-1191).

Pure; works on a `Window`. They are ARCHIVING once that is written down, and stay in the window until the queue has
them, or cannot have them: then they are ARCHIVED, whichever it was. Who loads a state with such records in it does the
rest: a record is in the queue at least once. Called by `partitions.py`.
"""

from collections.abc import Iterable

from kafkapy.sharing.batches import RecordState, StateBatch
from kafkapy.sharing.in_flight import DeadLetter, StateWrite
from kafkapy.sharing.window import Window

_ARCHIVING = RecordState.ARCHIVING


def left_over(window: Window, delivery_limit: int) -> list[DeadLetter]:
    """What a window that was just loaded has yet to put into the queue; the reason is not written down, but guessed."""
    return [
        DeadLetter(part.first, part.last, part.one.delivery_count, part.one.delivery_count < delivery_limit)
        for _, batch in window.batches_in_order()
        for part in batch.within(batch.first, batch.last)
        if part.one.state is _ARCHIVING
    ]


def archived(window: Window, letters: Iterable[DeadLetter]) -> StateWrite:
    """The queue is done with these; what is to be written."""
    write = StateWrite(settles=False)
    for first, last, count, _ in letters:
        window.archive(first, last, _ARCHIVING)
        write.batches.append(StateBatch(first, last, RecordState.ARCHIVED, count))
    return write
