"""The machine behind one partition of `__transaction_state`: its transactional ids, and their transactions.

Commands come in, decisions go out (`coordination/shard.py` says how); called by the shard's runtime only. Markers are
written by somebody else (`transactions/markers.py`), who asks for what is prepared and says when it is complete.

Invariants
 1. An id has one transaction at most, and goes from state to state as `TRANSITIONS` has it.
 2. An id's producer epoch never goes back, but to 0 with a new producer id.
 3. Whoever is told to write markers is told when the decision is in the log, and not before: what is prepared is the
    answer to a command, and answers wait for the facts that were decided before them.
 4. A prepared transaction stays so until its markers are there; nothing else of its id is decided meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from kafkapy.coordination.shard import (
    Answer,
    Decision,
    InTransaction,
    Moment,
    ProducerEpoch,
    SetTimer,
    Ticket,
    TransactionEnded,
)
from kafkapy.errors import Error, KafkaError
from kafkapy.model import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_TIMESTAMP
from kafkapy.transactions.commands import (
    AbortTimedOut,
    AddPartitions,
    AwaitPrepared,
    CompleteTransactions,
    DescribeTransaction,
    EndTransaction,
    InitProducer,
    ListedTransaction,
    ListTransactions,
    Prepared,
    RemoveExpired,
    VerifyPartitions,
)
from kafkapy.transactions.facts import LAST_GIVEN_EPOCH, Fact, Transaction, TransactionRemoved, TransactionStored
from kafkapy.transactions.settings import TRANSACTION_VERSION, TransactionSettings
from kafkapy.transactions.states import TRANSITIONS, TransactionState

_BUMPING_VERSION: Final = 2
"""From this `transaction.version` on every transaction has an epoch of its own."""

_A_TURN: Final = 500
"""So many transactions are timed out, or ids removed, in one step; the next follows after a moment."""

_NEXT_TURN_MS: Final = 10

_NO_PARTITIONS: Final = frozenset[Any]()

_EMPTY, _ONGOING = TransactionState.EMPTY, TransactionState.ONGOING
_PREPARE_COMMIT, _PREPARE_ABORT = TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT
_COMPLETE_COMMIT, _COMPLETE_ABORT = TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT


class TransactionMachine:
    """All transactional ids that fall on one partition."""

    def __init__(self, settings: TransactionSettings) -> None:
        self.transactions: dict[str, Transaction] = {}
        self._settings = settings
        self._ongoing: dict[str, None] = {}  # the ids of those, which time out
        self._prepared: dict[str, None] = {}
        self._untold: dict[str, Prepared] = {}  # those whose markers nobody was told to write
        self._marker_writer: Ticket | None = None  # who waits for such
        self._requests: dict[type, Callable[[Any, Ticket, int, Decision], None]] = {
            InitProducer: self._init_producer,
            AddPartitions: self._add_partitions,
            VerifyPartitions: self._verify_partitions,
            EndTransaction: self._end,
            AwaitPrepared: self._await_prepared,
            CompleteTransactions: self._complete,
            DescribeTransaction: self._describe,
            ListTransactions: self._list,
        }

    def needs_producer_id(self, command: InitProducer | EndTransaction) -> bool:
        """Whether the command, decided now, may call for a producer id that nobody has."""
        known = self.transactions.get(command.transactional_id)
        return isinstance(command, InitProducer) if known is None else known.epochs_are_used_up

    def decide(self, command: Any, ticket: Ticket, moment: Moment) -> Decision:
        out, now_ms = Decision(), moment.now_ms
        match command:
            case AbortTimedOut():
                self._abort_timed_out(now_ms, out)
            case RemoveExpired():
                self._remove_expired(now_ms, out)
            case _:
                self._requests[type(command)](command, ticket, now_ms, out)
        return out

    def apply(self, fact: Fact | InTransaction | TransactionEnded) -> None:
        if isinstance(fact, InTransaction | TransactionEnded):
            return  # whoever has that written to this log tells its coordinator nothing by it
        transactional_id = fact.transactional_id
        state = None
        if isinstance(fact, TransactionStored):
            self.transactions[transactional_id] = fact.transaction
            state = fact.transaction.state
        else:
            self.transactions.pop(transactional_id, None)
        if state is _ONGOING:
            self._ongoing[transactional_id] = None
        else:
            self._ongoing.pop(transactional_id, None)
        if state is not None and state.is_prepared:
            self._prepared[transactional_id] = None
        else:
            self._prepared.pop(transactional_id, None)

    def loaded(self, moment: Moment) -> Decision:
        self._tell_everything()
        settings, now_ms = self._settings, moment.now_ms
        return Decision(
            timers=[
                _timer(AbortTimedOut(), now_ms + settings.abort_timed_out_interval_ms),
                _timer(RemoveExpired(), now_ms + settings.remove_expired_interval_ms),
            ]
        )

    def snapshot(self) -> Iterator[Fact]:
        known = list(self.transactions.items())
        return (TransactionStored(transactional_id, transaction) for transactional_id, transaction in known)

    def undo_of(self, fact: Fact) -> Fact:
        """The fact that brings back what this one is about to replace."""
        before = self.transactions.get(fact.transactional_id)
        if before is None:
            return TransactionRemoved(fact.transactional_id)
        return TransactionStored(fact.transactional_id, before)

    def revert(self, undos: Iterable[Fact], error: KafkaError, moment: Moment) -> Decision:
        for fact in undos:
            self.apply(fact)
            # If it is prepared now, then by a decision that stands, of which the writer of markers was told.
            self._untold.pop(fact.transactional_id, None)
        return Decision()

    # Producers

    def _init_producer(self, command: InitProducer, ticket: Ticket, now_ms: int, out: Decision) -> None:
        known, expected = self.transactions.get(command.transactional_id), command.expected
        if known is None:
            assert command.new_producer_id is not None, "the machine said that it needs one"
            first = command.new_producer_id
            begun = Transaction(
                _EMPTY, first, 0, command.timeout_ms, _NO_PARTITIONS, updated_ms=now_ms, previous_producer_id=first
            )
        elif expected is not None and not _may_go_on(known, expected):
            raise _fenced(known, expected)
        elif known.state.is_prepared:
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        elif known.state is _ONGOING:
            # The older instance's transaction first. The epoch that shuts it out is told nobody.
            self._store(command.transactional_id, known, _shut_out(known, now_ms), out)
            out.answers.append(Answer(ticket, KafkaError(Error.CONCURRENT_TRANSACTIONS)))
            return
        else:
            begun = _begun_again(known, command)._replace(
                state=_EMPTY,
                timeout_ms=command.timeout_ms,
                partitions=_NO_PARTITIONS,
                start_ms=NO_TIMESTAMP,
                updated_ms=now_ms,
            )
        self._store(command.transactional_id, known, begun, out)
        out.answers.append(Answer(ticket, begun.producer))

    # Transactions

    def _add_partitions(self, command: AddPartitions, ticket: Ticket, now_ms: int, out: Decision) -> None:
        known = self.transactions.get(command.transactional_id)
        if known is not None and known.state.is_prepared:
            # First: its producer may be at the next transaction, and have the id that it has once this one is complete.
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        known = self._of_producer(command.transactional_id, command.producer)
        is_ongoing = known.state is _ONGOING
        if not is_ongoing or not command.partitions <= known.partitions:
            added = known._replace(
                state=_ONGOING,
                partitions=known.partitions | command.partitions,
                start_ms=known.start_ms if is_ongoing else now_ms,
                updated_ms=now_ms,
                client_version=command.client_version,
                previous_producer_id=known.producer_id,
            )
            self._store(command.transactional_id, known, added, out)
        out.answers.append(Answer(ticket, command.partitions))

    def _verify_partitions(self, command: VerifyPartitions, ticket: Ticket, now_ms: int, out: Decision) -> None:
        known = self._of_producer(command.transactional_id, command.producer)
        out.answers.append(Answer(ticket, command.partitions & known.partitions))

    def _of_producer(self, transactional_id: str, producer: ProducerEpoch) -> Transaction:
        """The id's transaction, which this producer may go on with or begin."""
        known = self.transactions.get(transactional_id)
        if known is None or known.producer_id != producer.producer_id:
            raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
        if known.producer_epoch != producer.epoch:
            raise _fenced(known, producer)
        if known.state.is_prepared:
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        return known

    def _end(self, command: EndTransaction, ticket: Ticket, now_ms: int, out: Decision) -> None:
        known = self.transactions.get(command.transactional_id)
        if known is None:
            raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
        bumps = command.client_version >= _BUMPING_VERSION
        is_repeat = _check_end_with_epoch(known, command) if bumps else _check_end(known, command)
        if not is_repeat:
            known, before = _prepared(known, command, now_ms), known
            self._store(command.transactional_id, before, known, out)
        going_on = known.producer
        if known.next_producer_id != NO_PRODUCER_ID:
            going_on = ProducerEpoch(known.next_producer_id, 0)
        out.answers.append(Answer(ticket, going_on))

    def _abort_timed_out(self, now_ms: int, out: Decision) -> None:
        is_done = True
        for transactional_id in self._ongoing:
            known = self.transactions[transactional_id]
            if known.start_ms + known.timeout_ms < now_ms:
                if len(out.facts) == _A_TURN:
                    is_done = False
                    break
                self._store(transactional_id, known, _shut_out(known, now_ms), out)
        pause_ms = self._settings.abort_timed_out_interval_ms if is_done else _NEXT_TURN_MS
        out.timers.append(_timer(AbortTimedOut(), now_ms + pause_ms))

    # Markers

    def _await_prepared(self, command: AwaitPrepared, ticket: Ticket, now_ms: int, out: Decision) -> None:
        self._marker_writer = ticket
        if command.everything:
            self._tell_everything()
        self._tell(out)

    def _tell_everything(self) -> None:
        self._untold = {
            transactional_id: _to_be_marked(transactional_id, self.transactions[transactional_id])
            for transactional_id in self._prepared
        }

    def _tell(self, out: Decision) -> None:
        if self._untold and self._marker_writer is not None:
            out.answers.append(Answer(self._marker_writer, list(self._untold.values())))
            self._untold, self._marker_writer = {}, None

    def _complete(self, command: CompleteTransactions, ticket: Ticket, now_ms: int, out: Decision) -> None:
        for prepared in command.transactions:
            known = self.transactions.get(prepared.transactional_id)
            if known is not None and known.state.is_prepared and known.producer == prepared.producer:
                self._store(prepared.transactional_id, known, _completed(known, now_ms), out)
        out.answers.append(Answer(ticket, None))

    # As administrators see them

    def _describe(self, command: DescribeTransaction, ticket: Ticket, now_ms: int, out: Decision) -> None:
        known = self.transactions.get(command.transactional_id)
        if known is None:
            raise KafkaError(Error.TRANSACTIONAL_ID_NOT_FOUND)
        out.answers.append(Answer(ticket, known))

    def _list(self, command: ListTransactions, ticket: Ticket, now_ms: int, out: Decision) -> None:
        producer_ids, states, running_ms = command
        listed = [
            ListedTransaction(transactional_id, known)
            for transactional_id, known in self.transactions.items()
            if (not producer_ids or known.producer_id in producer_ids)
            and (states is None or known.state in states)
            # As in Kafka, an id without a transaction has been at it since the beginning of time.
            and (running_ms < 0 or now_ms - known.start_ms > running_ms)
        ]
        out.answers.append(Answer(ticket, listed))

    def _remove_expired(self, now_ms: int, out: Decision) -> None:
        last_ms = now_ms - self._settings.id_expiration_ms
        pause_ms = self._settings.remove_expired_interval_ms
        for transactional_id, known in self.transactions.items():
            if known.updated_ms <= last_ms and TransactionState.DEAD in TRANSITIONS[known.state]:
                if len(out.facts) == _A_TURN:
                    pause_ms = _NEXT_TURN_MS
                    break
                out.facts.append(TransactionRemoved(transactional_id))
        out.timers.append(_timer(RemoveExpired(), now_ms + pause_ms))

    def _store(self, transactional_id: str, before: Transaction | None, after: Transaction, out: Decision) -> None:
        assert before is None or after.state in TRANSITIONS[before.state], f"{before.state} -> {after.state}"
        out.facts.append(TransactionStored(transactional_id, after))
        if after.state.is_prepared:
            self._untold[transactional_id] = _to_be_marked(transactional_id, after)
            self._tell(out)


