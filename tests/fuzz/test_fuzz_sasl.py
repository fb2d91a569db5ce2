import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fuzz_sasl import KEY, PARSERS, PASSWORD, USER, check, exchanges, samples

COUNT = 300 * int(os.environ.get("KAFKAPY_SCALE", "1"))
SAMPLES = samples()
# What the grammars of SASL turn on, and what has broken parsers of text.
HOSTILE = [
    *(
        b",",
        b"=",
        b"\0",
        b"\x01",
        b"n,,",
        b"y,,",
        b"p=tls-unique,,",
        b"a=",
        b"m=",
        b"i=0",
        b"i=99999999999",
        b"r=",
        b"c=",
    ),
    *(b"=2C", b"=3D", b"==", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"%s", b"tokenauth=true", b"tokenauth=TRUE"),
    *(b".", b"..", b"eyJhbGciOiJub25lIn0", b'{"alg":"none"}', b"Bearer ", b'"', b"\\", b"{", b"};", b";", b"//", b"\n"),
]


def mutations(data: bytes, rng: random.Random) -> Iterator[bytes]:
    for size in range(1, len(data)):
        yield data[:size]
    for _ in range(COUNT):
        mutated = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(1, len(mutated) + 1)
            match rng.randrange(6):
                case 0:
                    mutated[at:at] = rng.choice(HOSTILE)
                case 1:
                    hostile = rng.choice(HOSTILE)
                    mutated[at : at + len(hostile)] = hostile
                case 2 if at < len(mutated):
                    mutated[at] ^= 1 << rng.randrange(8)
                case 3:
                    del mutated[at : at + rng.randrange(1, 9)]
                case 4:
                    mutated[at:at] = rng.randbytes(rng.randrange(1, 9))
                case _:
                    mutated += mutated[at : at + rng.choice((1, 10, 1000))] * rng.choice((1, 50))
        yield bytes(mutated)


@pytest.mark.parametrize("name", SAMPLES)
def test_bent_messages_are_refused_and_let_nobody_in(name: str) -> None:
    data, rng = SAMPLES[name], random.Random(name)
    check(data)
    for mutation in mutations(data, rng):
        check(mutation)
    for _ in range(COUNT // 10):
        check(data[:1] + rng.randbytes(rng.randrange(1, 200)))


def test_the_samples_would_let_in_with_the_right_secret() -> None:
    """Else they would try but the first lines of each parser."""
    for parser, made in exchanges(PASSWORD, KEY).items():
        for which, messages in made:
            assert PARSERS[parser](messages) == USER, (parser, which)
