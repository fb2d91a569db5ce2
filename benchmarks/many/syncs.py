"""Appends that take long: on a disk that takes 10 ms for a sync, and over a store that takes 300 ms for each append."""

import selectors
import statistics
import time
from collections.abc import Iterable

from client import PRODUCE, Client, batch_of, frame_of, produce
from given import Running, Side
from load import clients as load_clients

Figures = dict[str, float]
SYNC_MS, SECONDS, LOGS_BY_TIME = 10, 10.0, 300
APPEND_MS, PARTITIONS = 300, 16


def producers(side: Side, *, count: int, logs: int) -> Figures:
    """Producers with flush.messages=1, one record at a time each, for 10 s on a disk whose syncs take 10 ms."""
    with side.running(sync_ms=SYNC_MS) as running:
        with Client(running.port) as client:
            client.make_topic("t", logs, {"flush.messages": "1"})
            client.fill("t", range(logs), batch_of(100))
        clients = [Client(running.port) for _ in range(count)]
        waits = _load(clients, [frame_of(produce("t", [n % logs], batch_of(100)), PRODUCE) for n in range(count)])
        for each in clients:
            each.socket.close()
    return {
        "ms, the worst append": 1000 * max(waits),
        "ms, the median one": 1000 * statistics.median(waits),
        "appends a second": len(waits) / SECONDS,
    }


def _load(clients: Iterable[Client], frames: Iterable[bytes]) -> list[float]:
    """How long each request waited, those included that still wait at the end."""
    waits = []
    sent_at = {}
    with selectors.DefaultSelector() as selector:
        for client, frame in zip(clients, frames, strict=True):
            selector.register(client.socket, selectors.EVENT_READ, (client, frame))
            sent_at[client] = time.monotonic()
            client.send(frame)
        end = time.monotonic() + SECONDS
        while (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                client, frame = key.data
                client.receive()
                now = time.monotonic()
                waits.append(now - sent_at[client])
                sent_at[client] = now
                client.send(frame)
    return waits + [end - at for at in sent_at.values() if at < end]


def by_time(side: Side) -> Figures:
    """300 logs with flush.ms=200, written to once each at the same time: when the last is on the medium."""
    # Apache Kafka looks whose time has come only if it is told how often, and not in its first half minute.
    often = {"log.flush.scheduler.interval.ms": "100", "log.initial.task.delay.ms": "100"}
    with side.running(often, sync_ms=SYNC_MS) as running, Client(running.port) as client:
        client.make_topic("t", LOGS_BY_TIME, {"flush.ms": "200"})
        time.sleep(1)
        written = time.monotonic()
        client.fill("t", range(LOGS_BY_TIME), batch_of(100))
        synced = _when_synced(running, written)
    return {"s until all are synced": max(synced) - written, "s, the median log": statistics.median(synced) - written}


def _when_synced(running: Running, since: float) -> list[float]:
    """The moments at which the logs were synced for the first time."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found: dict[str, float] = {}
        for line in running.sync_log.read_text().splitlines() if running.sync_log.exists() else ():
            at, path = line.split(" ", 1)
            if float(at) >= since and path.endswith(".log") and "/t-" in path:
                found.setdefault(path, float(at))
        if len(found) == LOGS_BY_TIME:
            return list(found.values())
        time.sleep(0.1)
    raise TimeoutError(f"only {len(found)} of {LOGS_BY_TIME} logs were synced within a minute")


def slow_appends(side: Side) -> Figures:
    """Appends that take 300 ms: one idempotent librdkafka producer of 100-byte records over 16 partitions."""
    with side.running(append_ms=APPEND_MS) as running:
        with Client(running.port) as client:
            client.make_topic("t", PARTITIONS)
        job = {"job": "produce", "bootstrap": running.broker.bootstrap, "topic": "t", "idempotent": True}
        job |= {"size": 100, "seconds": SECONDS, "evenly": PARTITIONS}
        with load_clients([job]) as producer:
            producer.go()
            [result] = producer.results()
    return {"records a second": result["records"] / result["seconds"]}
