"""What is measured. A scenario is a function and a row in `SCENARIOS`; nothing else lists them.

The function gets a `Target` (a running broker, unless the row says `fresh`) and an `Effort` (how long, how much), and
returns the figures that the row promises. Beside them it may note how busy broker and clients were, in cores: a row
whose clients are busier than its broker says more about the clients (`Sample.notes`).
"""

import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import load
import perf_tools
import startup
from brokers import Trouble
from measure import Cost, Costing, rss_mb
from sides import Target

HIGHER, LOWER = "higher", "lower"
_STORED_TURNS = 6
"""With and without much data, so that each side begins as often as the other."""


@dataclass(frozen=True)
class Figure:
    name: str
    unit: str
    better: str


@dataclass(frozen=True)
class Effort:
    """How much a sample may cost."""

    seconds: float
    megabytes: int
    partitions: int
    """Of the scenario with very many."""
    stored_megabytes: int = 20_000
    """Of the scenario with much data."""


@dataclass(frozen=True)
class Sample:
    figures: dict[str, float]
    notes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    figures: tuple[Figure, ...]
    run: Callable[[Target, Effort], Sample]
    quick: bool = False
    fresh: bool = False
    """The scenario launches the target's broker itself, on an empty directory."""
    tls: bool = False
    """Its clients come in over TLS, which the warm sides have."""


THROUGHPUT = Figure("throughput", "MB/s", HIGHER)
CPU_PER_GB = Figure("broker CPU", "s/GB", LOWER)
REQUEST_RATE = Figure("rate", "requests/s", HIGHER)
CPU_PER_MILLION = Figure("broker CPU", "s per million requests", LOWER)


def _busy(cost: Cost, results: Sequence[load.Result]) -> dict[str, float]:
    return {
        "broker busy": cost.busy,
        "busiest client": max(result["cpu_s"] / max(result["seconds"], 1e-9) for result in results),
        "all else busy": max(cost.machine_busy - cost.busy - sum(r["cpu_s"] for r in results) / cost.seconds, 0.0),
    }


def _bytes_sample(cost: Cost, results: Sequence[load.Result]) -> Sample:
    size = sum(result["bytes"] for result in results)
    seconds = max(result["seconds"] for result in results)
    figures = {"throughput": size / 1e6 / seconds, "broker CPU": cost.cpu_s / (size / 1e9)}
    return Sample(figures, _busy(cost, results))


def _run(target: Target, jobs: Sequence[load.Job]) -> tuple[Cost, list[load.Result]]:
    """All jobs at once, and what they cost the broker."""
    with load.clients([{"bootstrap": target.bootstrap, **job} for job in jobs]) as clients, target.measuring():
        costing = Costing(target.pid)
        clients.go()
        results = clients.results()
        return costing.so_far(), results


# ------------------------------------------------------------------------------------------------------- produce


def produce(target: Target, effort: Effort, *, size: int = 1000, partitions: int = 16, **job: Any) -> Sample:
    """One librdkafka producer with its default batching (5 ms, 1 MB), as fast as it can; acks=all unless said."""
    topic = target.topic(partitions)
    try:
        with_topic = {"job": "produce", "topic": topic, "size": size, "seconds": effort.seconds, **job}
        return _bytes_sample(*_run(target, [with_topic]))
    finally:
        target.drop(topic)


def tls_produce(target: Target, effort: Effort) -> Sample:
    return produce(target, effort, config=target.tls)


def transactions(target: Target, effort: Effort, *, count: int, transforms: bool = False) -> Sample:
    """Transactions of so many records of 1 KB by a librdkafka producer; with `transforms`, they are another topic's."""
    source = {"source": _filled(target, effort.megabytes, 16)[0]} if transforms else {}
    topic = target.topic(16)
    try:
        job = {"job": "transactions", "topic": topic, "size": 1000, "count": count, "seconds": effort.seconds, **source}
        cost, (result,) = _run(target, [job])
        sample = _bytes_sample(cost, [result])
        return Sample(sample.figures | {f"commit {name}": result[name] for name in ("p50", "p99")}, sample.notes)
    finally:
        target.drop(topic)


# ------------------------------------------------------------------------------------------------------- consume


def _filled(target: Target, megabytes: int, partitions: int) -> tuple[str, int]:
    """A topic of records of 1 KB, made once a target; its name and its count of records.

    All partitions hold as much, in large batches, on every side: it tells where a reader is left with few of them.
    """
    key = (partitions, megabytes)
    if key not in target.filled:
        topic = target.topic(partitions)
        job = {"job": "produce", "topic": topic, "size": 1000, "bytes": megabytes * 1_000_000, "evenly": partitions}
        _, (result,) = _run(target, [{**job, "config": {"linger.ms": 100}}])
        target.filled[key] = (topic, result["records"])
    filled: tuple[str, int] = target.filled[key]
    return filled


