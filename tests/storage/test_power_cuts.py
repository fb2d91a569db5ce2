"""Power cuts while logs are cleaned, trimmed and retained: of each key the last record outlives them.

A round is a history of a log by its seed; a cut comes at any of the changes that maintenance makes to the directory.
A seed's round comes again as it was: what threads do is done on the loop, after as many turns of it as the seed has it.
Many rounds by hand: `python tests/storage/test_power_cuts.py FIRST_SEED COUNT`.
"""

import os
import random
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, append, end
from catalogues import create
from disks import LyingDisk, opened
from reproducible import reproducible
from test_compaction import COMPACTED, clean, committed, keyed, present, put
from test_retention import files

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.storage.base import Bounds, LogSettings
from kafkapy.storage.embedded.check import check
from kafkapy.storage.embedded.store import EmbeddedLogs

ROUNDS = int(os.environ.get("KAFKAPY_SCALE", "1")) * 30
"""Power cuts to survive."""

Pair = tuple[bytes, bytes | None]


class History:
    """What was written to a log, and what must be left of it: by key the last record, unless the log begins later."""

    def __init__(self) -> None:
        self.records: dict[int, Pair] = {}
        self.last: dict[bytes, tuple[int, bytes | None]] = {}
        self.end_offset = 0

    def copy(self) -> "History":
        copy = History()
        copy.records, copy.last, copy.end_offset = dict(self.records), dict(self.last), self.end_offset
        return copy

    def took(self, base: int, pairs: list[Pair]) -> None:
        for offset, (key, value) in enumerate(pairs, base):
            self.records[offset] = (key, value)
            self.last[key] = (offset, value)

    async def write(self, logs: EmbeddedLogs, chance: random.Random, count: int) -> None:
        for _ in range(count):
            pairs: list[Pair] = []
            for _ in range(chance.choice((1, 1, 3))):
                value = None if chance.random() < 0.2 else chance.randbytes(chance.randrange(60))
                pairs.append((b"k%d" % chance.randrange(8), value))
            if chance.random() < 0.2:
                await self._transaction(logs, chance, pairs)
            else:
                self.took(await put(logs, *pairs), pairs)
        self.end_offset = bounds_of(logs).end_offset

    async def _transaction(self, logs: EmbeddedLogs, chance: random.Random, pairs: list[Pair]) -> None:
        producer, commits = chance.randrange(3), chance.random() < 0.5
        producers = {one.producer_id: one for one in logs.producers(LOG)}  # type: ignore[union-attr]
        known = producers.get(producer)
        data = keyed(
            *pairs,
            producer_id=producer,
            producer_epoch=0,
            base_sequence=known.last_sequence + 1 if known else 0,
            transactional=True,
        )
        outcome = await append(logs, LOG, data)
        assert outcome.error is Error.NONE
        assert (await end(logs, LOG, producer, committed=commits)).error is Error.NONE
        if commits:
            self.took(outcome.base_offset, pairs)

    async def verify(self, logs: EmbeddedLogs) -> None:
        """Readers of committed records find of each key the last value, and nothing that was never written."""
        start = bounds_of(logs).log_start_offset
        found = [record for record in await committed(logs) if record.offset >= start]
        offsets = [record.offset for record in found]
        assert offsets == sorted(set(offsets))
        assert all(self.records[record.offset] == (record.key, record.value) for record in found)
        wanted = {key: value for key, (offset, value) in self.last.items() if offset >= start}
        assert present({record.key: record.value for record in found}) == present(wanted)


def bounds_of(logs: EmbeddedLogs) -> Bounds:
    bounds = logs.bounds(LOG)
    assert isinstance(bounds, Bounds)
    return bounds


class Cut:
    """The power cut: at one of the changes that come while it is awaited, each as likely as the others."""

    def __init__(self, disk: LyingDisk, directory: Path, copy: Path, chance: random.Random) -> None:
        self.history = History()
        self.start_offset = 0
        self._disk, self._directory, self._copy, self._chance = disk, directory, copy, chance
        self._seen = 0
        self._left: LyingDisk | None = None

    def expect(self, history: History, logs: EmbeddedLogs) -> None:
        """It may come from now on, when this is what was written."""
        present_history, start_offset = history.copy(), bounds_of(logs).log_start_offset

        def before_change() -> None:
            self._seen += 1
            if self._chance.random() < 1 / self._seen:
                shutil.rmtree(self._copy, ignore_errors=True)
                self._left = self._disk.after_crash(self._directory, self._copy, self._chance.random)
                self.history, self.start_offset = present_history, start_offset

        self._disk.before_change = before_change

    def rule_out(self) -> None:
        self._disk.before_change = lambda: None

    def left(self) -> LyingDisk:
        if self._left is None:
            self._disk.before_change()
        assert self._left is not None
        return self._left


