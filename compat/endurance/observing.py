"""Who fills the source of `transactions.py`, and who watches its logs, each a thread that lives through all kills."""

import random
import threading
from collections import defaultdict
from collections.abc import Callable

from brokers import Trouble
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from exactly_once import Place

KEY_COUNT = 24
RECORDS_A_SECOND = 150
MOST_BEHIND = 3000
"""So many records may wait for their copies."""
PATIENCE_S = 120
_LASTING = {"log_level": 0, "reconnect.backoff.max.ms": 200}

Seen = dict[Place, list[tuple[int, bytes]]]


class Watch(threading.Thread):
    """A thread that goes on until it is told to stop, and keeps what it does not like."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stopping = threading.Event()
        self.complaints: list[str] = []


class Feeder(Watch):
    """Writes "key number" to a key's partition, the numbers of each key 0, 1, 2 …, idempotently.

    It rests while `copied` says that the copies are far behind.
    """

    def __init__(self, bootstrap: str, topic: str, partition_count: int, seed: int, copied: Callable[[], int]) -> None:
        super().__init__()
        self.copied = copied
        self.topic = topic
        self.partition_count = partition_count
        self.rng = random.Random(seed)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "message.timeout.ms": 0,
                "retry.backoff.ms": 20,
                **_LASTING,
            }
        )

    def run(self) -> None:
        numbers: dict[int, int] = defaultdict(int)
        while not self.stopping.wait(0.1):
            self._producer.poll(0)
            if sum(numbers.values()) - self.copied() > MOST_BEHIND:
                continue
            for _ in range(self.rng.randrange(RECORDS_A_SECOND // 5)):
                key = self.rng.randrange(KEY_COUNT)
                value = b"%d %d" % (key, numbers[key])
                numbers[key] += 1
                self._producer.produce(self.topic, value, partition=key % self.partition_count, on_delivery=self._told)
        if left := self._producer.flush(PATIENCE_S):
            self.complaints.append(f"source: {left} records were not acknowledged")

    def _told(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.complaints.append(f"source: {error}")


class Observer(Watch):
    """Reads partitions from their beginnings on, and never again."""

    def __init__(self, bootstrap: str, places: list[Place], isolation: str) -> None:
        super().__init__()
        self.seen: Seen = {place: [] for place in places}
        self._consumer = _reader(bootstrap, places, isolation)

    @property
    def count(self) -> int:
        return sum(map(len, self.seen.values()))

    def run(self) -> None:
        while not self.stopping.is_set():
            message = self._consumer.poll(0.2)
            if message is None or message.error():
                continue
            records = self.seen[message.topic(), message.partition()]
            if records and message.offset() <= records[-1][0]:
                self.complaints.append(f"observer: offset {message.offset()} comes after {records[-1][0]}")
            records.append((message.offset(), message.value()))
        self._consumer.close()


class Stability(Watch):
    """Asks again and again how far logs reach, and how far they are stable: neither goes back."""

    def __init__(self, bootstrap: str, places: list[Place]) -> None:
        super().__init__()
        self.count = 0
        self._asked = {TopicPartition(*place): OffsetSpec.latest() for place in places}
        self._admin = AdminClient({"bootstrap.servers": bootstrap, **_LASTING})

    def run(self) -> None:
        last: dict[tuple[str, Place], int] = {}
        levels = {"stable end": IsolationLevel.READ_COMMITTED, "end": IsolationLevel.READ_UNCOMMITTED}
        while not self.stopping.wait(0.2):
            for what, level in levels.items():
                answers = self._admin.list_offsets(self._asked, isolation_level=level, request_timeout=5)
                for asked, answer in answers.items():
                    place = asked.topic, asked.partition
                    try:
                        offset = answer.result(10).offset
                    except (KafkaException, TimeoutError):
                        continue  # the broker is away
                    if offset < 0:
                        continue  # nor is that an answer
                    self.count += 1
                    if offset < last.get((what, place), 0):
                        before = last[what, place]
                        self.complaints.append(f"stability: the {what} of {place} goes back from {before} to {offset}")
                    last[what, place] = offset


def read_all(bootstrap: str, places: list[Place], isolation: str) -> Seen:
    """What there is now. Raises Trouble when it does not come."""
    consumer = _reader(bootstrap, places, isolation)
    seen: Seen = {place: [] for place in places}
    ended: set[Place] = set()
    while len(ended) < len(places):
        message = consumer.poll(PATIENCE_S)
        if message is None:
            raise Trouble(f"nothing of {set(places) - ended} came for {PATIENCE_S} s")
        place = message.topic(), message.partition()
        if message.error() is None:
            seen[place].append((message.offset(), message.value()))
        elif message.error().code() == KafkaError._PARTITION_EOF:
            ended.add(place)
    consumer.close()
    return seen


def _reader(bootstrap: str, places: list[Place], isolation: str) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"observer of {isolation}",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            **_LASTING,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in places])
    return consumer
