"""A broker that the tests of a module share, each beginning with an empty one."""

from collections.abc import Iterator

import pytest

import kafkapy


@pytest.fixture(scope="module")
def running() -> Iterator[kafkapy.Broker]:
    with kafkapy.Broker() as broker:
        yield broker


@pytest.fixture
def broker(running: kafkapy.Broker) -> Iterator[kafkapy.Broker]:
    yield running
    running.reset()
