"""Sees to one request from before its handler runs until its answer is bytes: quotas, and what is counted.

As in Kafka (KIP-219) the answer goes out first and tells for how long, and then nothing more is read of that client
until then. A Fetch that is over its limit is answered with nothing, whatever was found, and that does not count. The
share of time (KIP-124) is what a request's own steps took on the event loop, without what it waited for; where Kafka
adds what its network threads need, it is left out here. Markers of transactions are exempt, and so is the time of a
Produce without an answer.

The registry makes an `Observed` for each request of a client while there are limits, or metrics are told, and none
otherwise.
"""

import types
from collections.abc import Coroutine, Generator
from typing import Any, Final, TypeVar

from kafkapy.errors import Error
from kafkapy.handlers.context import Context
from kafkapy.metrics import RequestMetrics
from kafkapy.protocol.messages import APIS
from kafkapy.protocol.primitives import Kept, Struct
from kafkapy.quotas.mutations import Spending
from kafkapy.quotas.service import Quotas

T = TypeVar("T")

_PRODUCE: Final = 0
_FETCH: Final = 1
_EXEMPT: Final = frozenset({27, 58})
"""WriteTxnMarkers, and Envelope, where what it holds is counted."""

_PERCENT: Final = 100.0


class Observed:
    """One request. `size` is that of all its bytes."""

    __slots__ = (
        "_began",
        "_came",
        "_clock",
        "_ctx",
        "_metrics",
        "_quotas",
        "_request",
        "_request_ms",
        "_size",
        "_spending",
        "_spent",
    )

    def __init__(self, quotas: Quotas, metrics: RequestMetrics | None, ctx: Context, request: Any, size: int) -> None:
        self._quotas = quotas
        self._metrics = metrics
        self._request = request
        self._ctx = ctx
        self._size = size
        self._clock = ctx.rooms.clock
        self._spent = 0.0
        self._began = self._came = self._clock.monotonic()
        self._spending: Spending | None = None
        self._request_ms: int | None = None  # for how long it is held back, as far as that is known

    @types.coroutine
    def run(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Await it, and count the time of its steps, where a share of time may be limited."""
        if not self._quotas.limits_clients:
            untimed: T = yield from work
            return untimed
        monotonic = self._clock.monotonic
        self._began = monotonic()
        try:
            trap = work.send(None)
            while True:
                self._spent += monotonic() - self._began
                try:
                    sent = yield trap
                except BaseException as thrown:  # noqa: BLE001  the work's own, a cancellation for one
                    self._began = monotonic()
                    trap = work.throw(thrown)
                else:
                    self._began = monotonic()
                    trap = work.send(sent)
        except StopIteration as done:
            self._spent += monotonic() - self._began
            result: T = done.value
            return result

    # -- asked by handlers

    def most_bytes(self) -> float:
        """A Fetch that finds more is over its limit, even if its client fetched nothing before."""
        return self._quotas.fetch.most_at_once(*self._client, self._quotas.now_ms())

    def hold_fetch(self, size: int) -> int:
        """For how many milliseconds a client that fetches this is held back; if at all, it gets nothing."""
        fetch, now_ms = self._quotas.fetch, self._quotas.now_ms()
        request_ms = self._record_time(now_ms)
        self._request_ms = max(fetch.record(*self._client, size, now_ms), request_ms)
        if self._request_ms:
            fetch.take_back(*self._client, size, now_ms)
        return self._request_ms

    def held_back_elsewhere(self, throttle_ms: int) -> None:
        """The controller has counted it, and holds the client back for so many milliseconds: here that is all."""
        self._request_ms = throttle_ms

    def spending(self, *, strict: bool) -> Spending:
        """Counts the partitions that are created and deleted."""
        self._spending = self._quotas.mutation.of_request(*self._client, self._quotas.now_ms, strict=strict)
        return self._spending

    # -- asked when that is done

    def settle(self, response: Any) -> None:
        """Hold the client back if it is over a limit, and have the response say so; None: it gets no response."""
        if not self._quotas.limits_clients:
            return
        now_ms = self._quotas.now_ms()
        throttle_ms = self._request_ms
        if throttle_ms is None:
            throttle_ms = 0 if response is None else self._record_time(now_ms)
        if self._ctx.api_key == _PRODUCE:
            throttle_ms = max(throttle_ms, self._quotas.produce.record(*self._client, self._size, now_ms))
        if self._spending is not None:
            throttle_ms = max(throttle_ms, self._spending.throttle_ms)
        if throttle_ms:
            if hasattr(response, "throttle_time_ms"):
                response.throttle_time_ms = throttle_ms
            self._ctx.session.mute(self._clock.monotonic() + throttle_ms / 1000)
            if self._metrics is not None:
                self._metrics.throttle_time.add((APIS[self._ctx.api_key].name,), throttle_ms)

    def count(self, response: Any, size: int) -> None:
        """Count it in, if somebody wants to know; `size` is that of its answer, 0 when it gets none."""
        metrics = self._metrics
        if metrics is None:
            return
        key, version = self._ctx.api_key, self._ctx.api_version
        api = (APIS[key].name,)
        metrics.requests.add((*api, str(version)))
        metrics.request_bytes.add(api, self._size)
        metrics.response_bytes.add(api, size)
        metrics.total_time.observe(api, (self._clock.monotonic() - self._came) * 1000)
        codes: list[int] = []
        if response is None:
            codes.append(0)
        else:
            find_error_codes(response, codes)
        for code in set(codes):
            metrics.errors.add((*api, Error.of(code).name), codes.count(code))
        if key == _PRODUCE:
            for topic in self._request.topic_data:
                metrics.bytes_in.add(
                    (self._name(topic.name, topic.topic_id),),
                    sum(len(partition.records or b"") for partition in topic.partition_data),
                )
        elif key == _FETCH:
            for topic in response.responses:
                metrics.bytes_out.add(
                    (self._name(topic.topic, topic.topic_id),),
                    sum(len(partition.records or b"") for partition in topic.partitions),
                )

    def _name(self, name: str, topic_id: bytes) -> str:
        known = None if name else self._ctx.rooms.cluster.image.topic_by_id(topic_id)
        return name if known is None else known.name

    @property
    def _client(self) -> tuple[str, str | None]:
        return self._ctx.session.principal.name, self._ctx.client_id

    def _record_time(self, now_ms: int) -> int:
        if self._ctx.api_key in _EXEMPT:
            return 0
        spent = self._spent + self._clock.monotonic() - self._began
        return self._quotas.request.record(*self._client, spent * _PERCENT, now_ms)


def find_error_codes(message: Struct, codes: list[int]) -> None:
    """Add each error code in a response, as Kafka counts them."""
    for name in message.__slots__:
        value = getattr(message, name)
        if name == "error_code":
            codes.append(value)
        elif type(value) is list:
            codes += _error_codes(value)
        elif type(value) is Kept:
            codes += value.once(_error_codes)


def _error_codes(items: list[Any]) -> list[int]:
    codes: list[int] = []
    if items and isinstance(items[0], Struct):
        for item in items:
            find_error_codes(item, codes)
    return codes
