"""Many partitions: descriptors, deletion, waiting polls, clients that do not read, appends in turn."""

import itertools
import statistics
import time
from contextlib import ExitStack

from client import FETCH, PRODUCE, Client, batch_of, fetch, frame_of, probing, produce
from given import Running, Side
from measure import rss_mb

from kafkapy.protocol.messages.delete_records import DeleteRecordsRequest

Figures = dict[str, float]


def descriptors(side: Side) -> Figures:
    """600 partitions of 140 kB, 1,024 descriptors, four consumers that ask for 350 each and do not read."""
    count, small = 600, batch_of(100)
    with side.running(descriptors=1024) as running, Client(running.port) as client:
        client.make_topic("t", count)
        client.fill("t", range(count), batch_of(140_000))
        with _who_do_not_read(running, clients=4, partitions=350, of=count, each_bytes=50 << 20):
            meanwhile = _writable(client, count, small)
        time.sleep(1)
        return {"partitions that take writes meanwhile": meanwhile, "afterwards": _writable(client, count, small)}


def _writable(client: Client, count: int, batch: bytes) -> int:
    """How many of the partitions take a batch, at the first or the second time."""
    for _ in range(2):
        codes = []
        for index in range(count):
            answer = client.ask(produce("t", [index], batch), PRODUCE)
            codes.append(answer.responses[0].partition_responses[0].error_code)
    return codes.count(0)


def slow_readers(side: Side) -> Figures:
    """30 clients that ask for 400 partitions of 100 kB and do not read: what that costs in memory."""
    count = 400
    with side.running() as running, Client(running.port) as client:
        client.make_topic("t", count)
        client.fill("t", range(count), batch_of(100_000))
        client.ask(fetch("t", dict.fromkeys(range(count), 0)), FETCH)
        before = rss_mb(running.pid)
        with _who_do_not_read(running, clients=30, partitions=count, of=count, each_bytes=55 << 20):
            after = rss_mb(running.pid)
    return {"MB before": before, "MB with them": after, "MB more": after - before}


class _who_do_not_read:
    """Clients that have asked for so many partitions each, and have been served as far as their sockets take it."""

    SETTLE_S = 5.0

    def __init__(self, running: Running, *, clients: int, partitions: int, of: int, each_bytes: int) -> None:
        self._clients = [Client(running.port, receive_bytes=4096) for _ in range(clients)]
        for number, client in enumerate(self._clients):
            begin = number * (of - partitions) // max(1, clients - 1)
            asked = dict.fromkeys(range(begin, begin + partitions), 0)
            client.send(frame_of(fetch("t", asked, max_bytes=each_bytes), FETCH))

    def __enter__(self) -> None:
        time.sleep(self.SETTLE_S)

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.socket.close()


def deletion(side: Side, count: int) -> Figures:
    """A topic whose logs have a start and a recovery point: the call, and who else waits meanwhile."""
    with side.running() as running:
        with Client(running.port) as client:
            client.make_topic("t", count)
            client.fill("t", range(count), batch_of(100))
            client.fill("t", range(count), batch_of(100))
            partitions = [
                DeleteRecordsRequest.DeleteRecordsPartition(partition_index=index, offset=1) for index in range(count)
            ]
            topics = [DeleteRecordsRequest.DeleteRecordsTopic(name="t", partitions=partitions)]
            client.ask(DeleteRecordsRequest(topics=topics, timeout_ms=60_000), 2)
        running.restart()
        with Client(running.port) as client:
            client.make_topic("warm", 10)
            with probing(running.port) as probe:
                client.delete_topic("warm")
                time.sleep(0.5)
                begin = time.monotonic()
                client.delete_topic("t")
                answered = time.monotonic()
                time.sleep(2)
    return {
        "s of the call": answered - begin,
        "ms, worst of another client": probe.worst_ms(begin, answered + 2),
        "ms, its median before": probe.median_ms(0, begin),
    }


def polls(side: Side) -> Figures:
    """Five polls of 500 partitions with a large min_bytes: produces a second, without and with them."""
    count, seconds = 500, 4.0
    with side.running() as running, Client(running.port) as client:
        client.make_topic("t", count)
        frames = [frame_of(produce("t", [index], batch_of(100)), PRODUCE) for index in range(count)]
        _rate(client, frames, seconds)  # warm
        alone = _rate(client, frames, seconds)
        ends = {index: offset for index, (_, offset) in enumerate(client.offsets("t", range(count), -1))}
        poll = frame_of(fetch("t", ends, max_wait_ms=120_000, min_bytes=50 << 20), FETCH)
        with ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(Client(running.port)).send(poll)
            time.sleep(1)
            beside = _rate(client, frames, seconds)
    return {"a second alone": alone, "a second beside the polls": beside, "ratio": beside / alone}


def _rate(client: Client, frames: list[bytes], seconds: float) -> float:
    """Requests a second, one after the other."""
    begin = time.monotonic()
    for number, frame in enumerate(itertools.cycle(frames)):
        client.exchange(frame)
        if (spent := time.monotonic() - begin) > seconds:
            return (number + 1) / spent
    raise AssertionError


def min_bytes(side: Side) -> Figures:
    """Fetches of 1 MiB at least through a log of 1 MiB segments, max_wait_ms 500."""
    waits = []
    with side.running() as running, Client(running.port) as client:
        client.make_topic("t", 1, {"segment.bytes": str(1 << 20)})
        for _ in range(100):
            client.fill("t", [0], batch_of(100_000))
        offset = 0
        while offset < 80:
            begin = time.monotonic()
            answer = client.ask(fetch("t", {0: offset}, max_wait_ms=500, min_bytes=1 << 20), FETCH)
            waits.append(time.monotonic() - begin)
            offset += len(answer.responses[0].partitions[0].records) // 100_000
    return {"ms a fetch, median": 1000 * statistics.median(waits), "ms, worst": 1000 * max(waits)}


def in_turn(side: Side) -> Figures:
    """600 partitions in turn: appends a second of 100 kB, and then of 1 kB."""
    count = 600
    figures = {}
    with side.running() as running, Client(running.port) as client:
        client.make_topic("t", count)
        for name, size, rounds in (("100 kB", 100_000, 4), ("1 kB", 1000, 4)):
            frames = [frame_of(produce("t", [index], batch_of(size)), PRODUCE) for index in range(count)]
            for frame in frames:
                client.exchange(frame)
            begin = time.monotonic()
            for _ in range(rounds):
                for frame in frames:
                    client.exchange(frame)
            figures[f"appends of {name} a second"] = rounds * count / (time.monotonic() - begin)
    return figures
