"""Finds the batch in what a producer sent for a partition, as Kafka cuts bytes into batches.

What is not whole is no batch, also behind a whole one; a length or a magic byte that cannot be is an error, which at
the start of a partition's bytes is one of the request: so early does Kafka look there. Called by the Produce handler
and `appending.py`.
"""

import struct
from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.records.batch import HEADER_SIZE, LOG_OVERHEAD, MAGIC, TRANSACTIONAL, Buffer, Compression

_LENGTH_AND_MAGIC: Final = struct.Struct(">i4xb")
_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8
_MAGIC_AT: Final = 16
_ATTRIBUTES_LOW_BYTE_AT: Final = 22
_CODEC_BITS: Final = 0x07
_LEAST_LENGTH: Final = 14
"""Of a message of magic 0, which nobody may send any longer."""
_OFFSETS_END: Final = 27
"""Behind a header's last offset delta, which is read before it is known whether a header is whole."""
_MOST_BYTES: Final = 2**31 - 1
_ZSTD_FROM_VERSION: Final = 7


def is_transactional(records: Buffer) -> bool:
    """Whether the batch at the start of these bytes calls itself transactional.

    Raises KafkaError where it cannot be told what lies there.
    """
    size = len(records)
    if size >= HEADER_SIZE:
        length, magic = _LENGTH_AND_MAGIC.unpack_from(records, _LENGTH_AT)
        if magic == MAGIC and _LEAST_LENGTH <= length <= size - LOG_OVERHEAD:
            return bool(records[_ATTRIBUTES_LOW_BYTE_AT] & TRANSACTIONAL)
    whole = _batch_size(records, 0)
    return whole > 0 and records[_MAGIC_AT] == MAGIC and bool(records[_ATTRIBUTES_LOW_BYTE_AT] & TRANSACTIONAL)


def single_batch(records: Buffer, api_version: int) -> Buffer:
    """The one batch that a partition of a request must hold, at least as long as a header. Raises KafkaError."""
    size = len(records)
    if size >= HEADER_SIZE and api_version >= _ZSTD_FROM_VERSION:
        length, magic = _LENGTH_AND_MAGIC.unpack_from(records, _LENGTH_AT)
        if magic == MAGIC and length == size - LOG_OVERHEAD:
            return records  # as nearly all are
    size = _batch_size(records, 0)
    if not size:
        raise KafkaError(Error.INVALID_RECORD, f"Produce requests with version {api_version} must have a record batch")
    if records[_MAGIC_AT] != MAGIC:
        raise KafkaError(
            Error.INVALID_RECORD,
            f"Produce requests with version {api_version} are only allowed to contain record batches with magic 2",
        )
    codec = records[_ATTRIBUTES_LOW_BYTE_AT] & _CODEC_BITS
    if api_version < _ZSTD_FROM_VERSION and codec >= Compression.ZSTD:
        if codec > Compression.ZSTD:
            raise KafkaError(Error.UNKNOWN_SERVER_ERROR, f"Unknown compression type id {codec}")
        raise KafkaError(
            Error.UNSUPPORTED_COMPRESSION_TYPE,
            f"Produce requests with version {api_version} are not allowed to use ZStandard compression",
        )
    if size == len(records):
        batch = records
    elif _batch_size(records, size):
        raise KafkaError(
            Error.INVALID_RECORD,
            f"Produce requests with version {api_version} are only allowed to contain exactly one record batch",
        )
    else:
        batch = memoryview(records)[:size]
    if size < HEADER_SIZE:
        error = Error.UNKNOWN_SERVER_ERROR if size < _OFFSETS_END else Error.CORRUPT_MESSAGE
        raise KafkaError(error, f"{size} bytes are too few for a record batch")
    return batch


def _batch_size(records: Buffer, position: int) -> int:
    """The size in bytes of the batch that begins there, 0 if there is no whole one. Raises KafkaError."""
    left = len(records) - position
    if left < LOG_OVERHEAD:
        return 0
    (length,) = _LENGTH.unpack_from(records, position + _LENGTH_AT)
    if length < _LEAST_LENGTH:
        raise KafkaError(
            Error.CORRUPT_MESSAGE,
            f"Record size {length} is less than the minimum record overhead ({_LEAST_LENGTH})",
        )
    if left <= _MAGIC_AT:
        return 0
    (_, magic) = _LENGTH_AND_MAGIC.unpack_from(records, position + _LENGTH_AT)
    if not 0 <= magic <= MAGIC:
        raise KafkaError(Error.CORRUPT_MESSAGE, f"Invalid magic found in record: {magic}")
    size: int = LOG_OVERHEAD + length
    if size > _MOST_BYTES:
        raise KafkaError(Error.UNKNOWN_SERVER_ERROR, f"a batch of {size} bytes")
    return size if size <= left else 0