def _timer(command: AbortTimedOut | RemoveExpired, deadline_ms: int) -> SetTimer:
    return SetTimer(type(command), deadline_ms, command)


def _fenced(known: Transaction, producer: ProducerEpoch) -> KafkaError:
    return KafkaError(Error.PRODUCER_FENCED, f"{producer} is not {known.producer}")


def _may_go_on(known: Transaction, expected: ProducerEpoch) -> bool:
    """Whether a producer that had this may be the id's; its epoch is looked at later.

    Its id may be the one before the last change: where the epochs were used up, and the answer that told the new id was
    lost.
    """
    producer_id, epoch = expected
    return producer_id == known.producer_id or (producer_id == known.previous_producer_id and epoch >= LAST_GIVEN_EPOCH)


def _begun_again(known: Transaction, command: InitProducer) -> Transaction:
    """The id with the producer that its next instance has, or the same instance after an error."""
    expected = None if command.expected is None else command.expected.epoch
    epoch, last = known.producer_epoch, known.last_producer_epoch
    if expected is not None and expected != epoch:
        if expected != last:
            raise KafkaError(Error.PRODUCER_FENCED, f"epoch {expected} is neither {epoch} nor {last}")
        if epoch <= LAST_GIVEN_EPOCH:
            return known  # it has begun already: the answer was lost
    remembered = NO_PRODUCER_EPOCH if expected is None else expected
    if known.epochs_are_used_up:
        assert command.new_producer_id is not None, "the machine said that it needs one"
        producer_id, epoch = command.new_producer_id, 0
    else:
        producer_id, epoch = known.producer_id, epoch + 1
    return known._replace(
        producer_id=producer_id,
        producer_epoch=epoch,
        last_producer_epoch=remembered,
        previous_producer_id=known.producer_id,
    )


