"""Stock clients at every listener, by every mechanism that they know: produce, consume in a group, and be refused.

Each is refused with a wrong password, and where it has no right; and each is at work for longer than its sessions last:
those that know how authenticate again, others come again.
"""

import asyncio
import json
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import foreign
from brokers import kafka_home
from users import GUARDED, LISTENERS, MECHANISMS, PASSWORD, SESSION_MS, STRANGER, USER, client_context

Check = Callable[[Any, dict[str, int], Path], str]
PATIENCE_SECONDS = 30
PAUSE_SECONDS = 2.5 * SESSION_MS / 1000
PASSWORDS = {"": PASSWORD, ", wrong password": "wrong"}
WAYS = [
    *(("SASL_PLAINTEXT", mechanism) for mechanism in MECHANISMS[:3]),
    *(("SASL_SSL", mechanism) for mechanism in MECHANISMS[:3]),
    ("SSL", None),
    ("MUTUAL", None),
]
DONE = "produced, and consumed in a group"


@dataclass(frozen=True)
class Visit:
    """Who comes where, and how. With a pause, the session ends between two records that are sent, and between two
    that are read.
    """

    listener: str
    mechanism: str | None
    user: str = USER
    password: str = PASSWORD
    topic: str = field(default_factory=lambda: f"t-{uuid.uuid4().hex[:8]}")
    pause_s: float = 0
    address: str = ""
    work: Path = Path()

    @property
    def protocol(self) -> str:
        return LISTENERS[self.listener]

    @property
    def values(self) -> list[str]:
        return ["hello", "again"] if self.pause_s else ["hello"]

    @property
    def certificate(self) -> Path | None:
        return self.work / "alice.pem" if self.listener == "MUTUAL" else None

    @property
    def is_to_fail(self) -> bool:
        return self.password == "wrong" or self.user != USER


Kind = Callable[[Visit], str]


