"""Transactions' records are Kafka's, byte for byte.

The file is a `__transaction_state` partition that Apache Kafka 4.4.0 wrote for librdkafka's producers: a committed
transaction, an aborted one, one whose producer was shut out by a second instance, one that timed out, and an open one.
"""

from pathlib import Path

import pytest

from kafkapy.clock import ManualClock
from kafkapy.coordination.replaying import Replay
from kafkapy.coordination.shard import Entry, ShardType
from kafkapy.errors import Error
from kafkapy.model import LogId, TopicPartition
from kafkapy.protocol.journal.transaction_log import TransactionLogValue
from kafkapy.records.batch import walk
from kafkapy.records.control import header_view
from kafkapy.records.record import keys_and_values
from kafkapy.storage.base import LogSettings, Origin, Write
from kafkapy.storage.memory import open_memory
from kafkapy.transactions.facts import Transaction, TransactionRemoved, TransactionStored
from kafkapy.transactions.journal import TransactionJournal
from kafkapy.transactions.machine import TransactionMachine
from kafkapy.transactions.settings import TransactionSettings
from kafkapy.transactions.states import TransactionState
from tests.storage.catalogues import create

DATA = (Path(__file__).parent / "data" / "kafka_4_4_0_transaction_state.bin").read_bytes()
JOURNAL = TransactionJournal()


def kafkas_entries() -> list[Entry]:
    return [
        Entry(key, value)
        for position, header in walk(DATA)
        for key, value in keys_and_values(DATA[position : position + header.size_bytes], header)
    ]


def sorted_partitions(value: bytes) -> bytes:
    """A set of partitions has no order; Kafka's is that of its hashes."""
    message, _ = TransactionLogValue.decode(1, value, 2)
    for topic in message.transaction_partitions or ():
        topic.partition_ids.sort()
    if message.transaction_partitions:
        message.transaction_partitions.sort(key=lambda topic: topic.topic)
    out = bytearray(value[:2])
    message.encode(1, out)
    return bytes(out)


def test_kafkas_records_come_back_as_they_were():
    entries = kafkas_entries()
    assert len(entries) == 21
    for entry in entries:
        fact = JOURNAL.decode(entry)
        assert isinstance(fact, TransactionStored)
        [again] = JOURNAL.encode(fact)
        assert entry.value is not None
        assert again == entry._replace(value=sorted_partitions(entry.value))


async def test_kafkas_log_is_loaded():
    log = LogId("__transaction_state", 0, bytes(16))
    async with open_memory(ManualClock()) as logs:
        await create(logs, log, LogSettings())
        for position, header in walk(DATA):
            batch = DATA[position : position + header.size_bytes]
            view = header_view(header, batch)
            [outcome] = await logs.append([Write(log, batch, [view], origin=Origin.COORDINATOR)]).wait()
            assert outcome.error is Error.NONE
        replay = Replay(logs, log, ShardType(lambda: TransactionMachine(TransactionSettings()), JOURNAL))
        await replay.load()
    states = {name: (known.state.label, tuple(known.producer)) for name, known in replay.machine.transactions.items()}
    assert states == {
        "committed": ("CompleteCommit", (0, 0)),
        "aborted": ("CompleteAbort", (1, 0)),
        "fenced": ("Empty", (2, 2)),
        "empty": ("Empty", (3, 0)),
        "late": ("CompleteAbort", (4, 1)),
        "open": ("Ongoing", (5, 0)),
    }


PARTITIONS = frozenset({TopicPartition("a", 1), TopicPartition("a", 0), TopicPartition("b", 7)})


@pytest.mark.parametrize("state", list(TransactionState))
def test_every_field_comes_back(state):
    partitions = frozenset() if state is TransactionState.EMPTY else PARTITIONS
    whole = Transaction(state, 1 << 40, 7, 60_000, partitions, 123, 456, 2, 5, 1 << 41)
    [entry] = JOURNAL.encode(TransactionStored("t\u00e9", whole))
    assert JOURNAL.decode(entry) == TransactionStored("t\u00e9", whole)


def test_the_epoch_before_the_last_is_not_written():
    """As in Kafka: the record has no place for it."""
    before = Transaction(TransactionState.EMPTY, 1, 7, 60_000, frozenset(), last_producer_epoch=6)
    [entry] = JOURNAL.encode(TransactionStored("t", before))
    assert JOURNAL.decode(entry) == TransactionStored("t", before._replace(last_producer_epoch=-1))


def test_a_record_of_version_0_is_read():
    """By a broker before `transaction.version` 1: without the tagged fields."""
    message = TransactionLogValue(
        producer_id=3,
        producer_epoch=4,
        transaction_timeout_ms=5,
        transaction_status=1,
        transaction_partitions=[TransactionLogValue.PartitionsSchema(topic="a", partition_ids=[1])],
        transaction_last_update_timestamp_ms=6,
        transaction_start_timestamp_ms=7,
    )
    value = bytearray(b"\0\0")
    message.encode(0, value)
    assert JOURNAL.decode(Entry(b"\0\0\0\1t", bytes(value))) == TransactionStored(
        "t", Transaction(TransactionState.ONGOING, 3, 4, 5, frozenset({TopicPartition("a", 1)}), 7, 6)
    )


def test_a_tombstone_and_what_is_not_ours():
    [entry] = JOURNAL.encode(TransactionRemoved("t"))
    assert entry == Entry(b"\0\0\0\1t", None)
    assert JOURNAL.decode(entry) == TransactionRemoved("t")
    assert JOURNAL.decode(Entry(b"\0\1\0\1t", b"\0\0")) is None
    assert JOURNAL.decode(Entry(None, b"\0\0")) is None
    assert JOURNAL.decode(Entry(b"\0", b"\0\0")) is None
