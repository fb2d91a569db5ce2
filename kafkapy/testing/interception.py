"""Stands between a broker's network and its handlers, and has requests go wrong as the rules say."""

from collections.abc import Coroutine, Sequence
from math import inf
from typing import Any

import trio

from kafkapy.clock import Clock
from kafkapy.delayed import Delayed
from kafkapy.errors import CloseConnection, KafkaError
from kafkapy.handlers.context import Session
from kafkapy.handlers.registry import Answer, Registry
from kafkapy.protocol.header import (
    RequestHeader,
    decode_request_header,
    decode_response_header,
    encode_request_header,
    encode_response_header,
)
from kafkapy.protocol.messages import request_class, response_class
from kafkapy.protocol.primitives import ProtocolError
from kafkapy.testing.activity import Activity
from kafkapy.testing.faults import Faults, Rule, When
from kafkapy.testing.splitting import merged, split, topics_of

_LENGTH_BYTES = 4


class Interception:
    """A broker's dispatch, with faults."""

    def __init__(self, registry: Registry, faults: Faults, activity: Activity, clock: Clock) -> None:
        self._registry = registry
        self._faults = faults
        self._activity = activity
        self._clock = clock

    def dispatch(self, frame: memoryview, session: Session) -> Coroutine[Any, Any, Answer | Delayed[Answer] | None]:
        """As `Registry.dispatch`."""
        self._activity.note(frame)
        rules = self._faults.about(int.from_bytes(frame[:2]))
        work = self._meet(frame, session, rules) if rules else self._registry.dispatch(frame, session)
        return self._followed(frame, work) if self._activity.is_followed else work

    async def _followed(
        self, frame: memoryview, work: Coroutine[Any, Any, Answer | Delayed[Answer] | None]
    ) -> Answer | Delayed[Answer] | None:
        header, began = decode_request_header(frame), self._clock.monotonic()
        at_ms, topics = self._clock.now_ms(), self._topics(header, frame)

        def told(answer: Any) -> Any:
            self._activity.tell(at_ms, header, topics, answer, (self._clock.monotonic() - began) * 1000)
            return answer

        try:
            answer = await work
        except CloseConnection as end:
            told(end)
            raise
        return answer.then(told) if isinstance(answer, Delayed) else told(answer)

    def _topics(self, header: RequestHeader, frame: memoryview) -> list[str]:
        """The names of the topics that a request is about."""
        try:
            request, _ = request_class(header.api_key).decode(header.api_version, frame, header.body_offset)
        except (KeyError, ProtocolError):  # which is answered as such
            return []
        names: dict[str, None] = {}
        for topic in topics_of(request):
            known = self._registry.rooms.cluster.image.topic_by_id(topic) if isinstance(topic, bytes) else None
            names[known.name if known is not None else str(topic)] = None
        return [*names]

    async def _meet(
        self, frame: memoryview, session: Session, rules: Sequence[Rule]
    ) -> Answer | Delayed[Answer] | None:
        header = decode_request_header(frame)
        for rule in rules:
            if rule.takes(header.api_version, header.client_id):
                request, _ = request_class(header.api_key).decode(header.api_version, frame, header.body_offset)
                parts = self._parts(rule, request)
                if parts is not None and rule.strikes():
                    if rule.only_counts:
                        break
                    return await self._act(rule, header, frame, session, *parts)
        return await self._registry.dispatch(frame, session)

    def _parts(self, rule: Rule, request: Any) -> tuple[Any, Any] | None:
        """What of the request the rule lets be, and what it is about; None where that is nothing."""
        if rule.group is not None and not _names_group(request, rule.group):
            return None
        return (None, request) if rule.topic is None else self._split(rule, request)

    def _split(self, rule: Rule, message: Any) -> tuple[Any, Any] | None:
        assert rule.topic is not None
        topic = self._registry.rooms.cluster.image.topic(rule.topic)
        return split(message, rule.topic, None if topic is None else topic.topic_id, rule.partition)

    async def _act(
        self, rule: Rule, header: RequestHeader, frame: memoryview, session: Session, rest: Any, part: Any
    ) -> Answer | Delayed[Answer] | None:
        served: Answer | None = None
        if rule.when is When.AFTER:
            served = await self._served(frame, session)
        if rule.delay:
            await self._clock.sleep(rule.delay)
        if rule.hold:
            await rule.held()
        if rule.close:
            raise CloseConnection("a fault of the test's")
        if rule.drop:
            return Delayed(inf)  # which goes with its connection
        if rule.error is None:
            if rule.when is When.BEFORE:
                served = await self._served(frame, session)
            return self._throttled(rule, header, served, session) if rule.throttle_ms and served else served
        refused = self._registry.refusal(_frame_of(header, part), KafkaError(rule.error), session)
        if rest is None:
            return refused
        if rule.when is When.BEFORE:
            served = await self._served(_frame_of(header, rest), session)
        if served is None:
            return None
        response = _decoded(header, served)
        if rule.when is When.AFTER and (parts := self._split(rule, response)) is not None:
            response = parts[0] or response
        return _framed(header, merged(response, _decoded(header, refused)))

    async def _served(self, frame: memoryview, session: Session) -> Answer | None:
        """The answer, once it is there."""
        answer = await self._registry.dispatch(frame, session)
        return await _settled(answer, self._clock) if isinstance(answer, Delayed) else answer

    def _throttled(self, rule: Rule, header: RequestHeader, served: Answer, session: Session) -> Answer:
        """The answer goes at once, and nothing more is heard of the client for that time, as in Kafka (KIP-219)."""
        response = _decoded(header, served)
        response.throttle_time_ms = rule.throttle_ms
        session.mute(self._clock.monotonic() + rule.throttle_ms / 1000)
        return _framed(header, response)


