"""Produce: raw batches, each with the broker's verdict and what is in the log afterwards."""

from collections.abc import Callable, Sequence
from functools import partial

import bends
from bends import LARGE, THREE, Bends
from cases.topics import creatable, create, topic_id
from framings import cuts, damages, framings
from raw_batches import AT, batch_of, bent, record
from registry import Scene, case
from verdicts import Log, Order, judge

from kafkapy.records.batch import Compression

Settings = dict[str, str]
PLAIN: Settings = {}
COMPACTED = {"cleanup.policy": "compact"}
APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}
UNCOMPRESSED = {"compression.type": "uncompressed"}
NONE, GZIP, SNAPPY, LZ4, ZSTD = Compression
KEPT = {"retention.ms": "-1"}
"""The times of records lie years back."""
LATEST = (13,)


def judged(about: str, corpus: Callable[[], Bends], settings: Settings, versions: tuple[int, ...] = LATEST) -> None:
    """A case that sends a corpus to a topic with these settings."""

    @case("Produce", f"raw batches: {about}", versions=versions)
    def _(s: Scene) -> None:
        create(s, creatable(s.topic(), configs=settings | KEPT))
        log = Log(s.topic(), topic_id(s, s.topic()))
        batches = corpus()
        verdicts = judge(s.probe, [Order(log, data, s.version) for data in batches.values()])
        s.probe.trace.append(dict(zip(batches, verdicts, strict=True)))
        s.probe.trace.append({"stored beyond that": len(log.read(s.probe))})


def payloads(
    codec: Compression, framed: Callable[[Compression, bytes], Bends], records: Sequence[bytes] = THREE
) -> Bends:
    """Batches of the same records, which lie in their payloads as each framing has them."""
    found = framed(codec, b"".join(records))
    return {name: batch_of(records, codec, payload=payload) for name, payload in found.items()}


judged("headers", bends.headers, PLAIN, (3, 7, 9, 13))
judged("headers, gzip", partial(bends.headers, GZIP), PLAIN, (3, 13))
judged("headers, compacted topic", bends.headers, COMPACTED)
judged("headers, LogAppendTime topic", bends.headers, APPEND_TIME)
judged("headers, gzip, LogAppendTime topic", partial(bends.headers, GZIP), APPEND_TIME)
judged("headers, gzip topic", bends.headers, {"compression.type": "gzip"})
judged("headers, gzip, uncompressed topic", partial(bends.headers, GZIP), UNCOMPRESSED)
judged("producers", bends.producers, PLAIN, (3, 13))
judged("turned bits", bends.turned_bits, PLAIN)
judged("turned bits, LogAppendTime topic", bends.turned_bits, APPEND_TIME)
judged("cut", bends.cut, PLAIN, (3, 13))
judged("several", bends.several, PLAIN, (3, 13))
judged("several, gzip topic", bends.several, {"compression.type": "gzip"})
judged("message sets", bends.message_sets, PLAIN, (3, 7, 9, 13))
judged("message sets, gzip topic", bends.message_sets, {"compression.type": "gzip"})
judged("message sets, compacted topic", bends.message_sets, COMPACTED)
judged("records, compacted topic", bends.records, COMPACTED)
judged("records, gzip, compacted topic", partial(bends.records, GZIP), COMPACTED)
judged("records, gzip, uncompressed topic", partial(bends.records, GZIP), UNCOMPRESSED)
judged("records, gzip, uncompressed LogAppendTime topic", partial(bends.records, GZIP), UNCOMPRESSED | APPEND_TIME)
for topic, settings in (("plain", PLAIN), ("uncompressed", UNCOMPRESSED), ("gzip", {"compression.type": "gzip"})):
    judged(f"found by fuzzing, {topic} topic", bends.found_by_fuzzing, settings)
for codec in Compression:
    name, corpus = codec.name.lower(), partial(bends.records, codec)
    judged(f"records, {name}", corpus, PLAIN)
    judged(f"records, {name}, LogAppendTime topic", corpus, APPEND_TIME)
    judged(f"records, {name}, recompressed", corpus, {"compression.type": "zstd" if codec is LZ4 else "lz4"})
