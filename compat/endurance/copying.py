"""A worker of `transactions.py`: reads, and writes again in transactions, with librdkafka. `Copying.java` is its twin.

    copying.py BOOTSTRAP TRANSACTIONAL_ID INSTANCE SEED JOURNAL

Each line of the journal is there before what it tells of is done ("committing", "aborting") or after ("committed",
"aborted"), whenever the process is killed; when it was last touched tells that the worker goes on. It ends by itself
with code 3 when it is shut out, or does not know what became of its transaction: the next instance of the same id sees
to that.
"""

import os
import random
import sys
import time

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from exactly_once import Copy

SOURCE = "source"
COPIES = ("copies-a", "copies-b")
GROUP = "copiers"
BATCH_LIMIT = 200
PATIENCE_S = 20
TRANSACTION_TIMEOUT_MS = 8000
ABORTED_SHARE = 0.15
IDLE_SHARE = 0.05


class Worker:
    def __init__(self, bootstrap: str, name: str, instance: str, seed: int, journal: int) -> None:
        self.instance = instance
        self.rng = random.Random(seed)
        self.journal = journal
        self.batch: list[Message] = []
        common = {"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200}
        self.producer = Producer(
            {
                **common,
                "transactional.id": name,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "retry.backoff.ms": 20,
                "linger.ms": self.rng.choice((0, 5, 50)),
            }
        )
        self.consumer = Consumer(
            {
                **common,
                "group.id": GROUP,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 3000,
                "heartbeat.interval.ms": 500,
                "partition.assignment.strategy": "range",
            }
        )

    def note(self, word: str, transaction: str) -> None:
        os.write(self.journal, f"{word} {transaction}\n".encode())

    def run(self) -> None:
        self.producer.init_transactions(PATIENCE_S)
        self.consumer.subscribe([SOURCE], on_assign=self._moved, on_revoke=self._moved, on_lost=self._moved)
        number = 0
        while True:
            os.utime(self.journal)  # a sign of life
            self.fill()
            if self.batch:
                number += 1
                self.transact(f"{self.instance}.{number}", self.batch)
                self.batch = []

    def fill(self) -> None:
        wanted = self.rng.randrange(1, BATCH_LIMIT)
        deadline = time.monotonic() + 0.3
        while len(self.batch) < wanted and time.monotonic() < deadline:
            message = self.consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.batch.append(message)

    def transact(self, transaction: str, batch: list[Message]) -> None:
        self.note("begin", transaction)
        self.producer.begin_transaction()
        try:
            for message in batch:
                key, number = map(int, message.value().split())
                copy = Copy(transaction, len(batch), message.partition(), message.offset(), key, number)
                for topic in COPIES:
                    self.producer.produce(topic, copy.encode(), partition=message.partition())
            ends = {message.partition(): message.offset() + 1 for message in batch}
            self.producer.send_offsets_to_transaction(
                [TopicPartition(SOURCE, partition, offset) for partition, offset in ends.items()],
                self.consumer.consumer_group_metadata(),
                PATIENCE_S,
            )
            if self.rng.random() < IDLE_SHARE:
                time.sleep(self.rng.uniform(1, 6))
            if self.rng.random() < ABORTED_SHARE:
                self.abort(transaction, batch)
                return
            self.note("committing", transaction)
            self.commit()
            self.note("committed", transaction)
        except KafkaException as failure:
            if not failure.args[0].txn_requires_abort():
                raise
            self.abort(transaction, batch)

    def commit(self) -> None:
        for _ in range(5):
            try:
                self.producer.commit_transaction(PATIENCE_S)
                return
            except KafkaException as failure:
                if not failure.args[0].retriable():
                    raise
        sys.exit(3)

    def abort(self, transaction: str, batch: list[Message]) -> None:
        if self.producer.flush(PATIENCE_S / 4):
            sys.exit(3)  # librdkafka would use the sequence numbers of what it drops again: see decision 27
        self.note("aborting", transaction)
        self.producer.abort_transaction(PATIENCE_S)
        self.note("aborted", transaction)
        begins: dict[int, int] = {}
        for message in batch:
            begins.setdefault(message.partition(), message.offset())
        for partition, offset in begins.items():
            self.consumer.seek(TopicPartition(SOURCE, partition, offset))

    def _moved(self, _: Consumer, __: list[TopicPartition]) -> None:
        self.batch = []


def main() -> int:
    bootstrap, name, instance, seed, path = sys.argv[1:]
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        Worker(bootstrap, name, instance, int(seed), journal).run()
    except KafkaException as failure:
        print(f"{instance}: {failure}", flush=True)
        return 3


if __name__ == "__main__":
    sys.exit(main())
