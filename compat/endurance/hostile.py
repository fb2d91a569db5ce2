#!/usr/bin/env python3
"""Hostile bytes on the broker's port, beside a well-behaved client that must not notice.

    compat/endurance/hostile.py --minutes 10
    compat/endurance/hostile.py --minutes 10 --secured

Runs in the project's environment (kafkapy and its `test` extra), on loopback only. For as long as it lasts: spoiled
requests of every API, half frames, absurd lengths, other protocols, floods of connections, senders of a byte at a
time, readers that ask for far more than they ever read (the topic they ask for holds 64 MB). Beside them a librdkafka
producer and a consumer in a group. With `--secured` there are listeners with TLS and SASL besides, `doors.py` is at
them, and the well-behaved client comes in by a password over TLS.

Passes when: every record of the well-behaved client was acknowledged and consumed once, none later than `--patience`
seconds; the broker's memory stayed below `--max-rss-mb` and did not grow in the second half; when the others have gone
the broker has let go of their connections; nobody was let in who had not shown who they are; its log
shows no error; it stops cleanly; `kafkapy check` finds nothing.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "security"))

import frames
from brokers import WORK, ApacheKafka, Broker, Kafkapy, Trouble, answers, free_port, memory_kb
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from doors import LET_IN, Attacker, Doors, allow_crowds
from guarded import GuardedKafka, GuardedKafkapy
from users import LISTENERS, PASSWORD, USER, create_scram_users, guarded_settings, write_certificates
from watch import Watch, connection_count

WELL, BIG, PREY = "well-behaved", "big", "prey"
BIG_MB = 64
GROWTH_LIMIT_MB_PER_MINUTE = 4.0
# a request that waits, a JoinGroup say, holds its connection until it is answered, in Apache Kafka too
CONNECTIONS_LEFT_LIMIT = 10
# what hostile requests name: never what the well-behaved client uses
NAMES = [PREY, BIG, "hostile-0", "hostile-1", "hostile-2", "range", "consumer", "", "*", "ü" * 100, "x" * 300]


class Attack:
    """The hostile clients: a few threads each, all ended by `stopping`."""

    def __init__(self, port: int, seed: int, doors: dict[str, int], folder: Path) -> None:
        self.port = port
        self.seed = seed
        self.stopping = threading.Event()
        self.counts: Counter[str] = Counter()
        self.doors = Doors(doors, folder, self.counts, self.stopping).attackers() if doors else []
        self.threads: list[threading.Thread] = []

    def start(self) -> None:
        attackers: list[tuple[Attacker, int]] = [
            (self.spoiled_requests, 3),
            (self.half_frames, 2),
            (self.absurd_lengths, 1),
            (self.other_protocols, 1),
            (self.flood, 1),
            (self.slow_senders, 1),
            (self.slow_readers, 2),
            *self.doors,
        ]
        for attacker, thread_count in attackers:
            for number in range(thread_count):
                rng = random.Random(f"{self.seed} {attacker.__name__} {number}")
                self.threads.append(threading.Thread(target=self._keep_on, args=(attacker, rng), daemon=True))
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)

    def _keep_on(self, attacker: Attacker, rng: random.Random) -> None:
        while not self.stopping.is_set():
            # a refused, reset or closed connection is what a hostile client has to expect
            with contextlib.suppress(OSError):
                attacker(rng)
            self.stopping.wait(0.005)

    def connect(self, receive_bytes: int | None = None) -> socket.socket:
        connection = socket.socket()
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(5)
        connection.connect(("127.0.0.1", self.port))
        self.counts["connections"] += 1
        return connection

    def spoiled_requests(self, rng: random.Random) -> None:
        """Requests nearly right, some altogether right, until the broker closes the connection."""
        with self.connect() as connection:
            for _ in range(rng.randrange(1, 30)):
                frame = frames.valid_request(rng, NAMES)
                connection.sendall(frame if rng.random() < 0.2 else frames.spoil(rng, frame))
                self.counts["spoiled requests"] += 1
                connection.settimeout(0.02)
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(1 << 16):
                        return

    def half_frames(self, rng: random.Random) -> None:
        """Some dozens of connections that each begin a request and never end it."""
        with contextlib.ExitStack() as held:
            for _ in range(40):
                frame = frames.valid_request(rng, NAMES)
                connection = held.enter_context(self.connect())
                connection.sendall(frame[: rng.randrange(1, len(frame))])
                self.counts["half frames"] += 1
            self.stopping.wait(rng.uniform(0, 10))

    def absurd_lengths(self, rng: random.Random) -> None:
        """Lengths from below zero to 2 GiB, and the largest that is allowed, with little behind them."""
        length = rng.choice((-(2**31), -1, 0, 1, 7, 99 << 20, 100 << 20, (100 << 20) + 1, 2**31 - 1))
        with contextlib.ExitStack() as held:
            for _ in range(20):
                connection = held.enter_context(self.connect())
                connection.sendall(struct.pack(">i", length) + rng.randbytes(rng.randrange(100)))
                self.counts["absurd lengths"] += 1
            self.stopping.wait(rng.uniform(0, 3))

    def other_protocols(self, rng: random.Random) -> None:
        with self.connect() as connection:
            connection.sendall(rng.choice(frames.GREETINGS) if rng.random() < 0.7 else rng.randbytes(2000))
            self.counts["other protocols"] += 1
            connection.recv(1 << 12)

    def flood(self, rng: random.Random) -> None:
        """A few hundred connections at once, dropped at once: half of them with a reset."""
        with contextlib.ExitStack() as held:
            for _ in range(300):
                connection = held.enter_context(self.connect())
                if rng.random() < 0.5:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stopping.wait(rng.uniform(0, 1))

    def slow_senders(self, rng: random.Random) -> None:
        """Right requests, a byte at a time."""
        with contextlib.ExitStack() as held:
            senders = [(held.enter_context(self.connect()), frames.valid_request(rng, NAMES)) for _ in range(30)]
            for position in range(80):
                for connection, frame in senders:
                    with contextlib.suppress(OSError):
                        connection.sendall(frame[position : position + 1])
                if self.stopping.wait(0.05):
                    return
            self.counts["slow senders"] += len(senders)

    def slow_readers(self, rng: random.Random) -> None:
        """Ask for tens of megabytes several times over, and read next to nothing."""
        with contextlib.ExitStack() as held:
            readers = [held.enter_context(self.connect(receive_bytes=4096)) for _ in range(10)]
            for connection in readers:
                connection.sendall(big_fetch() * 5)
                self.counts["slow readers"] += 1
            for _ in range(rng.randrange(5, 20)):
                if self.stopping.wait(1):
                    return
                for connection in readers:
                    connection.recv(rng.choice((1, 100)))


def big_fetch() -> bytes:
    """Fetch version 4: everything from the beginning of the big topic, up to 50 MB."""
    name = BIG.encode()
    body = struct.pack(">hhih", 1, 4, 1, 7) + b"hostile" + struct.pack(">iiiibi", -1, 0, 0, 50 << 20, 0, 1)
    body += struct.pack(">h", len(name)) + name + struct.pack(">iiqi", 1, 0, 0, 50 << 20)
    return frames.framed(body)


def prepare(bootstrap: str) -> None:
    """The topics, and the big one's records."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(WELL, 3, 1), NewTopic(BIG, 1, 1), NewTopic(PREY, 3, 1)]).values():
        future.result(30)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "log_level": 2})
    for _ in range(BIG_MB):
        producer.produce(BIG, os.urandom(500_000), partition=0)
        producer.produce(BIG, os.urandom(500_000), partition=0)
        producer.flush(30)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one each time; printed")
    parser.add_argument("--against", choices=("kafkapy", "kafka"), default="kafkapy")
    parser.add_argument("--secured", action="store_true", help="listeners with TLS and SASL besides")
    parser.add_argument("--patience", type=float, default=10, metavar="SECONDS")
    parser.add_argument("--max-rss-mb", type=float, default=None, help="default: 400; Apache Kafka: 2500")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    folder = WORK / "hostile"
    shutil.rmtree(folder, ignore_errors=True)
    # no topic by chance, so that memory that grows is memory that leaks
    settings = {"auto.create.topics.enable": "false"}
    doors = {listener: free_port() for listener in LISTENERS} if options.secured else {}
    if options.secured:
        allow_crowds()
    if options.against == "kafka":
        # it allocates what a frame's length announces: with the default of 100 MB two dozen connections end its JVM
        settings["socket.request.max.bytes"] = str(4 << 20)
    broker = made(folder, settings, doors, against=options.against)
    print(f"{options.minutes:g} minutes against {broker.name}, seed {seed}; in {folder}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with broker:
        broker.start()
        failures = attacked(broker, options, seed, doors, folder)
    for failure in failures:
        print(f"FAILED: {failure}", flush=True)
    if not failures:
        print("PASSED", flush=True)
    return 1 if failures else 0


def made(folder: Path, settings: dict[str, str], doors: dict[str, int], *, against: str) -> Broker:
    """The broker, with one open listener or with all of `doors`."""
    if not doors:
        if against == "kafka":
            return ApacheKafka(folder / "data", settings=settings)
        return Kafkapy(folder / "data", settings=settings, log_format="json")
    folder.mkdir(parents=True)
    write_certificates(folder)
    controller = free_port() if against == "kafka" else None
    settings = guarded_settings(doors, folder, controller) | settings
    if controller is None:
        return GuardedKafkapy(folder / "data", port=doors["PLAINTEXT"], settings=settings, log_format="json")
    settings["controller.quorum.voters"] = f"1@127.0.0.1:{controller}"
    return GuardedKafka(folder / "data", port=doors["PLAINTEXT"], settings=settings)


def attacked(broker: Broker, options: argparse.Namespace, seed: int, doors: dict[str, int], folder: Path) -> list[str]:
    """The whole attack; what went wrong."""
    prepare(broker.bootstrap)
    bootstrap, known = broker.bootstrap, {}
    if doors:
        create_scram_users(broker.bootstrap)
        bootstrap = f"127.0.0.1:{doors['SASL_SSL']}"
        known = {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(folder / "ca.pem"),
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": USER,
            "sasl.password": PASSWORD,
        }
    before_mb = memory_kb(broker.pid)["rss"] / 1024
    companion = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("companion.py")), bootstrap, WELL, json.dumps(known)],
        stdout=subprocess.PIPE,
        text=True,
    )
    attack, watch = Attack(broker.port, seed, doors, folder), Watch(broker.pid)
    said: list[dict[str, object]] = [{}]

    def listen() -> None:
        assert companion.stdout is not None
        for line in companion.stdout:
            said[0] = json.loads(line)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        wait_until(lambda: bool(said[0].get("consumed")), 30)
        connections_before = connection_count(broker.pid)
        watch.start()
        attack.start()
        end = time.monotonic() + options.minutes * 60
        while time.monotonic() < end and broker.alive:
            time.sleep(1)
            rss = f"{watch.samples[-1][1]:.0f} MB" if watch.samples else "?"
            print(
                f"\r{end - time.monotonic():4.0f} s left; broker {rss}; well-behaved: {said[0]['acknowledged']} of "
                f"{said[0]['sent']} acknowledged, {said[0]['consumed']} consumed, {said[0]['error_count']} errors ",
                end="",
                flush=True,
            )
        print()
        attack.stop()
        few = connections_before + CONNECTIONS_LEFT_LIMIT
        wait_until(lambda: not broker.alive or connection_count(broker.pid) <= few, 15)
        connections_left = connection_count(broker.pid) - connections_before if broker.alive else 0
        companion.terminate()
        companion.wait(90)
        listener.join(5)
    finally:
        attack.stopping.set()
        watch.stopping.set()
        companion.kill()
    watch.join()
    return verdict(broker, options, attack, watch, said[0], before_mb, connections_left)


