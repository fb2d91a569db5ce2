"""A broker with a topic, a clock that the test moves, and members of share groups."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from kafkapy.clock import ManualClock
from kafkapy.protocol.messages.metadata import MetadataRequest
from tests.broker.conftest import StartBroker, start_broker  # noqa: F401
from tests.broker.wire import Wire
from tests.scale.asking import make_topic
from tests.sharing.members import Line, Member, Topic

MakeMember = Callable[..., Awaitable[Member]]

SETTINGS = {
    "kafkapy.auto.create.wait": "true",
    "share.coordinator.state.topic.num.partitions": "2",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def broker(start_broker: StartBroker, clock: ManualClock) -> AsyncIterator[Any]:  # noqa: F811
    async with start_broker(memory=True, settings=SETTINGS, clock=clock) as broker:
        yield broker


async def open_topic(wire: Wire, name: str = "t", partitions: int = 2) -> Topic:
    """A new topic."""
    await make_topic(wire, name, partitions)
    request = MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name=name)])
    [found] = (await wire.ask(request, 12)).topics
    return Topic(wire, name, found.topic_id)


@pytest.fixture
async def topic(broker: Any) -> AsyncIterator[Topic]:
    """Topic "t" of two partitions, where group "g" begins at offset 0."""
    async with await Wire.connect(broker.port) as wire:
        topic = await open_topic(wire)
        for partition in range(2):
            await topic.initialize("g", partition=partition)
        yield topic


@pytest.fixture
async def make_member(broker: Any, topic: Topic) -> AsyncIterator[MakeMember]:
    """Connects members, who have opened a session over partition 0."""
    async with AsyncExitStack() as stack:

        async def make(member_id: str = "m", *, opens: bool = True, **options: Any) -> Member:
            wire = await stack.enter_async_context(await Line.connect(broker.port))
            member = Member(wire, topic, member_id, **options)
            if opens:
                await member.fetch(None, [0], max_records=0)
            return member

        yield make
