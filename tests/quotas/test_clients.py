"""Which limit holds for whom, who shares it, and what is remembered: by clients that come and a clock moved by hand."""

from typing import Any

import pytest

from kafkapy.cluster.client_quotas import entity_of
from kafkapy.quotas.clients import RateQuota
from kafkapy.quotas.connections import ConnectionQuota
from kafkapy.quotas.rates import Windows

START_MS = 5_000_000
KEY = "producer_byte_rate"

EVERY_LEVEL: list[tuple[dict[str, str | None], float]] = [
    ({"user": "u", "client-id": "c"}, 1.0),
    ({"user": "u", "client-id": None}, 2.0),
    ({"user": "u"}, 3.0),
    ({"user": None, "client-id": "c"}, 4.0),
    ({"user": None, "client-id": None}, 5.0),
    ({"user": None}, 6.0),
    ({"client-id": "c"}, 7.0),
    ({"client-id": None}, 8.0),
]


def quota(*limits: tuple[dict[str, str | None], float]) -> RateQuota:
    made = RateQuota(Windows(11, 1000))
    set_limits(made, *limits)
    return made


def set_limits(made: RateQuota, *limits: tuple[dict[str, str | None], float]) -> None:
    made.limits.follow({entity_of(names.items()): {KEY: limit} for names, limit in limits}, KEY)


def limit_of(made: RateQuota, user: str, client_id: str | None) -> float:
    """What a client may use at once, of which ten seconds are allowed."""
    return made.most_at_once(user, client_id, START_MS) / 10


@pytest.mark.parametrize("number", range(len(EVERY_LEVEL)))
def test_the_most_specific_limit_holds(number: int) -> None:
    assert limit_of(quota(*EVERY_LEVEL[number:]), "u", "c") == EVERY_LEVEL[number][1]


@pytest.mark.parametrize("number", range(len(EVERY_LEVEL)))
def test_a_limit_that_is_alone_holds(number: int) -> None:
    assert limit_of(quota(EVERY_LEVEL[number]), "u", "c") == EVERY_LEVEL[number][1]


def test_a_limit_of_somebody_else_holds_for_nobody_else() -> None:
    made = quota(({"user": "other"}, 1.0), ({"client-id": "other"}, 1.0), ({"user": "u", "client-id": "other"}, 1.0))
    assert limit_of(made, "u", "c") == float("inf")
    assert made.record("u", "c", 1e9, START_MS) == 0
    assert len(made.limits) == 0


def test_clients_of_a_user_share_its_limit() -> None:
    made = quota(({"user": "u"}, 100.0))
    assert made.record("u", "a", 1000, START_MS) == 0
    assert made.record("u", "b", 500, START_MS) == 5000
    assert made.record("other", "a", 10_000, START_MS) == 0


def test_each_client_id_has_the_default_limit_for_itself() -> None:
    made = quota(({"client-id": None}, 100.0))
    assert made.record("u", "a", 1000, START_MS) == 0
    assert made.record("u", "b", 1000, START_MS) == 0
    assert made.record("other", "a", 500, START_MS) == 5000
    assert len(made.limits) == 2


def test_a_client_without_an_id_has_no_limit_but_that_of_its_user() -> None:
    made = quota(({"client-id": None}, 100.0))
    assert made.record("u", None, 1e9, START_MS) == 0
    set_limits(made, ({"client-id": None}, 100.0), ({"user": "u"}, 100.0))
    assert made.record("u", None, 1500, START_MS) == 5000


def test_a_changed_limit_holds_at_once_for_what_was_used_before() -> None:
    made = quota(({"user": "u"}, 100.0))
    assert made.record("u", "a", 900, START_MS) == 0
    set_limits(made, ({"user": "u"}, 50.0))
    assert made.record("u", "a", 0, START_MS) == 8000
    set_limits(made)
    assert made.record("u", "a", 1e9, START_MS) == 0
    assert not made.limits.is_set
    assert len(made.limits) == 0


def test_what_is_taken_back_was_not_used() -> None:
    made = quota(({"user": "u"}, 100.0))
    assert made.record("u", "a", 1500, START_MS) == 5000
    made.take_back("u", "a", 1500, START_MS)
    assert made.record("u", "a", 1000, START_MS) == 0


def test_nobody_is_held_back_longer_than_is_said() -> None:
    made = RateQuota(Windows(11, 1000), longest_ms=1000)
    set_limits(made, ({"user": "u"}, 1.0))
    assert made.record("u", "a", 1e9, START_MS) == 1000


def test_clients_that_have_gone_are_forgotten() -> None:
    made, now = quota(({"client-id": None}, 100.0)), START_MS
    for number in range(1000):
        made.record("u", f"client-{number}", 1, now)
        now += 10_000
    # Those of the last hour, and those that came since it was last looked.
    assert 360 <= len(made.limits) <= 364


def addresses(limits: dict[str | None, float]) -> Any:
    made = ConnectionQuota(Windows(11, 1000))
    made.follow(limits)
    return made


def test_an_address_that_connects_too_often_is_held_and_what_is_not_let_in_does_not_count() -> None:
    made = addresses({None: 1.0})
    assert [made.record("10.0.0.1", START_MS) for _ in range(10)] == [0] * 10
    # 11 in 10 s are one too many; nobody is held longer than a window.
    assert [made.record("10.0.0.1", START_MS) for _ in range(5)] == [1000] * 5
    assert made.record("10.0.0.2", START_MS) == 0
    assert made.record("10.0.0.1", START_MS + 11_000) == 0


def test_an_address_with_a_limit_of_its_own_has_that() -> None:
    made = addresses({None: 1.0, "10.0.0.1": 2.0})
    assert [made.record("10.0.0.1", START_MS) for _ in range(20)] == [0] * 20
    assert made.record("10.0.0.1", START_MS) > 0
    made.follow({})
    assert made.record("10.0.0.1", START_MS) == 0
