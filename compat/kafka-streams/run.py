"""An application on Kafka Streams against a broker: two instances, which are stopped, killed and robbed of their state.

`Application.java` is the application. Its input is made here, and what it wrote is compared with what plain Python
makes of the same input: record by record and in order with exactly_once_v2; with at_least_once nothing may be missing,
and what was written twice must be the same again. Run by compat/run; see README.md.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import harness
from brokers import KAFKA_VERSION, kafka_home
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic
from harness import Check
from scenarios import fresh

HERE = Path(__file__).resolve().parent
RUN = Path(os.environ["COMPAT_RUN"])
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]
PARTITIONS = 4
LIMIT_S = 900  # on a busy machine
WINDOW_MS = 10_000  # as in Application.java
CLASSIC, STREAMS = "classic", "streams"
AT_LEAST_ONCE, EXACTLY_ONCE = "at_least_once", "exactly_once_v2"


class Input(NamedTuple):
    key: str
    value: str
    timestamp_ms: int = 0  # 0: now


class Instance:
    """A process of the application with a state directory of its own; what it says is kept beside that."""

    def __init__(self, command: list[str], state: Path) -> None:
        self.state = state
        self.log = state.with_suffix(".log")
        self.command = [*command, str(state)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.state.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to close. It does not leave its group, as no application on Kafka Streams does."""
        self._end(signal.SIGTERM)

    def wipe(self) -> None:
        shutil.rmtree(self.state)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def said(self) -> list[str]:
        """Since it was last started."""
        return self.log.read_text("utf-8", "replace").splitlines()

    @property
    def tasks(self) -> list[str]:
        told = [line for line in self.said if line.startswith("tasks ")]
        return told[-1].split()[1:] if told else []

    @property
    def restored(self) -> int:
        """How many records it took from changelogs."""
        return sum(int(line.split()[-1]) for line in self.said if line.startswith("restored "))

    def _end(self, number: signal.Signals) -> None:
        assert self.process is not None and self.alive, self.said[-5:]
        self.process.send_signal(number)
        self.process.wait(120)


class Application:
    """Two instances, and the topics that they read and write; `written` is their output so far, by key and in order."""

    def __init__(
        self, bootstrap: str, topology: str, guarantee: str, inputs: tuple[str, ...], protocol: str = CLASSIC
    ) -> None:
        self.id = fresh(topology)
        self.bootstrap = bootstrap
        self.guarantee = guarantee
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        topics = [NewTopic(f"{self.id}.{name}", PARTITIONS, 1) for name in (*inputs, "output")]
        for created in self.admin.create_topics(topics, request_timeout=120).values():
            created.result(120)
        classes = f"{kafka_home()}/libs/*:{RUN / 'classes'}"
        command = [*JAVA, "-cp", classes, "Application", bootstrap, self.id, topology, guarantee, protocol]
        self.instances = [Instance(command, RUN / "applications" / f"{self.id}-{number}") for number in (1, 2)]
        self.producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
        self.written: dict[str, list[str]] = defaultdict(list)
        self.consumer = self.reader()
        self.consumer.assign(self._partitions("output", OFFSET_BEGINNING))

    def start(self) -> None:
        """Return once both have a part of the work."""
        for instance in self.instances:
            instance.start()
        self.until("both have tasks", lambda: all(instance.tasks for instance in self.instances))

    def send(self, name: str, records: Iterable[Input]) -> None:
        for key, value, timestamp_ms in records:
            self.producer.produce(f"{self.id}.{name}", key=key, value=value, timestamp=timestamp_ms)
        assert self.producer.flush(60) == 0, "records were not acknowledged"

    def until(self, what: str, true: Callable[[], bool]) -> None:
        """Take in what the instances write until something is true."""
        deadline = time.monotonic() + LIMIT_S / 3
        while not true():
            assert time.monotonic() < deadline, f"not so: {what}; {self.total} records were written"
            for instance in self.instances:
                assert instance.alive, f"an instance ended: {instance.said[-5:]}"
            self._take(0.1)

    @property
    def total(self) -> int:
        return sum(len(values) for values in self.written.values())

    def consumed(self, name: str) -> bool:
        """Whether everything in this topic is processed, and that committed."""
        consumer = self.reader(self.id)
        try:
            committed = consumer.committed(self._partitions(name), timeout=120)
            ends = [consumer.get_watermark_offsets(partition, timeout=120)[1] for partition in committed]
        finally:
            consumer.close()
        return all(at.offset == end or end == 0 for at, end in zip(committed, ends, strict=True))

    def finish(self) -> None:
        """Stop the instances, and take in what there is to the last record."""
        for instance in self.instances:
            instance.stop()
        ends = {
            at.partition: self.consumer.get_watermark_offsets(at, timeout=120)[1] for at in self._partitions("output")
        }
        deadline = time.monotonic() + 120
        while any(at.offset < ends[at.partition] for at in self.consumer.position(self._partitions("output"))):
            assert time.monotonic() < deadline, "the output cannot be read to its end"
            self._take(0.1)

    def _take(self, timeout_s: float) -> None:
        for message in self.consumer.consume(1000, timeout_s):
            if not message.error():  # a broker that was killed comes back
                self.written[message.key().decode()].append(message.value().decode())

    def reader(self, group: str = "nobody") -> Consumer:
        """Of committed records, in a group for as much as its offsets are asked for."""
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )

    def _partitions(self, name: str, offset: int = 0) -> list[TopicPartition]:
        return [TopicPartition(f"{self.id}.{name}", number, offset) for number in range(PARTITIONS)]


