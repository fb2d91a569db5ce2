"""The order in which Java's hash tables hand out what they hold, on which Kafka's assignors depend.

Two members that may both have a spare partition, or two topics with free ones, are served in this order. With any other
a group would be balanced as well; with this one it is balanced as Kafka does it, so that a group that moves from one to
the other stays as it is.

A table has a power of two of buckets, 16 at least, grown so that three quarters of them hold all; it is walked bucket
by bucket, and a bucket in the order in which things came.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, TypeVar

from kafkapy.coordination.shards import java_hash

T = TypeVar("T")

_LEAST_BUCKETS: Final = 16

_KNOWN_TEXTS: Final = 1 << 14
"""Of so many topics and members it is known what Java's hash is: each assignment asks again, for every one of them."""


def in_order(items: Iterable[T], hash_of: Callable[[T], int], buckets: int = _LEAST_BUCKETS) -> list[T]:
    """The items of a HashMap or HashSet, with so many buckets at first, into which they were put one by one."""
    found = list(items)
    while len(found) * 4 > buckets * 3:
        buckets *= 2
    return in_table(found, hash_of, buckets)


def in_copied_order(items: Iterable[T], hash_of: Callable[[T], int]) -> list[T]:
    """The items of a HashSet that was made from another collection: it has room for one more."""
    found = list(items)
    wanted = max(int(len(found) / 0.75) + 1, _LEAST_BUCKETS)
    return in_table(found, hash_of, 1 << (wanted - 1).bit_length())


def sized_for(count: int) -> int:
    """The buckets of a table that Kafka's assignors make for so many items."""
    return 1 << int((count + 1) / 0.75 + 1 - 1).bit_length()


def in_table(items: list[T], hash_of: Callable[[T], int], buckets: int) -> list[T]:
    """The items of a table with exactly so many buckets; those of one bucket in the order given."""
    mask = buckets - 1

    def bucket(item: T) -> int:
        code = hash_of(item)
        return (code ^ code >> 16) & mask

    return sorted(items, key=bucket)


@lru_cache(_KNOWN_TEXTS)
def hash_of_text(text: str) -> int:
    """Java's hash of a string."""
    return java_hash(text)


def hash_of_uuid(uuid: bytes) -> int:
    """Kafka's hash of a UUID: its two halves, then the halves of that, laid over one another."""
    folded = int.from_bytes(uuid[:8], "big") ^ int.from_bytes(uuid[8:], "big")
    return (folded >> 32 ^ folded) & 0xFFFFFFFF


def hash_of_number(number: int) -> int:
    """Java's hash of a small number: itself."""
    return number


def uuid_rank(uuid: bytes) -> tuple[int, int]:
    """Sorts UUIDs as Kafka compares them: by two signed halves."""
    return int.from_bytes(uuid[:8], "big", signed=True), int.from_bytes(uuid[8:], "big", signed=True)
