"""The transaction machine under arbitrary histories: instances come and go, lie, are late; writes fail; it restarts."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import Error
from kafkapy.transactions.commands import AwaitPrepared, CompleteTransactions
from kafkapy.transactions.facts import LAST_GIVEN_EPOCH
from kafkapy.transactions.states import TransactionState

NAMES = st.sampled_from(["t", "u"])
VERSIONS = st.sampled_from([0, 2])
REFUSALS = {
    Error.CONCURRENT_TRANSACTIONS,
    Error.PRODUCER_FENCED,
    Error.INVALID_TXN_STATE,
    Error.INVALID_PRODUCER_ID_MAPPING,
}


class TransactionHistory(RuleBasedStateMachine):
    """Two ids. Requests come from producers that were told something once, and from some that invent it."""

    coordinator_class: type

    def __init__(self) -> None:
        super().__init__()
        self.coordinator = self.coordinator_class(
            abort_timed_out_interval_ms=50, remove_expired_interval_ms=500, id_expiration_ms=5_000
        )
        self.told: dict[str, list[ProducerEpoch]] = {"t": [], "u": []}
        self.in_hand: dict[str, list] = {}
        self.writer: int | None = None
        self.before: dict[str, ProducerEpoch] = {}

    def some_producer(self, data, name):
        latest = self.told[name][-2:] or [ProducerEpoch(0, 0)]
        producer = data.draw(st.sampled_from([*self.told[name], *latest, *latest, latest[-1], latest[-1]]))
        return producer._replace(epoch=max(0, producer.epoch + data.draw(st.sampled_from([0, 0, 0, 0, 1, -1]))))

    def take(self, name, answer):
        if isinstance(answer, Error):
            assert answer in REFUSALS
        elif isinstance(answer, ProducerEpoch):
            assert 0 <= answer.epoch <= LAST_GIVEN_EPOCH
            if not self.coordinator.is_writing:
                self.told[name].append(answer)

    @rule(name=NAMES)
    def another_instance(self, name):
        self.take(name, self.coordinator.init(name=name, timeout_ms=100))

    @rule(data=st.data(), name=NAMES)
    def the_same_instance_again(self, data, name):
        self.take(name, self.coordinator.init(self.some_producer(data, name), name=name, timeout_ms=100))

    @rule(data=st.data(), name=NAMES, partition=st.integers(0, 2), version=VERSIONS)
    def add(self, data, name, partition, version):
        self.take(name, self.coordinator.add(self.some_producer(data, name), partition, name=name, version=version))

    @rule(data=st.data(), name=NAMES, committed=st.booleans(), version=VERSIONS)
    def end(self, data, name, committed, version):
        producer = self.some_producer(data, name)
        self.take(name, self.coordinator.end(producer, committed=committed, name=name, version=version))

    @precondition(lambda self: self.writer is None)
    @rule(everything=st.booleans())
    def ask_for_work(self, everything):
        self.writer = self.coordinator.send(AwaitPrepared(everything))

    @precondition(lambda self: self.writer is not None and not self.coordinator.is_writing)
    @rule()
    def take_work(self):
        answer = self.coordinator.answers.get(self.writer)
        if answer is None:
            return
        self.writer = None
        if isinstance(answer, list):
            self.in_hand |= {each.transactional_id: each for each in answer}
        else:
            self.writer = self.coordinator.send(AwaitPrepared(True))

    @precondition(lambda self: self.in_hand and not self.coordinator.is_writing)
    @rule()
    def complete(self):
        self.coordinator.ask(CompleteTransactions(list(self.in_hand.values())))
        self.in_hand.clear()

    @rule(duration_ms=st.sampled_from([1, 60, 200, 6_000]))
    def time_passes(self, duration_ms):
        self.coordinator.advance(duration_ms)
        if duration_ms > 5_000:
            self.before.clear()  # ids may have been forgotten

    @rule(name=NAMES, epoch=st.integers(LAST_GIVEN_EPOCH - 2, LAST_GIVEN_EPOCH))
    def epochs_pass(self, name, epoch):
        known = self.coordinator.machine.transactions.get(name)
        if known and known.state is TransactionState.EMPTY and not self.coordinator.is_writing:
            self.coordinator.store(name, producer_epoch=max(known.producer_epoch, epoch))
            self.told[name].append(self.coordinator.of(name).producer)

    @precondition(lambda self: not self.coordinator.is_writing)
    @rule()
    def begin_write(self):
        self.coordinator.begin_write()

    @precondition(lambda self: self.coordinator.is_writing)
    @rule(refused=st.booleans())
    def end_write(self, refused):
        self.coordinator.end_write(Error.NOT_COORDINATOR if refused else None)
        if refused:
            self.before.clear()

    @precondition(lambda self: not self.coordinator.is_writing)
    @rule()
    def restart(self):
        self.coordinator = self.coordinator.restarted()
        self.in_hand, self.writer = {}, None

    @invariant()
    def epochs_never_go_back(self):
        known = self.coordinator.machine.transactions
        for name, transaction in known.items():
            before = self.before.get(name, transaction.producer)
            assert transaction.producer >= before, "ids are given in rising order"
            assert transaction.producer_epoch <= LAST_GIVEN_EPOCH + 1
        self.before = {name: transaction.producer for name, transaction in known.items()}

    @invariant()
    def states_mean_what_they_say(self):
        for transaction in self.coordinator.machine.transactions.values():
            if transaction.state in (TransactionState.ONGOING, TransactionState.PREPARE_COMMIT):
                assert transaction.partitions
                assert transaction.producer_epoch <= LAST_GIVEN_EPOCH or transaction.state.is_prepared
            if transaction.state in (TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT):
                assert not transaction.partitions
            assert (transaction.next_producer_id == -1) or transaction.state.is_prepared

    @invariant()
    def what_is_written_is_what_is_remembered(self):
        if self.coordinator.is_writing:
            return
        again = self.coordinator.restarted().machine.transactions
        live = self.coordinator.machine.transactions
        assert again == {name: known._replace(last_producer_epoch=-1) for name, known in live.items()}

    @invariant()
    def whatever_is_prepared_ends(self):
        """Its markers are in somebody's hand, or are told to whoever asks next."""
        coordinator = self.coordinator
        if coordinator.is_writing or (self.writer is not None and not coordinator.waits(self.writer)):
            return  # who was told something has not looked yet
        untold = set(coordinator.machine._untold)
        for name, transaction in coordinator.machine.transactions.items():
            if transaction.state.is_prepared:
                held = self.in_hand.get(name)
                assert name in untold or (held is not None and held.producer == transaction.producer)
        if self.writer is not None:
            assert not untold


def test_any_history_of_transactions(make_coordinator):
    class History(TransactionHistory):
        coordinator_class = make_coordinator

    run_state_machine_as_test(
        History,
        settings=settings(max_examples=150, stateful_step_count=60, deadline=None, derandomize=True),
    )
