"""Many members, topics and tasks: who is to have what is found with work that grows as they do, not their product."""

import hashlib

from kafkapy.groups.modern.assignors import GroupSpec, MemberSpec, assign_uniform
from kafkapy.groups.streams.assignor import StreamsGroupSpec, StreamsMemberSpec, SubtopologySpec, assign_sticky
from tests.groups.consumers import Consumers, Member
from tests.scale.counting import SCALE, counted_calls, counted_lines

TOPICS = 1000 * SCALE
MEMBERS = 20


def topic_ids(count: int) -> list[bytes]:
    return [hashlib.md5(b"%d" % number, usedforsecurity=False).digest() for number in range(count)]


def test_members_that_read_different_topics_are_given_them_partition_by_partition() -> None:
    topics, partitions, count = topic_ids(20 * SCALE), 100, 100
    reads = [dict.fromkeys(topics[number % 10 :]) for number in range(count)]
    members = {f"m{number:03}": MemberSpec(None, read, {}) for number, read in enumerate(reads)}
    with counted_lines() as lines:
        found = assign_uniform(GroupSpec(members, dict.fromkeys(topics, partitions), is_homogeneous=False))
    shares = [sum(map(len, share.values())) for share in found.values()]
    assert sum(shares) == len(topics) * partitions and max(shares) - min(shares) <= 1
    subscriptions = sum(map(len, reads))
    assert lines.total() <= 40 * (len(topics) * partitions + subscriptions), lines.most_common(5)


def test_tasks_are_given_to_threads_of_a_streams_application_one_by_one() -> None:
    threads, tasks = 50, 20 * SCALE * 100
    members = {f"m{number:03}": StreamsMemberSpec(f"p{number // 5}") for number in range(threads)}
    subtopologies = {str(number): SubtopologySpec(100, True) for number in range(20 * SCALE)}
    with counted_calls() as calls:
        found = assign_sticky(StreamsGroupSpec(members, subtopologies, standby_count=1))
    assert {sum(map(len, each.active.values())) for each in found.values()} == {tasks // threads}
    assert calls.total() <= 40 * tasks, calls.most_common(5)
    with counted_calls() as again:
        had = {
            each: StreamsMemberSpec(members[each].process_id, share.active, share.standby)
            for each, share in found.items()
        }
        assert assign_sticky(StreamsGroupSpec(had, subtopologies, standby_count=1)) == found
    assert again.total() <= 40 * tasks, again.most_common(5)


def a_group_by_pattern() -> tuple[Consumers, list[Member]]:
    """A group whose members have sent their first heartbeat; all topics are theirs, by a pattern."""
    coordinator = Consumers()
    coordinator.set_topics(**{f"topic.{number}": 1 for number in range(TOPICS)})
    members = [Member(coordinator, f"m{number}", pattern="topic.*") for number in range(MEMBERS)]
    for member in members:
        member.join()
    return coordinator, members


def test_who_reads_by_pattern_comes_to_its_part_of_many_topics_without_looking_at_all() -> None:
    coordinator, members = a_group_by_pattern()
    coordinator.advance(1000)
    members[0].beat()  # with which the target is computed
    with counted_calls() as calls:
        for member in members[1:]:
            member.beat()
    assert sum(len(member.owned) for member in members) == TOPICS
    assert calls.total() <= 20 * TOPICS + 1000 * MEMBERS, calls.most_common(5)
    with counted_calls() as idle:
        for member in members:
            member.beat()
    assert idle.total() <= 200 * MEMBERS, idle.most_common(5)


def test_a_pattern_is_held_against_many_topics_in_small_steps() -> None:
    coordinator, _ = a_group_by_pattern()
    with counted_calls() as calls:
        coordinator.advance(1000)
    steps = calls["ConsumerProtocol.resolve_patterns"]
    assert steps >= TOPICS // 100, calls.most_common(5)
    assert calls.total() <= 12 * TOPICS + 100 * steps, calls.most_common(5)
