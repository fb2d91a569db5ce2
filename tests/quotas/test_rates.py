"""Rates and buckets of tokens, by figures that hold for Apache Kafka's."""

from kafkapy.quotas.rates import Rate, TokenBucket, Windows

WINDOWS = Windows(11, 1000)
START_MS = 5_000_000


def test_a_steady_rate_within_the_limit_is_never_held_back() -> None:
    rate, now = Rate(WINDOWS, START_MS), START_MS
    for _ in range(10):
        rate.record(400, now)
        assert rate.excess_ms(500, now) == 0
        now += 1000
    # 400 * 10 + 2300 in 10.5 s are 600 a second, which is 20 % too much: as much longer it is to take.
    now += 500
    rate.record(2300, now)
    assert rate.excess_ms(500, now) == 2100
    # Until the burst is forgotten, it counts.
    now += 2100
    for _ in range(10):
        rate.record(400, now)
        assert rate.excess_ms(500, now) >= 0
        now += 1000
    rate.record(0, now)
    assert rate.excess_ms(500, now) == 0


def test_what_comes_first_is_taken_over_all_windows_but_the_last() -> None:
    rate = Rate(WINDOWS, START_MS)
    rate.record(5000, START_MS)
    assert rate.measure(START_MS) == (500.0, 10_000)
    rate.record(1, START_MS)
    assert rate.excess_ms(500, START_MS) == 2  # of 0.02 % too much in 10 s
    assert rate.measure(START_MS + 999) == (5001 * 1000 / 10_999, 10_999)


def test_what_was_long_ago_is_forgotten() -> None:
    rate = Rate(WINDOWS, START_MS)
    rate.record(10_000, START_MS)
    assert rate.measure(START_MS + 10_999)[0] > 0
    assert rate.measure(START_MS + 11_000)[0] == 0


def test_no_more_windows_are_kept_than_are_asked_for() -> None:
    rate, now = Rate(Windows(2, 1000), START_MS), START_MS
    for _ in range(50):
        rate.record(100, now)
        now += 1000
    assert rate.measure(now) == (100.0, 1000)
    now += 1000
    assert rate.measure(now)[0] == 0


def test_a_bucket_that_is_full_may_be_overdrawn_once() -> None:
    bucket = TokenBucket(Windows(10, 1000), 10, START_MS)
    bucket.take(90, 10, START_MS)
    bucket.take(20, 10, START_MS)
    assert bucket.debt_ms(10, START_MS) == 1000
    assert bucket.debt_ms(10, START_MS + 400) == 600
    assert bucket.debt_ms(10, START_MS + 1000) == 0
    bucket.take(1, 10, START_MS + 1000)
    assert bucket.debt_ms(10, START_MS + 1000) == 100


def test_a_bucket_never_holds_more_than_all_windows_bring() -> None:
    bucket = TokenBucket(Windows(10, 1000), 10, START_MS)
    later = START_MS + 3_600_000
    bucket.take(101, 10, later)
    assert bucket.debt_ms(10, later) == 100
    bucket.take(-1000, 10, later)  # what is given back does not overfill it either
    bucket.take(101, 10, later)
    assert bucket.debt_ms(10, later) == 100
