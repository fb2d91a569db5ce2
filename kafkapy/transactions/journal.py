"""Transactions' facts as records of `__transaction_state`, in Kafka's own format.

A key begins with two bytes that name the record type, a value with two bytes of version; a null value is a tombstone.
Written: version 1, as Kafka does from `transaction.version` 1 on. Read: 0 and 1. Source: KIP-98, KIP-890.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from kafkapy.coordination.shard import Entry
from kafkapy.model import TopicPartition
from kafkapy.protocol.journal.transaction_log import TransactionLogKey, TransactionLogValue
from kafkapy.transactions.facts import Fact, Transaction, TransactionRemoved, TransactionStored
from kafkapy.transactions.states import BY_NUMBER, TransactionState

VALUE_VERSION: Final = 1


class TransactionJournal:
    """Encodes and decodes the facts of `transactions/facts.py`."""

    def encode(self, fact: Fact) -> Sequence[Entry]:
        match fact:
            case TransactionStored(transactional_id, transaction):
                return [Entry(_key(transactional_id), _value(transaction))]
            case TransactionRemoved(transactional_id):
                return [Entry(_key(transactional_id), None)]

    def decode(self, entry: Entry) -> Fact | None:
        key, value = entry
        if key is None or len(key) < 2 or int.from_bytes(key[:2], "big") != TransactionLogKey.RECORD_TYPE:
            return None
        transactional_id = TransactionLogKey.decode(0, key, 2)[0].transactional_id
        if value is None:
            return TransactionRemoved(transactional_id)
        message, _ = TransactionLogValue.decode(int.from_bytes(value[:2], "big"), value, 2)
        return TransactionStored(transactional_id, _transaction(message))


def _key(transactional_id: str) -> bytes:
    out = bytearray(TransactionLogKey.RECORD_TYPE.to_bytes(2, "big"))
    TransactionLogKey(transactional_id=transactional_id).encode(0, out)
    return bytes(out)


def _value(transaction: Transaction) -> bytes:
    empty = transaction.state is TransactionState.EMPTY
    value = TransactionLogValue(
        producer_id=transaction.producer_id,
        previous_producer_id=transaction.previous_producer_id,
        next_producer_id=transaction.next_producer_id,
        producer_epoch=transaction.producer_epoch,
        transaction_timeout_ms=transaction.timeout_ms,
        transaction_status=transaction.state.number,
        transaction_partitions=None if empty else _by_topic(transaction.partitions),
        transaction_last_update_timestamp_ms=transaction.updated_ms,
        transaction_start_timestamp_ms=transaction.start_ms,
        client_transaction_version=transaction.client_version,
    )
    out = bytearray(VALUE_VERSION.to_bytes(2, "big"))
    value.encode(VALUE_VERSION, out)
    return bytes(out)


def _by_topic(partitions: Iterable[TopicPartition]) -> list[TransactionLogValue.PartitionsSchema]:
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(partitions):
        topics.setdefault(topic, []).append(partition)
    return [TransactionLogValue.PartitionsSchema(topic=topic, partition_ids=ids) for topic, ids in topics.items()]


def _transaction(value: TransactionLogValue) -> Transaction:
    state = BY_NUMBER[value.transaction_status]
    return Transaction(
        state,
        value.producer_id,
        value.producer_epoch,
        value.transaction_timeout_ms,
        frozenset(
            TopicPartition(schema.topic, partition)
            for schema in value.transaction_partitions or ()
            for partition in schema.partition_ids
        ),
        value.transaction_start_timestamp_ms,
        value.transaction_last_update_timestamp_ms,
        value.client_transaction_version,
        value.previous_producer_id,
        value.next_producer_id,
    )
