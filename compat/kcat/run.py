"""kcat (librdkafka from a shell) against a broker. Run by compat/run; needs `kcat` on PATH; see README.md."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator

import harness
import scenarios
from scenarios import Member, Message, Record

# what kcat prints for the error codes that are asked for
ERRORS = {"Broker: Message size too large": 10}


class KcatFailed(Exception):
    """kcat complained; the text is what it said on stderr."""


class Kcat(scenarios.Client):
    """Topics come into being by being named: kcat cannot create one, so they all have the broker's partition count."""

    errors = KcatFailed

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def run(self, *arguments: str) -> str:
        """What it prints; librdkafka's log lines go to the suite's log, a complaint of kcat's is raised."""
        done = subprocess.run(["kcat", "-E", "-b", self.bootstrap, *arguments], capture_output=True, check=False)
        complain(done.returncode, done.stderr)
        return done.stdout.decode()

    def produce(
        self,
        topic: str,
        messages: Iterable[Message],
        *,
        compression: str = "none",
        idempotent: bool = False,
        acks: str = "all",
    ) -> None:
        """One kcat for each partition and set of headers: it takes those for its whole run only."""
        settings = {"compression.codec": compression, "message.max.bytes": "4000000", "acks": acks}
        if idempotent:
            settings["enable.idempotence"] = "true"
        kcats: dict[object, subprocess.Popen[bytes]] = {}
        for message in messages:
            kind = (message.partition, message.headers, message.key is None, message.value is None)
            if kind not in kcats:
                arguments = [argument for item in settings.items() for argument in ("-X", "=".join(item))]
                arguments += [
                    argument for name, value in message.headers for argument in ("-H", f"{name}={value.decode()}")
                ]
                arguments += [] if message.partition is None else ["-p", str(message.partition)]
                arguments += [] if message.key is None else ["-K", "\x1f"]
                arguments += ["-Z"] if message.value is None else []
                kcats[kind] = subprocess.Popen(
                    ["kcat", "-E", "-b", self.bootstrap, "-P", "-t", topic, *arguments],
                    stdin=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            entrance = kcats[kind].stdin
            assert entrance is not None
            entrance.write(b"" if message.key is None else message.key + b"\x1f")
            entrance.write((message.value or b"") + b"\n")
            entrance.flush()
        for kcat in kcats.values():
            _, said = kcat.communicate()
            complain(kcat.returncode, said)

    def read(self, topic: str) -> list[Record]:
        return _records(self.run("-C", "-t", topic, "-o", "beginning", "-e", "-J"))

    def consume(self, topic: str, group: str, count: int) -> list[Record]:
        return _records(self.run("-G", group, *GROUP_SETTINGS, "-c", str(count), "-J", topic))

    def member(self, topic: str, group: str) -> Member:
        kcat = subprocess.Popen(
            ["kcat", "-E", "-u", "-b", self.bootstrap, "-G", group, *GROUP_SETTINGS, "-J", topic],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert kcat.stdout is not None
        return KcatMember(kcat.pid, os.dup(kcat.stdout.fileno()))

    def create_topic(self, topic: str, partition_count: int, configs: dict[str, str] | None = None) -> None:
        assert partition_count == scenarios.PARTITION_COUNT and not configs, "kcat cannot ask for that"
        while self.partition_count(topic) != partition_count:
            time.sleep(0.05)

    def list_topics(self) -> Collection[str]:
        return [topic["topic"] for topic in json.loads(self.run("-L", "-J"))["topics"]]

    def partition_count(self, topic: str) -> int:
        described = json.loads(self.run("-L", "-J", "-t", topic))
        return len(described["topics"][0]["partitions"])

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        # "topic [0] offset 42"; -1 is "none such"
        offset = int(self.run("-Q", "-t", f"{topic}:{partition}:{timestamp_ms}").split()[-1])
        return None if offset == -1 else offset

    def error_code(self, error: KcatFailed) -> int | None:
        return next((code for text, code in ERRORS.items() if text in str(error)), None)


GROUP_SETTINGS = (
    *("-X", "auto.offset.reset=earliest", "-X", "partition.assignment.strategy=range"),
    *("-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500", "-X", "auto.commit.interval.ms=100"),
)


class KcatMember(Member):
    """A `kcat -G`: records as JSON on stdout, and on stderr what the group gives it and takes from it."""

    def take(self, line: bytes) -> None:
        if line.startswith(b"{"):
            self.ids.append(int(json.loads(line)["payload"]))
        elif b"assigned:" in line:
            self.assigned = {int(number) for number in re.findall(rb"\[(\d+)\]", line.split(b"assigned:")[1])}
        elif b"revoked:" in line:
            self.assigned = set()


def complain(code: int, said: bytes) -> None:
    sys.stderr.buffer.write(said)
    sys.stderr.flush()
    complaints = [line for line in said.decode("utf-8", "replace").splitlines() if "Delivery failed" in line]
    if code or complaints:
        raise KcatFailed("; ".join(complaints[:3]) or f"exit code {code}: {said[-300:].decode('utf-8', 'replace')}")


def _records(printed: str) -> list[Record]:
    records = []
    for line in printed.splitlines():
        shown = json.loads(line)
        flat = shown.get("headers", [])
        headers = tuple((name, value.encode()) for name, value in zip(flat[::2], flat[1::2], strict=True))
        key, value = (None if text is None else text.encode() for text in (shown["key"], shown["payload"]))
        records.append(Record(shown["partition"], shown["offset"], shown["ts"], key, value, headers))
    return records


def shapes(client: Kcat) -> None:
    """Keys, headers, nothing and next to nothing: each comes back as what it was."""
    topic = scenarios.fresh("shapes")
    client.create_topic(topic, scenarios.PARTITION_COUNT)
    headers = (("trace", b"1"), ("empty", b""), ("trace", b"2"), ("schlüssel", "wert ✓".encode()))
    sent = [
        Message(b"key", b"value", partition=0),
        Message(b"", b"empty key", partition=1),
        Message(b"null value", None, partition=2),
        Message(b"empty value", b"", partition=3),
        Message(b"key", b"with headers", headers, partition=4),
        Message("ключ".encode(), "значение ✓".encode(), partition=5),
    ]
    client.produce(topic, sent)
    got = sorted(client.read(topic))
    scenarios.same([Message(r.key, r.value, r.headers, r.partition) for r in got], sent, "records")


def listing(client: Kcat) -> None:
    """-L: each broker under an address that was asked, the topic with its partitions, each led by one of them."""
    topic = scenarios.fresh("listed")
    client.create_topic(topic, scenarios.PARTITION_COUNT)
    scenarios.known(lambda: topic in client.list_topics(), True, "a new topic is listed")
    shown = json.loads(client.run("-L", "-J", "-t", topic))
    brokers = {broker["id"]: broker["name"] for broker in shown["brokers"]}
    scenarios.same(sorted(brokers.values()), sorted(client.bootstrap.split(",")), "the brokers' addresses")
    leaders = [partition["leader"] for partition in shown["topics"][0]["partitions"]]
    scenarios.same(len(leaders), scenarios.PARTITION_COUNT, "partitions")
    assert set(leaders) <= set(brokers), f"led by {leaders}, brokers are {brokers}"


def query(client: Kcat) -> None:
    """-Q: the first offset at or after a time, and after the last one none."""
    topic = scenarios.fresh("times")
    client.create_topic(topic, scenarios.PARTITION_COUNT)
    for number in range(3):
        client.produce(topic, [Message(None, b"%d" % number, partition=0)])
    times = [record.timestamp_ms for record in client.read(topic)]
    assert times[0] < times[1] < times[2], f"timestamps {times}"
    scenarios.same([client.offset_at(topic, 0, at) for at in times], [0, 1, 2], "offsets at each timestamp")
    scenarios.same(client.offset_at(topic, 0, times[1] + 1), 2, "offset between two timestamps")
    scenarios.same(client.offset_at(topic, 0, times[2] + 1), None, "offset after the last timestamp")
    scenarios.same([client.offset_at(topic, 0, end) for end in (-2, -1)], [0, 3], "first and end offset")


def from_a_time(client: Kcat) -> None:
    """-o s@TIME: consume from a point in time."""
    topic = scenarios.fresh("since")
    client.create_topic(topic, scenarios.PARTITION_COUNT)
    for number in range(3):
        client.produce(topic, [Message(None, b"%d" % number, partition=0)])
    middle = client.read(topic)[1].timestamp_ms
    printed = client.run("-C", "-t", topic, "-p", "0", "-o", f"s@{middle}", "-e", "-J")
    scenarios.same([record.value for record in _records(printed)], [b"1", b"2"], "records since the second")


def checks(bootstrap: str) -> Iterator[harness.Check]:
    client = Kcat(bootstrap)
    own = "keys, headers, empty and null"
    yield from (check for check in scenarios.data_checks(client) if check.name != own)
    yield harness.Check(own, lambda: shapes(client))
    yield from scenarios.refusal_checks(client)
    yield from scenarios.idempotence_checks(client)
    yield from scenarios.group_checks(client)
    yield harness.Check("metadata listing", lambda: listing(client))
    yield harness.Check("offsets by time", lambda: query(client))
    yield harness.Check("consume from a time", lambda: from_a_time(client))


def version() -> str:
    said = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=True).stdout
    kcat, rdkafka = re.search(r"Version (\S+)", said), re.search(r"librdkafka (\S+)", said)
    assert kcat is not None and rdkafka is not None
    return f"{kcat[1]} (librdkafka {rdkafka[1]})"


if __name__ == "__main__":
    harness.main("kcat", version(), checks)