for codec in (GZIP, SNAPPY, LZ4, ZSTD):
    name = codec.name.lower()
    judged(f"framings, {name}, kept", partial(payloads, codec, framings), PLAIN, (3, 13))
    judged(f"framings, {name}, inflated", partial(payloads, codec, framings), UNCOMPRESSED)
    judged(f"framings of large records, {name}, kept", partial(payloads, codec, framings, LARGE), PLAIN)
    judged(f"framings of large records, {name}, inflated", partial(payloads, codec, framings, LARGE), UNCOMPRESSED)
    for topic, settings in (("kept", PLAIN), ("inflated", UNCOMPRESSED)):
        judged(f"cut payloads, {name}, {topic}", partial(payloads, codec, cuts), settings)
        judged(f"damaged payloads, {name}, {topic}", partial(payloads, codec, damages), settings)


def large() -> Bends:
    """Batches around a limit of 1000 bytes, before and after their payload is another."""
    found = {}
    for codec in Compression:
        for size in (500, 895, 915, 925, 930, 935, 1000, 100_000, 3_000_000):
            found[f"{size} bytes, {codec.name.lower()}"] = batch_of([record(0, value=bytes(size))], codec)
        many = [record(at, value=b"") for at in range(150)]
        found[f"150 records, {codec.name.lower()}"] = batch_of(many, codec)
    noise = bytes(at * at * 7 % 251 for at in range(2000))
    for size in (800, 850, 900, 905, 910):
        found[f"{size} bytes that do not compress"] = batch_of([record(0, value=noise[:size])])
    return found


SMALL = {"max.message.bytes": "1000"}
judged("sizes around max.message.bytes", large, SMALL)
for target in ("uncompressed", "gzip", "snappy", "lz4", "zstd"):
    judged(f"sizes around max.message.bytes, {target} topic", large, SMALL | {"compression.type": target})


def times(codec: Compression) -> Bends:
    """Records before, within and behind 1970 to 2200 (the topic's bounds are far wider than clocks differ)."""
    early, good, late = AT - 1_690_000_000_000, AT, 7_000_000_000_000
    found = {}
    rows = {
        "early": (early,),
        "late": (late,),
        "good": (good,),
        "none": (-1,),
        "below none": (-2,),
        "good, early, late": (good, early, late),
        "late, none": (late, -1),
        "none, good": (-1, good),
        "five of them": (early, early, late, early, late),
    }
    for name, stamps in rows.items():
        written = [record(at, timestamp_delta=stamp - stamps[0]) for at, stamp in enumerate(stamps)]
        batch = batch_of(written, codec, base_timestamp=stamps[0], max_timestamp=max(stamps))
        found[name] = batch
        found[f"{name}, said to be good"] = bent(batch, max_timestamp=good)
        found[f"{name}, LogAppendTime"] = bent(batch, attributes=int(codec) | 8)
        found[f"{name}, LogAppendTime, said to be good"] = bent(batch, attributes=int(codec) | 8, max_timestamp=good)
        keyless = [record(at, timestamp_delta=stamp - stamps[0], key=None) for at, stamp in enumerate(stamps)]
        found[f"{name}, no keys"] = batch_of(keyless, codec, base_timestamp=stamps[0], max_timestamp=max(stamps))
    return found


BOUNDED = {"message.timestamp.before.max.ms": "1000000000000", "message.timestamp.after.max.ms": "1000000000000"}
for codec in (NONE, GZIP):
    name, corpus = codec.name.lower(), partial(times, codec)
    judged(f"times, {name}", corpus, BOUNDED)
    judged(f"times, {name}, default bounds", corpus, PLAIN)
    judged(f"times, {name}, compacted topic", corpus, BOUNDED | COMPACTED)
    judged(f"times, {name}, LogAppendTime topic", corpus, BOUNDED | APPEND_TIME)
    judged(f"times, {name}, zstd topic", corpus, BOUNDED | {"compression.type": "zstd"})
