"""A data directory that Apache Kafka has written."""

from pathlib import Path

import pytest

from kafkapy.clock import ManualClock
from kafkapy.storage.embedded.directory import DirectoryMismatch, open_embedded


@pytest.mark.parametrize(("offset", "refused"), [(0, False), (43, True), (10_000_000, True)])
async def test_metadata_snapshots_are_refused_and_nothing_is_touched(
    tmp_path: Path, offset: int, refused: bool
) -> None:
    metadata, kept = tmp_path / "__cluster_metadata-0", tmp_path / "keep-0"
    for folder in (metadata, kept):
        folder.mkdir()
    (metadata / f"{offset:020d}-0000000001.checkpoint").write_bytes(b"snapshot")
    (kept / "00000000000000000000.log").write_bytes(b"")
    opened = open_embedded(tmp_path, clock=ManualClock(), node_id=1)
    if refused:
        with pytest.raises(DirectoryMismatch, match="metadata snapshots"):
            await opened.__aenter__()
    else:
        async with opened:
            pass
    assert kept.exists()
