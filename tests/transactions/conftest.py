"""A transaction machine driven by hand: requests with the defaults of an ordinary producer."""

from collections.abc import Callable
from typing import Any

import pytest

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import KafkaError
from kafkapy.model import TopicPartition
from kafkapy.transactions.commands import (
    AddPartitions,
    AwaitPrepared,
    CompleteTransactions,
    EndTransaction,
    InitProducer,
    Prepared,
    VerifyPartitions,
)
from kafkapy.transactions.facts import Transaction
from kafkapy.transactions.journal import TransactionJournal
from kafkapy.transactions.machine import TransactionMachine
from kafkapy.transactions.settings import TransactionSettings
from kafkapy.transactions.states import TransactionState
from tests.driver import Driver

ID = "t"
TIMEOUT_MS = 60_000


class Coordinator(Driver):
    """One partition's transactional ids."""

    journal = TransactionJournal()

    def __init__(self, **settings: int) -> None:
        self.settings = TransactionSettings(**settings)
        self.given_ids = 1_000
        super().__init__()

    def make_machine(self) -> TransactionMachine:
        return TransactionMachine(self.settings)

    def _with_id(self, command: Any) -> Any:
        if self.machine.needs_producer_id(command):
            self.given_ids += 1
            command = command._replace(new_producer_id=self.given_ids)
        return command

    def _outcome(self, command: Any) -> Any:
        answer = self.answers[self.send(command)]
        return answer.error if isinstance(answer, KafkaError) else answer

    # Each gives the answer, or the error.

    def init(self, expected: ProducerEpoch | None = None, *, name: str = ID, timeout_ms: int = TIMEOUT_MS) -> Any:
        return self._outcome(self._with_id(InitProducer(name, timeout_ms, expected)))

    def add(self, producer: ProducerEpoch, *partitions: int, name: str = ID, version: int = 2) -> Any:
        wanted = frozenset(TopicPartition("a", partition) for partition in partitions)
        return self._outcome(AddPartitions(name, producer, wanted, version))

    def verify(self, producer: ProducerEpoch, *partitions: int, name: str = ID) -> Any:
        wanted = frozenset(TopicPartition("a", partition) for partition in partitions)
        return self._outcome(VerifyPartitions(name, producer, wanted))

    def end(self, producer: ProducerEpoch, *, committed: bool, name: str = ID, version: int = 2) -> Any:
        return self._outcome(self._with_id(EndTransaction(name, producer, committed, version)))

    def prepared(self) -> list[Prepared]:
        """What is to be marked now, all of it."""
        ticket = self.send(AwaitPrepared(True))
        if self.waits(ticket):
            return []
        told: list[Prepared] = self.answers[ticket]
        return told

    def complete(self) -> list[Prepared]:
        """All markers are written."""
        told = self.prepared()
        self.ask(CompleteTransactions(told))
        return told

    def of(self, name: str = ID) -> Transaction:
        found: Transaction = self.machine.transactions[name]
        return found

    @property
    def state(self) -> TransactionState:
        return self.of().state

    def store(self, name: str = ID, **changes: Any) -> None:
        """As if the id's record had said this."""
        known = self.machine.transactions[name]
        from kafkapy.transactions.facts import TransactionStored

        fact = TransactionStored(name, known._replace(**changes))
        self.entries += self.journal.encode(fact)
        self.machine.apply(fact)


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def make_coordinator() -> Callable[..., Coordinator]:
    return Coordinator
