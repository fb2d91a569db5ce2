"""The transaction machine, command by command: what Kafka's coordinator answers, and what it remembers."""

import pytest

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import Error
from kafkapy.model import TopicPartition
from kafkapy.transactions.commands import (
    AwaitPrepared,
    CompleteTransactions,
    DescribeTransaction,
    ListTransactions,
    Prepared,
)
from kafkapy.transactions.facts import TransactionRemoved
from kafkapy.transactions.states import TRANSITIONS, TransactionState

EMPTY, ONGOING = TransactionState.EMPTY, TransactionState.ONGOING
PREPARE_COMMIT, PREPARE_ABORT = TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT
COMPLETE_COMMIT, COMPLETE_ABORT = TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT

LAST = 32766
VERSIONS = pytest.mark.parametrize("version", [0, 2])


def older(producer: ProducerEpoch) -> ProducerEpoch:
    return producer._replace(epoch=producer.epoch - 1)


def in_state(coordinator, state, version=2) -> ProducerEpoch:
    """The id in this state, and what its producer goes on with."""
    producer = coordinator.init()
    if state is EMPTY:
        return producer
    coordinator.add(producer, 0, version=version)
    if state is ONGOING:
        return producer
    producer = coordinator.end(producer, committed=state in (PREPARE_COMMIT, COMPLETE_COMMIT), version=version)
    if state in (COMPLETE_COMMIT, COMPLETE_ABORT):
        coordinator.complete()
    assert coordinator.state is state
    return producer


# InitProducerId


def test_a_new_id_has_a_new_producer_at_epoch_0(coordinator):
    first, second = coordinator.init(name="a"), coordinator.init(name="b", timeout_ms=7)
    assert first.epoch == second.epoch == 0
    assert first.producer_id != second.producer_id
    assert coordinator.of("b").timeout_ms == 7
    assert coordinator.of("b").state is EMPTY
    assert coordinator.of("b").start_ms == -1


def test_a_new_id_takes_a_producer_that_says_it_was_somebody(coordinator):
    assert coordinator.init(ProducerEpoch(7, 3)).epoch == 0


@pytest.mark.parametrize("state", [EMPTY, COMPLETE_COMMIT, COMPLETE_ABORT])
def test_another_instance_has_the_next_epoch(coordinator, state):
    before = in_state(coordinator, state)
    coordinator.advance(5)
    after = coordinator.init(timeout_ms=9)
    assert after == before._replace(epoch=before.epoch + 1)
    assert coordinator.add(before, 0) is Error.PRODUCER_FENCED
    known = coordinator.of()
    assert (known.state, known.partitions, known.start_ms, known.timeout_ms) == (EMPTY, frozenset(), -1, 9)
    assert known.updated_ms == coordinator.now_ms


@pytest.mark.parametrize("state", [PREPARE_COMMIT, PREPARE_ABORT])
def test_another_instance_waits_for_markers(coordinator, state):
    in_state(coordinator, state)
    assert coordinator.init() is Error.CONCURRENT_TRANSACTIONS
    assert coordinator.state is state


def test_another_instance_has_the_transaction_of_the_older_aborted(coordinator):
    older_one = in_state(coordinator, ONGOING)
    assert coordinator.init() is Error.CONCURRENT_TRANSACTIONS
    assert coordinator.state is PREPARE_ABORT
    assert coordinator.end(older_one, committed=True) is Error.CONCURRENT_TRANSACTIONS
    [told] = coordinator.complete()
    assert (told.committed, told.producer.epoch, told.transaction_version) == (False, 1, 2)
    assert coordinator.state is COMPLETE_ABORT
    younger = coordinator.init()
    assert younger == older_one._replace(epoch=2)
    assert coordinator.end(older_one, committed=True) is Error.PRODUCER_FENCED


def test_an_instance_that_goes_on_after_an_error(coordinator):
    producer = coordinator.init()
    again = coordinator.init(producer)
    assert again == producer._replace(epoch=1)
    assert coordinator.init(producer) == again, "the answer was lost"
    assert coordinator.init(producer) == again, "lost twice"
    assert coordinator.init(again) == producer._replace(epoch=2)
    assert coordinator.init(producer) is Error.PRODUCER_FENCED
    assert coordinator.init(ProducerEpoch(7, 2)) is Error.PRODUCER_FENCED


