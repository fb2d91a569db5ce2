"""What the broker's log says of topics: who made them, and which of their settings do nothing yet."""

import logging
from typing import Any

import pytest

from kafkapy.protocol.messages.create_partitions import CreatePartitionsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest

IDLE = "follower.replication.throttled.replicas"
IGNORED = "is accepted, but nothing in kafkapy reads it yet"


async def create(broker: Any, *names: str, validate_only: bool = False, **configs: str) -> None:
    """Topics with these settings, their dots written as underscores."""
    config = [
        CreateTopicsRequest.CreatableTopicConfig(name=name.replace("_", "."), value=value)
        for name, value in configs.items()
    ]
    topics = [
        CreateTopicsRequest.CreatableTopic(name=name, num_partitions=1, replication_factor=1, configs=config)
        for name in names
    ]
    await broker.ask(CreateTopicsRequest(topics=topics, timeout_ms=60_000, validate_only=validate_only), 7)


async def alter(broker: Any, topic: str, name: str, value: str) -> None:
    change = IncrementalAlterConfigsRequest.AlterableConfig(name=name, config_operation=0, value=value)
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource(
        resource_type=2, resource_name=topic, configs=[change]
    )
    [answer] = (await broker.ask(IncrementalAlterConfigsRequest(resources=[resource]), 1)).responses
    assert answer.error_code == 0


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


async def test_who_makes_a_topic_on_purpose_is_told_of_as_who_makes_one_in_passing(
    broker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kafkapy.handlers")
    await create(broker, "checked", validate_only=True)
    await create(broker, "t", "bad name")
    await create(broker, "t")
    assert [record.getMessage() for record in caplog.records] == ["created topic t for client tests at 127.0.0.1"]


async def test_a_setting_that_nothing_reads_is_told_when_the_topic_is_made_and_at_a_start(
    open_broker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broker = await open_broker()
    await create(broker, "t", follower_replication_throttled_replicas="*", segment_bytes="1048576")
    assert warnings(caplog) == [f"topic t: {IDLE} {IGNORED}"]
    await create(broker, "u")
    await create(broker, "v", follower_replication_throttled_replicas="*", validate_only=True)
    assert warnings(caplog) == [f"topic t: {IDLE} {IGNORED}"]
    await open_broker()
    assert warnings(caplog) == [f"topic t: {IDLE} {IGNORED}"] * 2


async def test_many_topics_are_told_of_in_one_line(broker: Any, caplog: pytest.LogCaptureFixture) -> None:
    await create(broker, *"abcde", follower_replication_throttled_replicas="*")
    assert warnings(caplog) == [f"topic a, b, c and 2 more: {IDLE} {IGNORED}"]


async def test_only_what_is_new_of_a_topic_is_told(broker: Any, caplog: pytest.LogCaptureFixture) -> None:
    await create(broker, "t", follower_replication_throttled_replicas="*")
    caplog.clear()
    grown = CreatePartitionsRequest.CreatePartitionsTopic(name="t", count=2, assignments=None)
    await broker.ask(CreatePartitionsRequest(topics=[grown], timeout_ms=60_000), 3)
    await alter(broker, "t", "segment.bytes", "1048576")
    assert warnings(caplog) == []
    await alter(broker, "t", "leader.replication.throttled.replicas", "*")
    assert warnings(caplog) == [f"topic t: leader.replication.throttled.replicas {IGNORED}"]


async def test_internal_topics_are_nobodys_wish(broker: Any, caplog: pytest.LogCaptureFixture) -> None:
    await broker.cluster.auto_create(["__consumer_offsets", "__transaction_state"])
    assert warnings(caplog) == []