def drawn_settings(chance: random.Random) -> LogSettings:
    deletes = chance.random() < 0.5
    return replace(
        COMPACTED,
        compacts=not deletes or chance.random() < 0.7,
        delete_retention_ms=1000,
        segment_bytes=chance.choice((300, 1000, 3000)),
        retention_bytes=chance.choice((500, 1500, 4000)) if deletes else -1,
        file_delete_delay_ms=chance.choice((0, 60_000)),
    )


async def maintain(logs: EmbeddedLogs, clock: ManualClock, chance: random.Random) -> None:
    """One of the things that are done to a log in the background, or that an administrator asks for."""
    match chance.choice(("clean", "clean", "retain", "trim")):
        case "clean":
            await clean(logs)
        case "retain":
            await logs.apply_retention(clock.now_ms())
        case "trim" if logs._partitions[LOG].settings.retention_bytes >= 0:
            start, high_watermark, _, _ = bounds_of(logs)
            await logs.trim(LOG, chance.randint(start, high_watermark))
    with trio.fail_after(60):
        while logs._partitions[LOG].dropped:  # until the checkpoints are written, and the files set aside
            await trio.testing.wait_all_tasks_blocked()
            clock.advance_ms(1000)


async def survive(root: Path, seed: int) -> None:
    with reproducible(seed):
        await _survive(root, seed)


async def _survive(root: Path, seed: int) -> None:
    chance, clock, disk = random.Random(seed), ManualClock(), LyingDisk()
    directory, copy = root / "data", root / "after"
    settings, history = drawn_settings(chance), History()
    cut = Cut(disk, directory, copy, random.Random(f"cut {seed}"))
    async with opened(directory, disk, clock=clock) as logs:
        await create(logs, LOG, settings)
        await history.write(logs, chance, chance.randrange(5, 40))
        for _ in range(chance.randrange(1, 5)):
            cut.expect(history, logs)
            await maintain(logs, clock, chance)
            await history.verify(logs)
            cut.rule_out()
            clock.advance_ms(chance.choice((10, 2000)))
            await history.write(logs, chance, chance.randrange(1, 20))
        cut.expect(history, logs)
        await maintain(logs, clock, chance)
        left = cut.left()
        cut.rule_out()
        await history.verify(logs)
    history, end_offset = cut.history, cut.history.end_offset
    for again in (False, True):
        async with opened(copy, left if not again else None, clock=clock) as logs:
            await create(logs, LOG, settings)
            assert bounds_of(logs)[1:] == (end_offset,) * 3  # and no transaction is open: all had ended
            await history.verify(logs)
            assert not [name for name in files(copy) if name.endswith((".cleaned", ".swap"))]
            if again:
                await clean(logs)
                await history.write(logs, chance, 3)
                await history.verify(logs)
        assert list(check(copy)) == []


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_the_last_record_of_each_key_outlives_a_power_cut(tmp_path: Path, seed: int) -> None:
    await survive(tmp_path, seed)


async def test_what_was_replaced_does_not_come_back_beside_what_replaced_it(tmp_path: Path) -> None:
    """The last name of a cleaned log may reach the medium before any other that was changed since the last sync."""
    clock, disk, history, chance = ManualClock(), LyingDisk(), History(), random.Random(1)
    directory, copies = tmp_path / "data", list[tuple[Path, LyingDisk]]()
    whole = replace(COMPACTED, segment_bytes=100_000)
    async with opened(directory, disk, clock=clock) as logs:
        await create(logs, LOG, COMPACTED)
        await history.write(logs, chance, 40)
        await create(logs, LOG, whole)  # so that many segments become one

        def before_change() -> None:
            if any(rename.source.endswith(".log.swap") for rename in disk.renames.get(str(directory / "t-0"), ())):
                for number in range(12):
                    copy = tmp_path / f"after-{len(copies)}"
                    copies.append((copy, disk.after_crash(directory, copy, random.Random(number).random)))

        disk.before_change = before_change
        await clean(logs)
        disk.before_change = lambda: None
    assert len(copies) >= 12
    for copy, left in copies:
        async with opened(copy, left, clock=clock) as logs:
            await create(logs, LOG, whole)
            await history.verify(logs)
        assert list(check(copy)) == []


def main(first: int, count: int) -> None:
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as root:
            try:
                trio.run(survive, Path(root), seed)
            except BaseException:
                print(f"seed {seed}", flush=True)
                raise
        if (seed - first + 1) % 100 == 0:
            print(f"{seed - first + 1} rounds", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