def test_a_repeat_is_none_after_another_instance_began(coordinator):
    producer = coordinator.init()
    coordinator.init()
    assert coordinator.init(producer) is Error.PRODUCER_FENCED


def test_who_was_shut_out_by_a_new_epoch_goes_on_with_that(coordinator):
    producer = in_state(coordinator, ONGOING)
    assert coordinator.init(producer) is Error.CONCURRENT_TRANSACTIONS
    coordinator.complete()
    assert coordinator.init(producer) == producer._replace(epoch=1)


def test_used_up_epochs_make_a_new_producer(coordinator):
    old = coordinator.init()
    coordinator.store(producer_epoch=LAST)
    new = coordinator.init()
    assert new.epoch == 0
    assert new.producer_id not in (old.producer_id, -1)
    assert coordinator.add(old._replace(epoch=LAST), 0) is Error.INVALID_PRODUCER_ID_MAPPING


def test_used_up_epochs_and_an_instance_that_goes_on(coordinator):
    old = coordinator.init()._replace(epoch=LAST)
    coordinator.store(producer_epoch=LAST)
    new = coordinator.init(old)
    assert new.epoch == 0
    assert coordinator.init(old) == new, "the answer was lost"
    assert coordinator.init(old) == new, "lost twice"
    assert coordinator.init(old._replace(epoch=0)) is Error.PRODUCER_FENCED
    assert coordinator.init(new) == new._replace(epoch=1)
    assert coordinator.init(old) is Error.PRODUCER_FENCED


def test_the_last_epoch_is_told_twice_too(coordinator):
    old = coordinator.init()._replace(epoch=LAST - 1)
    coordinator.store(producer_epoch=LAST - 1)
    last = coordinator.init(old)
    assert last.epoch == LAST
    assert coordinator.init(old) == last
    assert coordinator.init(older(old)) is Error.PRODUCER_FENCED


def test_the_epoch_beyond_the_last_is_told_nobody(coordinator):
    last = coordinator.init()._replace(epoch=LAST)
    coordinator.store(producer_epoch=LAST)
    coordinator.add(last, 0)
    assert coordinator.init() is Error.CONCURRENT_TRANSACTIONS
    assert coordinator.of().producer_epoch == LAST + 1
    coordinator.complete()
    assert coordinator.end(last, committed=False) is Error.PRODUCER_FENCED
    assert coordinator.init(last).epoch == 0


# AddPartitionsToTxn


@pytest.mark.parametrize("state", [EMPTY, COMPLETE_COMMIT, COMPLETE_ABORT])
@VERSIONS
def test_a_first_partition_begins_a_transaction(coordinator, state, version):
    producer = in_state(coordinator, state)
    coordinator.advance(5)
    assert coordinator.add(producer, 1, 2, version=version) == {TopicPartition("a", 1), TopicPartition("a", 2)}
    known = coordinator.of()
    assert known.state is ONGOING
    assert known.partitions == {TopicPartition("a", 1), TopicPartition("a", 2)}
    assert known.start_ms == known.updated_ms == coordinator.now_ms
    assert known.client_version == version


def test_more_partitions_do_not_move_the_start(coordinator):
    producer = in_state(coordinator, ONGOING)
    start_ms = coordinator.of().start_ms
    coordinator.advance(5)
    coordinator.add(producer, 3)
    assert coordinator.of().start_ms == start_ms
    assert coordinator.of().updated_ms == start_ms + 5
    assert coordinator.of().partitions == {TopicPartition("a", 0), TopicPartition("a", 3)}


def test_the_same_partition_twice_is_nothing_new(coordinator):
    producer = in_state(coordinator, ONGOING)
    written = len(coordinator.entries)
    assert not isinstance(coordinator.add(producer, 0), Error)
    assert len(coordinator.entries) == written


