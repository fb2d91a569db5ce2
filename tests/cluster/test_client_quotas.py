"""Client quotas by commands, through the journal's bytes: what may be asked, and that it is there again afterwards."""

from typing import Any

import pytest

from kafkapy.cluster.client_quotas import AlterClientQuotas, QuotaAlteration, entity_of
from kafkapy.coordination.shard import Moment
from kafkapy.errors import Error, KafkaError
from tests.cluster.machines import Driver

ALICE = entity_of([("user", "alice")])
DEFAULT_CLIENT = entity_of([("client-id", None)])
BOTH = entity_of([("user", "alice"), ("client-id", "app")])
LOCAL = entity_of([("ip", "127.0.0.1")])


class QuotaDriver(Driver):
    """The cluster machine, asked for quotas."""

    def alter(self, *alterations: tuple[Any, list[Any]], **options: Any) -> dict[Any, KafkaError | None]:
        altered: dict[Any, KafkaError | None] = self.do(
            AlterClientQuotas([QuotaAlteration(*one) for one in alterations], **options)
        )
        return altered

    def quotas(self) -> Any:
        return self.shown.client_quotas


@pytest.fixture
def driver() -> QuotaDriver:
    return QuotaDriver()


def test_limits_are_set_changed_and_taken_away(driver: QuotaDriver) -> None:
    assert driver.alter((ALICE, [("producer_byte_rate", 1000.0), ("request_percentage", 12.5)])) == {ALICE: None}
    driver.alter((ALICE, [("producer_byte_rate", 2000.0), ("request_percentage", None)]), (BOTH, []))
    driver.alter((DEFAULT_CLIENT, [("consumer_byte_rate", 1.0)]))
    assert driver.quotas() == {ALICE: {"producer_byte_rate": 2000.0}, DEFAULT_CLIENT: {"consumer_byte_rate": 1.0}}
    driver.alter((ALICE, [("producer_byte_rate", None)]))
    assert driver.quotas() == {DEFAULT_CLIENT: {"consumer_byte_rate": 1.0}}


def test_what_changes_nothing_is_no_fact(driver: QuotaDriver) -> None:
    driver.alter((ALICE, [("producer_byte_rate", 1000.0)]))
    facts = len(driver.log)
    assert driver.alter((ALICE, [("producer_byte_rate", 1000.0), ("consumer_byte_rate", None)])) == {ALICE: None}
    driver.alter((BOTH, [("producer_byte_rate", 1.0)]), validate_only=True)
    assert len(driver.log) == facts


def test_they_are_there_again_from_the_log_and_from_a_snapshot(driver: QuotaDriver) -> None:
    driver.alter((ALICE, [("producer_byte_rate", 1.0)]), (BOTH, [("request_percentage", 0.5)]))
    driver.alter((LOCAL, [("connection_creation_rate", 3.0)]), (ALICE, [("producer_byte_rate", None)]))
    replayed, restored = QuotaDriver(), QuotaDriver()
    replayed.machine = driver.replayed()
    for fact in driver.machine.snapshot():
        restored.machine.apply(fact)
    expected = {BOTH: {"request_percentage": 0.5}, LOCAL: {"connection_creation_rate": 3.0}}
    assert driver.quotas() == replayed.quotas() == restored.quotas() == expected


def test_what_the_log_refused_is_taken_back(driver: QuotaDriver) -> None:
    driver.alter((ALICE, [("producer_byte_rate", 1.0)]))
    before = driver.quotas()
    machine = driver.machine
    decision = machine.decide(
        AlterClientQuotas([QuotaAlteration(ALICE, [("producer_byte_rate", None), ("consumer_byte_rate", 9.0)])]),
        1,
        Moment(0),
    )
    undos = []
    for fact in decision.facts:
        undos.insert(0, machine.undo_of(fact))
        machine.apply(fact)
    assert driver.quotas() == {ALICE: {"consumer_byte_rate": 9.0}}
    machine.revert(undos, KafkaError(Error.KAFKA_STORAGE_ERROR), Moment(0))
    assert driver.quotas() == before


@pytest.mark.parametrize(
    ("entity", "limits", "message"),
    [
        ([], [("producer_byte_rate", 1.0)], "Invalid empty client quota entity"),
        ([("host", "a")], [], "Unhandled client quota entity type: host"),
        ([("user", "")], [], "Empty user not supported"),
        (
            [("ip", "::1"), ("user", "a")],
            [],
            "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId",
        ),
        ([("ip", "no-such-host")], [], "no-such-host is not a valid IP or resolvable host."),
        ([("ip", None)], [("producer_byte_rate", 1.0)], "Invalid configuration key producer_byte_rate"),
        ([("user", "a")], [("connection_creation_rate", 1.0)], "Invalid configuration key connection_creation_rate"),
        ([("user", "a")], [("producer_byte_rate", 0.0)], "Quota producer_byte_rate must be greater than 0"),
        ([("user", "a")], [("producer_byte_rate", 1.5)], "producer_byte_rate cannot be a fractional value."),
        (
            [("user", "a")],
            [("consumer_byte_rate", 1e30)],
            "Proposed value for consumer_byte_rate is too large for a LONG.",
        ),
        (
            [("ip", None)],
            [("connection_creation_rate", 2.0**31)],
            "Proposed value for connection_creation_rate is too large for an INT.",
        ),
        (
            [("user", "a")],
            [("producer_byte_rate", 1.0), ("producer_byte_rate", 2.0)],
            "Ignoring duplicate entity ClientQuotaEntity(entries={user=a})",
        ),
    ],
)
def test_what_may_not_be_asked_is_refused(driver: QuotaDriver, entity: Any, limits: Any, message: str) -> None:
    [refusal] = driver.alter((entity_of(entity), limits), unresolvable=frozenset({"no-such-host"})).values()
    assert isinstance(refusal, KafkaError)
    assert (refusal.error, refusal.message) == (Error.INVALID_REQUEST, message)
    assert not driver.log


def test_one_refusal_leaves_the_others(driver: QuotaDriver) -> None:
    results = driver.alter((ALICE, [("no.such", 1.0)]), (BOTH, [("producer_byte_rate", 1.0)]))
    assert isinstance(results[ALICE], KafkaError)
    assert results[BOTH] is None
    assert driver.quotas() == {BOTH: {"producer_byte_rate": 1.0}}


def test_a_refused_entity_keeps_none_of_its_limits(driver: QuotaDriver) -> None:
    driver.alter((ALICE, [("producer_byte_rate", 1.0), ("no.such", 1.0)]))
    assert driver.quotas() == {}


def test_topics_that_have_not_changed_are_the_same_object(driver: QuotaDriver) -> None:
    """Whoever has looked through them need not look again."""
    topics = driver.machine.state.advance().new.topics
    driver.alter((ALICE, [("producer_byte_rate", 1000.0)]))
    assert driver.quotas(), "the image is another"
    assert driver.machine.state.advance().new.topics is topics