def tls_catch_up(target: Target, effort: Effort, *, consumers: int) -> Sample:
    return catch_up(target, effort, consumers=consumers, config=target.tls)


def catch_up(target: Target, effort: Effort, *, consumers: int, **job: Any) -> Sample:
    """Consumers that read a topic of 16 partitions from its beginning, each all of it, over and over for a while."""
    topic, records = _filled(target, effort.megabytes // (1 if consumers == 1 else 5), 16)
    with_topic = {"job": "consume", "topic": topic, "records": records, "seconds": effort.seconds, **job}
    return _bytes_sample(*_run(target, [with_topic] * consumers))


def tail(target: Target, effort: Effort, *, consumers: int) -> Sample:
    """Consumers at the end of a topic while a producer writes as fast as it can, until they have read all of it."""
    topic = target.topic(16)
    megabytes = effort.megabytes * 2 // (1 if consumers == 1 else 5)  # seconds, in which the clients' start is little
    records = megabytes * 1_000_000 // 1000 // load.CHUNK * load.CHUNK
    try:
        consume = {"job": "consume", "topic": topic, "records": records, "tail": True}
        write = {"job": "produce", "topic": topic, "size": 1000, "bytes": records * 1000}
        cost, results = _run(target, [consume] * consumers + [write])
        return _bytes_sample(cost, results[:-1])
    finally:
        target.drop(topic)


def share(target: Target, effort: Effort, *, consumers: int) -> Sample:
    """A share group that reads a topic of 16 partitions from its beginning, each record once."""
    topic, _ = _filled(target, effort.megabytes, 16)
    job = {"job": "share_consume", "topic": topic, "group": target.share_group(), "seconds": effort.seconds}
    return _bytes_sample(*_run(target, [job] * consumers))


# ------------------------------------------------------------------------------------------------------- latency


def latency(target: Target, effort: Effort, *, rate: int) -> Sample:
    """From the moment a record of 100 B was due to be sent to its arrival; linger 0, acks=all, 1 partition."""
    topic = target.topic(1)
    records = int(rate * effort.seconds)
    try:
        read = {"job": "latency", "topic": topic, "records": records, "skip": records // 5}
        write = {"job": "paced_produce", "topic": topic, "rate": rate, "seconds": effort.seconds, "size": 100}
        cost, results = _run(target, [read, write])
        return Sample({name: results[0][name] for name in ("p50", "p99", "p99.9")}, _busy(cost, results))
    finally:
        target.drop(topic)


# ------------------------------------------------------------------------------------------------ single requests


def requests(target: Target, effort: Effort, *, connections: int) -> Sample:
    """One record of 100 B a request, acks=1; each connection waits for its answer. A bare socket, one process."""
    topic = target.topic(1)
    try:
        job = {"job": "requests", "topic": topic, "connections": connections, "seconds": effort.seconds}
        cost, results = _run(target, [job])
        return requests_sample(cost, results)
    finally:
        target.drop(topic)


def requests_sample(cost: Cost, results: Sequence[load.Result]) -> Sample:
    count = sum(result["requests"] for result in results)
    seconds = max(result["seconds"] for result in results)
    client_cpu_s = sum(result["cpu_s"] for result in results)
    figures = {"rate": count / seconds, "broker CPU": cost.cpu_s / count * 1e6}
    return Sample(figures, _busy(cost, results) | {"client's own limit, requests/s": count / client_cpu_s})


def metadata(target: Target, effort: Effort) -> Sample:
    """Metadata of a topic of 100 partitions, one request at a time on one connection."""
    topic = target.topic(100)
    try:
        job = {"job": "metadata", "topic": topic, "seconds": effort.seconds}
        return requests_sample(*_run(target, [job]))
    finally:
        target.drop(topic)


# --------------------------------------------------------------------------------------------- Kafka's perf tools


def java_produce(target: Target, effort: Effort) -> Sample:
    topic = target.topic(16)
    try:
        with target.measuring():
            costing = Costing(target.pid)
            result = perf_tools.produce(target.bootstrap, topic, effort.megabytes)
            cost = costing.so_far()
    finally:
        target.drop(topic)
    return Sample({"throughput": result.mb_per_second, "broker CPU": cost.cpu_s / result.gigabytes})


def java_consume(target: Target, effort: Effort) -> Sample:
    topic, records = _filled(target, effort.megabytes, 16)
    with target.measuring():
        costing = Costing(target.pid)
        result = perf_tools.consume(target.bootstrap, topic, records)
        cost = costing.so_far()
    return Sample({"throughput": result.mb_per_second, "broker CPU": cost.cpu_s / result.gigabytes})


def java_latency(target: Target, effort: Effort) -> Sample:
    topic = target.topic(1)
    try:
        with target.measuring():
            return Sample({"mean": perf_tools.end_to_end(target.bootstrap, topic, int(effort.seconds * 500))})
    finally:
        target.drop(topic)


# ------------------------------------------------------------------------------------------------- kafka-python


def kafka_python_produce(target: Target, effort: Effort) -> Sample:
    topic = target.topic(16)
    try:
        job = {"job": "kafka_python_produce", "topic": topic, "size": 1000, "seconds": effort.seconds}
        return _bytes_sample(*_run(target, [job]))
    finally:
        target.drop(topic)


def kafka_python_consume(target: Target, effort: Effort) -> Sample:
    topic, records = _filled(target, effort.megabytes, 16)
    job = {"job": "kafka_python_consume", "topic": topic, "records": records, "seconds": effort.seconds}
    return _bytes_sample(*_run(target, [job]))


# ----------------------------------------------------------------------------------------------------- many of it


def idle_connections(target: Target, effort: Effort, *, connections: int = 1000) -> Sample:
    """Connections that asked once and are silent since; the memory is all that the broker has then."""
    target.broker.start()
    job = {"job": "idle", "connections": connections, "seconds": effort.seconds}
    cost, _ = _run(target, [job])
    return Sample({"memory": rss_mb(target.pid), "CPU": cost.busy * 100})


def idle_consumers(target: Target, effort: Effort, *, connections: int = 1000) -> Sample:
    """Connections that wait at the end of an empty partition in long polls of 5 s."""
    topic = target.topic(1)
    try:
        job = {"job": "idle", "connections": connections, "fetch": True, "topic": topic, "max_wait_ms": 5000}
        cost, _ = _run(target, [{**job, "seconds": max(effort.seconds, 5.0)}])
        return Sample({"CPU": cost.busy * 100})
    finally:
        target.drop(topic)


def many_partitions(target: Target, effort: Effort) -> Sample:
    """One topic of very many partitions: made (until all serve), written to, asked about.

    It can be too much for a broker, which is therefore its own.
    """
    target.broker.start()
    begin = time.monotonic()
    topic = target.topic(effort.partitions)
    created_s = time.monotonic() - begin
    try:
        # every record on a partition by chance
        scattered = {"config": {"sticky.partitioning.linger.ms": 0}}
        write: load.Job = {"job": "produce", "topic": topic, "size": 1000, "seconds": effort.seconds}
        _, (produced,) = _run(target, [write | scattered])
        _, (asked,) = _run(target, [{"job": "metadata", "topic": topic, "seconds": effort.seconds}])
        return Sample(
            {
                "created": created_s,
                "throughput": produced["bytes"] / 1e6 / produced["seconds"],
                "metadata": asked["seconds"] / asked["requests"] * 1000,
            }
        )
    finally:
        target.drop(topic)


def many_topics(target: Target, effort: Effort, *, partitions: int) -> Sample:
    """Metadata of very many topics and of one among them, one request at a time, once the broker is warm."""
    target.broker.start()
    names = target.topics(effort.partitions, partitions)
    rates = {}
    for figure, topic in (("all", None), ("one", names[len(names) // 2])):
        job = {"job": "metadata", "topic": topic, "seconds": effort.seconds, "warm_up_s": 2 * effort.seconds}
        _, (asked,) = _run(target, [job])
        rates[figure] = asked["requests"] / asked["seconds"]
    return Sample(rates)


def much_stored(target: Target, effort: Effort) -> Sample:
    """Throughput beside much data in another topic, as a part of what a twin of the broker has beside none.

    They take turns. The twin took as much data before and deleted it: after so much writing a machine is another one
    for a while, whoever wrote it and wherever. What is stored has left the page cache, as old data has.
    """
    ratios: dict[str, list[float]] = {"produce": [], "catch-up": []}
    with Target(target.side) as twin:
        for side in (twin, target):
            side.broker.start()
            stored = _store_much(side, effort)
            if side is twin:
                side.drop(stored)
        _wait_for_quiet(target)
        for turn in range(_STORED_TURNS):
            throughputs = {}
            for side in (twin, target) if turn % 2 else (target, twin):
                wrote, read = produce(side, effort), catch_up(side, effort, consumers=1)
                throughputs[side is twin] = wrote.figures["throughput"], read.figures["throughput"]
            for name, beside_much, beside_none in zip(ratios, throughputs[False], throughputs[True], strict=True):
                ratios[name].append(beside_much / beside_none)
    return Sample({name: statistics.median(found) for name, found in ratios.items()})


def _store_much(target: Target, effort: Effort) -> str:
    """A topic with much data, on the disk and out of the page cache."""
    size = effort.stored_megabytes * 1_000_000
    if (free := shutil.disk_usage(target.folder).free) < size * 1.2:
        raise Trouble(f"the disk has room for {free / 1e9:.0f} GB only")
    topic = target.topic(16)
    _run(target, [{"job": "produce", "topic": topic, "size": 10_000, "bytes": size}])
    os.sync()
    for path in target.folder.glob(f"data/{topic}-*/*.log"):
        with path.open("rb") as log:
            os.posix_fadvise(log.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return topic


def _wait_for_quiet(target: Target, patience_s: float = 60.0) -> None:
    """Return when the system has come to rest: so much data keeps it busy for a while after it is on the disk."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        costing = Costing(target.pid)
        time.sleep(1.0)
        if costing.so_far().machine_busy < 0.05:
            return


def group_joins(target: Target, effort: Effort, *, members: int = 50) -> Sample:
    """Members that join a new classic group at once, until each has its partitions."""
    topic = target.topic(members)
    try:
        job = {"job": "group", "topic": topic, "members": members, "partitions": members, "group": topic}
        cost, (result,) = _run(target, [job])
        return Sample({"time": result["seconds"], "broker CPU": cost.cpu_s})
    finally:
        target.drop(topic)


# ------------------------------------------------------------------------------------------------------ life cycle


def first_record(target: Target, effort: Effort) -> Sample:
    """From the start of the process, on an empty directory, to one record acknowledged with acks=all."""
    target.broker.prepare()
    begin = time.monotonic()
    target.broker.launch()
    startup.first_record(target.broker.port)
    return Sample({"time": time.monotonic() - begin})


def memory(target: Target, effort: Effort) -> Sample:
    """Resident memory two seconds after start, and the most of it during produce and catch-up."""
    target.broker.start()
    time.sleep(startup.SETTLE_S)
    idle_mb = rss_mb(target.pid)
    most = [idle_mb]
    for scenario in (produce, partial(catch_up, consumers=1), partial(requests, connections=10)):
        scenario(target, effort)
        most.append(rss_mb(target.pid))
    return Sample({"idle": idle_mb, "under load": max(most)})


def restart(target: Target, effort: Effort, *, killed: bool) -> Sample:
    """From the start of the process, with data and 100 partitions, to one more record acknowledged."""
    target.broker.start()
    _filled(target, effort.megabytes, 100)
    if killed:
        target.broker.kill()
    else:
        target.broker.stop()
    begin = time.monotonic()
    target.broker.launch()
    startup.first_record(target.broker.port)
    return Sample({"time": time.monotonic() - begin})


def _milliseconds(*names: str) -> tuple[Figure, ...]:
    return tuple(Figure(name, "ms", LOWER) for name in names)


def _table() -> list[Scenario]:
    bulk, single = (THROUGHPUT, CPU_PER_GB), (REQUEST_RATE, CPU_PER_MILLION)
    seconds = (Figure("time", "s", LOWER),)
    quantiles = _milliseconds("p50", "p99", "p99.9")
    commits = (*bulk, *_milliseconds("commit p50", "commit p99"))

    def produces(name: str, title: str, quick: bool = False, **options: Any) -> Scenario:
        return Scenario(f"produce-{name}", f"produce, {title}", bulk, partial(produce, **options), quick)

    return [
        produces("1k", "1 KB records", quick=True),
        produces("100b", "100 B records", size=100, quick=True),
        produces("10k", "10 KB records", size=10_000),
        produces("p1", "1 partition", partitions=1),
        produces("p256", "256 partitions", partitions=256),
        produces("acks1", "acks=1", acks="1"),
        *(produces(name, name, compression=name) for name in ("gzip", "snappy", "lz4", "zstd")),
        produces("idempotent", "idempotent", idempotent=True),
        Scenario(
            "transactions-100", "transactions of 100 records", commits, partial(transactions, count=100), quick=True
        ),
        Scenario("transactions-1000", "transactions of 1,000 records", commits, partial(transactions, count=1000)),
        Scenario(
            "transform-100",
            "read, and written in transactions of 100",
            commits,
            partial(transactions, count=100, transforms=True),
        ),
        Scenario("tls-produce", "produce over TLS, 1 KB records", bulk, tls_produce, tls=True),
        Scenario("tls-consume-1", "catch-up over TLS, 1 consumer", bulk, partial(tls_catch_up, consumers=1), tls=True),
        Scenario(
            "tls-consume-10", "catch-up over TLS, 10 consumers", bulk, partial(tls_catch_up, consumers=10), tls=True
        ),
        Scenario("consume-1", "catch-up, 1 consumer", bulk, partial(catch_up, consumers=1), quick=True),
        Scenario("consume-10", "catch-up, 10 consumers", bulk, partial(catch_up, consumers=10)),
        Scenario("tail-1", "tail, 1 consumer", bulk, partial(tail, consumers=1)),
        Scenario("tail-10", "tail, 10 consumers", bulk, partial(tail, consumers=10)),
        Scenario("latency-1000", "end to end, 1,000 records/s", quantiles, partial(latency, rate=1000), quick=True),
        Scenario("latency-10000", "end to end, 10,000 records/s", quantiles, partial(latency, rate=10_000), quick=True),
        Scenario("requests-1", "single requests, 1 connection", single, partial(requests, connections=1), quick=True),
        Scenario(
            "requests-10", "single requests, 10 connections", single, partial(requests, connections=10), quick=True
        ),
        Scenario("requests-50", "single requests, 50 connections", single, partial(requests, connections=50)),
        Scenario("requests-1000", "single requests, 1,000 connections", single, partial(requests, connections=1000)),
        Scenario("metadata", "metadata of 100 partitions", single, metadata),
        Scenario("java-produce", "Kafka's producer-perf-test, 1 KB", bulk, java_produce),
        Scenario("share-1", "share group, 1 consumer, 1 KB", bulk, partial(share, consumers=1)),
        Scenario("share-10", "share group, 10 consumers, 1 KB", bulk, partial(share, consumers=10)),
        Scenario("java-consume", "Kafka's consumer-perf-test, 1 KB", bulk, java_consume),
        Scenario("kpython-produce", "kafka-python's producer, 1 KB", bulk, kafka_python_produce),
        Scenario("kpython-consume", "kafka-python's consumer, 1 KB", bulk, kafka_python_consume),
        Scenario("java-latency", "Kafka's end-to-end latency tool", _milliseconds("mean"), java_latency),
        Scenario(
            "idle-connections",
            "1,000 idle connections",
            (Figure("memory", "MB", LOWER), Figure("CPU", "% of a core", LOWER)),
            idle_connections,
            fresh=True,
        ),
        Scenario("idle-consumers", "1,000 waiting consumers", (Figure("CPU", "% of a core", LOWER),), idle_consumers),
        Scenario(
            "many-partitions",
            "very many partitions",
            (Figure("created", "s", LOWER), THROUGHPUT, Figure("metadata", "ms", LOWER)),
            many_partitions,
            fresh=True,
        ),
        *(
            Scenario(
                f"topics-{partitions}",
                f"metadata of very many topics of {partitions}",
                tuple(Figure(f"{which}", "requests/s", HIGHER) for which in ("all", "one")),
                partial(many_topics, partitions=partitions),
                fresh=True,
            )
            for partitions in (1, 10)
        ),
        Scenario(
            "stored",
            "with 20 GB in another topic, against none",
            (Figure("produce", "of without", HIGHER), Figure("catch-up", "of without", HIGHER)),
            much_stored,
            fresh=True,
        ),
        Scenario("group-50", "a group of 50 joins", (*seconds, Figure("broker CPU", "s", LOWER)), group_joins),
        Scenario("start", "start to first record", seconds, first_record, quick=True, fresh=True),
        Scenario(
            "memory",
            "resident memory",
            (Figure("idle", "MB", LOWER), Figure("under load", "MB", LOWER)),
            memory,
            quick=True,
            fresh=True,
        ),
        Scenario("restart", "restart with data", seconds, partial(restart, killed=False), fresh=True),
        Scenario("restart-killed", "restart after kill -9", seconds, partial(restart, killed=True), fresh=True),
    ]


SCENARIOS = {scenario.name: scenario for scenario in _table()}


def warm_up(target: Target, seconds: float) -> None:
    """A mixed load: records in batches, single requests, reads; a third of the time each."""
    effort = Effort(seconds / 3, megabytes=30, partitions=1)
    produce(target, effort)
    requests(target, effort, connections=10)
    end = time.monotonic() + seconds / 3
    while time.monotonic() < end:
        catch_up(target, effort, consumers=1)
    for topic, _ in target.filled.values():
        target.drop(topic)
    target.filled.clear()
