"""What the generated codecs stand on: the varint, the tagged-field section, and the base classes of every message.

Invariants
1. Whatever the bytes are, decoding ends in a message or in `ProtocolError`, in time and memory bounded by their number.
   Reading past the end is noticed by the next fixed-size read, or by `Message.decode` at the end of the message;
   an array's count is compared with the bytes that remain before its list is built.
2. Record bytes are never copied: decoded, they are views of the frame; encoded, they are handed on as they came.

Called by the generated modules (`messages/`, `journal/`) and by `header`. Source: the protocol guide of Apache Kafka
and KIP-482 (flexible versions).
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, ClassVar, Final, Generic, NoReturn, Self, TypeVar

from kafkapy.protocol.text import Replacing

Buffer = bytes | bytearray | memoryview

ZERO_UUID: Final = bytes(16)
NULL_STRING: Final = b"\xff\xff"
NULL_LENGTH: Final = b"\xff\xff\xff\xff"
MAX_STRING_SIZE: Final = 0x7FFF
# The default of an array parameter: "give me a list of my own". None cannot say that, for it is the null array.
FRESH: Final[list[Any]] = []

new = object.__new__

T = TypeVar("T")
R = TypeVar("R")


class ProtocolError(Exception):
    """Bytes that are no message of the protocol, or a message that its version cannot carry."""


class Struct:
    """The base of every message and nested struct: slotted, mutable, compared by value."""

    __slots__: ClassVar[tuple[str, ...]] = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__qualname__}({fields})"


class Message(Struct):
    """A request, a response or a journal record: a struct that knows how to become bytes in each of its versions."""

    __slots__ = ()
    MIN_VERSION: ClassVar[int]
    MAX_VERSION: ClassVar[int]
    HAS_RECORDS: ClassVar[bool] = False
    # By version. An API's tables are filled in by the modules named below, which are imported when first needed:
    # a broker never decodes a response, and most of the APIs are never called.
    DECODERS: ClassVar[Mapping[int, Callable[[Any, int], tuple[Any, int]]]] = {}
    ENCODERS: ClassVar[Mapping[int, Callable[[Any, bytearray], list[Buffer]]]] = {}
    DECODER_MODULE: ClassVar[str | None] = None
    ENCODER_MODULE: ClassVar[str | None] = None

    @classmethod
    def decode(cls, version: int, buf: Buffer, offset: int = 0) -> tuple[Self, int]:
        """The message that starts at `offset`, and the offset of the first byte after it.

        A records field is a view into `buf`; everything else is the message's own. Raises `ProtocolError`.
        """
        decoder = cls.DECODERS.get(version)
        if decoder is None:
            cls._require(version, cls.DECODER_MODULE)
            decoder = cls.DECODERS[version]
        try:
            # Indexing and slicing bytes is about twice as fast as a memoryview's, which pays for the copy at once.
            if cls.HAS_RECORDS:
                message, end = decoder(memoryview(buf), offset)
            else:
                try:
                    message, end = decoder(bytes(buf), offset)
                except UnicodeDecodeError:
                    message, end = decoder(Replacing(buf), offset)
        except (IndexError, struct.error) as error:
            raise ProtocolError(f"malformed {cls.__name__} version {version}: {error}") from error
        if end > len(buf):
            raise ProtocolError(f"{cls.__name__} version {version} is cut off: {len(buf)} bytes of at least {end}")
        return message, end

    def encode(self, version: int, out: bytearray) -> list[Buffer]:
        """Append this message to `out` and return the buffers to send, in order: `out` first, then records and what
        follows them. Raises `ProtocolError` when a field holds a value that the version cannot carry.
        """
        encoder = self.ENCODERS.get(version)
        if encoder is None:
            self._require(version, self.ENCODER_MODULE)
            encoder = self.ENCODERS[version]
        try:
            return encoder(self, out)
        except (struct.error, UnicodeEncodeError) as error:
            raise ProtocolError(f"{type(self).__name__} version {version} cannot be encoded: {error}") from error

    @classmethod
    def _require(cls, version: int, module: str | None) -> None:
        if not cls.MIN_VERSION <= version <= cls.MAX_VERSION:
            raise ProtocolError(f"{cls.__name__} has no version {version}")
        if module is not None:
            import_module(module)


def read_uvarint(buf: Buffer, offset: int) -> tuple[int, int]:
    """An unsigned varint of at most 32 bits, and the offset after it."""
    byte = buf[offset]
    value = byte & 0x7F
    shift = 7
    while byte >= 0x80:
        offset += 1
        byte = buf[offset]
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 35 or value > 0xFFFFFFFF:
            raise ProtocolError("a varint is longer than 32 bits")
    return value, offset + 1


@lru_cache(maxsize=256)
def packer(form: str, count: int) -> Callable[..., bytes]:
    """What packs an array of so many numbers of this form; arrays of brokers are short, and come by the thousand."""
    return struct.Struct(f">{count}{form}").pack


def write_uvarint(out: bytearray, value: int) -> None:
    """Append an unsigned varint."""
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def read_compact_length(buf: Buffer, offset: int) -> tuple[int, int]:
    """The length-plus-one of a compact string, bytes or array that is not null."""
    low, high = buf[offset], buf[offset + 1]
    if low >= 0x80 and 0 < high < 0x80:
        # Two bytes, 128 to 16383: nearly every length that comes here, record batches above all.
        return low - 0x80 | high << 7, offset + 2
    value, offset = read_uvarint(buf, offset)
    if value == 0:
        raise ProtocolError("a field that may not be null is null")
    return value, offset


def read_compact_string_length(buf: Buffer, offset: int) -> tuple[int, int]:
    """The length-plus-one of a compact string that is not null."""
    value, offset = read_compact_length(buf, offset)
    if value > MAX_STRING_SIZE + 1:
        raise ProtocolError(f"a string of {value - 1} bytes is longer than {MAX_STRING_SIZE}")
    return value, offset


def write_compact_string_length(out: bytearray, value: int) -> None:
    """Append the length-plus-one of a compact string."""
    if value > MAX_STRING_SIZE + 1:
        raise ProtocolError(f"a string of {value - 1} bytes is longer than {MAX_STRING_SIZE}")
    write_uvarint(out, value)


def skip_tags(buf: Buffer, offset: int) -> int:
    """The offset after a tagged-field section of which no tag is known."""
    count, offset = read_uvarint(buf, offset)
    for _ in range(count):
        _tag, offset = read_uvarint(buf, offset)
        size, offset = read_uvarint(buf, offset)
        offset += size
    return offset


def write_tags(out: bytearray, tags: list[tuple[int, bytearray]]) -> None:
    """Append a tagged-field section; `tags` are in ascending order."""
    write_uvarint(out, len(tags))
    for tag, value in tags:
        write_uvarint(out, tag)
        write_uvarint(out, len(value))
        out += value


class Kept(list[T], Generic[T]):
    """A list that nobody changes any more, nor what is in it: what is made of it, is made once."""

    __slots__ = ("_made",)

    def __init__(self, items: Iterable[T]) -> None:
        super().__init__(items)
        self._made: dict[object, Any] = {}

    def once(self, make: Callable[[list[T]], R]) -> R:
        """What `make` makes of it."""
        try:
            made: R = self._made[make]
        except KeyError:
            made = self._made[make] = make(self)
        return made

    def written(self, write: Callable[[list[T], bytearray], None]) -> bytes:
        """What `write` appends for it."""
        try:
            made: bytes = self._made[write]
        except KeyError:
            out = bytearray()
            write(self, out)
            made = self._made[write] = bytes(out)
        return made


def write_kept(items: list[T], write: Callable[[list[T], bytearray], None], out: bytearray) -> None:
    """Append the elements of an array, which may be a list that is kept."""
    if type(items) is Kept:
        out += items.written(write)
    else:
        write(items, out)


def reject_null() -> NoReturn:
    raise ProtocolError("a field that may not be null is null")


def reject_count(count: int) -> NoReturn:
    raise ProtocolError(f"an array of {count} elements is larger than the bytes that are left")


def reject_value(field: str) -> NoReturn:
    raise ProtocolError(f"this version cannot carry the value of {field}")


def reject_tag(tag: int) -> NoReturn:
    raise ProtocolError(f"the value of tag {tag} does not fill its size")