def all_checks(*, java: bool) -> dict[str, Check]:
    """Every client at every listener, by its name."""
    kinds: dict[str, Kind] = {
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
                checks[name + suffix] = _check(kind, listener, mechanism, password=password)
        for mechanism in MECHANISMS[:2]:
            name = f"{client}: short {mechanism}, longer than a session"
            checks[name] = _check(kind, "SHORT", mechanism, pause_s=PAUSE_SECONDS)
        user, password = STRANGER
        checks[f"{client}: sasl_plaintext PLAIN, without a right"] = _check(
            kind, "SASL_PLAINTEXT", "PLAIN", user=user, password=password, topic=GUARDED
        )
    return checks


def _check(kind: Kind, listener: str, mechanism: str | None, **how: Any) -> Check:
    def check(broker: Any, ports: dict[str, int], work: Path) -> str:
        visit = Visit(listener, mechanism, address=f"127.0.0.1:{ports[listener]}", work=work, **how)
        return kind(visit).replace(str(ports[listener]), "PORT")

    return check


def confluent(visit: Visit) -> str:
    from confluent_kafka import Consumer, Producer

    errors: list[str] = []

    def note(error: Any) -> None:
        text = error.str()
        errors.append(text.partition(": ")[2].partition(" (after")[0] if "(after" in text else text)

    refused: list[str] = []
    common = {
        "bootstrap.servers": visit.address,
        "security.protocol": visit.protocol,
        "log_level": 0,
        "error_cb": note,
    }
    if "SSL" in visit.protocol:
        common["ssl.ca.location"] = str(visit.work / "ca.pem")
    if visit.certificate:
        shown = str(visit.certificate)
        common |= {"ssl.certificate.location": shown, "ssl.key.location": shown}
    if visit.mechanism:
        known = {"sasl.username": visit.user, "sasl.password": visit.password}
        common |= {"sasl.mechanism": visit.mechanism, **known}
    producer = Producer(common, on_delivery=lambda error, _: refused.append(error.name()) if error else None)
    for number, value in enumerate(visit.values):
        time.sleep(visit.pause_s if number else 0)
        producer.produce(visit.topic, value.encode())
        if producer.flush(PATIENCE_SECONDS if visit.password != "wrong" else 5):
            producer.purge()
            return f"refused: {errors[0] if errors else 'nothing said'}"
    consumer = Consumer({**common, "group.id": visit.topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([visit.topic])
    found: list[str] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and len(found) < len(visit.values):
        message = consumer.poll(1)
        if message is not None:
            if message.error() is not None:
                consumer.close()
                return f"refused: {refused}, {message.error().name()}"
            found.append(message.value().decode())
            time.sleep(visit.pause_s)
            consumer.commit(message, asynchronous=False)
    consumer.close()
    return DONE if found == visit.values else f"consumed {found}: {refused} {errors}"


def _in_python(visit: Visit) -> dict[str, Any]:
    """The settings by the names that kafka-python and aiokafka share."""
    common: dict[str, Any] = {"bootstrap_servers": visit.address, "security_protocol": visit.protocol}
    if "SSL" in visit.protocol:
        common["ssl_context"] = client_context(visit.work, "alice" if visit.certificate else None)
    if visit.mechanism:
        known = {"sasl_plain_username": visit.user, "sasl_plain_password": visit.password}
        common |= {"sasl_mechanism": visit.mechanism, **known}
    return common


def kafka_python(visit: Visit) -> str:
    import kafka
    from kafka.errors import KafkaError

    common = _in_python(visit)
    patience_ms = 1000 * PATIENCE_SECONDS if not visit.is_to_fail else 3000
    try:
        producer = kafka.KafkaProducer(**common, max_block_ms=patience_ms, bootstrap_timeout_ms=patience_ms)
        for number, value in enumerate(visit.values):
            time.sleep(visit.pause_s if number else 0)
            producer.send(visit.topic, value.encode()).get(PATIENCE_SECONDS)
    except KafkaError as failure:
        return f"refused: {type(failure).__name__}"
    producer.close()
    consumer = kafka.KafkaConsumer(
        visit.topic, **common, group_id=visit.topic, auto_offset_reset="earliest", consumer_timeout_ms=patience_ms
    )
    found = []
    for _, message in zip(visit.values, consumer, strict=False):
        found.append(message.value.decode())
        time.sleep(visit.pause_s)
    consumer.commit()
    consumer.close()
    return DONE if found == visit.values else f"consumed {found}"


def aio(visit: Visit) -> str:
    import aiokafka
    from aiokafka.errors import KafkaError

    async def go() -> str:
        common = _in_python(visit)
        producer = aiokafka.AIOKafkaProducer(**common)
        try:
            await producer.start()
            for number, value in enumerate(visit.values):
                await asyncio.sleep(visit.pause_s if number else 0)
                await producer.send_and_wait(visit.topic, value.encode())
        except KafkaError as failure:
            return f"refused: {type(failure).__name__}"
        finally:
            await producer.stop()
        consumer = aiokafka.AIOKafkaConsumer(visit.topic, **common, group_id=visit.topic, auto_offset_reset="earliest")
        await consumer.start()
        found = []
        for _ in visit.values:
            message = await asyncio.wait_for(consumer.getone(), PATIENCE_SECONDS)
            found.append(message.value.decode())
            await asyncio.sleep(visit.pause_s)
        await consumer.commit()
        await consumer.stop()
        return DONE if found == visit.values else f"consumed {found}"

    return asyncio.run(go())


def _foreign(client: str) -> Kind:
    """A client in another language: a program in the folder of its name."""

    def come(visit: Visit) -> str:
        given: dict[str, Any] = {
            "address": visit.address,
            "topic": visit.topic,
            "retries": 0 if visit.is_to_fail else 3,
            "create": visit.topic != GUARDED,
            "values": visit.values,
            "pause": int(1000 * visit.pause_s),
        }
        if "SSL" in visit.protocol:
            given["ca"] = str(visit.work / "ca.pem")
        if visit.certificate:
            given["certificate"] = str(visit.certificate)
        if visit.mechanism:
            given |= {"mechanism": visit.mechanism, "user": visit.user, "password": visit.password}
        command = foreign.program(Path(__file__).with_name(client), visit.work)
        done = subprocess.run([*command, json.dumps(given)], capture_output=True, text=True, timeout=90, check=False)
        wanted = f"consumed {' '.join(visit.values)}\n"
        return DONE if done.stdout == wanted else done.stdout.strip() or done.stderr[-300:]

    return come


def tools(visit: Visit) -> str:
    lines = {"security.protocol": visit.protocol}
    if "SSL" in visit.protocol:
        lines |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(visit.work / "ca.pem")}
    if visit.certificate:
        lines |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(visit.certificate)}
    if visit.mechanism:
        module = "plain.PlainLoginModule" if visit.mechanism == "PLAIN" else "scram.ScramLoginModule"
        known = f'username="{visit.user}" password="{visit.password}"'
        login = f"org.apache.kafka.common.security.{module} required {known};"
        lines |= {"sasl.mechanism": visit.mechanism, "sasl.jaas.config": login}
    settings = visit.work / "client.properties"
    settings.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))

    def begin(tool: str, *arguments: str, errors: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        java = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-cp", f"{kafka_home()}/libs/*"]
        command = [*java, f"org.apache.kafka.tools.{tool}", "--bootstrap-server", visit.address]
        command += ["--topic", visit.topic, "--command-config", str(settings), *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True)

    if visit.user != USER:
        limits = ("--num-records", "1", "--record-size", "5", "--throughput", "-1")
        shown, _ = begin("ProducerPerformance", *limits, errors=subprocess.STDOUT).communicate(timeout=240)
        return f"refused: {[line for line in shown.splitlines() if 'Exception' in line][:1]}"
    if visit.is_to_fail:
        shown, _ = begin("TopicCommand", "--create").communicate(timeout=240)
        return f"refused: {shown.strip().splitlines()[0] if shown.strip() else 'nothing said'}"
    producer = begin("ConsoleProducer", "--sync")
    assert producer.stdin is not None
    for number, value in enumerate(visit.values):
        time.sleep(visit.pause_s if number else 0)
        producer.stdin.write(f"{value}\n")
        producer.stdin.flush()
    producer.communicate(timeout=240)
    limits = ("--from-beginning", "--max-messages", str(len(visit.values)), "--timeout-ms", "90000")
    consumed, _ = begin("consumer.ConsoleConsumer", "--group", visit.topic, *limits).communicate(timeout=240)
    return DONE if consumed.split() == visit.values else f"consumed {consumed[-200:]!r}"
