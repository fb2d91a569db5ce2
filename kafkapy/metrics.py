"""What is counted of a broker's work, by the names that Kafka's metrics have once they are exported: no exporter here.

Counters and histograms are added to where something happens; gauges are functions, asked when somebody looks. Labels
bound nothing by themselves: a metric keeps so many combinations of them, and adds further ones up as "other".
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Labels = tuple[str, ...]

_MOST_COMBINATIONS: Final = 2000
_OTHER: Final = "other"


class Family(NamedTuple):
    """A metric: its name, what it counts by which labels, and the MBean by which Kafka tells the same."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    about: str
    mbean: str


# One row a line, however long: this is a table.
# fmt: off
REQUESTS: Final = Family("kafka_network_requestmetrics_requests_total", "counter", ("request", "version"), "Requests that were answered, or done where none is answered.", "kafka.network:type=RequestMetrics,name=RequestsPerSec,request=*,version=*")
ERRORS: Final = Family("kafka_network_requestmetrics_errors_total", "counter", ("request", "error"), "Errors told in answers, each by itself; NONE where there was none.", "kafka.network:type=RequestMetrics,name=ErrorsPerSec,request=*,error=*")
REQUEST_BYTES: Final = Family("kafka_network_requestmetrics_requestbytes_total", "counter", ("request",), "Bytes of requests.", "kafka.network:type=RequestMetrics,name=RequestBytes,request=*")
RESPONSE_BYTES: Final = Family("kafka_network_requestmetrics_responsebytes_total", "counter", ("request",), "Bytes of answers.", "none")
TOTAL_TIME: Final = Family("kafka_network_requestmetrics_totaltimems", "histogram", ("request",), "Milliseconds from a request's beginning to its answer, with what it waited for.", "kafka.network:type=RequestMetrics,name=TotalTimeMs,request=*")
BYTES_IN: Final = Family("kafka_server_brokertopicmetrics_bytesin_total", "counter", ("topic",), "Bytes of batches that were produced.", "kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec,topic=*")
BYTES_OUT: Final = Family("kafka_server_brokertopicmetrics_bytesout_total", "counter", ("topic",), "Bytes of batches that were fetched.", "kafka.server:type=BrokerTopicMetrics,name=BytesOutPerSec,topic=*")
THROTTLE_TIME: Final = Family("kafka_server_throttle_time_ms_total", "counter", ("request",), "Milliseconds for which clients were held back by a quota, by the request upon which that was.", "kafka.server:type={Produce|Fetch|Request|ControllerMutation},name=throttle-time")
CONNECTIONS: Final = Family("kafka_server_socketservermetrics_connection_count", "gauge", (), "Connections that are open.", "kafka.server:type=socket-server-metrics,name=connection-count")
TOPICS: Final = Family("kafka_controller_kafkacontroller_globaltopiccount", "gauge", (), "Topics.", "kafka.controller:type=KafkaController,name=GlobalTopicCount")
PARTITIONS: Final = Family("kafka_controller_kafkacontroller_globalpartitioncount", "gauge", (), "Partitions.", "kafka.controller:type=KafkaController,name=GlobalPartitionCount")
LOG_SIZE: Final = Family("kafka_log_log_size", "gauge", ("topic",), "Bytes of a topic's logs.", "kafka.log:type=Log,name=Size,topic=*,partition=*")
GROUPS: Final = Family("kafka_server_group_coordinator_metrics_group_count", "gauge", ("protocol", "state"), "Groups.", "kafka.server:type=group-coordinator-metrics,name=group-count,protocol=*")
TRANSACTIONS: Final = Family("kafkapy_transactional_ids", "gauge", ("state",), "Transactional ids, by the state of their transaction.", "none")
SESSIONS: Final = Family("kafka_server_fetchsessioncache_numincrementalfetchsessions", "gauge", (), "Incremental fetch sessions.", "kafka.server:type=FetchSessionCache,name=NumIncrementalFetchSessions")
CLIENT_METRICS: Final = Family("kafkapy_client_metrics", "gauge", ("client_instance_id", "client_id", "metric", "attributes"), "What clients push of their own metrics (KIP-714), the last of each.", "none")
# fmt: on

FAMILIES: Final = (
    REQUESTS,
    ERRORS,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    TOTAL_TIME,
    BYTES_IN,
    BYTES_OUT,
    THROTTLE_TIME,
    CONNECTIONS,
    TOPICS,
    PARTITIONS,
    LOG_SIZE,
    GROUPS,
    TRANSACTIONS,
    SESSIONS,
    CLIENT_METRICS,
)


class Counter:
    """How much there was so far, by labels."""

    __slots__ = ("family", "values")

    def __init__(self, family: Family) -> None:
        self.family = family
        self.values: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        values = self.values
        if labels not in values and len(values) >= _MOST_COMBINATIONS:
            labels = (_OTHER,) * len(labels)
        values[labels] = values.get(labels, 0) + amount


class Histogram:
    """How many values there were up to each of some bounds, and their sum, by labels."""

    __slots__ = ("bounds", "family", "sums", "values")

    def __init__(self, family: Family, bounds: tuple[float, ...]) -> None:
        self.family = family
        self.bounds = bounds
        self.values: dict[Labels, list[int]] = {}
        self.sums: dict[Labels, float] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Count in one value. Labels are those of few things, APIs for one."""
        counts = self.values.get(labels)
        if counts is None:
            counts = self.values[labels] = [0] * (len(self.bounds) + 1)
            self.sums[labels] = 0.0
        counts[bisect_left(self.bounds, value)] += 1
        self.sums[labels] += value


class RequestMetrics:
    """What is counted with each request of a client."""

    def __init__(self) -> None:
        self.requests = Counter(REQUESTS)
        self.errors = Counter(ERRORS)
        self.request_bytes = Counter(REQUEST_BYTES)
        self.response_bytes = Counter(RESPONSE_BYTES)
        self.bytes_in = Counter(BYTES_IN)
        self.bytes_out = Counter(BYTES_OUT)
        self.throttle_time = Counter(THROTTLE_TIME)
        self.total_time = Histogram(TOTAL_TIME, (0.5, 1, 2, 5, 10, 50, 100, 500, 1000, 5000, 30_000))

    @property
    def counters(self) -> tuple[Counter, ...]:
        return (
            self.requests,
            self.errors,
            self.request_bytes,
            self.response_bytes,
            self.bytes_in,
            self.bytes_out,
            self.throttle_time,
        )


class Gauge(NamedTuple):
    """What something is at a moment, by labels."""

    family: Family
    values: Mapping[Labels, float]
