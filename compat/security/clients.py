"""Stock clients at every listener, by every mechanism that they know: produce, consume in a group, and be refused."""

import asyncio
import json
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign
from brokers import kafka_home
from users import LISTENERS, MECHANISMS, PASSWORD, USER, client_context

Check = Callable[[Any, dict[str, int], Path], str]
PATIENCE_SECONDS = 30
PASSWORDS = {"": PASSWORD, ", wrong password": "wrong"}
WAYS = [
    *(("SASL_PLAINTEXT", mechanism) for mechanism in MECHANISMS[:3]),
    *(("SASL_SSL", mechanism) for mechanism in MECHANISMS[:3]),
    ("SSL", None),
    ("MUTUAL", None),
]
DONE = "produced, and consumed in a group"


def all_checks(*, java: bool) -> dict[str, Check]:
    """Every client at every listener, by its name."""
    kinds = {
        "confluent-kafka": confluent,
        "kafka-python": kafka_python,
        "aiokafka": aio,
        "kafkajs": _foreign("kafkajs"),
        "sarama": _foreign("sarama"),
        **({"java": tools} if java else {}),
    }
    checks: dict[str, Check] = {}
    for client, kind in kinds.items():
        for listener, mechanism in WAYS:
            for suffix, password in PASSWORDS.items() if mechanism else [("", "")]:
                name = " ".join(filter(None, [f"{client}: {listener.lower()}", mechanism]))
                checks[name + suffix] = _check(kind, listener, mechanism, password)
    return checks


def _check(kind: Any, listener: str, mechanism: str | None, password: str) -> Check:
    def check(broker: Any, ports: dict[str, int], work: Path) -> str:
        address, protocol = f"127.0.0.1:{ports[listener]}", LISTENERS[listener]
        shown = work / "alice.pem" if listener == "MUTUAL" else None
        said: str = kind(address, protocol, mechanism, password, work, shown)
        return said.replace(str(ports[listener]), "PORT")

    return check


