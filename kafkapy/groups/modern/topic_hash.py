"""What Kafka compares to see whether a group's topics have changed (KIP-1101): one number for all of them.

A topic's is made of its id, name, partitions and the racks of their replicas. Kafka hashes with XXH3, text as UTF-16
with its length behind it, and everything in little-endian order.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage, TopicInfo

RacksOf = Callable[[Sequence[int]], list[str]]
"""The racks of brokers, sorted; those that have none are left out."""

_MAGIC: Final = b"\0"


class TopicHashes:
    """Hashes topics, each once for as long as it is the same. Those that are gone do not add up."""

    def __init__(self, racks_of: RacksOf) -> None:
        self._racks_of = racks_of
        self._known: dict[str, tuple[TopicInfo, int]] = {}

    def of(self, names: Iterable[str], image: "ClusterImage") -> int:
        """The hash of these topics, of those that exist; 0 when there are none."""
        if len(self._known) > len(image.topics):
            self._known = {name: known for name, known in self._known.items() if image.topic(name) is known[0]}
        hashes = [self._of_topic(topic) for name in sorted(names) if (topic := image.topic(name)) is not None]
        return _hash(struct.pack(f"<{len(hashes)}q", *hashes)) if hashes else 0

    def _of_topic(self, topic: "TopicInfo") -> int:
        known = self._known.get(topic.name)
        if known is not None and known[0] is topic:
            return known[1]
        most, least = struct.unpack(">qq", topic.topic_id)
        parts = [_MAGIC, struct.pack("<qq", most, least), _text(topic.name), struct.pack("<i", len(topic.partitions))]
        for number, partition in enumerate(topic.partitions):
            parts.append(struct.pack("<i", number))
            for rack in self._racks_of(partition.replicas):
                parts += [struct.pack("<i", _length(rack)), _text(rack)]
        found = _hash(b"".join(parts))
        self._known[topic.name] = (topic, found)
        return found


def _hash(data: bytes) -> int:
    import xxhash  # only brokers with such groups need it

    digest: int = xxhash.xxh3_64_intdigest(data)
    return digest - (1 << 64) if digest >> 63 else digest


def _text(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass") + struct.pack("<i", _length(text))


def _length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