@pytest.mark.parametrize("ask", ["add", "verify"])
def test_who_may_not_add_partitions_nor_verify_any(coordinator, ask):
    ask = getattr(coordinator, ask)
    assert ask(ProducerEpoch(1, 0), 0) is Error.INVALID_PRODUCER_ID_MAPPING
    producer = in_state(coordinator, ONGOING)
    assert ask(producer._replace(producer_id=7), 0) is Error.INVALID_PRODUCER_ID_MAPPING
    assert ask(older(producer), 0) is Error.PRODUCER_FENCED
    assert ask(producer._replace(epoch=1), 0) is Error.PRODUCER_FENCED
    for committed in (True, False):
        producer = coordinator.end(producer, committed=committed)
        # Who adds may have the id that comes next, and is to wait for it.
        waits = Error.CONCURRENT_TRANSACTIONS if ask == coordinator.add else Error.PRODUCER_FENCED
        assert ask(older(producer), 0) is waits
        assert ask(producer, 0) is Error.CONCURRENT_TRANSACTIONS
        coordinator.complete()
        assert ask(older(producer), 0) is Error.PRODUCER_FENCED
        coordinator.add(producer, 0)


def test_verification_tells_which_partitions_are_in(coordinator):
    producer = in_state(coordinator, ONGOING)
    assert coordinator.verify(producer, 0, 1) == {TopicPartition("a", 0)}
    ended = coordinator.end(producer, committed=True)
    coordinator.complete()
    assert coordinator.verify(ended, 0) == frozenset()


# EndTxn


@VERSIONS
@pytest.mark.parametrize("committed", [True, False])
def test_an_end_is_decided_marked_and_complete(coordinator, committed, version):
    producer = in_state(coordinator, ONGOING, version)
    started_ms = coordinator.now_ms
    coordinator.add(producer, 1, version=version)
    coordinator.advance(5)
    going_on = coordinator.end(producer, committed=committed, version=version)
    assert going_on == producer._replace(epoch=1 if version == 2 else 0)
    known = coordinator.of()
    assert (known.state, known.updated_ms) == (PREPARE_COMMIT if committed else PREPARE_ABORT, started_ms + 5)
    assert coordinator.prepared() == [
        Prepared("t", going_on, committed, frozenset({TopicPartition("a", 0), TopicPartition("a", 1)}), version)
    ]
    coordinator.advance(5)
    coordinator.complete()
    known = coordinator.of()
    assert (known.state, known.updated_ms) == (COMPLETE_COMMIT if committed else COMPLETE_ABORT, started_ms + 10)
    assert (known.producer, known.partitions, known.start_ms) == (going_on, frozenset(), started_ms)
    assert not isinstance(coordinator.add(going_on, 4, version=version), Error)


COMMIT, ABORT = True, False
PF, ITS, CT = Error.PRODUCER_FENCED, Error.INVALID_TXN_STATE, Error.CONCURRENT_TRANSACTIONS
BUMP, REPEAT = "a new epoch", "the same answer once more"


@pytest.mark.parametrize(
    ("state", "committed", "with_old_epoch", "with_new_epoch"),
    [
        (EMPTY, ABORT, PF, BUMP),
        (EMPTY, COMMIT, PF, ITS),
        (PREPARE_ABORT, ABORT, CT, CT),
        (PREPARE_ABORT, COMMIT, CT, CT),
        (PREPARE_COMMIT, ABORT, CT, CT),
        (PREPARE_COMMIT, COMMIT, CT, CT),
        (COMPLETE_ABORT, ABORT, REPEAT, BUMP),
        (COMPLETE_ABORT, COMMIT, ITS, ITS),
        (COMPLETE_COMMIT, ABORT, ITS, BUMP),
        (COMPLETE_COMMIT, COMMIT, REPEAT, ITS),
    ],
)
def test_an_end_where_nothing_is_open(coordinator, state, committed, with_old_epoch, with_new_epoch):
    if state is EMPTY:
        coordinator.init()  # so that there is an older epoch
    producer = in_state(coordinator, state)
    written = len(coordinator.entries)
    answer = coordinator.end(older(producer), committed=committed)
    assert answer == (producer if with_old_epoch is REPEAT else with_old_epoch)
    assert len(coordinator.entries) == written
    answer = coordinator.end(producer, committed=committed)
    if with_new_epoch is BUMP:
        assert answer == producer._replace(epoch=producer.epoch + 1)
        assert coordinator.state is PREPARE_ABORT
        assert coordinator.of().start_ms == coordinator.now_ms
        coordinator.complete()
        assert coordinator.state is COMPLETE_ABORT
    else:
        assert answer == with_new_epoch
        assert len(coordinator.entries) == written


