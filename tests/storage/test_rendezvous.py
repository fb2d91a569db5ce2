"""Who is to have which lane: everybody comes to the same, little moves, and nothing moves back and forth."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from kafkapy.storage.shared.rendezvous import AT_ONCE, in_order, plan

LANES = 64

Owners = dict[int, int | None]


def run(owners: Owners, willing: set[int], present: set[int]) -> int:
    """Have all who are present do what is theirs to do until nobody has anything to do; how many lanes moved."""
    for lane, owner in owners.items():
        if owner not in present:
            owners[lane] = None
    moves = 0
    for _ in range(2 * LANES):
        plans = {me: plan(me, willing, owners) for me in sorted(present)}
        for me, todo in plans.items():
            assert all(owners[lane] == me for lane in todo.hand_over)
            assert all(owners[lane] is None for lane in todo.take)
            free = sum(owner is None for owner in owners.values())
            assert len(todo.hand_over) <= max(AT_ONCE - free, 0) or not todo.hand_over
            for lane in todo.take:
                owners[lane] = me
            moves += len(todo.take)
        if all(todo.is_settled for todo in plans.values()):
            return moves
        for todo in plans.values():
            for lane in todo.hand_over:
                owners[lane] = None
    raise AssertionError("it does not come to an end")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["come", "leave", "kill"]), st.integers(1, 9)), max_size=12))
def test_however_processes_come_and_go_all_lanes_are_where_they_are_to_be(history: list[tuple[str, int]]) -> None:
    owners: Owners = dict.fromkeys(range(LANES))
    present: set[int] = set()
    for event, node_id in history:
        before, others = dict(owners), present - {node_id}
        if event == "come":
            present = {*present, node_id}
            run(owners, present, present)
        else:
            run(owners, others, present if event == "leave" else others)
            present = others
        if present:
            assert owners == {lane: in_order(lane, tuple(present))[0] for lane in owners}
        changed = [lane for lane in owners if owners[lane] != before[lane] and before[lane] is not None]
        if event == "come":
            assert all(owners[lane] == node_id for lane in changed), "what does not go to who came stays"
        elif others:
            assert all(before[lane] == node_id for lane in changed), "what was not of who went stays"


def test_shares_are_alike() -> None:
    for count in (2, 3, 5):
        shares = Counter(in_order(lane, tuple(range(1, count + 1)))[0] for lane in range(LANES))
        assert len(shares) == count
        assert max(shares.values()) <= 2 * LANES / count


def test_without_anybody_to_take_them_lanes_stay() -> None:
    assert plan(1, [], dict.fromkeys(range(LANES), 1)) == plan(2, [], dict.fromkeys(range(LANES), 1))
    assert not plan(1, [], dict.fromkeys(range(LANES), 1)).hand_over
