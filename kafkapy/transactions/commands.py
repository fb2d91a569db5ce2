"""What may be asked of a transaction machine, and what it answers. Plain values; `transactions/service.py` builds them.

A command that is refused is answered with a `KafkaError`; each command says what its answer is otherwise. A
`new_producer_id` is an id that nobody has, for a machine that says it `needs_producer_id`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.model import TopicPartition
from kafkapy.transactions.facts import Transaction
from kafkapy.transactions.states import TransactionState


class InitProducer(NamedTuple):
    """An instance of the producer begins. Answer: the `ProducerEpoch` that it has from now on.

    `expected` is what it had so far, when it goes on after an error (KIP-360). CONCURRENT_TRANSACTIONS while the
    transaction of an older instance is being ended.
    """

    transactional_id: str
    timeout_ms: int
    expected: ProducerEpoch | None = None
    new_producer_id: int | None = None


class AddPartitions(NamedTuple):
    """The transaction goes on over these partitions, too, or begins with them. Answer: these partitions."""

    transactional_id: str
    producer: ProducerEpoch
    partitions: frozenset[TopicPartition]
    client_version: int


class VerifyPartitions(NamedTuple):
    """Is there such a transaction? Answer: those of the partitions that are in it."""

    transactional_id: str
    producer: ProducerEpoch
    partitions: frozenset[TopicPartition]


class EndTransaction(NamedTuple):
    """Commit or abort. Answer: the `ProducerEpoch` with which the producer goes on.

    It comes when the decision is in the log; the markers are written after that.
    """

    transactional_id: str
    producer: ProducerEpoch
    committed: bool
    client_version: int
    new_producer_id: int | None = None


class Prepared(NamedTuple):
    """A transaction whose markers are to be written: all of its partitions, and what the markers say."""

    transactional_id: str
    producer: ProducerEpoch
    committed: bool
    partitions: frozenset[TopicPartition]
    transaction_version: int


class AwaitPrepared(NamedTuple):
    """The one who writes markers asks for work. Answer: `Prepared` transactions, once there are any.

    Each is told once, or all of them when `everything` is asked for.
    """

    everything: bool = False


class CompleteTransactions(NamedTuple):
    """The markers of these transactions are all there. Answer: None."""

    transactions: Sequence[Prepared]


class DescribeTransaction(NamedTuple):
    """Look at a transactional id. Answer: `Transaction`; TRANSACTIONAL_ID_NOT_FOUND for one that is not there."""

    transactional_id: str


class ListTransactions(NamedTuple):
    """Name the transactional ids that fit. Answer: a list of `ListedTransaction`.

    No producer ids, or no states (None), let everything through; of transactions that run for `running_ms` at most
    nothing is told, unless that is negative.
    """

    producer_ids: frozenset[int] = frozenset()
    states: frozenset[TransactionState] | None = None
    running_ms: int = -1


class ListedTransaction(NamedTuple):
    """A line of the list."""

    transactional_id: str
    transaction: Transaction


class AbortTimedOut(NamedTuple):
    """Timer: time to look for transactions that have outlived their timeout."""


class RemoveExpired(NamedTuple):
    """Timer: time to look for transactional ids that nobody has used for long."""
