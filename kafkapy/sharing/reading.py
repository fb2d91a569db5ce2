"""What a read of a log holds for a share group: its whole batches, and which of them belong to aborted transactions.

Pure. Called by the share fetch (`fetching.py`).
"""

from collections.abc import Sequence

from kafkapy.records.batch import BatchHeader, Buffer, walk
from kafkapy.records.control import read_end_marker
from kafkapy.storage.base import AbortedTransaction


def aborted_batches(records: Buffer, aborted: Sequence[AbortedTransaction]) -> list[BatchHeader]:
    """The batches of these records that nobody may see under read_committed, as the log tells its aborted transactions.

    Raises CorruptBatch for a marker that cannot be read.
    """
    to_come = sorted(aborted, key=lambda transaction: transaction.first_offset, reverse=True)
    producers: set[int] = set()
    out = []
    view = memoryview(records)
    for position, header in walk(records):
        if not header.has_producer:
            continue
        while to_come and to_come[-1].first_offset <= header.last_offset:
            producers.add(to_come.pop().producer_id)
        if header.is_control:
            marker = read_end_marker(view[position : position + header.size_bytes])
            if marker is not None and not marker.committed:
                producers.discard(header.producer_id)
        elif header.is_transactional and header.producer_id in producers:
            out.append(header)
    return out


def sliced(records: Buffer, read: Sequence[BatchHeader], first: int, last: int) -> Buffer:
    """The batches that have any of the records from the first to the last, of those that were read."""
    begin = end = 0
    for header in read:
        if header.last_offset < first:
            begin += header.size_bytes
        if header.base_offset > last:
            break
        end += header.size_bytes
    return memoryview(records)[begin:end]