# -- what happens to an application in the middle of its work


def one_stopped(application: Application) -> None:
    application.instances[0].stop()
    application.instances[0].start()


def one_killed(application: Application) -> None:
    application.instances[0].kill()
    application.instances[0].start()


def state_lost(application: Application) -> None:
    for instance in application.instances:
        instance.kill()
        instance.wipe()
    for instance in application.instances:
        instance.start()


def broker_killed(_: Application) -> None:
    harness.restart_broker()


def all_of_it(application: Application) -> None:
    one_killed(application)
    broker_killed(application)
    application.until("both have tasks", lambda: all(instance.tasks for instance in application.instances))
    state_lost(application)


Trouble = Callable[[Application], None]


def restored(application: Application, happened: Trouble) -> str:
    """How much came back from changelogs; something must have when nothing else was left."""
    count = sum(instance.restored for instance in application.instances)
    assert count or happened not in (state_lost, all_of_it), "nothing was restored"
    return f"{application.total} records written, {count} restored"


# -- the word count


def lines(count: int, seed: int) -> list[str]:
    dice = random.Random(seed)
    words = [f"word{number}" for number in range(40)]
    return [" ".join(dice.choices(words, k=4)) for _ in range(count)]


def counted(application: Application, happened: Trouble) -> dict[str, int]:
    """Have lines counted, with trouble while there is much to do; the counts that come of them."""
    application.start()
    parts = [lines(400, seed) for seed in range(3)]
    wanted = Counter(word for part in parts for line in part for word in line.split())

    def all_counted() -> bool:
        return all(int(application.written[word][-1]) >= count for word, count in wanted.items())

    def send(part: list[str]) -> None:
        application.send("lines", [Input(f"line{number}", line) for number, line in enumerate(part)])

    send(parts[0])
    application.until("the first words are counted", lambda: application.total >= 200)
    send(parts[1])
    happened(application)
    send(parts[2])
    application.until("every word is counted", lambda: wanted.keys() <= application.written.keys() and all_counted())
    application.finish()
    return dict(wanted)


def sequences(counts: dict[str, int]) -> dict[str, list[str]]:
    """What is written for each word that came so often."""
    return {word: [str(number) for number in range(1, count + 1)] for word, count in counts.items()}


def word_count(bootstrap: str, guarantee: str, happened: Trouble, protocol: str = CLASSIC) -> str:
    application = Application(bootstrap, "counts", guarantee, ("lines",), protocol)
    wanted = counted(application, happened)
    if guarantee == EXACTLY_ONCE:
        compare(EXACTLY_ONCE, application.written, sequences(wanted))
    else:
        for word, count in wanted.items():
            missing = set(range(1, count + 1)) - {int(value) for value in application.written[word]}
            # one that is killed may have written to its changelog, and not yet to the output
            one_gap = happened is one_killed and len(missing) == max(missing, default=0) - min(missing, default=1) + 1
            assert not missing or one_gap, f"{word}, which came {count} times, was never counted {sorted(missing)}"
        assert application.written.keys() == wanted.keys()
    return restored(application, happened)


