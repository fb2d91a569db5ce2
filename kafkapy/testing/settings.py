"""The settings of a broker that a test starts, where it says nothing else."""

from collections.abc import Mapping
from typing import Final

from kafkapy.config.layers import BrokerConfig

WHOLE_FETCHES: Final = {"max.incremental.fetch.session.cache.slots": "0"}
"""Every Fetch names what it wants, as a fault of one topic has to know; a client takes it as a cache that is full."""

_IN_TESTS: Final = {
    **WHOLE_FETCHES,
    # The first record of a topic is there some 80 ms sooner than Kafka would have it.
    "kafkapy.auto.create.wait": "true",
    "group.initial.rebalance.delay.ms": "0",
    # Loading few partitions is what makes the first group of a fresh broker settle at once.
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.num.partitions": "5",
}

FAST_GROUPS: Final = {
    "group.min.session.timeout.ms": "1",
    **{
        f"group.{kind}.{name}": value
        for kind in ("consumer", "share", "streams")
        for name, value in (
            ("min.heartbeat.interval.ms", "1"),
            ("heartbeat.interval.ms", "100"),
            ("min.session.timeout.ms", "1"),
            ("session.timeout.ms", "1000"),
        )
    },
    "group.share.min.record.lock.duration.ms": "1000",
    "group.share.record.lock.duration.ms": "1000",
}
"""Settings of groups whose members are missed within a second, and may ask for less than Kafka's defaults allow.

Share groups hold a record for a second: less is more than Kafka's settings can say.
"""


def configured(settings: Mapping[str, str], port: int) -> dict[str, str]:
    """What a broker of a test is started with: on this port of the loopback, or a free one (0)."""
    listeners = {} if "listeners" in settings else {"listeners": f"PLAINTEXT://127.0.0.1:{port}"}
    return {**_IN_TESTS, **listeners, **settings}


def broker_config(settings: Mapping[str, str], port: int, brokers: int = 1) -> BrokerConfig:
    """The same, read, for so many brokers. Raises ConfigError."""
    return BrokerConfig.load(flags=configured(settings, port), brokers=brokers)
