"""What a transaction coordinator remembers: the facts behind the records of `__transaction_state`.

`transactions/journal.py` turns them into Kafka's records and back; `transactions/machine.py` decides and applies them.
"""

from typing import NamedTuple

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.model import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_TIMESTAMP, TopicPartition
from kafkapy.transactions.states import TransactionState

LAST_GIVEN_EPOCH = 32766
"""The largest epoch that a producer is told: the one above it is left for shutting that producer out."""


class Transaction(NamedTuple):
    """A transactional id at one moment: its producer, and the transaction that this is in the middle of.

    `previous_producer_id` is what the id had before the last change, `last_producer_epoch` the epoch before the last
    one that was given away, -1 when another instance may have had it: by both a repeated request is recognised. Kafka
    keeps the latter in memory alone, so a repeat across a restart is not. `next_producer_id` waits for the end of the
    transaction that uses up the epochs. `client_version` is the `transaction.version` by whose rules the last change
    was made. Times are milliseconds of the wall clock; `start_ms` is -1 outside of a transaction's life.
    """

    state: TransactionState
    producer_id: int
    producer_epoch: int
    timeout_ms: int
    partitions: frozenset[TopicPartition]
    start_ms: int = NO_TIMESTAMP
    updated_ms: int = NO_TIMESTAMP
    client_version: int = 0
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    last_producer_epoch: int = NO_PRODUCER_EPOCH

    @property
    def producer(self) -> ProducerEpoch:
        return ProducerEpoch(self.producer_id, self.producer_epoch)

    @property
    def epochs_are_used_up(self) -> bool:
        return self.producer_epoch >= LAST_GIVEN_EPOCH


class TransactionStored(NamedTuple):
    """A transactional id is in this state now."""

    transactional_id: str
    transaction: Transaction


class TransactionRemoved(NamedTuple):
    """The transactional id is forgotten."""

    transactional_id: str


Fact = TransactionStored | TransactionRemoved
