"""A worker of `sharing.py`: a member of a share group that accepts, releases and rejects what it is given, at random.

    taking.py BOOTSTRAP SEED JOURNAL

The journal has a JSON line for what it was given, one before it tells what it did with it ("telling"), and one for each
partition once the broker has said that this is written down ("told"): so whenever the process is killed, what it says
is so. When the journal was last touched tells that the worker goes on. librdkafka's share consumer renews
nothing: that is `renewing.py`'s part.
"""

import json
import os
import random
import sys
import time

from confluent_kafka import AcknowledgeType, KafkaException, ShareConsumer

TOPIC = "shared"
GROUP = "sharers"
POISON = 53
"""Who has such a record, one in so many, never comes to an end with it."""
RELEASED_SHARE, REJECTED_SHARE, SLOW_SHARE, LEAVING_SHARE = 0.12, 0.03, 0.02, 0.01
LOCK_SECONDS = 2.0


class Worker:
    def __init__(self, bootstrap: str, seed: int, journal: int) -> None:
        self.rng = random.Random(seed)
        self.journal = journal
        self.consumer = ShareConsumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": GROUP,
                "share.acknowledgement.mode": "explicit",
                "log_level": 0,
                "reconnect.backoff.max.ms": 200,
                "retry.backoff.ms": 20,
            }
        )

    def note(self, **what: object) -> None:
        os.write(self.journal, (json.dumps({"at": time.monotonic(), **what}) + "\n").encode())

    def run(self) -> None:
        self.note(begun=True)
        self.consumer.subscribe([TOPIC])
        while True:
            os.utime(self.journal)  # a sign of life
            found = [message for message in self.consumer.poll(0.5) if message.error() is None]
            if not found:
                continue
            self.note(given=[(each.partition(), each.offset(), each.delivery_count()) for each in found])
            if self.rng.random() < SLOW_SHARE:
                time.sleep(self.rng.uniform(0.5, 2) * LOCK_SECONDS)
            kinds = [self.kind(message.offset()) for message in found]
            self.note(
                telling=[(each.partition(), each.offset(), int(kind)) for each, kind in zip(found, kinds, strict=True)]
            )
            for message, kind in zip(found, kinds, strict=True):
                self.consumer.acknowledge(message, kind)
            self.tell()
            if self.rng.random() < LEAVING_SHARE:
                self.consumer.close()
                return

    def kind(self, offset: int) -> AcknowledgeType:
        chance = self.rng.random()
        if offset % POISON == 0 or chance < RELEASED_SHARE:
            return AcknowledgeType.RELEASE
        return AcknowledgeType.REJECT if chance < RELEASED_SHARE + REJECTED_SHARE else AcknowledgeType.ACCEPT

    def tell(self) -> None:
        try:
            outcome = self.consumer.commit_sync(20)
        except KafkaException:
            return  # whether it is written down nobody knows
        self.note(told=[place.partition for place, refusal in outcome.items() if refusal is None])


if __name__ == "__main__":
    Worker(sys.argv[1], int(sys.argv[2]), os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND)).run()
