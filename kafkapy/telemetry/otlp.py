"""Reads what clients push, which is OTLP: the one module that knows its library. It takes a while to import."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, MetricsData

from kafkapy.errors import Error, KafkaError


class Point(NamedTuple):
    """One value of a metric; `adds`: since the last push only."""

    name: str
    attributes: tuple[tuple[str, str], ...]
    value: float
    adds: bool


def points(data: bytes) -> Iterator[Point]:
    """All values of gauges and sums, and of histograms their sums. Raises INVALID_RECORD for what is no OTLP."""
    message = MetricsData()
    try:
        message.ParseFromString(data)
    except DecodeError as problem:
        raise KafkaError(Error.INVALID_RECORD, f"metrics that do not parse: {problem}") from problem
    for resource in message.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield from _points(metric)


def _points(metric: Any) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    if kind not in ("gauge", "sum", "histogram"):
        return
    data = getattr(metric, kind)
    adds = kind != "gauge" and data.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    for point in data.data_points:
        value = point.sum if kind == "histogram" else getattr(point, point.WhichOneof("value") or "as_double")
        attributes = tuple(sorted((entry.key, _text(entry.value)) for entry in point.attributes))
        yield Point(metric.name, attributes, float(value), adds)


def _text(value: Any) -> str:
    kind = value.WhichOneof("value")
    return str(getattr(value, kind)) if kind else ""
