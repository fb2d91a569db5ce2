"""What clients tell of themselves (KIP-714): asked for by subscriptions, read, and the last of it kept, within bounds.

Clients push where somebody listens, which is where metrics are told. What a client said last is forgotten with it.
"""

import logging
from collections.abc import Iterator
from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.metrics import CLIENT_METRICS, Gauge, Labels
from kafkapy.model import format_uuid
from kafkapy.records.batch import Compression, CorruptBatch
from kafkapy.records.compression import decompress
from kafkapy.telemetry.subscriptions import Subscriptions

_log = logging.getLogger(__name__)

_MOST_BYTES: Final = 4 << 20
_MOST_CLIENTS: Final = 500
_MOST_VALUES: Final = 500
"""Clients whose values are kept, and values of each."""

_Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Telemetry:
    """Clients' own metrics. `listens`: what they push is wanted."""

    def __init__(self, *, listens: bool) -> None:
        self.listens = listens
        self.subscriptions = Subscriptions(self._forget)
        self._kept: dict[bytes, tuple[str, _Values]] = {}

    def receive(self, instance: bytes, client_id: str, codec: int, data: bytes) -> None:
        """Keep what a client pushed, if somebody listens. Raises INVALID_RECORD for what cannot be read."""
        try:
            raw = decompress(Compression(codec), data, _MOST_BYTES)
        except CorruptBatch as damage:
            raise KafkaError(Error.INVALID_RECORD, str(damage)) from damage
        if not self.listens or (instance not in self._kept and len(self._kept) >= _MOST_CLIENTS):
            return
        from kafkapy.telemetry.otlp import points  # rarely needed, and not free

        read = list(points(raw))
        if instance not in self._kept:
            self._kept[instance] = (client_id, {})
            _log.info("client %s (%s) pushes metrics, %d values at first", client_id, format_uuid(instance), len(read))
        _, values = self._kept[instance]
        for name, attributes, value, adds in read:
            key = (name, attributes)
            if key in values or len(values) < _MOST_VALUES:
                values[key] = values.get(key, 0.0) + value if adds else value

    def gauge(self) -> Gauge:
        """All that is kept."""
        return Gauge(CLIENT_METRICS, dict(self._labelled()))

    def _labelled(self) -> Iterator[tuple[Labels, float]]:
        for instance, (client_id, values) in self._kept.items():
            for (name, attributes), value in values.items():
                told = ",".join(f"{key}={text}" for key, text in attributes)
                yield (format_uuid(instance), client_id, name, told), value

    def _forget(self, instance: bytes) -> None:
        self._kept.pop(instance, None)
