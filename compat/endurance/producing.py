"""A writer of `failover.py`: numbers, round the partitions of its topic, as the client is delivered. `Producing.java`
is its twin.

    producing.py CLIENT BOOTSTRAP TOPIC JOURNAL

CLIENT is librdkafka, kafka-python or aiokafka, idempotent, or librdkafka-transactions: a record for each partition in
a transaction; what is aborted is written again. A line of the journal is a time of the system's monotonic clock and a
word: "acked NUMBER OFFSET" (-1: not told), "failed NUMBER REASON", and as the last one "sent COUNT". It ends at
SIGTERM, once all is acknowledged.
"""

import asyncio
import sys
import time
from collections.abc import Callable

from journal import Journal

PARTITION_COUNT = 6
ROUND_S = 0.06
"""So long is between two records of a partition."""
MOST_WAITING = 3000
PATIENCE_S = 120


class Written(Journal):
    """What `failover.py` reads; counts what was sent and what was answered."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.sent = 0
        self.answered = 0

    def acked(self, number: int, offset: int) -> None:
        self.answered += 1
        self.note("acked", number, offset)

    def failed(self, number: int, reason: object) -> None:
        self.answered += 1
        self.note("failed", number, " ".join(str(reason).split()))

    def next_round(self) -> range:
        """The numbers of the next records, one for each partition; none while too many wait."""
        count = PARTITION_COUNT if self.sent - self.answered < MOST_WAITING else 0
        self.sent += count
        return range(self.sent - count, self.sent)


def librdkafka(bootstrap: str, topic: str, journal: Written) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0})

    def told(number: int) -> Callable[[object, object], None]:
        def tell(error: object, message: object) -> None:
            if error is None:
                journal.acked(number, message.offset())  # type: ignore[attr-defined]
            else:
                journal.failed(number, error)

        return tell

    while not journal.ending:
        until = time.monotonic() + ROUND_S
        for number in journal.next_round():
            producer.produce(topic, b"%d" % number, partition=number % PARTITION_COUNT, on_delivery=told(number))
        while (left := until - time.monotonic()) > 0:
            producer.poll(left)
    producer.flush(PATIENCE_S)


def librdkafka_transactions(bootstrap: str, topic: str, journal: Written) -> None:
    from confluent_kafka import KafkaException, Producer

    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": topic, "log_level": 0})

    def insist(act: Callable[[], object]) -> None:
        while True:
            try:
                act()
                return
            except KafkaException as problem:
                if not problem.args[0].retriable():
                    raise

    def written(numbers: range) -> bool:
        try:
            producer.begin_transaction()
            for number in numbers:
                producer.produce(topic, b"%d" % number, partition=number % PARTITION_COUNT)
            insist(producer.commit_transaction)
        except KafkaException as problem:
            if not problem.args[0].txn_requires_abort():
                raise
            while producer.flush(5):
                pass  # what it drops it would use the sequence numbers of: see decision 27
            insist(producer.abort_transaction)
            return False
        return True

    insist(producer.init_transactions)
    while not journal.ending:
        begun = time.monotonic()
        numbers = journal.next_round()
        while not written(numbers):
            pass
        for number in numbers:
            journal.acked(number, -1)
        time.sleep(max(0, begun + ROUND_S - time.monotonic()))


def kafka_python(bootstrap: str, topic: str, journal: Written) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    while not journal.ending:
        begun = time.monotonic()
        for number in journal.next_round():
            sent = producer.send(topic, b"%d" % number, partition=number % PARTITION_COUNT)
            sent.add_callback(lambda made, number=number: journal.acked(number, made.offset))
            sent.add_errback(lambda error, number=number: journal.failed(number, repr(error)))
        time.sleep(max(0, begun + ROUND_S - time.monotonic()))
    producer.flush(PATIENCE_S)
    producer.close()


async def aiokafka(bootstrap: str, topic: str, journal: Written) -> None:
    from aiokafka import AIOKafkaProducer

    def told(number: int) -> Callable[[asyncio.Future[object]], None]:
        def tell(done: asyncio.Future[object]) -> None:
            if (error := done.exception()) is None:
                journal.acked(number, done.result().offset)  # type: ignore[attr-defined]
            else:
                journal.failed(number, repr(error))

        return tell

    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True) as producer:
        while not journal.ending:
            begun = time.monotonic()
            for number in journal.next_round():
                sent = await producer.send(topic, b"%d" % number, partition=number % PARTITION_COUNT)
                sent.add_done_callback(told(number))
            await asyncio.sleep(max(0, begun + ROUND_S - time.monotonic()))
        await asyncio.wait_for(producer.flush(), PATIENCE_S)


def main() -> None:
    client, bootstrap, topic, path = sys.argv[1:]
    journal = Written(path)
    match client:
        case "librdkafka":
            librdkafka(bootstrap, topic, journal)
        case "librdkafka-transactions":
            librdkafka_transactions(bootstrap, topic, journal)
        case "kafka-python":
            kafka_python(bootstrap, topic, journal)
        case "aiokafka":
            asyncio.run(aiokafka(bootstrap, topic, journal))
    journal.note("sent", journal.sent)


if __name__ == "__main__":
    main()
