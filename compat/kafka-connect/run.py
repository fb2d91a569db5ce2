"""Kafka Connect in distributed mode against a broker: lines of a file to a topic, and from there to another file.

Workers run with exactly-once sources, so what a reader of committed records finds in the topic is the file, line by
line, whoever is killed. Run by compat/run; see README.md. `cluster.py` is the workers and their API.
"""

import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import harness
from brokers import KAFKA_VERSION
from cluster import FILE, Cluster, Refused, until
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic
from harness import Check
from scenarios import fresh

LIMIT_S = 900  # on a busy machine


class Pipe:
    """A file that grows, the topic to which it goes, and the file that is made of that."""

    def __init__(self, cluster: Cluster, bootstrap: str) -> None:
        self.topic = fresh("lines")
        self.written = cluster.folder / f"{self.topic}.in"
        self.made = cluster.folder / f"{self.topic}.out"
        self.count = 0
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "nobody",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
        self._found: list[str] | None = None

    def write(self, count: int) -> None:
        """Put more lines into the first file."""
        with self.written.open("a") as file:
            file.writelines(f"line {number}\n" for number in range(self.count, self.count + count))
        self.count += count

    def stream(self, count: int) -> None:
        """Put them in bit by bit, a transaction each, while they are read."""
        for _ in range(count // 10):
            self.write(10)
            self.found()

    @property
    def lines(self) -> list[str]:
        return lines_of(self.written)

    def found(self) -> list[str]:
        """What was committed to the topic up to now, as far as it is here."""
        if self._found is None:
            self._found = []
            self._consumer.assign([TopicPartition(self.topic, 0, OFFSET_BEGINNING)])
        records = [record for record in self._consumer.consume(1000, 0.2) if not record.error()]
        self._found += [record.value().decode() for record in records]
        return self._found

    def until_in_topic(self) -> None:
        until("all lines are in the topic", lambda: len(self.found()) >= self.count)

    def until_made(self) -> None:
        wanted = set(self.lines)
        until("all lines are in the file", lambda: set(lines_of(self.made)) >= wanted)

    def check_topic(self) -> None:
        """Each line once and in order."""
        until("the topic is read to its end", lambda: len(self.found()) == len(self.found()) >= self.count)
        found = self.found()
        twice = len(found) - len(set(found))
        assert found == self.lines, f"{len(found)} lines of {self.count} are in the topic, {twice} of them twice"


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def refused(status: int, *words: str) -> "Refusal":
    return Refusal(status, words)


class Refusal:
    """The block ends with the API's refusal, in these words."""

    def __init__(self, status: int, words: tuple[str, ...]) -> None:
        self.status = status
        self.words = words

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        assert error is not None, "it was not refused"
        if not isinstance(error, Refused):
            return False
        assert error.status == self.status, error
        for word in self.words:
            assert word in error.text, f"{word!r} is not in {error.text!r}"
        return True


# -- lines from file to file


def file_to_file(bootstrap: str) -> str:
    cluster = Cluster(bootstrap, 2)
    cluster.start()
    pipe = Pipe(cluster, bootstrap)
    pipe.write(500)
    source, sink = cluster.source(pipe.topic, pipe.written), cluster.sink(pipe.topic, pipe.made)
    for connector in (source, sink):
        cluster.until_state(connector, "RUNNING", "RUNNING")
    pipe.write(500)
    pipe.until_made()
    pipe.check_topic()
    assert lines_of(pipe.made) == pipe.lines
    assert cluster.ask("GET", f"/connectors/{source}/topics") == {source: {"topics": [pipe.topic]}}
    workers = {cluster.worker_of(connector).address for connector in (source, sink)}
    assert workers == {worker.address for worker in cluster.workers}, workers
    cluster.ask("DELETE", f"/connectors/{source}")
    until("the connector is gone", lambda: cluster.ask("GET", "/connectors") == [sink])
    cluster.stop()
    return f"{pipe.count} lines"


def workers_killed(bootstrap: str) -> str:
    """Both, one after the other, each while it has the source; the sink may write lines twice then.

    The source keeps its offsets in a topic of its own.
    """
    cluster = Cluster(bootstrap, 2)
    cluster.start()
    pipe = Pipe(cluster, bootstrap)
    pipe.write(500)
    own = {"offsets.storage.topic": fresh("offsets")}
    source, sink = cluster.source(pipe.topic, pipe.written, **own), cluster.sink(pipe.topic, pipe.made)
    pipe.until_made()
    for _ in range(2):
        killed = cluster.worker_of(source)
        pipe.stream(200)
        killed.kill()
        pipe.stream(100)
        pipe.until_in_topic()
        killed.launch()
        killed.wait_ready()
    pipe.write(500)
    pipe.until_made()
    pipe.check_topic()
    for connector in (source, sink):
        cluster.until_state(connector, "RUNNING", "RUNNING")
    cluster.stop()
    return f"{pipe.count} lines, {len(lines_of(pipe.made)) - pipe.count} written twice by the sink"


def broker_killed(bootstrap: str) -> str:
    cluster = Cluster(bootstrap, 2)
    cluster.start()
    pipe = Pipe(cluster, bootstrap)
    pipe.write(500)
    source, sink = cluster.source(pipe.topic, pipe.written), cluster.sink(pipe.topic, pipe.made)
    pipe.until_made()
    pipe.stream(200)
    harness.restart_broker()
    pipe.stream(100)
    pipe.until_made()
    pipe.check_topic()
    for connector in (source, sink):
        cluster.until_state(connector, "RUNNING", "RUNNING")
    cluster.stop()
    return f"{pipe.count} lines"


# -- the API


def paused_and_restarted(bootstrap: str) -> str:
    cluster = Cluster(bootstrap, 1)
    cluster.start()
    pipe = Pipe(cluster, bootstrap)
    source, sink = cluster.source(pipe.topic, pipe.written), cluster.sink(pipe.topic, pipe.made)
    pipe.write(10)
    pipe.until_made()
    for connector in (source, sink):
        cluster.ask("PUT", f"/connectors/{connector}/pause")
        cluster.until_state(connector, "PAUSED", "PAUSED")
    pipe.write(10)
    cluster.ask("PUT", f"/connectors/{source}/resume")
    pipe.until_in_topic()
    assert len(lines_of(pipe.made)) == 10, "a connector that was paused went on"
    cluster.ask("PUT", f"/connectors/{sink}/resume")
    pipe.until_made()
    cluster.ask("PUT", f"/connectors/{source}/stop")
    cluster.until_state(source, "STOPPED")
    pipe.write(10)
    cluster.ask("PUT", f"/connectors/{source}/resume")
    for connector in (source, sink):
        cluster.ask("POST", f"/connectors/{connector}/restart?includeTasks=true&onlyFailed=false")
        cluster.ask("POST", f"/connectors/{connector}/tasks/0/restart")
        cluster.until_state(connector, "RUNNING", "RUNNING")
    pipe.write(10)
    pipe.until_made()
    changed = cluster.ask("PATCH", f"/connectors/{source}/config", {"batch.size": "1000"})
    assert changed["config"]["batch.size"] == "1000", changed
    pipe.write(10)
    pipe.until_made()
    pipe.check_topic()
    assert lines_of(pipe.made) == pipe.lines
    cluster.stop()
    return ""


def offsets_reset(bootstrap: str) -> str:
    """Of a source, and of a sink, whose offsets are those of a consumer group."""
    cluster = Cluster(bootstrap, 1)
    cluster.start()
    pipe = Pipe(cluster, bootstrap)
    pipe.write(100)
    source, sink = cluster.source(pipe.topic, pipe.written), cluster.sink(pipe.topic, pipe.made)
    pipe.until_made()

    def offsets(connector: str) -> object:
        return cluster.ask("GET", f"/connectors/{connector}/offsets")["offsets"]

    def at(position: int) -> list[object]:
        return [{"partition": {"filename": str(pipe.written)}, "offset": {"position": position}}]

    def read(offset: int | None) -> list[object]:
        partition = {"kafka_topic": pipe.topic, "kafka_partition": 0}
        return [{"partition": partition, "offset": None if offset is None else {"kafka_offset": offset}}]

    end = pipe.written.stat().st_size
    until("the source's offset is kept", lambda: offsets(source) == at(end))
    with refused(400, "must be in the STOPPED state"):
        cluster.ask("DELETE", f"/connectors/{source}/offsets")
    for connector in (source, sink):
        cluster.ask("PUT", f"/connectors/{connector}/stop")
        cluster.until_state(connector, "STOPPED")
    assert offsets(source) == at(end)
    for changed in (at(end - len("line 99\n")), []):
        if changed:
            said = cluster.ask("PATCH", f"/connectors/{source}/offsets", {"offsets": changed})
        else:
            said = cluster.ask("DELETE", f"/connectors/{source}/offsets")
        assert "have been" in said["message"], said
        assert offsets(source) == changed
    until("the sink's group has no members", lambda: len(offsets(sink)) == 1)
    cluster.ask("PATCH", f"/connectors/{sink}/offsets", {"offsets": read(3)})
    assert offsets(sink) == read(3), offsets(sink)
    cluster.ask("DELETE", f"/connectors/{sink}/offsets")
    assert offsets(sink) == [], offsets(sink)
    for connector in (source, sink):
        cluster.ask("PUT", f"/connectors/{connector}/resume")
    twice = pipe.lines * 2
    until("the file is in the topic again", lambda: len(pipe.found()) >= len(twice))
    assert pipe.found() == twice
    until("all was written again", lambda: lines_of(pipe.made) == pipe.lines + twice)
    cluster.stop()
    return ""


def refusals(bootstrap: str) -> str:
    cluster = Cluster(bootstrap, 1)
    cluster.start()
    file = cluster.folder / "lines"
    file.write_text("a line\n")
    with refused(400, 'Missing required configuration "topic"'):
        cluster.create({"connector.class": f"{FILE}SourceConnector", "file": str(file)})
    with refused(400, "tasks.max"):
        cluster.source("lines", file, **{"tasks.max": "none"})
    with refused(400, "does not support exactly-once semantics"):
        cluster.create({"connector.class": f"{FILE}SourceConnector", "topic": "x", "exactly.once.support": "required"})
    with refused(400, "does not support connector-defined transaction boundaries"):
        cluster.source("lines", file, **{"transaction.boundary": "connector"})
    with refused(400, "topics"):
        cluster.create({"connector.class": f"{FILE}SinkConnector", "file": str(file)})
    with refused(400, "Failed to find any class"):
        cluster.create({"connector.class": "NoSuchConnector"})
    with refused(404, "not found"):
        cluster.ask("GET", "/connectors/nobody")
    name = cluster.source(fresh("lines"), file)
    with refused(409, "already exists"):
        cluster.ask("POST", "/connectors", {"name": name, "config": cluster.ask("GET", f"/connectors/{name}/config")})
    path = f"/connector-plugins/{urllib.parse.quote(FILE)}SourceConnector/config/validate"
    verdict = cluster.ask("PUT", path, {"connector.class": f"{FILE}SourceConnector"})
    errors = {one["value"]["name"]: one["value"]["errors"] for one in verdict["configs"] if one["value"]["errors"]}
    assert errors.keys() == {"topic", "name"} and verdict["error_count"] == 2, errors
    assert cluster.ask("GET", "/connectors") == [name]
    topics_refused(cluster, file)
    cluster.stop()
    return ""


def topics_refused(cluster: Cluster, file: Path) -> None:
    """A topic that the broker does not want to make: the task has failed, and says why in the broker's words."""
    wanted = {
        ("replication.factor", "3"): "InvalidReplicationFactorException: Unable to replicate the partition 3 time(s)",
        (
            "cleanup.policy",
            "burn",
        ): "InvalidConfigurationException: Invalid value burn for configuration cleanup.policy",
    }
    names = [cluster.source(fresh("lines"), file, **{f"topic.creation.default.{key}": value}) for key, value in wanted]
    for name, words in zip(names, wanted.values(), strict=True):
        cluster.until_state(name, "RUNNING", "FAILED")
        trace = cluster.ask("GET", f"/connectors/{name}/status")["tasks"][0]["trace"]
        assert words in trace, trace


# -- the topics in which a cluster keeps what it knows


def internal_topics(bootstrap: str) -> str:
    cluster = Cluster(bootstrap, 1)
    cluster.start()
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for what, partition_count in (("config", 1), ("offset", 25), ("status", 5)):
        topic = f"{cluster.id}-{what}"
        assert len(admin.list_topics(topic, timeout=120).topics[topic].partitions) == partition_count
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = admin.describe_configs([resource])[resource].result(120)
        own = {name: entry.value for name, entry in found.items() if entry.source == 1}  # the topic's own
        assert own["cleanup.policy"] == "compact", own
    cluster.stop()
    # what a cluster left another one begins with
    again = Cluster(bootstrap, 1, **{f"{what}.storage.topic": f"{cluster.id}-{what}" for what in ("config", "offset")})
    again.start()
    again.stop()
    return ""


def internal_topics_refused(bootstrap: str) -> str:
    """A worker ends at once when its topics would lose what it must not lose."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for setting, topic, words in (
        ("config.storage.topic", NewTopic(fresh("deleted"), 1, 1), "required to have 'cleanup.policy=compact'"),
        (
            "config.storage.topic",
            NewTopic(fresh("wide"), 2, 1, config={"cleanup.policy": "compact"}),
            "required to have a single partition",
        ),
    ):
        admin.create_topics([topic])[topic.topic].result(120)
        cluster = Cluster(bootstrap, 1, **{setting: topic.topic})
        (worker,) = cluster.workers
        worker.launch()
        until("the worker has said why", lambda worker=worker, words=words: words in worker.log.read_text())
        until("it is about to end", lambda worker=worker: "herder work thread, exiting" in worker.log.read_text())
        worker.kill()
    return ""


STORIES = {
    "file to topic to file, two workers": file_to_file,
    "exactly-once source: workers killed -9": workers_killed,
    "exactly-once source: the broker killed -9": broker_killed,
    "API: pause, resume, stop, restart, change": paused_and_restarted,
    "API: offsets read, altered, reset": offsets_reset,
    "API: configurations and topics refused": refusals,
    "internal topics: made, and found by the next cluster": internal_topics,
    "internal topics: refused": internal_topics_refused,
}


def checks(bootstrap: str) -> Iterator[Check]:
    for name, story in STORIES.items():
        yield Check(name, lambda story=story: story(bootstrap), LIMIT_S, restarts=story is broker_killed)


if __name__ == "__main__":
    harness.main("kafka-connect", KAFKA_VERSION, checks)
