"""The checker: silent about a sound directory, and by name about each kind of damage."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, SMALL, append, batch, end, sent
from catalogues import create
from disks import FOLDER, opened

from kafkapy.records.batch import assemble, read_header
from kafkapy.storage.base import Checkpoint
from kafkapy.storage.embedded.check import NotADataDirectory, check
from kafkapy.storage.embedded.checkpoints import write_coordinator
from kafkapy.storage.embedded.files import Disk


async def fill(directory: Path) -> None:
    async with opened(directory) as logs:
        await create(logs, LOG, SMALL)
        await append(logs, LOG, sent(0, b"a", transactional=True))
        await end(logs, LOG, 7, committed=False)
        for number in range(48):
            await append(logs, LOG, batch(b"value", at=1000 + number))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A stopped store: two segments and an aborted transaction."""
    trio.run(fill, tmp_path)
    return tmp_path


def change(path: Path, edit: Callable[[bytearray], object]) -> None:
    data = bytearray(path.read_bytes())
    edit(data)
    path.write_bytes(data)


def set_byte(position: int, value: int) -> Callable[[bytearray], object]:
    return lambda data: data.__setitem__(position, value)


def cut(count: int) -> Callable[[bytearray], object]:
    return lambda data: data.__delitem__(slice(-count, None))


def miscount(data: bytearray) -> None:
    """One record too many in the first batch's header, under a sound CRC."""
    header = read_header(data)
    records = bytes(data[61 : header.size_bytes])
    data[: header.size_bytes] = assemble(header._replace(record_count=header.record_count + 1), records)


def repeat_the_first_batch(data: bytearray) -> None:
    size = read_header(data).size_bytes
    data += data[:size]


FIRST = f"{0:020}"
DAMAGE: dict[str, tuple[str, Callable[[bytearray], object], str]] = {
    "a flipped bit": (f"{FIRST}.log", set_byte(65, 0xFF), "fails its CRC"),
    "another magic": (f"{FIRST}.log", set_byte(16, 1), "magic 1"),
    "an impossible length": (f"{FIRST}.log", set_byte(8, 0xFF), "too small"),
    "a torn batch": (f"{FIRST}.log", cut(5), "torn"),
    "a torn header": (f"{FIRST}.log", lambda data: data.extend(b"abc"), "too few"),
    "a wrong record count": (f"{FIRST}.log", miscount, "position 0"),
    "offsets that go back": (f"{FIRST}.log", repeat_the_first_batch, "offset 0 where"),
    "an index into the middle of a batch": (f"{FIRST}.index", set_byte(7, 3), "names no batch"),
    "an index that falls": (f"{FIRST}.index", lambda data: data.extend(data[:8]), "offset index row"),
    "times that fall": (f"{FIRST}.timeindex", lambda data: data.extend(data[:12]), "time index row"),
    "a torn transaction index": (f"{FIRST}.txnindex", cut(1), "torn"),
    "another transaction index": (f"{FIRST}.txnindex", set_byte(1, 9), "version 9"),
    "a torn snapshot": (f"{50:020}.snapshot", cut(1), "CRC"),
    "another snapshot": (f"{50:020}.snapshot", set_byte(1, 9), "version 9"),
    "no topic id": ("partition.metadata", cut(10), "topic id"),
    "unreadable epochs": (
        "leader-epoch-checkpoint",
        lambda data: data.extend(b"x") or set_byte(0, 0x78)(data),
        "epochs",
    ),
    "epochs that fall": (
        "leader-epoch-checkpoint",
        lambda data: data.__setitem__(slice(None), b"0\n2\n3 5\n1 9\n"),
        "follow",
    ),
}


def test_a_sound_directory_has_no_findings(directory: Path) -> None:
    assert len(list((directory / FOLDER).glob("*.log"))) == 2
    assert list(check(directory)) == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_where_it_is(directory: Path, damage: str) -> None:
    name, edit, said = DAMAGE[damage]
    path = directory / FOLDER / name
    change(path, edit)
    findings = [finding for finding in check(directory) if finding.path == str(path)]
    assert any(said in finding.problem for finding in findings), list(check(directory))


def test_segments_that_overlap_are_named(directory: Path) -> None:
    second = sorted((directory / FOLDER).glob("*.log"))[1]
    second.rename(second.with_name(f"{1:020}.log"))
    assert any("inside of the segment before" in finding.problem for finding in check(directory))


def test_what_does_not_belong_is_named(directory: Path) -> None:
    (directory / "stray").mkdir()
    (directory / FOLDER / "notes.log").write_text("")
    (directory / f"gone-0.{'a' * 32}-delete").mkdir()
    (directory / f"unknown-0.{'b' * 32}-stray").mkdir()
    assert {Path(finding.path).name for finding in check(directory)} == {"stray", "notes.log"}


def test_a_folder_that_is_no_data_directory_is_not_looked_through(directory: Path) -> None:
    (directory / "meta.properties").unlink()
    with pytest.raises(NotADataDirectory, match=r"meta\.properties"):
        list(check(directory))


def test_a_damaged_coordinator_s_checkpoint_is_named(directory: Path) -> None:
    path = directory / FOLDER / "coordinator-checkpoint"
    write_coordinator(Disk(), path.parent, Checkpoint(3, b"facts"))
    assert list(check(directory)) == []
    change(path, set_byte(-1, ord("?")))
    assert [finding.path for finding in check(directory)] == [str(path)]


def test_nothing_is_changed(directory: Path) -> None:
    change(directory / FOLDER / f"{FIRST}.log", set_byte(70, 0xFF))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in directory.rglob("*") if path.is_file()}
    assert list(check(directory))
    assert {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in directory.rglob("*") if path.is_file()
    } == before
