"""A broker as a test holds it: where it is, and what can be done with it, in any thread and beside any event loop."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from kafkapy.clock import ThreadClock
from kafkapy.model import TopicPartition
from kafkapy.records.record import Headers
from kafkapy.testing.asserting import Produced, compare
from kafkapy.testing.client import Client
from kafkapy.testing.connection import BlockingConnection, driven
from kafkapy.testing.entries import Entry
from kafkapy.testing.nouns import ConsumedRecord, GroupView, ListedTopic
from kafkapy.testing.operations import Operations, Text


class BrokerHandle:
    """A running broker. Every method blocks until it is done; what it raises is told by `Operations`."""

    def __init__(self, host: str, port: int) -> None:
        self._connect_to(host, port)

    def _connect_to(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._operations = self._operations_over(self._client())

    def _operations_over(self, client: Client) -> Operations:
        return Operations(client, now_ms=self._now_ms)

    def _client(self) -> Client:
        return Client(BlockingConnection(self.host, self.port))

    def _now_ms(self) -> int:
        return ThreadClock().now_ms()

    @property
    def bootstrap_servers(self) -> str:
        """host:port, as every client takes it."""
        return f"{self.host}:{self.port}"

    @property
    def operations(self) -> Operations:
        """What the methods below are made of. `stop` takes it away."""
        return self._operations

    def create_topic(
        self, name: str, partitions: int = 1, *, replication_factor: int = -1, config: Mapping[str, str] | None = None
    ) -> None:
        """Make a topic. Raises KafkaError, TOPIC_ALREADY_EXISTS for one."""
        driven(self.operations.create_topic(name, partitions, replication_factor=replication_factor, config=config))

    def delete_topics(self, names: Iterable[str]) -> None:
        """Delete topics. Raises KafkaError."""
        driven(self.operations.delete_topics(names))

    def topics(self, *, internal: bool = False) -> list[ListedTopic]:
        """The topics that there are, by name; Kafka's own only where asked for."""
        return driven(self.operations.topics(internal=internal))

    def produce(
        self,
        topic: str,
        value: Text = None,
        *,
        key: Text = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> int:
        """Write one record, and return its offset; a topic that is not there is made, where the broker does that."""
        return driven(
            self.operations.produce(topic, value, key=key, headers=headers, partition=partition, timestamp=timestamp)
        )

    def records(self, topic: str, partition: int | None = None) -> list[ConsumedRecord]:
        """All records of a topic, or of one of its partitions, as a consumer of committed ones sees them now."""
        return driven(self.operations.records(topic, partition))

    def wait_records(self, topic: str, count: int = 1, *, timeout: float = 10.0) -> list[ConsumedRecord]:
        """All records of a topic, as soon as there are that many. Raises NotInTime."""
        return driven(self.operations.wait_records(topic, count, timeout=timeout))

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Where each partition ends for a consumer of committed records; nothing where there is no such topic."""
        return driven(self.operations.end_offsets(topic))

    @contextmanager
    def assert_produced(self, topic: str, *expected: Produced, timeout: float = 5.0) -> Iterator[None]:
        """The block adds exactly these records to the topic, whatever their partitions; else AssertionError.

        Each is a value, or a mapping of those fields that matter: `{"key": b"k", "value": b"v"}`.
        """
        ends = self.end_offsets(topic)
        yield
        found = driven(self.operations.records_since(topic, ends, len(expected), timeout=timeout))
        compare(topic, found, expected)

    def groups(self) -> list[GroupView]:
        """All groups, with what they committed."""
        return driven(self.operations.groups())

    def group(self, group_id: str) -> GroupView:
        """One group. Raises KafkaError GROUP_ID_NOT_FOUND."""
        return driven(self.operations.group(group_id))

    def committed(self, group_id: str) -> dict[TopicPartition, int]:
        """The offsets that the group committed."""
        return driven(self.operations.committed(group_id))

    def wait_group(
        self, group_id: str, *, state: str | None = "Stable", members: int | None = None, timeout: float = 10.0
    ) -> GroupView:
        """The group, as soon as it is in that state and has that many members. Raises NotInTime."""
        return driven(self.operations.wait_group(group_id, state=state, members=members, timeout=timeout))

    def wait_committed(
        self, group_id: str, topic: str, offset: int, *, partition: int = 0, timeout: float = 10.0
    ) -> int:
        """The group's committed offset of a partition, as soon as it is at least that. Raises NotInTime."""
        return driven(self.operations.wait_committed(group_id, topic, offset, partition=partition, timeout=timeout))

    def reset(self) -> None:
        """Forget topics, groups, producers, transactions, rights, users, limits, settings; clients stay connected."""
        driven(self.operations.reset())

    def seed(self, source: "str | os.PathLike[str] | Iterable[Entry]") -> None:
        """Write what a file of JSON lines says, or such entries (`entries.py`). Raises KafkaError, BadEntry."""
        driven(self.operations.seed(source))

    def snapshot(self) -> list[Entry]:
        """What is in the broker: topics with records, groups with offsets, rights, limits, settings; for `restore`."""
        return driven(self.operations.snapshot())

    def restore(self, snapshot: "str | os.PathLike[str] | Iterable[Entry]") -> None:
        """Have it hold what it held then, and nothing else; groups must have no members. Raises KafkaError."""
        driven(self.operations.restore(snapshot))

    def close(self) -> None:
        """Hang up; the broker goes on."""
        driven(self.operations.close())