def _shut_out(known: Transaction, now_ms: int) -> Transaction:
    """The transaction is aborted under a new epoch, so that whoever still writes is refused everywhere.

    PREPARE_EPOCH_FENCE is passed through: one record says both.
    """
    assert _PREPARE_ABORT in TRANSITIONS[TransactionState.PREPARE_EPOCH_FENCE]
    return known._replace(
        state=_PREPARE_ABORT,
        producer_epoch=known.producer_epoch + 1,
        last_producer_epoch=known.producer_epoch,
        previous_producer_id=known.producer_id,
        updated_ms=now_ms,
        client_version=TRANSACTION_VERSION,
    )


def _check_end(known: Transaction, command: EndTransaction) -> bool:
    """Whether the end is a repeat of one that was made; raises why it is not possible. Before `transaction.version` 2.

    The epoch stays the same from transaction to transaction, so any end in the same direction passes for a repeat.
    """
    if known.producer_id != command.producer.producer_id:
        raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
    if known.producer_epoch != command.producer.epoch:
        raise _fenced(known, command.producer)
    if known.state.is_prepared:
        raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
    if known.state is _ONGOING:
        return False
    if known.state is _EMPTY:
        raise _impossible(known, command)
    _check_direction(known, command)
    return True


def _check_end_with_epoch(known: Transaction, command: EndTransaction) -> bool:
    """As `_check_end`, where each transaction has its own epoch: a repeat still has the one before the last."""
    if known.state.is_prepared:
        # A repeat, or the next one, which may be over before this one is complete: nothing was sent in it.
        raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
    producer_id, epoch = command.producer
    # The transaction that used up the epochs was the old id's last one.
    is_last_of_id = (
        producer_id == known.previous_producer_id and epoch == LAST_GIVEN_EPOCH and known.producer_epoch == 0
    )
    is_bumped = known.producer_epoch == epoch + 1
    if known.producer_id != producer_id and not is_last_of_id:
        raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
    if known.state in (_ONGOING, _EMPTY):
        is_possible = known.producer_epoch == epoch
    else:
        is_possible = known.producer_epoch == epoch or is_last_of_id or (is_bumped and epoch < LAST_GIVEN_EPOCH)
    if not is_possible:
        raise _fenced(known, command.producer)
    if known.state is _ONGOING:
        return False
    is_repeat = is_bumped or is_last_of_id
    if is_repeat:
        _check_direction(known, command)
        return True
    if command.committed:
        raise _impossible(known, command)
    return False  # an abort of nothing, by a producer that cannot know whether there is something


