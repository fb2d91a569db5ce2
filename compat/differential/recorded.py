"""What Apache Kafka answered to every case, as recorded by `run --record`."""

import gzip
import json
from pathlib import Path
from typing import Any

from brokers import KAFKA_VERSION

PATH = Path(__file__).resolve().parent / f"apache-kafka-{KAFKA_VERSION}.json.gz"


def save(traces: dict[str, list[Any]]) -> None:
    """Write the record; the same answers give the same bytes."""
    PATH.write_bytes(gzip.compress(json.dumps(traces, sort_keys=True).encode(), mtime=0))


def load() -> dict[str, list[Any]]:
    """The record, by `API vN: what the case is about`."""
    traces: dict[str, list[Any]] = json.loads(gzip.decompress(PATH.read_bytes()))
    return traces
