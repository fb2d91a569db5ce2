import random
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fuzz_protocol import CORPUS, TARGETS, check, choice

INPUTS = sorted(CORPUS.iterdir())
# Lengths and counts that have broken decoders: -1, -2, the largest and smallest, and varints that never end.
HOSTILE = [
    b"\xff\xff",
    b"\x7f\xff",
    b"\x80\x00",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xfe",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\x07",
    b"\x80\x80\x80\x80\x80\x80",
    b"\xff" * 12,
    b"\x00",
]


def mutations(data: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    for size in range(3, len(data)):
        yield data[:size]
    for _ in range(count):
        at = rng.randrange(3, len(data) + 1)
        match rng.randrange(4):
            case 0:
                yield data[:at] + rng.choice(HOSTILE) + data[at:]
            case 1:
                hostile = rng.choice(HOSTILE)
                yield data[:at] + hostile + data[at + len(hostile) :]
            case 2:
                yield data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at + 4 :]
            case _:
                # The same body read as another version.
                yield data[:2] + rng.randbytes(1) + data[3:]


def test_the_corpus_has_every_message_that_a_broker_reads() -> None:
    """If this fails after a change of the specs: `fuzz_protocol.py --write-corpus`."""
    for spec, cls in TARGETS:
        if not spec.name.endswith("Response"):
            data = (CORPUS / spec.name).read_bytes()
            assert choice(data) == (spec, cls, spec.versions.high)
            assert cls.decode(spec.versions.high, data, 3)[1] == len(data)


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_mutated_input_ends_in_a_message_or_in_a_protocol_error(path: Path) -> None:
    data = path.read_bytes()
    check(data)
    for mutation in mutations(data, random.Random(path.name), 150):
        check(mutation)


def test_noise_ends_in_a_protocol_error() -> None:
    rng = random.Random(0)
    for index in range(len(TARGETS)):
        for _ in range(10):
            check(index.to_bytes(2, "big") + rng.randbytes(rng.randrange(1, 200)))


def test_hostile_lengths_take_neither_memory_nor_time() -> None:
    """Each is tried at every place of every message; a list or a buffer of its size would show."""
    for path in INPUTS:
        check(path.read_bytes())  # imports are not to count
    tracemalloc.start()
    started = time.perf_counter()
    try:
        for path in INPUTS:
            data = path.read_bytes()
            for at in range(3, len(data), 2):
                check(data[:at] + b"\xff\xff\xff\xff\x07" + data[at:])
                check(data[:at] + b"\x7f\xff\xff\xff" + data[at:])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
    assert time.perf_counter() - started < 60