def _check_direction(known: Transaction, command: EndTransaction) -> None:
    """Refuse an end that was made in the other direction."""
    if command.committed is not (known.state is _COMPLETE_COMMIT):
        raise _impossible(known, command)


def _impossible(known: Transaction, command: EndTransaction) -> KafkaError:
    asked = "commit" if command.committed else "abort"
    return KafkaError(Error.INVALID_TXN_STATE, f"no {asked} in state {known.state.label}")


def _prepared(known: Transaction, command: EndTransaction, now_ms: int) -> Transaction:
    """The end is decided."""
    bumps = command.client_version >= _BUMPING_VERSION
    next_producer_id = NO_PRODUCER_ID
    if bumps and known.epochs_are_used_up:
        assert command.new_producer_id is not None, "the machine said that it needs one"
        next_producer_id = command.new_producer_id
    return known._replace(
        state=_PREPARE_COMMIT if command.committed else _PREPARE_ABORT,
        producer_epoch=known.producer_epoch + 1 if bumps else known.producer_epoch,
        last_producer_epoch=known.producer_epoch if bumps else known.last_producer_epoch,
        next_producer_id=next_producer_id,
        previous_producer_id=known.producer_id,
        start_ms=known.start_ms if known.state is _ONGOING else now_ms,
        updated_ms=now_ms,
        client_version=command.client_version,
    )


def _completed(known: Transaction, now_ms: int) -> Transaction:
    """The markers are all there."""
    moves_on = known.next_producer_id != NO_PRODUCER_ID
    return known._replace(
        state=_COMPLETE_COMMIT if known.state is _PREPARE_COMMIT else _COMPLETE_ABORT,
        producer_id=known.next_producer_id if moves_on else known.producer_id,
        producer_epoch=0 if moves_on else known.producer_epoch,
        next_producer_id=NO_PRODUCER_ID,
        previous_producer_id=known.producer_id,
        partitions=_NO_PARTITIONS,
        updated_ms=now_ms,
    )


def _to_be_marked(transactional_id: str, known: Transaction) -> Prepared:
    committed = known.state is _PREPARE_COMMIT
    return Prepared(transactional_id, known.producer, committed, known.partitions, known.client_version)
