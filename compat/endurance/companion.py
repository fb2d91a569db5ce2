"""The well-behaved client beside the hostile ones: produces at a steady pace, consumes in a group, keeps the times.

Started by `hostile.py` as a process of its own: `companion.py BOOTSTRAP TOPIC SETTINGS`, the settings of its clients
as JSON. Prints a JSON line a second with what
it has seen so far; ends at SIGTERM, after everything acknowledged was consumed or half a minute later.
"""

import json
import signal
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Message, Producer

PAUSE_S = 0.05
PAYLOAD = b"x" * 1000


class Companion:
    def __init__(self, bootstrap: str, topic: str, settings: str) -> None:
        self.settings = {"bootstrap.servers": bootstrap, "log_level": 2} | json.loads(settings)
        self.topic = topic
        self.stopping = threading.Event()
        self.sent_at: list[float] = []
        self.acknowledge_s: list[float] = []
        self.arrive_s: list[float] = []
        self.consumed: set[int] = set()
        self.doubled_count = 0
        self.errors: list[str] = []

    def produce(self) -> None:
        producer = Producer({"enable.idempotence": True, "linger.ms": 0, **self.settings})
        while not self.stopping.is_set():
            number = len(self.sent_at)
            self.sent_at.append(time.monotonic())

            def delivered(error: object, _: Message, number: int = number) -> None:
                if error is not None:
                    self.errors.append(f"record {number}: {error}")
                self.acknowledge_s.append(time.monotonic() - self.sent_at[number])

            producer.produce(self.topic, b"%d " % number + PAYLOAD, on_delivery=delivered)
            until = time.monotonic() + PAUSE_S
            while (left_s := until - time.monotonic()) > 0:
                producer.poll(left_s)
        if left := producer.flush(30):
            self.errors.append(f"{left} records are not acknowledged at the end")

    def consume(self) -> None:
        consumer = Consumer(
            {
                **self.settings,
                "group.id": self.topic,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 30000,
            }
        )
        consumer.subscribe([self.topic])
        last_commit, committed_count = time.monotonic(), 0
        deadline = float("inf")
        while time.monotonic() < deadline:
            for message in consumer.consume(100, timeout=0.2):
                self._take(message)
            try:
                if time.monotonic() - last_commit > 1 and len(self.consumed) > committed_count:
                    last_commit, committed_count = time.monotonic(), len(self.consumed)
                    consumer.commit(asynchronous=False)
            except KafkaException as error:
                self.errors.append(f"commit: {error}")
            if self.stopping.is_set():
                deadline = min(deadline, time.monotonic() + 30)
                if len(self.consumed) == len(self.sent_at):
                    break
        consumer.close()

    def _take(self, message: Message) -> None:
        if message.error() is not None:
            self.errors.append(f"consume: {message.error()}")
            return
        number = int(message.value().split(b" ", 1)[0])
        if number in self.consumed:
            self.doubled_count += 1
            return
        self.consumed.add(number)
        self.arrive_s.append(time.monotonic() - self.sent_at[number])

    def report(self, last: bool = False) -> None:
        now = {
            "sent": len(self.sent_at),
            "acknowledged": len(self.acknowledge_s),
            "consumed": len(self.consumed),
            "doubled": self.doubled_count,
            "errors": self.errors[:5],
            "error_count": len(self.errors),
        }
        if last:
            now["acknowledge_s"] = summary(self.acknowledge_s)
            now["arrive_s"] = summary(self.arrive_s)
        print(json.dumps(now), flush=True)


def summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values) or [float("nan")]
    return {
        "median": ordered[len(ordered) // 2],
        "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
        "longest": ordered[-1],
    }


def main() -> None:
    companion = Companion(*sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: companion.stopping.set())
    threads = [threading.Thread(target=companion.produce), threading.Thread(target=companion.consume)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        companion.report()
        time.sleep(1)
    companion.report(last=True)


if __name__ == "__main__":
    main()
