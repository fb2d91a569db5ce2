"""Puts a cleaned segment in the place of those that it was made of: a crash at any moment leaves one or the other.

The new files are written with `.cleaned` behind their names. Once they are on the medium they get `.swap` instead, the
log last: a log that has it counts, whatever becomes of the rest. Then the old files are set aside, and the new ones get
the names that they are to have, again the log last. Before each step the names of the one before are on the medium.
Kafka has the same names and the same order, and completes or undoes what we left, as we do what it left.

Invariant: as long as there is a `.log.swap`, what it replaces may be removed: all segments that begin within it.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio

from kafkapy.records.batch import CorruptBatch
from kafkapy.storage.aborted import AbortedRow
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.names import is_of_segment, offset_of
from kafkapy.storage.embedded.partition import Partition
from kafkapy.storage.embedded.segment import Segment

_log = logging.getLogger(__name__)

CLEANED_SUFFIX: Final = ".cleaned"
SWAP_SUFFIX: Final = ".swap"

_KINDS: Final = ("log", "index", "timeindex", "txnindex", "snapshot")


class Abandoned(Exception):
    """What was to be cleaned is not there any longer."""


class SwapFailed(Exception):
    """The disk failed once the new segment counted; the next start completes what was begun."""


def new_files(disk: Disk, folder: Path, base_offset: int) -> Segment:
    """A segment that is yet to take its place; what another attempt left of it is removed. Raises OSError."""
    segment = Segment(disk, folder, base_offset)
    discard(disk, segment)
    segment.path += CLEANED_SUFFIX
    return segment


def discard(disk: Disk, segment: Segment) -> None:
    """Remove what was written of a segment that takes no place. Raises OSError."""
    for suffix in (SWAP_SUFFIX, CLEANED_SUFFIX):
        for path in segment.paths():
            disk.remove(path + suffix)


async def swap_in(
    disk: Disk,
    partition: Partition,
    old: Sequence[Segment],
    new: Segment,
    aborted: list[AbortedRow],
    is_there: Callable[[], bool],
) -> list[Path]:
    """Have `new`, whose files are written, take the place of `old`; the files that were set aside.

    Raises Abandoned when the log is not what it was, OSError when the disk fails and nothing has changed, SwapFailed
    when it fails later.
    """
    log, *indexes = new.paths()
    folder = str(partition.folder)

    def still() -> None:
        if not is_there() or old[0] not in partition.segments:
            raise Abandoned

    await trio.to_thread.run_sync(disk.sync, [path + CLEANED_SUFFIX for path in (log, *indexes)])
    still()
    for path in indexes:
        _rename(disk, path + CLEANED_SUFFIX, path + SWAP_SUFFIX)
    await trio.to_thread.run_sync(disk.sync_folder, folder)
    still()
    with trio.CancelScope(shield=True):
        disk.rename_file(log + CLEANED_SUFFIX, log + SWAP_SUFFIX)
        new.path = log + SWAP_SUFFIX
        await trio.to_thread.run_sync(disk.sync_folder, folder)
        still()
        partition.replace(old, new, aborted)
        try:
            aside = [path for segment in old for path in segment.set_aside()]
            for path in indexes:
                _rename(disk, path + SWAP_SUFFIX, path)
            await trio.to_thread.run_sync(disk.sync_folder, folder)
            if not is_there():
                raise Abandoned
            disk.rename_file(log + SWAP_SUFFIX, log)
            new.path = log
            await trio.to_thread.run_sync(disk.sync_folder, folder)
        except OSError as failure:
            raise SwapFailed(str(failure)) from failure
    return aside


def settle(disk: Disk, folder: Path, names: list[str]) -> list[str]:
    """Complete or undo what a crash left half done in a log's folder with these entries; its entries then.

    Raises OSError.
    """
    left = [name for name in names if name != (bare := _bare(name)) and is_of_segment(bare)]
    if not left:
        return names
    for name in left:
        if name.endswith(SWAP_SUFFIX) and (base := offset_of(_bare(name), "log")) is not None:
            _complete(disk, folder, names, base)
    for name in left:
        disk.remove(str(folder / name))
    disk.sync_folder(str(folder))
    return disk.names(folder)


def _bare(name: str) -> str:
    return name.removesuffix(SWAP_SUFFIX).removesuffix(CLEANED_SUFFIX)


def _complete(disk: Disk, folder: Path, names: list[str], base: int) -> None:
    new = Segment(disk, folder, base)
    log, *indexes = new.paths()
    new.path = log + SWAP_SUFFIX
    new.size = disk.size(new.path)
    end = base + 1
    try:
        for _, header in new.scan():
            end = header.next_offset
    except CorruptBatch as damage:
        _log.error("%s: damaged within %s: %s", folder.name, new.path, damage)
    _log.warning("%s: the segment at offset %d, which was cleaned, takes its place", folder.name, base)
    for other in {offset_of(name, *_KINDS) for name in names}:
        if other is not None and base < other < end:
            Segment(disk, folder, other).remove()
    for path in indexes:
        _rename(disk, path + SWAP_SUFFIX, path)
    disk.sync_folder(str(folder))
    disk.rename_file(new.path, log)
    disk.sync_folder(str(folder))


def _rename(disk: Disk, source: str, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # there are not always aborted transactions
        disk.rename_file(source, target)
