"""The brokers of one process, which come and go while the others serve: started, stopped, killed, added.

Run by `broker.py`, inside of the store and the core of the cluster. The controller is told of whoever comes and goes,
in the order in which a cluster hears of it: who stops hands over before it ends, who is killed is missed afterwards.
What the process as a whole does is told to nobody: it starts again as it was.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import trio

from kafkapy.cluster.image import ClusterImage
from kafkapy.config.layers import BrokerConfig
from kafkapy.config.several import config_of, with_ports
from kafkapy.node import House, Node


class Fleet:
    """All brokers of a process; `nodes` are those that run, by node id."""

    def __init__(self, config: BrokerConfig, count: int, racks: Sequence[str], advertise_host: str | None) -> None:
        """So many brokers with these settings, which stand in these racks in turn.

        `advertise_host` is what clients are told, whatever the settings say. Raises ConfigError.
        """
        self._config = config
        self._racks = racks
        self._advertise_host = advertise_host
        self._configs: dict[int, BrokerConfig] = {}
        self.nodes: dict[int, Node] = {}
        for _ in range(count):
            self._make(self._next_config(None))
        self._house: House
        self._nursery: trio.Nursery

    @property
    def image(self) -> ClusterImage:
        """The cluster that they are, as of its last change."""
        return self._house.core.image

    async def prepare(self) -> None:
        """Have all addresses, before anything else is opened. Raises ConfigError, CannotListen, OSError."""
        for node in self.nodes.values():
            await node.prepare()

    def close(self) -> None:
        """Give the addresses back."""
        for node in self.nodes.values():
            node.close()

    async def run(self, house: House, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until told to stop, or cancelled; `started` once all brokers are there, and accept connections."""
        self._house = house
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await house.standing.begin(self.nodes)
            for node in self.nodes.values():
                await self._enter(node)
            for node in list(self.nodes.values()):
                await nursery.start(self._live, node)
            await house.standing.settle()
            task_status.started()
            await trio.sleep_forever()

    async def stop_all(self) -> None:
        """Have all brokers end, with what is under way, and return when they have."""
        await self._house.standing.leave_all()
        nodes = list(self.nodes.values())
        for node in nodes:
            node.stop()
        for node in nodes:
            await node.ended.wait()

    async def stop(self, node_id: int) -> None:
        """Stop a broker: it hands over what it leads, answers what is under way, and ends. Raises KeyError."""
        node = self.nodes[node_id]
        await self._house.standing.leave(node_id)
        node.stop()
        await node.ended.wait()

    async def kill(self, node_id: int) -> None:
        """End a broker as a power cut would: its connections are cut, and then it is missed. Raises KeyError."""
        node = self.nodes[node_id]
        node.kill()
        await node.ended.wait()
        await self._house.standing.leave(node_id)

    async def start(self, node_id: int) -> None:
        """Start a broker that was stopped or killed, at the ports that it had. Raises KeyError, CannotListen."""
        config = self._configs[node_id]
        if node_id not in self.nodes:
            await self._begin(self._make(config))

    async def add(self, rack: str | None = None) -> int:
        """Start one more, in that rack or the one that is its turn, and return its node id. Raises CannotListen."""
        node = self._make(self._next_config(rack))
        await self._begin(node)
        return node.node_id

    def _next_config(self, rack: str | None) -> BrokerConfig:
        number = len(self._configs)
        if rack is None and self._racks:
            rack = self._racks[number % len(self._racks)]
        return config_of(self._config, number, rack)

    def _make(self, config: BrokerConfig) -> Node:
        node = Node(config, self._advertise_host)
        self._configs[node.node_id] = config
        self.nodes[node.node_id] = node
        return node

    async def _begin(self, node: Node) -> None:
        with ExitStack() as undo:
            undo.callback(self.nodes.pop, node.node_id, None)
            undo.callback(node.close)
            await node.prepare()
            await self._nursery.start(self._live, node)
            undo.pop_all()
        await self._enter(node)

    async def _enter(self, node: Node) -> None:
        """Let the cluster know that the broker is there."""
        self._configs[node.node_id] = with_ports(self._configs[node.node_id], node.ports)
        house = self._house
        await house.standing.enter(node.as_reached() if house.between else node.as_told)

    async def _live(self, node: Node, task_status: trio.TaskStatus[None]) -> None:
        try:
            await node.run(self._house, task_status)
        finally:
            node.close()
            self._house.standing.withdraw(node.node_id)
            del self.nodes[node.node_id]
            node.ended.set()
