"""Tells a broker's metrics over HTTP, on a port of its own: counted ones as they are, others by asking the rooms.

`GET /metrics`, as Prometheus asks it. By HTTP as `http.py` has it.
"""

import logging
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.console.http import HttpEndpoint, HttpLimits, Question, Refusal, Reply
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
_MOST_TOPICS: Final = 2000
"""Whose logs' sizes are told one by one; of further ones together."""


class MetricsEndpoint:
    """Answers whoever asks for the metrics. `connections` tells how many connections clients have."""

    def __init__(self, rooms: Rooms, counted: RequestMetrics, connections: Callable[[], int], clock: Clock) -> None:
        self._rooms = rooms
        self._counted = counted
        self._connections = connections
        self._clock = clock

    async def serve(self, host: str, port: int, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled; started with the port, once that is open. Raises ConfigError when it is taken."""
        endpoint = HttpEndpoint(self._answer, HttpLimits(_MOST_AT_ONCE, _SECONDS), self._clock, _admit)
        await endpoint.serve("metrics", host, port, task_status)

    async def _answer(self, question: Question) -> Reply:
        text = written([*self._counted.counters, self._counted.total_time, *await self._gauges()])
        return Reply(content_type=CONTENT_TYPE, body=text)

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


def _admit(question: Question) -> None:
    if question.method not in ("GET", "HEAD"):
        raise Refusal("405 Method Not Allowed", "metrics are asked for with GET")
    if question.path != "/metrics":
        raise Refusal("404 Not Found", "there is /metrics")
