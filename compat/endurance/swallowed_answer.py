#!/usr/bin/env python3
"""librdkafka loses records of a committed transaction when an answer was lost before an abort: with either broker.

    compat/endurance/swallowed_answer.py --against kafka

A relay stands between a transactional producer and the broker. The batch of a transaction reaches the broker, its
answer does not come back, and the program aborts. Then it commits another one, of as many records. Printed is what
became of them; decision record 27 says why. Exit code 0 when the second transaction's records are there: then the
client is mended.
"""

import argparse
import shutil
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from brokers import WORK, ApacheKafka, Broker, Kafkapy, free_port
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

TOPIC = "swallowed"
PRODUCE = 0
PATIENCE_S = 60


class Relay:
    """Passes frames on between clients and the broker; swallows one answer to a Produce when told to.

    It closes all connections then, and takes no new ones until it is told to go on.
    """

    def __init__(self, port: int, broker: Broker) -> None:
        self.swallows = threading.Event()
        self.is_open = threading.Event()
        self.is_open.set()
        self._broker = broker
        self._clients: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if not self.is_open.is_set():
                client.close()
                continue
            self._clients.append(client)
            broker = socket.create_connection(("127.0.0.1", self._broker.port))
            keys: dict[int, int] = {}
            for work in (self._requests, self._answers):
                threading.Thread(target=work, args=(client, broker, keys), daemon=True).start()

    def _requests(self, client: socket.socket, broker: socket.socket, keys: dict[int, int]) -> None:
        for frame in frames(client):
            key, _, correlation_id = struct.unpack_from(">hhi", frame, 4)
            keys[correlation_id] = key
            broker.sendall(frame)
        broker.close()

    def _answers(self, client: socket.socket, broker: socket.socket, keys: dict[int, int]) -> None:
        for frame in frames(broker):
            (correlation_id,) = struct.unpack_from(">i", frame, 4)
            if keys[correlation_id] == PRODUCE and self.swallows.is_set():
                self.swallows.clear()
                self.is_open.clear()
                break
            with suppress(OSError):
                client.sendall(frame)
        for end in (client,) if self.is_open.is_set() else self._clients:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def frames(end: socket.socket) -> Iterator[bytes]:
    """The frames that arrive, with their sizes in front, until the other side closes."""
    stream = end.makefile("rb")
    with suppress(OSError, ValueError):
        while len(size := stream.read(4)) == 4:
            yield size + stream.read(*struct.unpack(">i", size))


def transact(bootstrap: str, relay: Relay) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "id", "log_level": 0})
    producer.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    relay.swallows.set()
    for number in range(2):
        producer.produce(TOPIC, b"aborted %d" % number, partition=0)
    producer.flush(3)  # the answer does not come
    threading.Timer(1, relay.is_open.set).start()
    producer.abort_transaction(PATIENCE_S)
    producer.begin_transaction()
    for number in range(2):
        producer.produce(TOPIC, b"committed %d" % number, partition=0)
    producer.commit_transaction(PATIENCE_S)


def read(bootstrap: str, isolation: str) -> list[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": isolation,
            "isolation.level": isolation,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    values = []
    while (message := consumer.poll(PATIENCE_S)) is not None and not message.error():
        values.append(message.value())
    consumer.close()
    return values


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", choices=("kafkapy", "kafka"), default="kafkapy")
    options = parser.parse_args()
    folder = WORK / "swallowed"
    shutil.rmtree(folder, ignore_errors=True)
    port = free_port()
    settings = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}"}
    kind: type[Broker] = ApacheKafka if options.against == "kafka" else Kafkapy
    with kind(folder / "data", settings=settings) as broker:
        broker.start()
        relay = Relay(port, broker)
        bootstrap = f"127.0.0.1:{port}"
        admin = AdminClient({"bootstrap.servers": bootstrap})
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(PATIENCE_S)
        transact(bootstrap, relay)
        for isolation in ("read_uncommitted", "read_committed"):
            values = read(bootstrap, isolation)
            print(f"{broker.name}, {isolation}: {values}", flush=True)
    return 0 if values == [b"committed 0", b"committed 1"] else 1


if __name__ == "__main__":
    sys.exit(main())
