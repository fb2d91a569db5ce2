"""The cleaner: makes compacted logs smaller, one at a time, the dirtiest first.

What stays is decided by `storage/compaction.py`. Here its two passes are fed from the files, a buffer at a time and in
steps on the event loop (decision 26), what stays is written beside the old segments, and takes their place
(`swapping`). Called by the store.

Invariants
 1. Nothing goes before what makes it superfluous is on the medium.
 2. A log that cannot be cleaned is named in the broker's log once, and left; others go on.
 3. Readers find every batch at any time, in the old files or in the new ones.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, closing, suppress
from math import inf
from pathlib import Path
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.records.batch import HEADER_SIZE, BatchHeader, Buffer, CorruptBatch, read_header, walk
from kafkapy.records.filtering import Remade
from kafkapy.storage.aborted import encode_rows, overlapping
from kafkapy.storage.base import CleanerSettings
from kafkapy.storage.compaction import (
    Learner,
    NoRoom,
    Section,
    Sieve,
    checked,
    cleanable_section,
    group_segments,
)
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.names import offset_of
from kafkapy.storage.embedded.partition import Partition
from kafkapy.storage.embedded.removal import Removal
from kafkapy.storage.embedded.segment import Segment
from kafkapy.storage.embedded.swapping import CLEANED_SUFFIX, Abandoned, SwapFailed, discard, new_files, swap_in
from kafkapy.storage.offset_map import OffsetMap
from kafkapy.turns import Steps, Turns, run

_log = logging.getLogger(__name__)

_ASSEMBLED_A_STEP: Final = 64 << 10
"""Bytes."""

_LOGS_A_STEP: Final = 20

_RETRY_SECONDS: Final = 600.0
"""A log whose disk failed is tried again after that: it may have been full."""

IsThere = Callable[[Partition], bool]


class Cleaner:
    """Cleans the logs of a store. `is_there` tells whether a log is one of the store's yet."""

    def __init__(self, disk: Disk, clock: Clock, turns: Turns, removal: Removal, is_there: IsThere) -> None:
        self.disk = disk
        self.clock = clock
        self.turns = turns
        self.removal = removal
        self.is_there = is_there
        self.at_work = trio.Lock()
        """Held as long as a log is being cleaned."""
        self._left_until: dict[Partition, float] = {}

    def forget(self, partition: Partition) -> None:
        """The log is deleted."""
        self._left_until.pop(partition, None)

    async def clean_dirtiest(self, partitions: Iterable[Partition], settings: CleanerSettings) -> bool:
        """Clean the dirtiest log that is dirty enough; false when there was none, or it could not be cleaned."""
        async with self.at_work:
            return await self._clean_dirtiest(partitions, settings)

    async def _clean_dirtiest(self, partitions: Iterable[Partition], settings: CleanerSettings) -> bool:
        found = await self.turns.finish(self._find_dirtiest(list(partitions)))
        if found is None:
            return False
        partition, section = found
        left_until = inf
        try:
            partition.cleaned_to = await _Round(self, partition, section, settings).run()
        except Abandoned:
            return False
        except OSError as failure:
            if not self.is_there(partition):
                return False
            _log.error("%s could not be cleaned, and is left for a while: %s", partition.log, failure)
            left_until = self.clock.monotonic() + _RETRY_SECONDS
        except (CorruptBatch, SwapFailed, NoRoom) as reason:
            _log.error("%s cannot be cleaned, and is left as it is: %s", partition.log, reason)
        else:
            return True
        self._left_until[partition] = left_until
        return False

    def _find_dirtiest(self, partitions: Sequence[Partition]) -> Steps[tuple[Partition, Section] | None]:
        found: tuple[Partition, Section] | None = None
        now, now_ms = self.clock.monotonic(), self.clock.now_ms()
        for number, partition in enumerate(partitions, 1):
            if number % _LOGS_A_STEP == 0:
                yield
            if not partition.settings.compacts or partition.is_moving or len(partition.segments) < 2:
                continue
            if self._left_until.get(partition, 0.0) > now or not self.is_there(partition):
                continue
            bounds = partition.bounds()
            bounds = bounds._replace(last_stable_offset=min(bounds.last_stable_offset, partition.recovery_point))
            try:
                section = cleanable_section(
                    partition.cleanable(), partition.cleaned_to, bounds, partition.settings, now_ms
                )
            except OSError as failure:
                _log.error("%s: its segments could not be looked at: %s", partition.log, failure)
                continue
            if section.is_due(partition.settings) and (found is None or section.dirty_ratio > found[1].dirty_ratio):
                found = partition, section
        return found


