"""Asks a cluster of several brokers: each part of a request goes to the broker that answers it, as clients have it.

What is asked of partitions goes to their leaders, what is asked of groups to their coordinators, what is asked of one
broker to that one, and what each broker answers for itself to all; everything else to whoever is there. Leaders and
coordinators are asked for each time: brokers come and go in tests.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any, Final

from kafkapy.config.setting import ConfigResource
from kafkapy.errors import Error, KafkaError
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.testing.client import Client
from kafkapy.testing.connection import Connection, Disconnected
from kafkapy.testing.splitting import merged, split

Connect = Callable[[str, int], Connection]

_OF_LEADERS: Final = {0: "topic_data", 1: "topics", 2: "topics", 21: "topics"}
"""Produce, Fetch, ListOffsets and DeleteRecords, and where each has its topics."""
_OF_COORDINATORS: Final = {9: "groups", 15: "groups", 42: "groups_names", 69: "group_ids"}
"""OffsetFetch, DescribeGroups, DeleteGroups and ConsumerGroupDescribe, and where each has its groups."""
_OF_GROUPS: Final = (8, 9, 11, 12, 13, 14, 47, 68)
"""What is asked of one group, or may be."""
_OF_RESOURCES: Final = (32, 33, 44)
"""DescribeConfigs, AlterConfigs and IncrementalAlterConfigs."""
_OF_ALL: Final = (16,)
"""ListGroups."""
_TRIES: Final = 100
_PAUSE_SECONDS: Final = 0.05


class ClusterClient(Client):
    """A `Client` of all brokers of a cluster. `addresses` tells where there are some."""

    def __init__(self, connect: Connect, addresses: Callable[[], Iterable[tuple[str, int]]]) -> None:
        self._connect = connect
        self._addresses = addresses
        self._clients: dict[tuple[str, int], Client] = {}

    async def ask(self, request: Any, *, most: int | None = None) -> Any:
        """The answer, put together of those to the parts of the request."""
        parts = [part async for part in self._parts(request)]
        answers = [await client.ask(part, most=most) for client, part in parts]
        return reduce(merged, answers)

    async def serves(self, key: int) -> bool:
        return await (await self._any()).serves(key)

    def monotonic(self) -> float:
        return self._first().monotonic()

    async def pause(self, seconds: float) -> None:
        await self._first().pause(seconds)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    # -- who answers what

    async def _parts(self, request: Any) -> Any:
        key = request.API_KEY
        if key in _OF_LEADERS:
            async for part in self._by_leader(request, _OF_LEADERS[key]):
                yield part
        elif key in _OF_COORDINATORS and (groups := getattr(request, _OF_COORDINATORS[key])):
            for group in groups:
                part = _with(request, _OF_COORDINATORS[key], [group])
                yield await self._coordinator(getattr(group, "group_id", group)), part
        elif key in _OF_GROUPS:
            yield await self._coordinator(request.group_id), request
        elif key in _OF_RESOURCES:
            for client, resources in (await self._by_resource(request.resources)).items():
                yield client, _with(request, "resources", resources)
        elif key in _OF_ALL:
            for client in (await self._brokers()).values():
                yield client, request
        else:
            yield await self._any(), request

    async def _by_leader(self, request: Any, attribute: str) -> Any:
        leaders = await self._leaders([_name(topic) for topic in getattr(request, attribute)])
        brokers = await self._brokers()
        left: Any = request
        of_broker: dict[int, Any] = {}
        for (topic, index), leader in leaders.items():
            if left is None or leader not in brokers:
                continue
            parts = split(left, topic, None, index)
            if parts is not None:
                left, part = parts
                of_broker[leader] = merged(of_broker[leader], part) if leader in of_broker else part
        for leader, part in of_broker.items():
            yield brokers[leader], part
        if left is not None:  # what nobody leads, and what is not there: anybody says so
            yield next(iter(brokers.values())), left

    async def _by_resource(self, resources: Iterable[Any]) -> dict[Client, list[Any]]:
        brokers, anybody = await self._brokers(), await self._any()
        found: dict[Client, list[Any]] = {}
        for resource in resources:
            of_broker = resource.resource_type == ConfigResource.BROKER and resource.resource_name
            client = brokers.get(int(resource.resource_name), anybody) if of_broker else anybody
            found.setdefault(client, []).append(resource)
        return found or {anybody: []}

    async def _leaders(self, names: list[str]) -> dict[tuple[str, int], int]:
        topics = [MetadataRequest.MetadataRequestTopic(name=name) for name in dict.fromkeys(names)]
        answer = await (await self._any()).ask(MetadataRequest(topics=topics, allow_auto_topic_creation=False))
        return {
            (topic.name, partition.partition_index): partition.leader_id
            for topic in answer.topics
            for partition in topic.partitions
        }

    async def _coordinator(self, group_id: str) -> Client:
        for _ in range(_TRIES):
            request = FindCoordinatorRequest(key_type=0, coordinator_keys=[group_id])
            [found] = (await (await self._any()).ask(request)).coordinators
            if not found.error_code:
                return self._at(found.host, found.port)
            await self.pause(_PAUSE_SECONDS)
        raise KafkaError(Error.of(found.error_code), f"nobody coordinates the group {group_id}")

    async def _brokers(self) -> dict[int, Client]:
        answer = await (await self._any()).ask(MetadataRequest(topics=[]))
        return {broker.node_id: self._at(broker.host, broker.port) for broker in answer.brokers}

    async def _any(self) -> Client:
        """One that answers. Raises Disconnected when none does."""
        for client in self._known():
            try:
                await client.serves(0)
            except Disconnected:
                continue
            return client
        raise Disconnected("none of the brokers is there")

    def _known(self) -> Iterator[Client]:
        for host, port in self._addresses():
            yield self._at(host, port)

    def _first(self) -> Client:
        return next(self._known())

    def _at(self, host: str, port: int) -> Client:
        address = host, port
        if address not in self._clients:
            self._clients[address] = Client(self._connect(host, port))
        return self._clients[address]


def _name(topic: Any) -> str:
    name: str = topic.topic if hasattr(topic, "topic") else topic.name
    return name


def _with(request: Any, attribute: str, value: list[Any]) -> Any:
    names = [name for name in request.__slots__ if name != attribute]
    return type(request)(**{name: getattr(request, name) for name in names}, **{attribute: value})