async def _settled(delayed: Delayed[Answer], clock: Clock) -> Answer:
    """Wait for a delayed answer, as a connection does."""
    moved = trio.Event()

    def wake() -> None:
        moved.set()

    try:
        delayed.begin(wake)
        while (answer := await delayed.attempt()) is None:
            with clock.until(delayed.deadline):
                await moved.wait()
            moved = trio.Event()
        return answer
    finally:
        delayed.close()


def _names_group(request: Any, group: str) -> bool:
    for name in ("group_id", "key", "groups", "group_ids", "groups_names", "coordinator_keys"):
        value = getattr(request, name, None)
        named = value if isinstance(value, list) else [value]
        if any(group in (one, getattr(one, "group_id", None)) for one in named):
            return True
    return False


def _frame_of(header: RequestHeader, request: Any) -> memoryview:
    out = bytearray()
    encode_request_header(header.api_key, header.api_version, header.correlation_id, header.client_id, out)
    return memoryview(b"".join(request.encode(header.api_version, out)))


def _decoded(header: RequestHeader, answer: Answer) -> Any:
    frame = b"".join(piece if isinstance(piece, bytes | bytearray | memoryview) else _read(piece) for piece in answer)
    _, offset = decode_response_header(header.api_key, header.api_version, frame[_LENGTH_BYTES:])
    return response_class(header.api_key).decode(header.api_version, frame, offset + _LENGTH_BYTES)[0]


def _read(region: Any) -> bytes:
    """The bytes of a region, which is not to be sent any more."""
    data: bytes = region.read(len(region))
    region.advance(len(data))
    return data


def _framed(header: RequestHeader, response: Any) -> Answer:
    out = bytearray(_LENGTH_BYTES)
    encode_response_header(header.api_key, header.api_version, header.correlation_id, out)
    frame = bytearray(b"".join(response.encode(header.api_version, out)))
    frame[:_LENGTH_BYTES] = (len(frame) - _LENGTH_BYTES).to_bytes(_LENGTH_BYTES)
    return [frame]