def confluent(address: str, protocol: str, mechanism: str | None, password: str, work: Path, shown: Path | None) -> str:
    from confluent_kafka import Consumer, Producer

    errors: list[str] = []

    def note(error: Any) -> None:
        text = error.str()
        errors.append(text.partition(": ")[2].partition(" (after")[0] if "(after" in text else text)

    common = {"bootstrap.servers": address, "security.protocol": protocol, "log_level": 0, "error_cb": note}
    if "SSL" in protocol:
        common["ssl.ca.location"] = str(work / "ca.pem")
    if shown:
        common |= {"ssl.certificate.location": str(shown), "ssl.key.location": str(shown)}
    if mechanism:
        common |= {"sasl.mechanism": mechanism, "sasl.username": USER, "sasl.password": password}
    topic = f"t-{uuid.uuid4().hex[:8]}"
    producer = Producer(common)
    producer.produce(topic, b"hello")
    if producer.flush(PATIENCE_SECONDS if password != "wrong" else 5):
        producer.purge()
        return f"refused: {errors[0] if errors else 'nothing said'}"
    consumer = Consumer({**common, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            consumer.close()
            return DONE if message.value() == b"hello" else "another record"
    return f"nothing consumed: {errors}"


def _in_python(
    address: str, protocol: str, mechanism: str | None, password: str, work: Path, shown: Path | None
) -> dict[str, Any]:
    """The settings by the names that kafka-python and aiokafka share."""
    common: dict[str, Any] = {"bootstrap_servers": address, "security_protocol": protocol}
    if "SSL" in protocol:
        common["ssl_context"] = client_context(work, "alice" if shown else None)
    if mechanism:
        common |= {"sasl_mechanism": mechanism, "sasl_plain_username": USER, "sasl_plain_password": password}
    return common


def kafka_python(
    address: str, protocol: str, mechanism: str | None, password: str, work: Path, shown: Path | None
) -> str:
    import kafka
    from kafka.errors import KafkaError

    common = _in_python(address, protocol, mechanism, password, work, shown)
    topic = f"t-{uuid.uuid4().hex[:8]}"
    patience_ms = 1000 * PATIENCE_SECONDS if password != "wrong" else 3000
    try:
        producer = kafka.KafkaProducer(**common, max_block_ms=patience_ms, bootstrap_timeout_ms=patience_ms)
        producer.send(topic, b"hello").get(PATIENCE_SECONDS)
    except KafkaError as failure:
        return f"refused: {type(failure).__name__}"
    producer.close()
    consumer = kafka.KafkaConsumer(
        topic, **common, group_id=topic, auto_offset_reset="earliest", consumer_timeout_ms=patience_ms
    )
    found = [message.value for _, message in zip(range(1), consumer, strict=False)]
    consumer.close()
    return DONE if found == [b"hello"] else f"consumed {found}"


def aio(address: str, protocol: str, mechanism: str | None, password: str, work: Path, shown: Path | None) -> str:
    import aiokafka
    from aiokafka.errors import KafkaError

    common = _in_python(address, protocol, mechanism, password, work, shown)
    topic = f"t-{uuid.uuid4().hex[:8]}"

    async def go() -> str:
        producer = aiokafka.AIOKafkaProducer(**common)
        try:
            await producer.start()
        except KafkaError as failure:
            await producer.stop()
            return f"refused: {type(failure).__name__}"
        await producer.send_and_wait(topic, b"hello")
        await producer.stop()
        consumer = aiokafka.AIOKafkaConsumer(topic, **common, group_id=topic, auto_offset_reset="earliest")
        await consumer.start()
        message = await asyncio.wait_for(consumer.getone(), PATIENCE_SECONDS)
        await consumer.stop()
        return DONE if message.value == b"hello" else "another record"

    return asyncio.run(go())


def _foreign(client: str) -> Callable[..., str]:
    """A client in another language: a program in the folder of its name."""

    def visit(address: str, protocol: str, mechanism: str | None, password: str, work: Path, shown: Path | None) -> str:
        given: dict[str, Any] = {"address": address, "topic": f"t-{uuid.uuid4().hex[:8]}", "retries": 3}
        if "SSL" in protocol:
            given["ca"] = str(work / "ca.pem")
        if shown:
            given["certificate"] = str(shown)
        if mechanism:
            given |= {"mechanism": mechanism, "user": USER, "password": password}
        if password == "wrong":
            given["retries"] = 0
        command = foreign.program(Path(__file__).with_name(client), work)
        done = subprocess.run([*command, json.dumps(given)], capture_output=True, text=True, timeout=90, check=False)
        return DONE if done.stdout == "consumed hello\n" else done.stdout.strip() or done.stderr[-300:]

    return visit


def tools(address: str, protocol: str, mechanism: str | None, password: str, work: Path, shown: Path | None) -> str:
    lines = {"security.protocol": protocol}
    if "SSL" in protocol:
        lines |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(work / "ca.pem")}
    if shown:
        lines |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(shown)}
    if mechanism:
        module = "plain.PlainLoginModule" if mechanism == "PLAIN" else "scram.ScramLoginModule"
        login = f'org.apache.kafka.common.security.{module} required username="{USER}" password="{password}";'
        lines |= {"sasl.mechanism": mechanism, "sasl.jaas.config": login}
    settings = work / "client.properties"
    settings.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    topic = f"t-{uuid.uuid4().hex[:8]}"

    def run(tool: str, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
        java = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-cp", f"{kafka_home()}/libs/*"]
        command = [*java, f"org.apache.kafka.tools.{tool}", "--bootstrap-server", address, *arguments]
        return subprocess.run(command, input=said, capture_output=True, text=True, timeout=240, check=False)

    if password == "wrong":
        shown_text = run("TopicCommand", "--list", "--command-config", str(settings)).stdout
        return f"refused: {shown_text.strip().splitlines()[0] if shown_text.strip() else 'nothing said'}"
    run("ConsoleProducer", "--topic", topic, "--command-config", str(settings), said="hello\n")
    limits = ("--from-beginning", "--max-messages", "1", "--timeout-ms", "90000", "--group", topic)
    consumed = run("consumer.ConsoleConsumer", "--topic", topic, "--command-config", str(settings), *limits)
    return DONE if "hello" in consumed.stdout.split() else f"consumed {consumed.stdout[-200:]!r}"
