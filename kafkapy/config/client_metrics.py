"""Every client-metrics setting of Apache Kafka (KIP-714)."""

from kafkapy.config.setting import Setting, Type

# One row a line, however long: this is a table.
# fmt: off
_ROWS = (
    Setting("interval.ms", Type.INT, "300000", "How often clients push their metrics, in milliseconds.", dynamic=True, used=True),
    Setting("match", Type.LIST, "", "Which clients a subscription is for, as name=pattern pairs.", dynamic=True, used=True),
    Setting("metrics", Type.LIST, "", "Prefixes of the metrics that clients push.", dynamic=True, used=True),
)
# fmt: on

CLIENT_METRICS: dict[str, Setting] = {row.name: row for row in _ROWS}
