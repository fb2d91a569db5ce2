"""Puts the records of a batch under another codec than the producer's: the topic wants it so (compression.type)."""

from collections.abc import Iterable
from typing import Final

from kafkapy.config.layers import TopicConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.log.record_checks import BatchRefused, Seen
from kafkapy.records.batch import HEADER_SIZE, BatchHeader, Buffer, Compression, CorruptBatch, assemble, attributes_of
from kafkapy.records.builder import can_be_rebuilt, rebuilt
from kafkapy.records.compression import deflate, inflate
from kafkapy.records.passing import UNORDERED, UNUSUAL
from kafkapy.turns import Steps, Turns, run

_LEVELS: Final = {
    Compression.GZIP: "compression.gzip.level",
    Compression.LZ4: "compression.lz4.level",
    Compression.ZSTD: "compression.zstd.level",
}


async def recompressed(
    data: Buffer, header: BatchHeader, codec: Compression, config: TopicConfig, seen: Seen, now_ms: int, turns: Turns
) -> bytes:
    """The batch as Kafka builds it of records that have been `seen` to be acceptable.

    Records that a builder writes otherwise are written anew, on the loop; the others are C's work, for a thread. Raises
    KafkaError when the result is too large for the topic, BatchRefused when Kafka could not build it.
    """
    if not can_be_rebuilt(header, seen.earliest):
        raise BatchRefused(Error.UNKNOWN_SERVER_ERROR, "nobody could have built this batch")
    level = config[_LEVELS[codec]] if codec in _LEVELS else None
    largest = config["max.message.bytes"]
    plain = inflate(header.compression, data[HEADER_SIZE:])
    if seen.flags & (UNORDERED | UNUSUAL) or header.is_log_append_time:
        pieces = deflate(codec, rebuilt(plain, header), level)
        try:
            body = await turns.finish(_joined(pieces, largest - HEADER_SIZE))
        except CorruptBatch as too_large:
            raise BatchRefused(Error.UNKNOWN_SERVER_ERROR, str(too_large)) from too_large
    else:
        pieces = deflate(codec, plain, level)
        body = await turns.in_thread(lambda: run(_joined(pieces, largest - HEADER_SIZE)))
    if body is None:
        raise KafkaError(
            Error.MESSAGE_TOO_LARGE, f"The record batch exceeds {largest} bytes when compressed by {codec.name}"
        )
    append_time = config["message.timestamp.type"] == "LogAppendTime"
    return assemble(
        header._replace(
            attributes=attributes_of(codec, log_append_time=append_time, transactional=header.is_transactional),
            base_timestamp=seen.first,
            max_timestamp=now_ms if append_time else seen.latest,
        ),
        body,
    )


def _joined(pieces: Iterable[bytes], most: int) -> Steps[bytes | None]:
    """The pieces as one, or None when they are more than `most` bytes."""
    joined = bytearray()
    for piece in pieces:
        joined += piece
        if len(joined) > most:
            return None
        yield
    return bytes(joined)
