"""Stands between a network and what answers its requests, and has them go wrong as the rules say."""

from collections.abc import Coroutine, Sequence
from math import inf
from typing import Any, Protocol

import trio

from kafkapy.clock import Clock
from kafkapy.delayed import Delayed
from kafkapy.errors import CloseConnection, KafkaError, RefuseConnection
from kafkapy.handlers.context import Session, endpoint_of
from kafkapy.handlers.registry import Answer, Registry
from kafkapy.protocol.header import RequestHeader, decode_request_header
from kafkapy.protocol.messages import request_class
from kafkapy.protocol.primitives import ProtocolError
from kafkapy.testing.activity import Activity
from kafkapy.testing.answers import bytes_of, decoded_answer, framed_answer, request_frame
from kafkapy.testing.faults import Faults, Rule, When
from kafkapy.testing.misleading import mislead
from kafkapy.testing.splitting import merged, split, topics_of

Given = Answer | Delayed[Answer] | None


class Answering(Protocol):
    """What answers requests, and knows of what they are about: a broker, or what stands before one."""

    def dispatch(self, frame: memoryview, session: Any) -> Coroutine[Any, Any, Given]:
        """As `Registry.dispatch`."""

    def refusal(self, frame: memoryview, error: KafkaError, session: Any) -> Answer:
        """The error response of a request's API."""

    def topic_id(self, name: str) -> bytes | None:
        """The id of a topic, if that is known."""

    def topic_name(self, topic_id: bytes) -> str | None:
        """The name of a topic, if that is known."""

    def address_of(self, node_id: int, session: Any) -> tuple[str, int] | None:
        """Where this client is told that a broker is, if there is such a broker."""


class OfBroker:
    """A broker's registry as what answers."""

    def __init__(self, registry: Registry) -> None:
        self._rooms = registry.rooms
        self.dispatch = registry.dispatch
        self.refusal = registry.refusal

    def topic_id(self, name: str) -> bytes | None:
        topic = self._rooms.cluster.image.topic(name)
        return None if topic is None else topic.topic_id

    def topic_name(self, topic_id: bytes) -> str | None:
        topic = self._rooms.cluster.image.topic_by_id(topic_id)
        return None if topic is None else topic.name

    def address_of(self, node_id: int, session: Session) -> tuple[str, int] | None:
        broker = self._rooms.cluster.leadership.broker(node_id)
        endpoint = None if broker is None else endpoint_of(broker, session)
        return None if endpoint is None else (endpoint.host, endpoint.port)


class Interception:
    """A dispatch, with faults."""

    def __init__(self, answering: Answering, faults: Faults, activity: Activity, clock: Clock) -> None:
        self._answering = answering
        self._faults = faults
        self._activity = activity
        self._clock = clock

    def dispatch(self, frame: memoryview, session: Session) -> Coroutine[Any, Any, Given]:
        """As `Registry.dispatch`."""
        self._activity.note(frame)
        rules = self._faults.about(int.from_bytes(frame[:2]))
        work = self._meet(frame, session, rules) if rules else self._answering.dispatch(frame, session)
        return self._followed(frame, work) if self._activity.is_followed else work

    async def _followed(self, frame: memoryview, work: Coroutine[Any, Any, Given]) -> Given:
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
            known = self._answering.topic_name(topic) if isinstance(topic, bytes) else None
            names[known or str(topic)] = None
        return [*names]

    async def _meet(self, frame: memoryview, session: Session, rules: Sequence[Rule]) -> Given:
        header = decode_request_header(frame)
        cls = request_class(header.api_key)
        if not cls.MIN_VERSION <= header.api_version <= cls.MAX_VERSION:  # nobody knows what it is about
            rules = ()
        for rule in rules:
            if rule.takes(header.api_version, header.client_id):
                request, _ = cls.decode(header.api_version, frame, header.body_offset)
                parts = self._parts(rule, request)
                if parts is not None and rule.strikes():
                    if rule.only_counts:
                        break
                    return await self._act(rule, header, frame, session, *parts)
        return await self._answering.dispatch(frame, session)

    def _parts(self, rule: Rule, request: Any) -> tuple[Any, Any] | None:
        """What of the request the rule lets be, and what it is about; None where that is nothing."""
        if rule.group is not None and not _names_group(request, rule.group):
            return None
        return (None, request) if rule.topic is None else self._split(rule, request)

    def _split(self, rule: Rule, message: Any) -> tuple[Any, Any] | None:
        assert rule.topic is not None
        return split(message, rule.topic, self._answering.topic_id(rule.topic), rule.partition)

    async def _act(
        self, rule: Rule, header: RequestHeader, frame: memoryview, session: Session, rest: Any, part: Any
    ) -> Given:
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
            return served and self._spoilt(rule, header, served, session)
        refused = self._answering.refusal(request_frame(header, part), KafkaError(rule.error), session)
        if rest is None:
            return refused
        if rule.when is When.BEFORE:
            served = await self._served(request_frame(header, rest), session)
        if served is None:
            return None
        response = decoded_answer(header, served)
        if rule.when is When.AFTER and (parts := self._split(rule, response)) is not None:
            response = parts[0] or response
        return framed_answer(header, merged(response, decoded_answer(header, refused)))

    async def _served(self, frame: memoryview, session: Session) -> Answer | None:
        """The answer, once it is there."""
        answer = await self._answering.dispatch(frame, session)
        return await _settled(answer, self._clock) if isinstance(answer, Delayed) else answer

    def _spoilt(self, rule: Rule, header: RequestHeader, served: Answer, session: Session) -> Answer:
        if rule.truncate is not None:
            whole = bytes_of(served)
            raise RefuseConnection("a fault of the test's", [whole[: rule.truncate]], self._clock.monotonic())
        if rule.node is not None:
            response = decoded_answer(header, served)
            about = response if rule.topic is None else (self._split(rule, response) or [None, None])[1]
            if about is not None:
                mislead(about, rule.node, self._answering.address_of(rule.node, session))
            return framed_answer(header, response)
        return self._throttled(rule, header, served, session) if rule.throttle_ms else served

    def _throttled(self, rule: Rule, header: RequestHeader, served: Answer, session: Session) -> Answer:
        """The answer goes at once, and nothing more is heard of the client for that time, as in Kafka (KIP-219)."""
        response = decoded_answer(header, served)
        response.throttle_time_ms = rule.throttle_ms
        session.mute(self._clock.monotonic() + rule.throttle_ms / 1000)
        return framed_answer(header, response)


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
