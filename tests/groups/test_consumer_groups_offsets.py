"""Offsets of consumer groups: which member epochs may commit and fetch, and when offsets and groups end."""

import pytest

from kafkapy.errors import Error
from kafkapy.groups.commands import DeleteGroups, DeleteOffsets, FetchOffsets
from tests.groups.consumers import Consumers, Member, settle, topic_id_of

T = topic_id_of("t")


@pytest.fixture
def consumers() -> Consumers:
    return Consumers()


def commit(consumers: Consumers, member: Member, offset: int = 1, **options) -> Error:
    fields = {"member_id": member.member_id, "generation": member.epoch, "topic_id": T} | options
    return consumers.commit(offset, **fields)


def test_a_member_commits_in_its_epoch(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    assert commit(consumers, member, 5) is Error.NONE
    assert consumers.committed() == {("t", 0): 5}
    assert commit(consumers, member, generation=3) is Error.STALE_MEMBER_EPOCH
    assert commit(consumers, member, member_id="b") is Error.UNKNOWN_MEMBER_ID
    assert commit(consumers, member, member_id="", generation=-1) is Error.UNKNOWN_MEMBER_ID


def test_an_older_epoch_commits_what_it_had_by_then_and_still_has(consumers):
    first, second = Member(consumers, "a", "t"), Member(consumers, "b", "t")
    first.join()
    second.join()
    settle(first, second)
    kept, given = [n for _, n in first.partitions], [n for _, n in second.partitions]
    assert commit(consumers, first, generation=2, partition=kept[0]) is Error.NONE
    assert commit(consumers, first, generation=2, partition=given[0]) is Error.STALE_MEMBER_EPOCH
    assert commit(consumers, second, generation=2, partition=given[0]) is Error.STALE_MEMBER_EPOCH


def test_what_is_still_to_be_given_up_may_be_committed(consumers):
    first, second = Member(consumers, "a", "t"), Member(consumers, "b", "t")
    first.join()
    consumers.advance(1_000)
    second.join()
    first.clings = True
    first.beat()
    for partition in range(3):
        assert commit(consumers, first, partition=partition) is Error.NONE


def test_old_requests_cannot_commit_for_a_member_of_an_epoch(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    assert commit(consumers, member, version=8) is Error.UNSUPPORTED_VERSION


def test_a_transaction_that_names_nobody_is_believed(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    assert commit(consumers, member, member_id="", generation=-1, producer=7) is Error.NONE
    assert commit(consumers, member, generation=1, producer=7, version=5, partition=9) is Error.ILLEGAL_GENERATION
    consumers.end(7, committed=True)
    assert consumers.committed() == {("t", 0): 1}


def test_anybody_commits_to_an_empty_group(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    member.leave()
    assert commit(consumers, member, 9, member_id="", generation=-1) is Error.NONE


def test_a_fetch_that_names_a_member_must_be_in_its_epoch(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    assert consumers.error(FetchOffsets("g", None, False, "a", 1)) is Error.STALE_MEMBER_EPOCH
    assert consumers.error(FetchOffsets("g", None, False, "b", 1)) is Error.UNKNOWN_MEMBER_ID
    assert consumers.ask(FetchOffsets("g", None, False, "a", 2)) == []
    assert consumers.ask(FetchOffsets("g", None)) == []
    assert consumers.ask(FetchOffsets("unknown", None, False, "a", 2)) == []


def test_offsets_of_topics_that_are_read_are_kept(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    commit(consumers, member)
    commit(consumers, member, topic="gone")
    assert consumers.ask(DeleteOffsets("g", [("t", [0]), ("gone", [0])])) == [
        Error.GROUP_SUBSCRIBED_TO_TOPIC,
        Error.NONE,
    ]
    assert consumers.committed() == {("t", 0): 1}


def test_an_empty_group_goes_with_its_last_offset():
    consumers = Consumers(offsets_retention_ms=60_000, offsets_retention_check_interval_ms=10_000)
    member = Member(consumers, "a", "t")
    member.join()
    commit(consumers, member)
    for _ in range(4):
        consumers.advance(20_000)
        member.beat()
    assert consumers.committed() == {("t", 0): 1}, "its topic is read"
    member.leave()
    consumers.advance(10_000)
    assert consumers.machine.consumers == {}
    assert consumers.committed() == {}
    assert consumers.restarted().machine.consumers == {}


def test_only_an_empty_group_is_deleted(consumers):
    member = Member(consumers, "a", pattern="t")
    member.join()
    consumers.advance(0)
    settle(member)
    commit(consumers, member)
    assert consumers.ask(DeleteGroups(["g"])) == [Error.NON_EMPTY_GROUP]
    member.leave()
    assert consumers.ask(DeleteGroups(["g"])) == [Error.NONE]
    other = consumers.restarted()
    assert (other.machine.consumers, other.machine.groups, other.committed()) == ({}, {}, {})
