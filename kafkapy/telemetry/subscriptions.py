"""Which metrics clients are asked for, and when a client may ask again or push (KIP-714): a function of what came.

Pure: the time, the settings and new ids come as arguments. A subscription is the client-metrics settings of one name; a
client gets all that match it together, under an id that changes with them. As Kafka does, a client that has nothing to
push for longer than three intervals, and than a minute, is forgotten; more than so many are not remembered.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from kafkapy.errors import Error, KafkaError
from kafkapy.model import format_uuid
from kafkapy.records.batch import checksum

_DEFAULT_INTERVAL_MS: Final = 300_000
_DEFAULTS: Final = {"interval.ms": str(_DEFAULT_INTERVAL_MS), "match": "", "metrics": ""}
ALL_METRICS: Final = "*"
_MOST_CLIENTS: Final = 16_384
_KEPT_MS: Final = 60_000
_INTERVALS_KEPT: Final = 3
_ASK_AGAIN_AFTER: Final = (Error.UNKNOWN_SUBSCRIPTION_ID, Error.UNSUPPORTED_COMPRESSION_TYPE)

Settings = Mapping[str, Mapping[str, str]]
"""The settings of each subscription, by its name."""


class Subscription(NamedTuple):
    """What one client is asked for."""

    subscription_id: int
    metrics: tuple[str, ...]
    interval_ms: int


class _Client:
    """A client instance, and what it did of late."""

    __slots__ = ("asked_ms", "last_error", "last_ms", "pushed_ms", "subscription", "terminating", "version")

    def __init__(self, subscription: Subscription, version: Settings) -> None:
        self.subscription = subscription
        self.version = version
        self.asked_ms = self.pushed_ms = self.last_ms = 0
        self.terminating = False
        self.last_error = Error.NONE


class Subscriptions:
    """All clients that ask for subscriptions or push at this broker. `forget` is told of each that is no more."""

    def __init__(self, forget: Callable[[bytes], None]) -> None:
        self._forget = forget
        self._clients: OrderedDict[bytes, _Client] = OrderedDict()  # the one that was heard last, last

    def __len__(self) -> int:
        return len(self._clients)

    def ask(
        self, instance: bytes, attributes: Mapping[str, str | None], settings: Settings, now_ms: int
    ) -> Subscription:
        """What the client is asked for. Raises THROTTLING_QUOTA_EXCEEDED when it asks too soon."""
        client = self._client(instance, attributes, settings, now_ms)
        if now_ms - max(client.asked_ms, client.pushed_ms) >= client.subscription.interval_ms:
            client.asked_ms = now_ms
        elif client.last_error not in _ASK_AGAIN_AFTER:
            raise KafkaError(Error.THROTTLING_QUOTA_EXCEEDED)
        client.last_error = Error.NONE
        return client.subscription

    def push(
        self,
        instance: bytes,
        attributes: Mapping[str, str | None],
        settings: Settings,
        now_ms: int,
        *,
        subscription_id: int,
        terminating: bool,
        problem: KafkaError | None,
    ) -> None:
        """Take note of a push; `problem` is what is wrong with what it carries. Raises the error that refuses it."""
        client = self._client(instance, attributes, settings, now_ms)
        try:
            self._check(client, subscription_id, now_ms, terminating=terminating)
            if problem is not None:
                raise problem
        except KafkaError as refusal:
            client.last_error = refusal.error
            raise
        finally:
            client.terminating = terminating
        client.last_error = Error.NONE

    def spoil(self, instance: bytes) -> None:
        """What the client pushed cannot be read."""
        if instance in self._clients:
            self._clients[instance].last_error = Error.INVALID_RECORD

    def _check(self, client: _Client, subscription_id: int, now_ms: int, *, terminating: bool) -> None:
        if client.terminating:
            raise KafkaError(Error.INVALID_REQUEST)
        # Right after it asked it may push: clients spread their first push over the interval.
        if client.asked_ms > client.pushed_ms or now_ms - client.pushed_ms >= client.subscription.interval_ms:
            client.pushed_ms = now_ms
        elif not terminating:
            raise KafkaError(Error.THROTTLING_QUOTA_EXCEEDED)
        if subscription_id != client.subscription.subscription_id:
            raise KafkaError(Error.UNKNOWN_SUBSCRIPTION_ID)

    def _client(
        self, instance: bytes, attributes: Mapping[str, str | None], settings: Settings, now_ms: int
    ) -> _Client:
        self._expire(now_ms)
        client = self._clients.get(instance)
        if client is None or client.version != settings:
            client = _Client(_subscription(instance, attributes, settings), settings)
            self._clients[instance] = client
        client.last_ms = now_ms
        self._clients.move_to_end(instance)
        if len(self._clients) > _MOST_CLIENTS:
            oldest, _ = self._clients.popitem(last=False)
            self._forget(oldest)
        return client

    def _expire(self, now_ms: int) -> None:
        while self._clients:
            instance, client = next(iter(self._clients.items()))
            if now_ms - client.last_ms < max(_KEPT_MS, client.subscription.interval_ms * _INTERVALS_KEPT):
                return
            del self._clients[instance]
            self._forget(instance)


def _subscription(instance: bytes, attributes: Mapping[str, str | None], settings: Settings) -> Subscription:
    """All that match the client together: what any of them wants, as often as the most eager of them."""
    metrics: dict[str, None] = {}
    interval_ms = _DEFAULT_INTERVAL_MS
    for own in settings.values():
        values = {**_DEFAULTS, **own}
        if _matches(values["match"], attributes):
            metrics.update(dict.fromkeys(filter(None, (name.strip() for name in values["metrics"].split(",")))))
            interval_ms = min(interval_ms, int(values["interval.ms"]))
    names = (ALL_METRICS,) if ALL_METRICS in metrics else tuple(sorted(metrics))
    digest = checksum(f"{names}{interval_ms}".encode() + instance)
    return Subscription(digest - (1 << 32) if digest >= 1 << 31 else digest, names, interval_ms)


def _matches(text: str, attributes: Mapping[str, str | None]) -> bool:
    """Whether the client is one of those that `name=pattern, …` is for; empty, it is for all."""
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        name, _, pattern = entry.partition("=")
        value = attributes.get(name.strip())
        if value is None or not re.fullmatch(pattern.strip(), value):
            return False
    return True


def instance_attributes(
    instance: bytes, client_id: str | None, software: tuple[str, str], address: tuple[str, int]
) -> dict[str, str | None]:
    """What a subscription may choose a client by."""
    return {
        "client_instance_id": format_uuid(instance),
        "client_id": client_id,
        "client_software_name": software[0],
        "client_software_version": software[1],
        "client_source_address": address[0],
        "client_source_port": str(address[1]),
    }
