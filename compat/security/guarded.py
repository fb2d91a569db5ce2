"""Both brokers with listeners of their own, whose settings do not fit on a command line."""

from brokers import ApacheKafka, Kafkapy


class GuardedKafkapy(Kafkapy):
    """kafkapy with listeners of its own, from a file."""

    def command(self) -> list[str]:
        file = self.directory.with_name("kafkapy.properties")
        escaped = ((name, value.replace("\\", "\\\\").replace("\n", "\\n")) for name, value in self.settings.items())
        file.write_text("".join(f"{name}={value}\n" for name, value in escaped))
        return [
            *(self.python, "-m", "kafkapy", "start", str(file), "--data-dir", str(self.directory)),
            *("--json-ready", "--log-format", self.log_format),
        ]


class GuardedKafka(ApacheKafka):
    """Apache Kafka, whose settings may have more than a line."""

    start_deadline_s = 300.0

    def prepare(self) -> None:
        given = self.settings
        self.settings = {name: value.replace("\\", "\\\\").replace("\n", "\\n") for name, value in given.items()}
        super().prepare()
        self.settings = given