def verdict(
    broker: Broker,
    options: argparse.Namespace,
    attack: Attack,
    watch: Watch,
    said: dict[str, object],
    before_mb: float,
    connections_left: int,
) -> list[str]:
    """Prints what was measured; gives what it fails on."""
    print("hostile: " + ", ".join(f"{count} {what}" for what, count in attack.counts.items()))
    print(
        f"memory: {before_mb:.0f} MB before, at most {watch.most_mb:.0f} MB, {watch.samples[-1][1]:.0f} MB at the end, "
        f"{watch.growth_mb_per_minute():+.2f} MB a minute in the second half"
    )
    print(f"connections: at most {watch.most_connections}; {connections_left} more than before when all had gone")
    print(f"well-behaved: {json.dumps(said)}", flush=True)
    failures = []
    if not broker.alive:
        assert broker.process is not None
        return [f"the broker died, exit code {broker.process.returncode}"]
    limit_mb = options.max_rss_mb or (400 if isinstance(broker, Kafkapy) else 2500)
    if watch.most_mb > limit_mb:
        failures.append(f"{watch.most_mb:.0f} MB of memory at most; the limit is {limit_mb:g} MB")
    if isinstance(broker, Kafkapy) and watch.growth_mb_per_minute() > GROWTH_LIMIT_MB_PER_MINUTE:
        failures.append("memory still grows in the second half")
    if connections_left > CONNECTIONS_LEFT_LIMIT:
        failures.append(f"{connections_left} connections of clients that have gone are still open")
    if attack.counts[LET_IN]:
        failures.append("somebody was let in who had not shown who they are")
    if not answers(broker.port, 5):
        failures.append("the broker does not answer any more")
    if said["error_count"] or said["doubled"] or not said["sent"] == said["acknowledged"] == said["consumed"]:
        failures.append("the well-behaved client was not served in full")
    for what in ("acknowledge_s", "arrive_s"):
        longest = said.get(what, {}).get("longest", float("inf"))
        if not longest <= options.patience:
            failures.append(f"{what}: {longest:.1f} s; the limit is {options.patience:g} s")
    code = broker.stop()
    if isinstance(broker, Kafkapy):
        if code != 0:
            failures.append(f"exit code {code} at the end")
        if complaints := broker.complaints():
            kinds = Counter(complaint[:200] for complaint in complaints)
            failures.append(f"errors in the log: {json.dumps(kinds.most_common(10), indent=1)}")
        if wrong := broker.check():
            failures.append(f"kafkapy check: {wrong[:1000]}")
    return failures


def wait_until(condition: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Trouble as trouble:
        sys.exit(f"hostile.py: {trouble}")
    except KeyboardInterrupt:
        sys.exit(130)