@pytest.mark.parametrize(
    ("state", "committed", "expected"),
    [
        (EMPTY, ABORT, ITS),
        (EMPTY, COMMIT, ITS),
        (PREPARE_ABORT, ABORT, CT),
        (PREPARE_ABORT, COMMIT, CT),
        (PREPARE_COMMIT, ABORT, CT),
        (PREPARE_COMMIT, COMMIT, CT),
        (COMPLETE_ABORT, ABORT, REPEAT),
        (COMPLETE_ABORT, COMMIT, ITS),
        (COMPLETE_COMMIT, ABORT, ITS),
        (COMPLETE_COMMIT, COMMIT, REPEAT),
    ],
)
def test_an_end_where_nothing_is_open_by_the_older_rules(coordinator, state, committed, expected):
    producer = in_state(coordinator, state, version=0)
    written = len(coordinator.entries)
    answer = coordinator.end(producer, committed=committed, version=0)
    assert answer == (producer if expected is REPEAT else expected)
    assert coordinator.end(older(producer), committed=committed, version=0) is PF
    assert len(coordinator.entries) == written


@VERSIONS
def test_who_may_not_end(coordinator, version):
    def end(producer):
        return coordinator.end(producer, committed=True, version=version)

    assert end(ProducerEpoch(1, 0)) is Error.INVALID_PRODUCER_ID_MAPPING
    producer = in_state(coordinator, ONGOING)
    assert end(producer._replace(producer_id=7)) is Error.INVALID_PRODUCER_ID_MAPPING
    assert end(older(producer)) is PF
    assert end(producer._replace(epoch=producer.epoch + 1)) is PF
    assert coordinator.state is ONGOING


@pytest.mark.parametrize("committed", [True, False])
def test_the_transaction_that_uses_up_the_epochs(coordinator, committed):
    old = coordinator.init()._replace(epoch=LAST)
    coordinator.store(producer_epoch=LAST)
    coordinator.add(old, 0)
    new = coordinator.end(old, committed=committed)
    assert new.epoch == 0
    assert new.producer_id != old.producer_id
    assert coordinator.end(old, committed=committed) is CT
    coordinator = coordinator.restarted()  # the new id must not be lost with it
    [told] = coordinator.complete()
    assert told.producer == old._replace(epoch=LAST + 1)
    assert coordinator.of().producer == new
    coordinator = coordinator.restarted()
    assert coordinator.end(old, committed=committed) == new, "the answer was lost"
    assert coordinator.end(old, committed=not committed) is ITS
    assert not isinstance(coordinator.add(new, 0), Error)
    assert coordinator.end(old, committed=committed) is Error.INVALID_PRODUCER_ID_MAPPING


# Markers


def test_who_writes_markers_waits_for_work_and_gets_each_once(coordinator):
    first = coordinator.send(AwaitPrepared())
    assert coordinator.waits(first)
    in_state(coordinator, PREPARE_COMMIT)
    assert [told.transactional_id for told in coordinator.answers[first]] == ["t"]
    second = coordinator.send(AwaitPrepared())
    assert coordinator.waits(second)
    other = coordinator.init(name="other")
    coordinator.end(other, committed=False, name="other")
    assert [told.transactional_id for told in coordinator.answers[second]] == ["other"]
    everything = coordinator.answers[coordinator.send(AwaitPrepared(True))]
    assert {told.transactional_id for told in everything} == {"t", "other"}


def test_what_is_prepared_while_nobody_asks_is_told_together(coordinator):
    for name in ("a", "b"):
        coordinator.end(coordinator.init(name=name), committed=False, name=name)
    told = coordinator.answers[coordinator.send(AwaitPrepared())]
    assert [each.transactional_id for each in told] == ["a", "b"]


