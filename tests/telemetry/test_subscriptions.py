"""What clients are asked for, and when they may ask and push, by a clock that is moved by hand."""

from typing import Any

import pytest

from kafkapy.errors import Error, KafkaError
from kafkapy.telemetry.subscriptions import Settings, Subscription, Subscriptions, instance_attributes

ONE, OTHER = b"1" * 16, b"2" * 16
START_MS = 1_700_000_000_000
EVERY_SECOND: Settings = {"all": {"metrics": "a.,b.", "interval.ms": "1000"}}


class Driver:
    """A broker's subscriptions, and a client that asks and pushes."""

    def __init__(self) -> None:
        self.forgotten: list[bytes] = []
        self.subscriptions = Subscriptions(self.forgotten.append)
        self.settings: Settings = EVERY_SECOND
        self.now_ms = START_MS

    def attributes(self, instance: bytes) -> Any:
        return instance_attributes(instance, "app", ("librdkafka", "2.6"), ("10.0.0.1", 5000))

    def ask(self, instance: bytes = ONE) -> Subscription:
        return self.subscriptions.ask(instance, self.attributes(instance), self.settings, self.now_ms)

    def push(
        self, subscription: Subscription, *, terminating: bool = False, problem: KafkaError | None = None
    ) -> Error:
        try:
            self.subscriptions.push(
                ONE,
                self.attributes(ONE),
                self.settings,
                self.now_ms,
                subscription_id=subscription.subscription_id,
                terminating=terminating,
                problem=problem,
            )
        except KafkaError as refusal:
            return refusal.error
        return Error.NONE


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_all_that_match_are_asked_for_together_as_often_as_the_most_eager(driver: Driver) -> None:
    driver.settings = {
        "slow": {"metrics": "a.,b.", "interval.ms": "60000"},
        "fast": {"metrics": "b.,c.", "interval.ms": "1000", "match": "client_software_name=lib.*,client_id=a.p"},
        "others": {"metrics": "d.", "interval.ms": "100", "match": "client_software_name=lib"},
    }
    assert driver.ask()[1:] == (("a.", "b.", "c."), 1000)
    driver.settings = {"all": {"metrics": "*"}, "some": {"metrics": "x.", "match": "client_source_port=5000"}}
    assert driver.ask()[1:] == (("*",), 300_000)
    driver.settings = {}
    assert driver.ask()[1:] == ((), 300_000)


def test_the_id_changes_with_what_is_asked_for_and_between_clients(driver: Driver) -> None:
    first = driver.ask()
    assert driver.ask(OTHER).subscription_id != first.subscription_id
    driver.now_ms += 1000
    assert driver.ask() == first
    driver.settings = {"all": {"metrics": "a.", "interval.ms": "1000"}}
    assert driver.ask().subscription_id != first.subscription_id  # and at once, for something is new


def test_a_client_that_asks_too_soon_is_told_to_wait(driver: Driver) -> None:
    driver.ask()
    driver.now_ms += 999
    with pytest.raises(KafkaError) as refusal:
        driver.ask()
    assert refusal.value.error is Error.THROTTLING_QUOTA_EXCEEDED
    driver.now_ms += 1
    driver.ask()


def test_a_client_may_push_once_after_it_asked_and_then_once_an_interval(driver: Driver) -> None:
    subscription = driver.ask()
    assert driver.push(subscription) is Error.NONE
    assert driver.push(subscription) is Error.THROTTLING_QUOTA_EXCEEDED
    driver.now_ms += 1000
    assert driver.push(subscription) is Error.NONE


def test_the_last_push_may_come_early_and_is_the_last(driver: Driver) -> None:
    subscription = driver.ask()
    driver.push(subscription)
    assert driver.push(subscription, terminating=True) is Error.NONE
    driver.now_ms += 1000
    assert driver.push(subscription) is Error.INVALID_REQUEST


def test_a_push_under_another_subscription_is_refused_and_the_client_may_ask_at_once(driver: Driver) -> None:
    subscription = driver.ask()
    driver.settings = {"all": {"metrics": "a.", "interval.ms": "1000"}}
    assert driver.push(subscription) is Error.UNKNOWN_SUBSCRIPTION_ID
    renewed = driver.ask()
    driver.now_ms += 1000
    assert driver.push(renewed) is Error.NONE


@pytest.mark.parametrize("error", [Error.UNSUPPORTED_COMPRESSION_TYPE, Error.TELEMETRY_TOO_LARGE])
def test_what_is_wrong_with_a_push_is_told_once_all_else_is_right(driver: Driver, error: Error) -> None:
    subscription = driver.ask()
    assert driver.push(subscription, problem=KafkaError(error)) is error


def test_clients_that_are_not_heard_of_are_forgotten(driver: Driver) -> None:
    driver.ask()
    driver.now_ms += 59_999
    driver.ask(OTHER)
    assert driver.forgotten == []
    driver.now_ms += 1
    with pytest.raises(KafkaError):
        driver.ask(OTHER)
    assert (driver.forgotten, len(driver.subscriptions)) == ([ONE], 1)


def test_no_more_clients_are_remembered_than_may_be(driver: Driver) -> None:
    for number in range(16_385):
        driver.ask(number.to_bytes(16))
    assert (len(driver.subscriptions), driver.forgotten) == (16_384, [(0).to_bytes(16)])
