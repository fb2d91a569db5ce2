"""Tells a broker's metrics over HTTP, on a port of its own: counted ones as they are, others by asking the rooms.

`GET /metrics`, as Prometheus asks it. On the broker's own loop; nothing runs between two questions. A question that is
not through within its time is dropped, and of too many at once all but some.
"""

import logging
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.config.setting import ConfigError
from kafkapy.console.prometheus import CONTENT_TYPE, written
from kafkapy.errors import KafkaError
from kafkapy.groups.commands import ListGroups
from kafkapy.handlers.context import Rooms
from kafkapy.metrics import (
    CONNECTIONS,
    GROUPS,
    LOG_SIZE,
    PARTITIONS,
    SESSIONS,
    TOPICS,
    TRANSACTIONS,
    Gauge,
    Labels,
    RequestMetrics,
)
from kafkapy.transactions.commands import ListTransactions

_log = logging.getLogger(__name__)

_SECONDS: Final = 10.0
_MOST_AT_ONCE: Final = 8
_MOST_HEADER_BYTES: Final = 8192
_MOST_TOPICS: Final = 2000
"""Whose logs' sizes are told one by one; of further ones together."""


class MetricsEndpoint:
    """Answers whoever asks for the metrics. `connections` tells how many connections clients have."""

    def __init__(self, rooms: Rooms, counted: RequestMetrics, connections: Callable[[], int], clock: Clock) -> None:
        self._rooms = rooms
        self._counted = counted
        self._connections = connections
        self._clock = clock
        self._asking = 0

    async def serve(self, host: str, port: int, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled; started with the port, once that is open. Raises ConfigError when it is taken."""
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as failure:
            raise ConfigError(f"metrics cannot be told at {host}:{port}: {failure}") from failure
        bound: int = listeners[0].socket.getsockname()[1]
        _log.info("metrics at http://%s:%d/metrics", host, bound)
        task_status.started(bound)
        await trio.serve_listeners(self._answer, listeners)

    async def _answer(self, stream: trio.SocketStream) -> None:
        async with stream:
            if self._asking >= _MOST_AT_ONCE:
                return
            self._asking += 1
            try:
                with self._clock.until(self._clock.monotonic() + _SECONDS):
                    await self._answer_once(stream)
            except trio.BrokenResourceError:
                _log.debug("lost whoever asked for metrics")
            finally:
                self._asking -= 1

    async def _answer_once(self, stream: trio.SocketStream) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            chunk = await stream.receive_some(_MOST_HEADER_BYTES)
            asked += chunk
            if not chunk or len(asked) > _MOST_HEADER_BYTES:
                return
        method, _, rest = asked.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            await stream.send_all(_response("405 Method Not Allowed", "text/plain", b"", b""))
        elif path != b"/metrics":
            await stream.send_all(_response("404 Not Found", "text/plain", b"there is /metrics\n", method))
        else:
            text = written([*self._counted.counters, self._counted.total_time, *await self._gauges()])
            await stream.send_all(_response("200 OK", CONTENT_TYPE, text, method))

    async def _gauges(self) -> Sequence[Gauge]:
        rooms = self._rooms
        topics = rooms.cluster.image.topics
        gauges = [
            Gauge(CONNECTIONS, {(): self._connections()}),
            Gauge(TOPICS, {(): len(topics)}),
            Gauge(PARTITIONS, {(): sum(len(topic.partitions) for topic in topics.values())}),
            Gauge(SESSIONS, {(): len(rooms.fetch_sessions)}),
            Gauge(LOG_SIZE, self._sizes()),
            rooms.telemetry.gauge(),
        ]
        try:
            groups = await rooms.groups.list_groups(ListGroups(frozenset(), frozenset()))
            transactions = await rooms.transactions.list_transactions(ListTransactions(frozenset(), None, -1))
        except KafkaError as refusal:
            _log.debug("no metrics of groups and transactions now: %s", refusal)
            return gauges
        by_state: Tally[Labels] = Tally((group.group_type, group.state) for group in groups)
        of_transactions: Tally[Labels] = Tally((transaction.state.label,) for _, transaction in transactions)
        return [*gauges, Gauge(GROUPS, by_state), Gauge(TRANSACTIONS, of_transactions)]

    def _sizes(self) -> dict[Labels, float]:
        sizes: Tally[Labels] = Tally()
        for log_dir in self._rooms.logs.log_dirs():
            for replica in log_dir.replicas:
                topic = (replica[0].topic,)
                sizes[topic if topic in sizes or len(sizes) < _MOST_TOPICS else ("other",)] += replica[1]
        return dict(sizes)


def _response(status: str, content_type: str, body: bytes, method: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "\r\n",
    )
    return "\r\n".join(head).encode("ascii") + (b"" if method == b"HEAD" else body)