def test_after_a_restart_markers_are_written_again(coordinator):
    in_state(coordinator, PREPARE_ABORT)
    told = coordinator.prepared()
    coordinator = coordinator.restarted()
    assert coordinator.answers[coordinator.send(AwaitPrepared())] == told


def test_late_word_of_a_completion_is_nothing(coordinator):
    producer = in_state(coordinator, PREPARE_COMMIT)
    told = coordinator.complete()
    coordinator.ask(CompleteTransactions(told))
    coordinator.add(producer, 0)
    coordinator.ask(CompleteTransactions(told))
    coordinator.end(producer, committed=False)
    coordinator.ask(CompleteTransactions(told))
    assert coordinator.state is PREPARE_ABORT
    coordinator.ask(CompleteTransactions([told[0]._replace(transactional_id="nobody")]))


# What the log refuses


def test_a_refused_decision_is_no_work_for_markers(coordinator):
    producer = in_state(coordinator, ONGOING)
    coordinator.begin_write()
    coordinator.end(producer, committed=True)
    coordinator.end_write(Error.NOT_COORDINATOR)
    assert coordinator.state is ONGOING
    assert coordinator.waits(coordinator.send(AwaitPrepared()))
    assert coordinator.prepared() == []
    assert coordinator.end(producer, committed=False).epoch == 1


def test_what_was_told_with_a_refused_answer_is_told_again(coordinator):
    in_state(coordinator, PREPARE_COMMIT)
    coordinator.begin_write()
    ticket = coordinator.send(AwaitPrepared())
    coordinator.init(name="other")
    coordinator.end_write(Error.NOT_COORDINATOR)
    assert coordinator.answers[ticket].error is Error.NOT_COORDINATOR
    assert [told.transactional_id for told in coordinator.prepared()] == ["t"]


def test_a_refused_completion_leaves_it_prepared_and_what_came_after_undone(coordinator):
    producer = in_state(coordinator, PREPARE_COMMIT)
    told = coordinator.prepared()
    coordinator.begin_write()
    coordinator.ask(CompleteTransactions(told))
    coordinator.add(producer, 5)
    coordinator.end(producer, committed=False)  # nobody asked yet what is prepared
    coordinator.end_write(Error.COORDINATOR_NOT_AVAILABLE)
    assert coordinator.state is PREPARE_COMMIT
    assert coordinator.waits(coordinator.send(AwaitPrepared())), "who was told has it in hand"
    assert coordinator.prepared() == told


def test_a_refused_new_id_is_unknown_again(coordinator):
    coordinator.begin_write()
    producer = coordinator.init()
    coordinator.end_write(Error.NOT_COORDINATOR)
    assert coordinator.add(producer, 0) is Error.INVALID_PRODUCER_ID_MAPPING
    assert coordinator.error(DescribeTransaction("t")) is Error.TRANSACTIONAL_ID_NOT_FOUND


# Time


def test_a_transaction_that_outlives_its_timeout_is_aborted_and_its_producer_shut_out(make_coordinator):
    coordinator = make_coordinator(abort_timed_out_interval_ms=10)
    producer = coordinator.init(timeout_ms=95)
    coordinator.advance(1_000)
    coordinator.add(producer, 0)
    coordinator.advance(95)
    coordinator.add(producer, 1)  # which does not make its time longer
    assert coordinator.state is ONGOING
    coordinator.advance(10)
    assert coordinator.state is PREPARE_ABORT
    assert coordinator.add(producer, 0) is Error.CONCURRENT_TRANSACTIONS
    [told] = coordinator.complete()
    assert coordinator.add(producer, 0) is Error.PRODUCER_FENCED
    assert (told.producer, told.committed) == (producer._replace(epoch=1), False)
    assert told.partitions == {TopicPartition("a", 0), TopicPartition("a", 1)}
    assert coordinator.end(producer, committed=True) is Error.INVALID_TXN_STATE
    assert coordinator.end(producer, committed=False) == producer._replace(epoch=1)


