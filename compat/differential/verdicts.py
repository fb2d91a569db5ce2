"""What a broker says of batches, and what it stored: the answers, and the batches as a raw Fetch gives them back.

Offsets are told relative to the log's end before, so that one partition serves any number of batches and what became of
one does not show in the next. Answers are decoded by kafkapy's own codec, which the other cases hold against another.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from probe import Probe

from kafkapy.model import NO_TIMESTAMP
from kafkapy.protocol.messages import request_class
from kafkapy.protocol.messages.fetch import FetchResponse
from kafkapy.protocol.messages.produce import ProduceResponse
from kafkapy.records.batch import HEADER_SIZE, LOG_OVERHEAD, BatchHeader, CorruptBatch, crc_matches, walk
from kafkapy.records.compression import decompress

Produce = request_class(0)
Fetch = request_class(1)
Verdict = dict[str, Any]

_FETCH_VERSION = 12
_IDS_FROM_VERSION = 13
_FETCH_BYTES = 1 << 27
_RECENT_MS = 1_720_000_000_000
"""Times from here to `_FAR_MS` are the broker's clock: what is sent lies before or behind."""
_FAR_MS = 4_000_000_000_000
_BOUNDS = re.compile(r"\[-?\d+, -?\d+\]")
_PARTITION = re.compile(r"partition \S+-(\d+)")


class Log:
    """One partition that is written to by nobody else, from its start on."""

    def __init__(self, name: str, topic_id: bytes, partition: int = 0) -> None:
        self.name = name
        self.topic_id = topic_id
        self.partition = partition
        self.end = 0

    def request(self, data: bytes, version: int) -> Any:
        partitions = [Produce.PartitionProduceData(index=self.partition, records=data)]
        name = {"topic_id": self.topic_id} if version >= _IDS_FROM_VERSION else {"name": self.name}
        topic = Produce.TopicProduceData(partition_data=partitions, **name)
        return Produce(acks=-1, timeout_ms=5000, topic_data=[topic])

    def read(self, probe: Probe) -> list[bytes]:
        """The batches from the end on that is known here."""
        found: list[bytes] = []
        position = self.end
        while True:
            one = Fetch.FetchPartition(
                partition=self.partition, fetch_offset=position, partition_max_bytes=_FETCH_BYTES
            )
            topics = [Fetch.FetchTopic(topic=self.name, partitions=[one])]
            request = Fetch(max_wait_ms=0, min_bytes=0, max_bytes=_FETCH_BYTES, topics=topics)
            answer, _ = FetchResponse.decode(_FETCH_VERSION, probe.exchange(request, _FETCH_VERSION))
            partition = answer.responses[0].partitions[0]
            assert partition.error_code == 0, f"Fetch answers error {partition.error_code}"
            data = bytes(partition.records or b"")
            for at, header in walk(data):
                found.append(data[at : at + header.size_bytes])
                position = header.next_offset
            if position >= partition.high_watermark:
                return found


class Order(NamedTuple):
    """A batch to be sent to a log by a version of Produce."""

    log: Log
    data: bytes
    version: int


def judge(probe: Probe, orders: Sequence[Order]) -> list[Verdict]:
    """Send all of them, one request each, without waiting in between; `result[i]` is what became of `orders[i]`."""
    answers = probe.exchange_all([(order.log.request(order.data, order.version), order.version) for order in orders])
    verdicts = [verdict(answer, order.version) for answer, order in zip(answers, orders, strict=True)]
    by_log: dict[int, list[tuple[Verdict, bytes]]] = {}
    for order, told in zip(orders, verdicts, strict=True):
        if told.get("error") == 0:
            by_log.setdefault(id(order.log), []).append((told, order.data))
    for log in {id(order.log): order.log for order in orders}.values():
        if stored := by_log.get(id(log)):
            _add_stored(log, log.read(probe), stored)
    return verdicts


def verdict(answer: bytes | str, version: int) -> Verdict:
    """The answer to one Produce request with one batch; text is what became of the connection instead."""
    if isinstance(answer, str):
        return {"connection": answer}
    said = ProduceResponse.decode(version, answer)[0].responses[0].partition_responses[0]
    told: Verdict = {"error": said.error_code}
    if said.error_message is not None:
        told["message"] = without_times(said.error_message)
    if said.record_errors:
        told["record errors"] = [
            f"{error.batch_index}: {without_times(error.batch_index_error_message or '')}"
            for error in said.record_errors
        ]
    if said.log_append_time_ms != NO_TIMESTAMP:
        told["append time"] = time_text(said.log_append_time_ms)
    if said.base_offset != -1:
        told["offset"] = said.base_offset
    return told


def _add_stored(log: Log, batches: list[bytes], answered: list[tuple[Verdict, bytes]]) -> None:
    """Put what is in the log now to the answers that told so, in their order."""
    waiting = [(header, batch) for batch in batches for _, header in walk(batch)]
    for told, sent in answered:
        end, base_offset = log.end, told["offset"]
        told["offset"] = base_offset - end
        told["stored"] = []
        while waiting and waiting[0][0].base_offset <= base_offset:
            header, batch = waiting.pop(0)
            told["stored"].append(stored_batch(batch, header, end, sent))
            log.end = header.next_offset


def stored_batch(batch: bytes, header: BatchHeader, end: int, sent: bytes) -> Verdict:
    """Header and payload; the payload is compared with what was sent, or else inflated."""
    payload = batch[HEADER_SIZE:]
    size = int.from_bytes(sent[8:LOG_OVERHEAD], "big") + LOG_OVERHEAD  # what lies behind a batch is not stored
    told: Verdict = header._asdict() | {
        "base_offset": header.base_offset - end,
        "base_timestamp": time_text(header.base_timestamp),
        "max_timestamp": time_text(header.max_timestamp),
        "crc": "right" if crc_matches(batch, 0, header) else "wrong",
    }
    if payload == sent[HEADER_SIZE:size]:
        told["payload"] = "as sent"
        return told
    if header.codec:
        del told["batch_length"]  # what the same bytes are compressed to is no fact of Kafka's
    try:
        plain = decompress(header.compression, payload)
        told["payload"] = (
            plain.hex() if len(plain) < 1000 else f"{len(plain)} bytes, SHA-256 {sha256(plain).hexdigest()}"
        )
    except CorruptBatch as corrupt:
        told["payload"] = f"damaged: {corrupt}"
    return told


def time_text(time_ms: int) -> int | str:
    return "<now>" if _RECENT_MS <= time_ms < _FAR_MS else time_ms


def without_times(text: str) -> str:
    """A text without the bounds that move with the broker's clock, and without the topic's name."""
    return _PARTITION.sub(r"partition <topic>-\1", _BOUNDS.sub("[<low>, <high>]", text))
