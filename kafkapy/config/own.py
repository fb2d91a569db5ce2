"""The settings that Kafka does not have. Their names begin with `kafkapy.`; a client hears of one once it is set."""

from kafkapy.config.setting import Setting, Type

# One row a line, however long: this is a table.
# fmt: off
_ROWS = (
    Setting("kafkapy.auto.create.wait", Type.BOOLEAN, "false", "Whether whoever asks for a topic or a coordinator in passing waits until what that creates is there. Kafka, and the default, answers at once that there is none yet, upon which clients ask again, after 100 ms or so.", used=True),
    Setting("kafkapy.database.lease.ms", Type.LONG, "5000", "For how long a broker whose data is in a database leads what it leads without being heard of there: for so long, and not longer, nobody leads it once the broker is gone without a word.", valid="[500,...]", used=True),
    Setting("kafkapy.jaas.file", Type.STRING, None, "File with login modules for listeners that have no sasl.jaas.config of their own, in a section KafkaServer, or listener.KafkaServer for one of them. Kafka reads the file that java.security.auth.login.config names, which is heeded here where KAFKA_OPTS has it.", used=True),
    Setting("kafkapy.metrics.host", Type.STRING, "127.0.0.1", "Where metrics are told, if they are.", used=True),
    Setting("kafkapy.metrics.port", Type.INT, "-1", "Port at which metrics are told over HTTP, as Prometheus asks for them (docs/metrics.md); 0 takes a free one, -1 has none.", valid="[-1,...,65535]", used=True),
    Setting("kafkapy.record.validation", Type.STRING, "full", "What is looked at before a batch is stored: each of its records, as Kafka does (full), or its header, and records only where the topic's settings need it (headers).", valid="[full, headers]", used=True),
)
# fmt: on

OWN: dict[str, Setting] = {row.name: row for row in _ROWS}
