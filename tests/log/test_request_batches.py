"""A partition's bytes are cut into batches as Kafka cuts them: what is whole counts, what cannot be is said."""

import struct

import pytest

from kafkapy.errors import Error, KafkaError
from kafkapy.log.request_batches import is_transactional, single_batch
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record

GOOD = build_batch([Record(0, 1, b"k", b"v", [])], producer_id=1, producer_epoch=0, base_sequence=0)
TRANSACTIONAL = build_batch(
    [Record(0, 1, b"k", b"v", [])], producer_id=1, producer_epoch=0, base_sequence=0, transactional=True
)
LATEST = 13


def of_length(length: int, data: bytes = TRANSACTIONAL) -> bytes:
    return data[:8] + struct.pack(">i", length) + data[12:]


def of_magic(magic: int, data: bytes = TRANSACTIONAL) -> bytes:
    return data[:16] + struct.pack(">b", magic) + data[17:]


def refusal(data: bytes, version: int = LATEST) -> Error:
    with pytest.raises(KafkaError) as caught:
        single_batch(data, version)
    return caught.value.error


def test_a_batch_is_one_and_what_is_cut_off_behind_it_is_left_out() -> None:
    assert bytes(single_batch(GOOD, LATEST)) == GOOD
    for size in (1, 11, 12, 16, 17, 60, len(TRANSACTIONAL) - 1):
        assert bytes(single_batch(GOOD + TRANSACTIONAL[:size], LATEST)) == GOOD
    assert bytes(single_batch(memoryview(GOOD + b"\x00"), LATEST)) == GOOD


def test_two_batches_are_one_too_many() -> None:
    assert refusal(GOOD + GOOD) is Error.INVALID_RECORD
    assert refusal(GOOD + of_magic(0)) is Error.INVALID_RECORD
    assert refusal(GOOD + bytes(12)) is Error.CORRUPT_MESSAGE
    assert refusal(GOOD + of_magic(3)) is Error.CORRUPT_MESSAGE
    assert bytes(single_batch(GOOD + bytes(11), LATEST)) == GOOD


@pytest.mark.parametrize("size", [0, 1, 11, 12, 16, 17, 60, len(GOOD) - 1])
def test_what_is_not_whole_is_no_batch(size: int) -> None:
    assert refusal(GOOD[:size]) is Error.INVALID_RECORD
    assert not is_transactional(TRANSACTIONAL[:size])


@pytest.mark.parametrize("magic", [0, 1])
def test_messages_of_old_are_refused_and_are_of_no_transaction(magic: int) -> None:
    assert refusal(of_magic(magic)) is Error.INVALID_RECORD
    assert not is_transactional(of_magic(magic))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (of_length(13), Error.CORRUPT_MESSAGE, "Record size 13 is less than the minimum record overhead (14)"),
        (of_length(-1), Error.CORRUPT_MESSAGE, "Record size -1 is less than the minimum record overhead (14)"),
        (of_length(0)[:12], Error.CORRUPT_MESSAGE, "Record size 0 is less than the minimum record overhead (14)"),
        (of_magic(3), Error.CORRUPT_MESSAGE, "Invalid magic found in record: 3"),
        (of_magic(-1), Error.CORRUPT_MESSAGE, "Invalid magic found in record: -1"),
        (of_magic(3)[:17], Error.CORRUPT_MESSAGE, "Invalid magic found in record: 3"),
        (of_length(2**31 - 12), Error.UNKNOWN_SERVER_ERROR, None),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_appended(data: bytes, error: Error, message: str | None) -> None:
    """Already when it is asked whether the request is of a transaction: then none of its partitions is appended to."""
    with pytest.raises(KafkaError) as caught:
        is_transactional(data)
    assert (caught.value.error, caught.value.message) == (error, message)


def test_a_batch_too_short_for_its_header_is_corrupt() -> None:
    assert refusal(of_length(48)) is Error.CORRUPT_MESSAGE
    assert refusal(of_length(15)) is Error.CORRUPT_MESSAGE
    assert refusal(of_length(14)) is Error.UNKNOWN_SERVER_ERROR
    assert is_transactional(of_length(48))
    assert is_transactional(TRANSACTIONAL)
    assert not is_transactional(GOOD)


@pytest.mark.parametrize(
    ("codec", "old", "new"),
    [(3, None, None), (4, Error.UNSUPPORTED_COMPRESSION_TYPE, None), (5, Error.UNKNOWN_SERVER_ERROR, None)],
)
def test_old_versions_know_no_zstd(codec: int, old: Error | None, new: Error | None) -> None:
    data = GOOD[:22] + bytes([codec]) + GOOD[23:]
    for version, expected in ((6, old), (7, new)):
        if expected:
            assert refusal(data, version) is expected
        else:
            assert single_batch(data, version) is data
