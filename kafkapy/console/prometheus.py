"""Writes metrics as Prometheus reads them: the one module that knows its library. It takes a while to import."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from kafkapy.metrics import Counter, Gauge, Histogram

CONTENT_TYPE = CONTENT_TYPE_LATEST


class _Read:
    """What the library asks for metrics."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def written(metrics: Iterable[Counter | Histogram | Gauge]) -> bytes:
    """All of it as text."""
    return generate_latest(_Read([_family(metric) for metric in metrics]))


def _family(metric: Counter | Histogram | Gauge) -> Metric:
    name, _, labels, about, _ = metric.family
    if isinstance(metric, Histogram):
        histogram = HistogramMetricFamily(name, about, labels=labels)
        for values, counts in metric.values.items():
            histogram.add_metric(values, buckets=list(_buckets(metric.bounds, counts)), sum_value=metric.sums[values])
        return histogram
    cls = CounterMetricFamily if isinstance(metric, Counter) else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = cls(name, about, labels=labels)
    for values, value in metric.values.items():
        family.add_metric(values, value)
    return family


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip((*bounds, "+Inf"), counts, strict=True):
        total += count
        yield str(bound), total
