"""Every client-metrics setting of Apache Kafka 4.3.1 (KIP-714)."""

from kafkapy.config.setting import Setting, Type

_ROWS = (
    Setting("interval.ms", Type.INT, "300000", "", dynamic=True),
    Setting("match", Type.LIST, "", "", dynamic=True),
    Setting("metrics", Type.LIST, "", "", dynamic=True),
)

CLIENT_METRICS: dict[str, Setting] = {row.name: row for row in _ROWS}
