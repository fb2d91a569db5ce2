"""Deadlines of keys, against a plain dictionary; and what they cost over time."""

from hypothesis import given
from hypothesis import strategies as st

from kafkapy.timers import Timers

KEYS = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(0, 20)),
        st.tuples(st.just("cancel"), KEYS, st.just(0)),
        st.tuples(st.just("forget"), KEYS, st.just(0)),
        st.tuples(st.just("due"), st.just(""), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(STEPS)
def test_they_come_once_and_in_time(steps: list[tuple[str, str, int]]) -> None:
    timers: Timers[str, int] = Timers()
    model: dict[str, tuple[float, int]] = {}
    now = 0
    for value, (act, key, number) in enumerate(steps):
        if act == "set":
            timers.set(key, now + number, value)
            model[key] = (now + number, value)
        elif act == "due":
            now += number
            expected = {(key, value) for key, (deadline, value) in model.items() if deadline <= now}
            found = set()
            while (due := timers.pop_due(now)) is not None:
                found.add(due)
            assert found == expected
            model = {key: live for key, live in model.items() if live[0] > now}
        else:
            getattr(timers, act)(key)
            model.pop(key, None)
        assert len(timers) == len(model)
        if model:
            assert timers.next <= min(deadline for deadline, _ in model.values())


def test_they_come_in_the_order_of_their_deadlines() -> None:
    timers: Timers[str, str] = Timers()
    timers.set("a", 3.0, "A")
    timers.set("b", 1.0, "B")
    timers.set("c", 2.0, "C")
    timers.set("b", 4.0, "B later")
    timers.set("a", 0.5, "A sooner")
    timers.cancel("c")
    assert timers.pop_due(0.4) is None
    assert timers.next == 0.5
    assert timers.pop_due(9.0) == ("a", "A sooner")
    assert timers.pop_due(9.0) == ("b", "B later")
    assert timers.pop_due(9.0) is None
    assert timers.next == float("inf")


def test_what_is_taken_back_takes_no_room() -> None:
    """However far away its deadline was: members come and go, and some ask for weeks."""
    timers: Timers[int, None] = Timers()
    for act in (timers.cancel, timers.forget):
        for key in range(20_000):
            timers.set(key, 1e9 + key, None)
            act(key)
        assert timers.entry_count < 1000


def test_what_is_moved_again_and_again_takes_the_room_of_one() -> None:
    timers: Timers[str, int] = Timers()
    for second in range(10_000):
        timers.set("session", second + 10.0, second)
        timers.set("session", second + 9.0, second)
        assert timers.pop_due(second) is None
    assert timers.entry_count < 100
    assert timers.pop_due(10_009.0) == ("session", 9_999)
