"""What `kafkapy start --control` has: `Control` of the brokers of this process, which a test may stop and start, too.

GET  /brokers         those that run     POST /brokers        start one more: {"rack": "a"}, or nothing
POST /brokers/2/stop · kill · start      as `Broker.stop_broker`, kill_broker, start_broker
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import trio

from kafkapy.broker import Broker
from kafkapy.clock import TravelClock
from kafkapy.console.http import Question, Refusal, Reply, told_as_json
from kafkapy.handlers.registry import Registry
from kafkapy.network.connection import Dispatch
from kafkapy.network.listening import CannotListen
from kafkapy.node import descriptors_each
from kafkapy.testing.as_version import answering_of
from kafkapy.testing.control import Answers, Control, at_once, words_of
from kafkapy.testing.disk import FailingDisk
from kafkapy.testing.faults import NO_DISK
from kafkapy.testing.in_trio import TrioBroker
from kafkapy.testing.interception import Interception
from kafkapy.testing.releases import Release
from kafkapy.testing.time_travel import TimeTravel

_MOVES: Final = ("stop", "kill", "start")


class BrokerControl(Control):
    """The brokers that are controlled."""

    def __init__(self, *, has_disk: bool, release: Release | None) -> None:
        """`has_disk`: whether their data is in directories. `release`: as which Kafka they are to answer."""
        time = TimeTravel(at_once)
        self.clock: TravelClock = time.begin()
        """The brokers' clock."""
        super().__init__(time, no_disk=None if has_disk else NO_DISK)
        self.disk = FailingDisk(self.faults, descriptors_each()) if has_disk else None
        self._release = release
        self._running: Broker

    def dispatch_of(self, registry: Registry) -> Dispatch:
        """What answers a node's requests."""
        return Interception(answering_of(registry, self._release), self.faults, self.activity, self.clock).dispatch

    async def serve_broker(
        self, running: Broker, host: str, port: int, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer until cancelled; started with the port. Raises ConfigError when it is taken."""
        self._running = running

        def about() -> Mapping[str, Any]:
            return {"bootstrap_servers": running.bootstrap_servers, "cluster_id": running.cluster_id}

        await self.serve(TrioBroker(running), about, host, port, task_status=task_status)

    def paths(self, parts: list[str]) -> Mapping[str, Answers] | None:
        match parts:
            case ["brokers"]:
                return {"GET": lambda question: self._tell_brokers(), "POST": self._add}
            case ["brokers", node_id, move] if move in _MOVES:
                return {"POST": lambda question: self._move_broker(node_id, getattr(self._running.fleet, move))}
        return super().paths(parts)

    async def _tell_brokers(self) -> Reply:
        nodes = sorted(self._running.fleet.nodes.items())
        return told_as_json([{"node_id": node_id, "listeners": node.listeners} for node_id, node in nodes])

    async def _add(self, question: Question) -> Reply:
        rack = words_of(question, "rack").get("rack")
        if not isinstance(rack, str | None):
            raise ValueError('a rack is text: {"rack": "a"}')
        try:
            node_id = await self._running.fleet.add(rack)
        except CannotListen as problem:
            raise Refusal("409 Conflict", str(problem)) from None
        return told_as_json({"node_id": node_id})

    async def _move_broker(self, node_id: str, move: Callable[[int], Awaitable[None]]) -> Reply:
        try:
            await move(int(node_id) if node_id.isascii() and node_id.isdigit() and len(node_id) < 10 else -1)
        except KeyError:
            raise Refusal("404 Not Found", f"there is no broker {node_id[:20]}, or it does not run") from None
        except CannotListen as problem:
            raise Refusal("409 Conflict", str(problem)) from None
        return await self._tell_brokers()
