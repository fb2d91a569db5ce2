"""Incremental fetch sessions: pure, with ids and times handed in."""

import itertools

import pytest

from kafkapy.errors import Error, KafkaError
from kafkapy.log.fetch_session import EVICTION_MS, FetchContext, FetchSessionCache, News, PartitionKey, Wanted

A, B, C = (PartitionKey("t", bytes(16), number) for number in range(3))
QUIET = News(has_records=False, high_watermark=5, log_start_offset=0)
FULL = News(has_records=True, high_watermark=5, log_start_offset=0)


def wanted(*keys: PartitionKey, offset: int = 0) -> list[Wanted]:
    return [Wanted(key, offset, 1000) for key in keys]


@pytest.fixture
def cache() -> FetchSessionCache:
    return FetchSessionCache(2, itertools.count(100).__next__)


def ask(
    cache: FetchSessionCache,
    session_id: int,
    epoch: int,
    *keys: PartitionKey,
    forgotten: tuple[PartitionKey, ...] = (),
    version: int = 12,
    now_ms: int = 0,
) -> FetchContext:
    return cache.open(
        session_id=session_id,
        epoch=epoch,
        wanted=wanted(*keys),
        forgotten=forgotten,
        api_version=version,
        now_ms=now_ms,
    )


def refusal(cache: FetchSessionCache, session_id: int, epoch: int, version: int = 12) -> Error:
    with pytest.raises(KafkaError) as raised:
        ask(cache, session_id, epoch, version=version)
    return raised.value.error


def test_a_full_request_makes_a_session_and_hears_everything(cache: FetchSessionCache) -> None:
    context = ask(cache, 0, 0, A, B)
    assert context.session_id == 100
    assert context.select([(A, QUIET), (B, QUIET)]) is None


def test_an_incremental_answer_carries_news_only(cache: FetchSessionCache) -> None:
    ask(cache, 0, 0, A, B, C).select([(A, QUIET), (B, QUIET), (C, QUIET)])
    context = ask(cache, 100, 1)
    assert [one.key for one in context.wanted] == [A, B, C]
    moved = QUIET._replace(high_watermark=6)
    assert context.select([(A, QUIET), (B, moved), (C, FULL)]) == {B, C}


def test_what_returned_records_goes_to_the_back(cache: FetchSessionCache) -> None:
    ask(cache, 0, 0, A, B, C).select([(key, QUIET) for key in (A, B, C)])
    ask(cache, 100, 1).select([(A, FULL), (B, QUIET), (C, QUIET)])
    assert [one.key for one in ask(cache, 100, 2).wanted] == [B, C, A]


def test_an_error_is_told_until_it_is_gone_and_then_that_it_is_gone(cache: FetchSessionCache) -> None:
    ask(cache, 0, 0, A).select([(A, QUIET)])
    broken = News(has_records=False, high_watermark=-1, log_start_offset=-1, error=Error.UNKNOWN_TOPIC_OR_PARTITION)
    assert ask(cache, 100, 1).select([(A, broken)]) == {A}
    assert ask(cache, 100, 2).select([(A, broken)]) == {A}
    assert ask(cache, 100, 3).select([(A, QUIET)]) == {A}
    assert ask(cache, 100, 4).select([(A, QUIET)]) == set()


def test_partitions_are_added_changed_and_forgotten(cache: FetchSessionCache) -> None:
    ask(cache, 0, 0, A)
    context = ask(cache, 100, 1, B, forgotten=(A,))
    assert [one.key for one in context.wanted] == [B]
    changed = cache.open(session_id=100, epoch=2, wanted=wanted(B, offset=9), forgotten=(), api_version=12, now_ms=0)
    assert [one.fetch_offset for one in changed.wanted] == [9]


def test_a_session_without_partitions_ends(cache: FetchSessionCache) -> None:
    ask(cache, 0, 0, A)
    assert ask(cache, 100, 1, forgotten=(A,)).session_id == 0
    assert refusal(cache, 100, 2) is Error.FETCH_SESSION_ID_NOT_FOUND


def test_epochs_ids_and_kinds_must_fit(cache: FetchSessionCache) -> None:
    ask(cache, 0, 0, A)
    assert refusal(cache, 7, 1) is Error.FETCH_SESSION_ID_NOT_FOUND
    assert refusal(cache, 100, 2) is Error.INVALID_FETCH_SESSION_EPOCH
    assert refusal(cache, 100, 1, version=13) is Error.FETCH_SESSION_TOPIC_ID_ERROR
    assert ask(cache, 100, 1).session_id == 100


def test_the_final_epoch_closes(cache: FetchSessionCache) -> None:
    ask(cache, 0, 0, A)
    assert ask(cache, 100, -1, A).session_id == 0
    assert len(cache) == 0


def test_a_full_cache_lets_new_clients_do_without(cache: FetchSessionCache) -> None:
    ask(cache, 0, 0, A)
    ask(cache, 0, 0, A)
    context = ask(cache, 0, 0, A, B, C)
    assert context.session_id == 0
    assert [one.key for one in context.wanted] == [A, B, C]


def test_an_unused_session_makes_room(cache: FetchSessionCache) -> None:
    ask(cache, 0, 0, A)
    ask(cache, 0, 0, A, now_ms=EVICTION_MS)
    assert ask(cache, 0, 0, B, now_ms=EVICTION_MS + 1).session_id == 102
    assert refusal(cache, 100, 1) is Error.FETCH_SESSION_ID_NOT_FOUND


def test_a_settled_small_session_makes_room_for_a_larger_one(cache: FetchSessionCache) -> None:
    late = EVICTION_MS + 1
    ask(cache, 0, 0, A)
    ask(cache, 0, 0, A, B)
    ask(cache, 100, 1, now_ms=late)
    ask(cache, 101, 1, now_ms=late)
    assert ask(cache, 0, 0, A, now_ms=late + 1).session_id == 0
    assert ask(cache, 0, 0, A, B, now_ms=late + 1).session_id != 0
    assert refusal(cache, 100, 2) is Error.FETCH_SESSION_ID_NOT_FOUND


def test_a_session_has_an_id_that_no_other_has_and_none_of_the_reserved_ones() -> None:
    cache = FetchSessionCache(3, iter([0, -4, 7, 7, 0, 9]).__next__)
    assert [ask(cache, 0, 0, A).session_id for _ in range(2)] == [7, 9]


def test_a_partition_without_records_keeps_its_turn(cache: FetchSessionCache) -> None:
    ask(cache, 0, 0, A, B).select([(A, QUIET), (B, QUIET)])
    moved = QUIET._replace(high_watermark=6)
    assert ask(cache, 100, 1).select([(A, moved), (B, QUIET)]) == {A}
    assert [one.key for one in ask(cache, 100, 2).wanted] == [A, B]