class _Round:
    """One round over one log."""

    def __init__(self, cleaner: Cleaner, partition: Partition, section: Section, settings: CleanerSettings) -> None:
        self._disk, self._clock, self._turns = cleaner.disk, cleaner.clock, cleaner.turns
        self._removal = cleaner.removal
        self._is_there = cleaner.is_there
        self._partition = partition
        self._section = section
        self._settings = settings
        self._begun = self._clock.monotonic()
        self._io_bytes = 0

    async def run(self) -> int:
        """Clean; the offset before which all is clean. Raises Abandoned, OSError, CorruptBatch, SwapFailed, NoRoom."""
        partition, section, settings = self._partition, self._section, self._settings
        now_ms, log_settings = self._clock.now_ms(), partition.settings
        with closing(
            OffsetMap(
                section.end_offset - section.first_dirty,
                settings.dedupe_buffer_size,
                settings.io_buffer_load_factor,
            )
        ) as offsets:
            end_offset = await self._learn(offsets)
            segments = [segment for segment in partition.segments if segment.base_offset < end_offset]
            if not segments:
                raise Abandoned  # all of them were dropped meanwhile
            self._remove_snapshots(partition.segments[len(segments)].base_offset)
            sizes = [one for one in partition.cleanable() if one.base_offset < end_offset]
            rows = overlapping(partition.aborted, segments[0].base_offset, section.end_offset)
            sieve = Sieve(offsets, end_offset, rows, partition.head.producers, log_settings.delete_retention_ms, now_ms)
            before = sum(one.size for one in sizes)
            index = after = 0
            for count in group_segments(sizes, section.end_offset, log_settings):
                group = segments[index : index + count]
                index += count
                if count > 1 or group[0].size:
                    after += await self._clean_group(group, sieve)
        _log.info(
            "%s: cleaned up to offset %d, %d bytes are %d now, %d keys",
            partition.log,
            end_offset,
            before,
            after,
            offsets.count,
        )
        return end_offset

    async def _learn(self, offsets: OffsetMap) -> int:
        section, partition = self._section, self._partition
        rows = overlapping(partition.aborted, section.first_dirty, section.end_offset)
        learner = Learner(offsets, section.first_dirty, rows)
        segments = [segment for segment in partition.segments if segment.base_offset < section.end_offset]
        ends = [*(segment.base_offset for segment in segments[1:]), section.end_offset]
        for segment, end in zip(segments, ends, strict=True):
            if end <= section.first_dirty:
                continue
            begin = segment.offset_index.around(max(section.first_dirty - segment.base_offset, 0))[0]
            async with aclosing(self._chunks(segment, begin)) as chunks:
                async for chunk, _ in chunks:
                    if not await self._turns.finish(_learn_all(learner, chunk)):
                        return learner.finish()
            learner.passed(end)
        return learner.finish()

    def _remove_snapshots(self, end_offset: int) -> None:
        """Remove those from before the offset: replayed from there the log would lack markers that end transactions.

        They are gone for good before the first of the new segments counts. Raises OSError.
        """
        folder = self._partition.folder
        for name in self._disk.names(folder):
            if (offset := offset_of(name, "snapshot")) is not None and offset < end_offset:
                self._disk.remove(str(folder / name))

    async def _clean_group(self, group: Sequence[Segment], sieve: Sieve) -> int:
        """Have one segment in the place of these; its size in bytes."""
        partition, disk = self._partition, self._disk
        if any(segment not in partition.segments for segment in group):
            raise Abandoned
        had_aborted = any(partition.aborted_in(partition.segments.index(segment)) for segment in group)
        modified_ms = disk.modified_ms(group[-1].path)
        new = new_files(disk, partition.folder, group[0].base_offset)
        try:
            disk.make_file(new.path)
            for segment in group:
                async with aclosing(self._chunks(segment, 0)) as chunks:
                    async for chunk, end in chunks:
                        is_last = segment is group[-1] and end == segment.size
                        kept = await self._turns.finish(_sift_all(sieve, chunk, is_last=is_last))
                        await self._write(new, kept)
            self._still_there()
            disk.truncate(new.path, new.size)
            new.save_indexes(CLEANED_SUFFIX)
            rows = sieve.take_aborted()
            if rows or had_aborted:
                disk.write_file(Path(f"{new.paths()[-1]}{CLEANED_SUFFIX}"), encode_rows(rows))
            disk.set_modified_ms(new.path, modified_ms)
            aside = await swap_in(disk, partition, group, new, rows, lambda: self._is_there(partition))
        except BaseException as failure:
            if not isinstance(failure, SwapFailed):
                with suppress(OSError):  # it counts for nothing, and goes at the next attempt or start
                    discard(disk, new)
            raise
        for path in aside:
            self._removal.add(path, partition.settings.file_delete_delay_ms)
        return new.size

    async def _chunks(self, segment: Segment, position: int) -> AsyncGenerator[tuple[Buffer, int], None]:
        """Whole batches from a position on, a buffer at a time, and the position behind them. Raises CorruptBatch."""
        wanted = max(self._settings.io_buffer_size // 2, HEADER_SIZE)  # as much is written, at most
        while position < segment.size:
            self._still_there()
            size = min(wanted, segment.size - position)
            chunk = memoryview(await self._partition.read_bytes(segment, position, size))
            whole = 0
            for at, header in walk(chunk):
                whole = at + header.size_bytes
            if not whole:
                size = read_header(chunk).size_bytes
                if size > segment.size - position:
                    raise CorruptBatch(f"a batch at position {position} of {segment.path} is cut off")
                chunk = memoryview(await self._partition.read_bytes(segment, position, size))
                whole = size
            position += whole
            await self._throttle(whole)
            yield chunk[:whole], position

    async def _write(self, new: Segment, kept: "Sequence[tuple[BatchHeader, Buffer | Remade]]") -> None:
        """Write what stays of a chunk."""
        if any(isinstance(batch, Remade) and batch.header.codec for _, batch in kept):
            batches = await self._turns.in_thread(lambda: run(_assembled(kept)))
        else:
            batches = await self._turns.finish(_assembled(kept))
        self._still_there()
        if not batches:
            return
        position = new.size
        for (header, _), batch in zip(kept, batches, strict=True):
            latest = read_header(batch).max_timestamp
            interval = self._partition.settings.index_interval_bytes
            new.note(new.size, len(batch), header.last_offset, latest, interval)
            new.size += len(batch)
        self._disk.append(new.path, [b"".join(batches)], new.size - position, position)
        await self._throttle(new.size - position)

    async def _throttle(self, io_bytes: int) -> None:
        """Let others go on, and as much time pass as so many bytes must take."""
        self._io_bytes += io_bytes
        rate = self._settings.io_max_bytes_per_second
        await self._clock.sleep_until(self._begun + (self._io_bytes / rate if rate > 0 else inf))

    def _still_there(self) -> None:
        if not self._is_there(self._partition):
            raise Abandoned


def _learn_all(learner: Learner, chunk: Buffer) -> Steps[bool]:
    for position, header in walk(chunk):
        if not (yield from learner.note(header, checked(header, chunk, position))):
            return False
    return True


def _sift_all(sieve: Sieve, chunk: Buffer, *, is_last: bool) -> "Steps[list[tuple[BatchHeader, Buffer | Remade]]]":
    """What stays of these batches; `is_last`: the last of them is the last of its group."""
    kept = []
    for position, header in walk(chunk):
        ends_all = is_last and position + header.size_bytes == len(chunk)
        rest = yield from sieve.sift(header, checked(header, chunk, position), is_last=ends_all)
        if rest is not None:
            kept.append((header, rest))
    return kept


def _assembled(kept: "Sequence[tuple[BatchHeader, Buffer | Remade]]") -> Steps[list[Buffer]]:
    batches: list[Buffer] = []
    size = 0
    for _, batch in kept:
        if size >= _ASSEMBLED_A_STEP:
            size = 0
            yield
        batches.append(batch.assemble() if isinstance(batch, Remade) else batch)
        size += len(batches[-1])
    if size >= _ASSEMBLED_A_STEP:
        yield
    return batches
