"""The answer to Produce versions 0 to 2, which are advertised and not served.

They are advertised because librdkafka takes their absence for a broker without compression (KAFKA-18659). Whoever uses
one gets UNSUPPORTED_VERSION for each partition, in that version's layout, so that the client can say what is wrong
instead of meeting a closed connection. The generated codecs begin at version 3, hence the few lines by hand.
"""

import struct
from collections.abc import Iterator

from kafkapy.errors import CloseConnection, Error
from kafkapy.protocol.primitives import ProtocolError

_ACKS_TIMEOUT_COUNT = struct.Struct(">hii")
_PARTITION = struct.Struct(">ii")
_RESULT = struct.Struct(">ihq")


def refuse_old_version(version: int, frame: memoryview, offset: int) -> bytes:
    """The body of the answer to a request whose body begins at `offset`. Raises ProtocolError, CloseConnection."""
    try:
        acks, _, count = _ACKS_TIMEOUT_COUNT.unpack_from(frame, offset)
        topics = list(_topics(frame, offset + _ACKS_TIMEOUT_COUNT.size, count))
    except struct.error as cut:
        raise ProtocolError(f"a produce request of version {version} is cut off: {cut}") from None
    if acks == 0:
        raise CloseConnection(f"version {version} of Produce is not served")
    out = bytearray(struct.pack(">i", len(topics)))
    for name, partitions in topics:
        out += struct.pack(">h", len(name)) + name + struct.pack(">i", len(partitions))
        for index in partitions:
            out += _RESULT.pack(index, Error.UNSUPPORTED_VERSION, -1)
            if version >= 2:
                out += struct.pack(">q", -1)  # log append time
    if version >= 1:
        out += struct.pack(">i", 0)  # throttle time
    return bytes(out)


def _topics(frame: memoryview, position: int, count: int) -> Iterator[tuple[bytes, list[int]]]:
    for _ in range(count):
        (length,) = struct.unpack_from(">h", frame, position)
        name = bytes(frame[position + 2 : position + 2 + max(length, 0)])
        position += 2 + len(name)
        (partition_count,) = struct.unpack_from(">i", frame, position)
        position += 4
        partitions = []
        for _ in range(partition_count):
            index, size = _PARTITION.unpack_from(frame, position)
            partitions.append(index)
            position += _PARTITION.size + max(size, 0)
        yield name, partitions