def test_a_producer_by_the_older_rules_is_shut_out_for_good_when_it_is_too_late(make_coordinator):
    coordinator = make_coordinator(abort_timed_out_interval_ms=10)
    producer = coordinator.init(timeout_ms=95)
    coordinator.add(producer, 0, version=0)
    coordinator.advance(200)
    coordinator.complete()
    assert coordinator.end(producer, committed=True, version=0) is Error.PRODUCER_FENCED
    assert coordinator.end(producer, committed=False, version=0) is Error.PRODUCER_FENCED


def test_what_is_not_open_does_not_time_out(make_coordinator):
    coordinator = make_coordinator(abort_timed_out_interval_ms=10)
    in_state(coordinator, COMPLETE_COMMIT)
    coordinator.init(name="other", timeout_ms=1)
    written = len(coordinator.entries)
    coordinator.advance(10 * 60_000)
    assert len(coordinator.entries) == written


def test_many_time_out_in_turns(make_coordinator):
    coordinator = make_coordinator(abort_timed_out_interval_ms=1_000)
    for number in range(1_200):
        name = f"t{number}"
        coordinator.add(coordinator.init(name=name, timeout_ms=1), 0, name=name)
    written = len(coordinator.entries)
    sizes = []
    coordinator.advance(1_000)
    for _ in range(4):
        sizes.append(len(coordinator.entries) - written)
        written = len(coordinator.entries)
        coordinator.advance(10)
    assert sizes == [500, 500, 200, 0]


@pytest.mark.parametrize("state", [EMPTY, COMPLETE_COMMIT, COMPLETE_ABORT])
def test_an_id_that_nobody_uses_is_forgotten(make_coordinator, state):
    coordinator = make_coordinator(remove_expired_interval_ms=100, id_expiration_ms=1_000)
    producer = in_state(coordinator, state)
    coordinator.advance(999)
    assert coordinator.state is state
    coordinator.advance(101)
    assert coordinator.error(DescribeTransaction("t")) is Error.TRANSACTIONAL_ID_NOT_FOUND
    assert coordinator.journal.decode(coordinator.entries[-1]) == TransactionRemoved("t")
    assert coordinator.add(producer, 0) is Error.INVALID_PRODUCER_ID_MAPPING
    assert not coordinator.restarted().machine.transactions
    assert coordinator.init().epoch == 0


@pytest.mark.parametrize("state", [ONGOING, PREPARE_COMMIT, PREPARE_ABORT])
def test_an_id_with_a_transaction_is_kept(make_coordinator, state):
    coordinator = make_coordinator(
        remove_expired_interval_ms=100, id_expiration_ms=1_000, abort_timed_out_interval_ms=1_000_000
    )
    in_state(coordinator, state)
    coordinator.advance(10_000)
    assert coordinator.state is state


# What administrators see


def test_an_id_is_described_as_it_is(coordinator):
    assert coordinator.error(DescribeTransaction("t")) is Error.TRANSACTIONAL_ID_NOT_FOUND
    in_state(coordinator, ONGOING)
    assert coordinator.ask(DescribeTransaction("t")) == coordinator.of()


def test_ids_are_listed_by_state_producer_and_duration(coordinator):
    open_one = coordinator.init(name="open")
    coordinator.add(open_one, 0, name="open")
    coordinator.advance(1_000)
    coordinator.init(name="empty")
    recent = coordinator.init(name="recent")
    coordinator.add(recent, 0, name="recent")

    def listed(*query):
        return {line.transactional_id for line in coordinator.ask(ListTransactions(*query))}

    nobody = frozenset()
    assert listed() == {"open", "empty", "recent"}
    assert listed(frozenset({open_one.producer_id})) == {"open"}
    assert listed(nobody, frozenset({ONGOING})) == {"open", "recent"}
    assert listed(nobody, frozenset()) == set()
    assert listed(nobody, None, 0) == {"open", "empty"}
    assert listed(nobody, frozenset({ONGOING}), 999) == {"open"}
    assert listed(nobody, frozenset({ONGOING}), 1_000) == set()


def test_the_table_of_transitions_is_whole():
    assert set(TRANSITIONS) == set(TransactionState)
    reached = set().union(*TRANSITIONS.values())
    assert reached == set(TransactionState)