def streams_group_count(bootstrap: str, guarantee: str, happened: Trouble) -> str:
    return word_count(bootstrap, guarantee, happened, STREAMS)


# -- joins


def clicks_enriched(bootstrap: str, guarantee: str, happened: Trouble) -> str:
    """Each click meets its user as he was then: users change only when all clicks before are done with."""
    application = Application(bootstrap, "enriched", guarantee, ("clicks", "users"))
    application.start()
    users = [f"user{number}" for number in range(20)]
    wanted: dict[str, list[str]] = defaultdict(list)
    dice = random.Random(18)
    for version in range(3):
        application.send("users", [Input(user, f"{user}-v{version}") for user in users])
        application.until("the users are known", lambda: application.consumed("users"))
        for part in range(2):
            clicks = [Input(dice.choice(users), f"click{version}.{part}.{number}") for number in range(150)]
            for user, click, _ in clicks:
                wanted[user].append(f"{click} {user}-v{version}")
            application.send("clicks", clicks)
            if (version, part) == (1, 0):
                happened(application)
        application.until("the clicks are done with", lambda: application.consumed("clicks"))
    count = sum(map(len, wanted.values()))
    application.until("every click was written", lambda: application.total >= count)
    application.finish()
    compare(guarantee, application.written, wanted)
    return restored(application, happened)


def views_paired(bootstrap: str, guarantee: str, happened: Trouble) -> str:
    """Every view with every click of the same user within ten seconds, by the records' own times."""
    application = Application(bootstrap, "pairs", guarantee, ("views", "clicks"))
    application.start()
    dice = random.Random(81)
    begin_ms = int(time.time() * 1000) - 3_600_000
    made = {
        name: [
            Input(f"user{dice.randrange(15)}", f"{name}{number}", begin_ms + number * 500 + dice.randrange(400))
            for number in range(600)
        ]
        for name in ("views", "clicks")
    }
    wanted: dict[str, list[str]] = defaultdict(list)
    for user, view, viewed_ms in made["views"]:
        for other, click, clicked_ms in made["clicks"]:
            if user == other and abs(viewed_ms - clicked_ms) <= WINDOW_MS:
                wanted[user].append(f"{view} {click}")
    count = sum(map(len, wanted.values()))
    for part in range(3):
        for name, records in made.items():
            application.send(name, records[part * 200 : part * 200 + 200])
        if part == 0:
            application.until("the first are paired", lambda: application.total >= 50)
        if part == 1:
            happened(application)
    application.until("every pair was written", lambda: sum(len(set(p)) for p in application.written.values()) >= count)
    application.finish()
    # the two sides come in an order of their own each
    compare(
        guarantee, *({user: sorted(pairs) for user, pairs in both.items()} for both in (application.written, wanted))
    )
    return restored(application, happened)


def compare(guarantee: str, written: dict[str, list[str]], wanted: dict[str, list[str]]) -> None:
    """Exactly the same, or at least once."""
    assert written.keys() == wanted.keys(), written.keys() ^ wanted.keys()
    for key, values in wanted.items():
        got = written[key]
        same = got == values if guarantee == EXACTLY_ONCE else (set(got), got[-1]) == (set(values), values[-1])
        missing, extra = Counter(values) - Counter(got), Counter(got) - Counter(values)
        assert same, f"{key}: missing {list(missing)[:5]}, too many {list(extra)[:5]}, or in another order"


# -- what else an application asks of a broker


