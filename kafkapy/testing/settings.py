"""The settings of a broker that a test starts, where it says nothing else."""

from collections.abc import Mapping
from typing import Final

from kafkapy.config.layers import BrokerConfig

_IN_TESTS: Final = {
    # The first record of a topic is there some 80 ms sooner than Kafka would have it.
    "kafkapy.auto.create.wait": "true",
    "group.initial.rebalance.delay.ms": "0",
    # Every Fetch names what it wants, as a fault of one topic has to know; a client takes it as a cache that is full.
    "max.incremental.fetch.session.cache.slots": "0",
    # Loading few partitions is what makes the first group of a fresh broker settle at once.
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.num.partitions": "5",
}


def configured(settings: Mapping[str, str], port: int) -> dict[str, str]:
    """What a broker of a test is started with: on this port of the loopback, or a free one (0)."""
    listeners = {} if "listeners" in settings else {"listeners": f"PLAINTEXT://127.0.0.1:{port}"}
    return {**_IN_TESTS, **listeners, **settings}


def broker_config(settings: Mapping[str, str], port: int, brokers: int = 1) -> BrokerConfig:
    """The same, read, for so many brokers. Raises ConfigError."""
    return BrokerConfig.load(flags=configured(settings, port), brokers=brokers)
