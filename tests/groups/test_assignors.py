"""The server-side assignors: balance, stickiness, ranges, and the order that Kafka's tables have.

That every assignment is Kafka's own is shown by `compat/assignors/run`; what it says to some is here.
"""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from kafkapy.groups.modern.assignors import ASSIGNORS, GroupSpec, MemberSpec
from kafkapy.groups.modern.core import Partitions
from kafkapy.groups.modern.java_order import hash_of_text, hash_of_uuid, in_order, uuid_rank
from kafkapy.groups.modern.topic_hash import TopicHashes
from tests.groups.consumers import image_of

A, B, C = (bytes([number]) * 16 for number in (1, 2, 3))


def spec(
    members: dict[str, tuple[Sequence[bytes], Partitions]], counts: dict[bytes, int], same: bool = True
) -> GroupSpec:
    return GroupSpec(
        {name: MemberSpec(None, dict.fromkeys(topics), partitions) for name, (topics, partitions) in members.items()},
        counts,
        same,
    )


def sizes(assigned: dict[str, Partitions]) -> list[int]:
    return sorted(sum(map(len, partitions.values())) for partitions in assigned.values())


def test_range_gives_the_same_stretch_of_each_topic():
    group = spec({"b": ([A, B], {}), "a": ([A, B], {})}, {A: 3, B: 3})
    assert ASSIGNORS["range"](group) == {"a": {A: (0, 1), B: (0, 1)}, "b": {A: (2,), B: (2,)}}


def test_range_puts_static_members_first():
    members = {"a": MemberSpec(None, {A: None}, {}), "z": MemberSpec("i", {A: None}, {})}
    assert ASSIGNORS["range"](GroupSpec(members, {A: 1}, True)) == {"z": {A: (0,)}, "a": {}}


def test_range_counts_the_readers_of_each_topic():
    group = spec({"a": ([A], {}), "b": ([A, B], {})}, {A: 2, B: 2}, same=False)
    assert ASSIGNORS["range"](group) == {"a": {A: (0,)}, "b": {A: (1,), B: (0, 1)}}


def test_uniform_keeps_what_it_can():
    before: dict[str, Partitions] = {"a": {A: (0, 2)}, "b": {A: (1, 3)}}
    group = spec({"a": ([A], before["a"]), "b": ([A], before["b"]), "c": ([A], {})}, {A: 4})
    assigned = ASSIGNORS["uniform"](group)
    assert sizes(assigned) == [1, 1, 2]
    assert set(assigned["a"][A]) <= {0, 2}
    assert set(assigned["b"][A]) <= {1, 3}


def test_uniform_takes_back_what_is_not_read_any_more():
    group = spec({"a": ([B], {A: (0,)})}, {B: 1})
    assert ASSIGNORS["uniform"](group) == {"a": {B: (0,)}}


def test_uniform_evens_out_between_readers_of_different_topics():
    """One member reads a topic alone; the other topic goes to the rest."""
    group = spec({"a": ([A, B], {}), "b": ([B], {}), "c": ([B], {})}, {A: 4, B: 8}, same=False)
    assert sizes(ASSIGNORS["uniform"](group)) == [4, 4, 4]


def test_who_reads_nothing_gets_nothing():
    assert ASSIGNORS["uniform"](spec({"a": ([], {})}, {})) == {}
    assert ASSIGNORS["uniform"](spec({"a": ([], {}), "b": ([], {})}, {}, same=False)) == {}
    assert ASSIGNORS["range"](spec({"a": ([], {})}, {})) == {"a": {}}


@given(
    counts=st.dictionaries(st.sampled_from([A, B, C]), st.integers(1, 9), min_size=1),
    reads=st.lists(st.sets(st.sampled_from([A, B, C])), min_size=1, max_size=6),
    name=st.sampled_from(sorted(ASSIGNORS)),
)
def test_whatever_is_read_has_one_owner_before_and_after_a_member_goes(counts, reads, name):
    before: dict[str, Partitions] = {}
    for gone in (0, 1):
        members = {
            f"m{number}": MemberSpec(None, dict.fromkeys(sorted(topics & counts.keys())), before.get(f"m{number}", {}))
            for number, topics in enumerate(reads)
            if number >= gone
        }
        same = len({tuple(member.topic_ids) for member in members.values()}) <= 1
        assigned = ASSIGNORS[name](GroupSpec(members, counts, same))
        found = sorted(
            (topic, number) for parts in assigned.values() for topic, numbers in parts.items() for number in numbers
        )
        wanted = {topic for member in members.values() for topic in member.topic_ids}
        assert found == sorted((topic, number) for topic in wanted for number in range(counts[topic]))
        for member_id, partitions in assigned.items():
            assert set(partitions) <= set(members[member_id].topic_ids)
        if name == "uniform" and same and assigned:
            assert max(sizes(assigned)) - min(sizes(assigned)) <= 1
        before = assigned


def test_the_order_is_javas():
    """As a HashMap of Java 17 has twenty keys."""
    expected = [19, 18, 17, 16, 5, 15, 6, 14, 3, 13, 4, 12, 9, 11, 10, 7, 8, 1, 2, 0]
    names = [f"member-{number}" for number in range(20)]
    assert in_order(names, hash_of_text) == [f"member-{number}" for number in expected]
    uuid = bytes.fromhex("01020304050607081112131415161718")
    assert hash_of_uuid(uuid) == 0
    assert uuid_rank(b"\xff" * 16) < uuid_rank(bytes(16)), "halves are signed"


def test_a_groups_hash_is_kafkas():
    """As Utils.computeGroupHash and computeTopicHash of Apache Kafka 4.4.0 have it for this topic."""
    assert TopicHashes(lambda replicas: []).of(["nowhere"], image_of({"t": 3})) == 0
    hashes, racks = TopicHashes(lambda replicas: []), TopicHashes(lambda replicas: ["r"])
    image = image_of({"t": 3})
    assert hashes.of(["t"], image) == -4400296290426787595
    assert racks.of(["t"], image) == -3639569881284850276
    assert hashes.of(["t", "nowhere"], image) == -4400296290426787595
