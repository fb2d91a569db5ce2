"""Deadlines of keys, against a plain dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from kafkapy.network.alarms import Alarms

KEYS = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(0, 20)),
        st.tuples(st.just("clear"), KEYS, st.just(0)),
        st.tuples(st.just("forget"), KEYS, st.just(0)),
        st.tuples(st.just("due"), st.just(""), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(STEPS)
def test_they_ring_once_and_in_time(steps: list[tuple[str, str, int]]) -> None:
    alarms: Alarms[str] = Alarms()
    model: dict[str, float] = {}
    now = 0
    for act, key, number in steps:
        if act == "set":
            alarms.set(key, now + number)
            model[key] = now + number
        elif act == "due":
            now += number
            expected = {key for key, deadline in model.items() if deadline <= now}
            found = alarms.due(now)
            assert sorted(found) == sorted(expected)
            model = {key: deadline for key, deadline in model.items() if key not in expected}
        else:
            getattr(alarms, act)(key)
            model.pop(key, None)
        if model:
            assert alarms.next <= min(model.values())


def test_what_is_forgotten_takes_no_room() -> None:
    alarms: Alarms[int] = Alarms()
    for key in range(100_000):
        alarms.set(key, 1e9 + key)
        alarms.forget(key)
    assert len(alarms) < 1000


def test_what_is_set_again_and_again_takes_the_room_of_one() -> None:
    alarms: Alarms[str] = Alarms()
    for now in range(10_000):
        alarms.set("a", now + 500)
        alarms.due(now)
    assert len(alarms) < 10