def internal_topics(bootstrap: str) -> str:
    """They are made as Kafka Streams wants them, and what was repartitioned and read is deleted."""
    application = Application(bootstrap, "counts", AT_LEAST_ONCE, ("lines",))
    application.start()
    application.send("lines", [Input("line", line) for line in lines(400, 0)])
    application.until("every word is counted", lambda: application.total == 1600)
    wanted = {
        f"{application.id}-counts-changelog": {
            "cleanup.policy": "compact",
            "message.timestamp.type": "CreateTime",
        },
        f"{application.id}-words-repartition": {
            "cleanup.policy": "delete",
            "message.timestamp.type": "CreateTime",
            "retention.ms": "-1",
            "segment.bytes": "52428800",
        },
    }
    for topic, settings in wanted.items():
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = application.admin.describe_configs([resource])[resource].result(120)
        own = {name: entry.value for name, entry in found.items() if entry.source == 1}  # the topic's own
        assert own == settings, f"{topic}: {own}"
    consumer = application.reader()

    def purged() -> bool:
        parts = [TopicPartition(f"{application.id}-words-repartition", number) for number in range(PARTITIONS)]
        marks = [consumer.get_watermark_offsets(part, timeout=120) for part in parts]
        return all(low == high for low, high in marks) and sum(high for _, high in marks) == 1600

    application.until("what was repartitioned is deleted", purged)
    consumer.close()
    application.finish()
    return ""


def application_reset(bootstrap: str) -> str:
    """The group is at the beginning again, the internal topics are gone, and all comes once more."""
    application = Application(bootstrap, "counts", EXACTLY_ONCE, ("lines",))
    wanted = counted(application, lambda _: None)
    command = [*JAVA, "-cp", f"{kafka_home()}/libs/*", "org.apache.kafka.tools.StreamsResetter"]
    command += ["--bootstrap-server", bootstrap, "--application-id", application.id, "--force"]
    command += ["--input-topics", f"{application.id}.lines"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"the tool ended with {done.returncode}: {(done.stdout + done.stderr)[-400:]}"
    assert re.search("Following input topics offsets will be reset to", done.stdout), done.stdout
    left = [
        topic for topic in application.admin.list_topics(timeout=120).topics if topic.startswith(f"{application.id}-")
    ]
    assert not left, left
    for instance in application.instances:
        instance.wipe()
    application.start()
    again = 2 * sum(wanted.values())
    application.until("all is counted again", lambda: application.total >= again)
    application.finish()
    compare(EXACTLY_ONCE, application.written, {word: 2 * counts for word, counts in sequences(wanted).items()})
    return ""


STORIES: dict[str, tuple[Callable[[str, str, Trouble], str], str, Trouble]] = {
    "word count, at_least_once: an instance stopped": (word_count, AT_LEAST_ONCE, one_stopped),
    "word count, at_least_once: an instance killed -9": (word_count, AT_LEAST_ONCE, one_killed),
    "word count, exactly_once_v2: an instance killed -9": (word_count, EXACTLY_ONCE, one_killed),
    "word count, exactly_once_v2: the broker killed -9": (word_count, EXACTLY_ONCE, broker_killed),
    "word count, exactly_once_v2: both killed -9, no state left": (word_count, EXACTLY_ONCE, state_lost),
    "stream-table join, at_least_once: an instance killed -9": (clicks_enriched, AT_LEAST_ONCE, one_killed),
    "stream-table join, exactly_once_v2: both killed -9, no state left": (clicks_enriched, EXACTLY_ONCE, state_lost),
    "windowed join, at_least_once: an instance killed -9": (views_paired, AT_LEAST_ONCE, one_killed),
    "windowed join, exactly_once_v2: instances, broker and state": (views_paired, EXACTLY_ONCE, all_of_it),
    "streams group, at_least_once: an instance killed -9": (streams_group_count, AT_LEAST_ONCE, one_killed),
    "streams group, exactly_once_v2: an instance killed -9": (streams_group_count, EXACTLY_ONCE, one_killed),
}


def checks(bootstrap: str) -> Iterator[Check]:
    classes = RUN / "classes"
    compiler = ["javac", "-cp", f"{kafka_home()}/libs/*", "-d", str(classes), str(HERE / "Application.java")]
    subprocess.run(compiler, check=True, timeout=300)
    for name, (story, guarantee, happened) in STORIES.items():
        yield Check(
            name,
            lambda story=story, guarantee=guarantee, happened=happened: story(bootstrap, guarantee, happened),
            LIMIT_S,
            restarts=happened in (broker_killed, all_of_it),
        )
    yield Check("internal topics: settings, and what was read is deleted", lambda: internal_topics(bootstrap), LIMIT_S)
    yield Check("kafka-streams-application-reset", lambda: application_reset(bootstrap), LIMIT_S)


if __name__ == "__main__":
    harness.main("kafka-streams", KAFKA_VERSION, checks)
