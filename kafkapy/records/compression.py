"""The codecs of record batches, each imported when first met.

`inflate` and `deflate` work piece by piece: however far a few bytes from the network inflate, no more than a piece is
in memory, and each step is short. `decompress` makes a whole of it, up to a bound. What `inflate` reads and what it
refuses is what Kafka's readers do: several members of gzip and what is no member behind them, several frames of zstd,
one frame of LZ4 whose blocks are independent and whose content checksum nobody compares; snappy as Java clients frame
it (the "xerial" stream: a magic, two version numbers, then length-prefixed blocks) and bare as others send it. The
framed form is written, as Java does.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

from kafkapy.records.batch import Buffer, Compression, CorruptBatch

DEFAULT_MAX_SIZE_BYTES: Final = 256 << 20
"""More than any sane batch: the largest request is 100 MiB by default."""

PIECE_BYTES: Final = 64 << 10
"""How much is inflated at a time; a block of LZ4 or snappy, which is inflated as a whole, may be larger."""

_GZIP_FED_BYTES: Final = 8 << 10
_ZSTD_FED_BYTES: Final = (128 << 10) + 3
"""How much an inflater is given at a time, as in Kafka: whether damage or records come first depends on it."""

_GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP_HEADER_SIZE: Final = 10
_GZIP_TRAILER: Final = struct.Struct("<II")
_GZIP_LEAST_BYTES: Final = _GZIP_HEADER_SIZE + 2 * _GZIP_TRAILER.size
"""What must be left behind a member's data, its trailer included, for Java to look for another one."""

_LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
_LZ4_INDEPENDENT: Final = 0x60
"""Version 1 of the format, and blocks that need none before them: Kafka reads nothing else."""
_LZ4_BLOCK_CHECKSUM, _LZ4_CONTENT_SIZE, _LZ4_CONTENT_CHECKSUM = 0x10, 0x08, 0x04
_LZ4_PLAIN: Final = 1 << 31
_LZ4_WORD: Final = struct.Struct("<I")

_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_SIZE: Final = 16
_XERIAL_BLOCK_SIZE: Final = 32 * 1024
_XERIAL_FILL_BYTES: Final = 2 << 10
"""Kafka reads on over blocks until it has this much, or none are left."""
_WORD: Final = struct.Struct(">i")
_SNAPPY_MOST: Final = 22
"""A byte of snappy stands for at most 64/3 bytes."""


class DamagedPayload(CorruptBatch):
    """Compressed records cannot be inflated."""


def compress(codec: Compression, data: Buffer, level: int | None = None) -> bytes:
    """`data` compressed; `level` as the codec understands it, None for Kafka's default."""
    if codec is Compression.NONE:
        return bytes(data)
    if codec is Compression.LZ4:
        import lz4.frame

        # As a whole it gets a frame that tells its size.
        return bytes(lz4.frame.compress(data, compression_level=level or 0, block_linked=False))
    return b"".join(deflate(codec, (data,), level))


def deflate(codec: Compression, pieces: Iterable[Buffer], level: int | None = None) -> Iterator[bytes]:
    """The same, piece by piece."""
    if codec is Compression.NONE:
        return map(bytes, pieces)
    if codec is Compression.GZIP:
        return _deflate_gzip(pieces, -1 if level is None else level)
    if codec is Compression.SNAPPY:
        return _deflate_snappy(pieces)
    if codec is Compression.LZ4:
        return _deflate_lz4(pieces, 0 if level is None else level)
    return _deflate_zstd(pieces, 3 if level is None else level)


def decompress(codec: Compression, data: Buffer, max_size_bytes: int = DEFAULT_MAX_SIZE_BYTES) -> bytes:
    """The plain bytes; CorruptBatch when `data` is damaged or would inflate beyond the bound."""
    if codec is Compression.NONE:
        return bytes(data)
    pieces, size = [], 0
    for piece in inflate(codec, data, max_size_bytes):
        size += len(piece)
        if size > max_size_bytes:
            raise CorruptBatch(f"records inflate beyond {max_size_bytes} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def inflate(codec: Compression, data: Buffer, max_block_bytes: int = DEFAULT_MAX_SIZE_BYTES) -> Iterator[bytes]:
    """The plain bytes, piece by piece; a piece may be empty. Raises DamagedPayload when it gets to damage.

    A block of snappy that says it is larger than `max_block_bytes` is not begun.
    """
    if codec is Compression.NONE:
        return _pieces(data, PIECE_BYTES)
    if codec is Compression.GZIP:
        return _inflate_gzip(memoryview(data))
    if codec is Compression.SNAPPY:
        return _inflate_snappy(memoryview(data), max_block_bytes)
    if codec is Compression.LZ4:
        return _inflate_lz4(memoryview(data))
    return _inflate_zstd(data)


def _pieces(data: Buffer, size: int) -> Iterator[bytes]:
    view = memoryview(data)
    return (bytes(view[start : start + size]) for start in range(0, len(view), size))


def _begins_with(raw: memoryview, position: int, wanted: bytes) -> bool:
    return bytes(raw[position : position + len(wanted)]) == wanted


def _deflate_gzip(pieces: Iterable[Buffer], level: int) -> Iterator[bytes]:
    deflater = zlib.compressobj(level, zlib.DEFLATED, 31)
    for piece in pieces:
        yield deflater.compress(piece)
    yield deflater.flush()


def _inflate_gzip(raw: memoryview) -> Iterator[bytes]:
    position = _behind_gzip_header(raw, 0)
    while True:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        crc = size = 0
        fed: Buffer = b""
        full = False
        while not inflater.eof:
            if not fed and not full:
                fed = raw[position : position + _GZIP_FED_BYTES]
                position += len(fed)
                if not fed:
                    raise DamagedPayload("gzip: the stream ends too early")
            try:
                piece = inflater.decompress(fed, PIECE_BYTES)
            except zlib.error as error:
                raise DamagedPayload(f"gzip: {error}") from None
            fed, full = inflater.unconsumed_tail, len(piece) == PIECE_BYTES
            crc = zlib.crc32(piece, crc)
            size += len(piece)
            yield piece
        position -= len(inflater.unused_data)
        left = len(raw) - position
        if left < _GZIP_TRAILER.size or _GZIP_TRAILER.unpack_from(raw, position) != (crc, size & 0xFFFFFFFF):
            raise DamagedPayload("gzip: a wrong trailer")
        if left <= _GZIP_LEAST_BYTES:
            return
        try:
            position = _behind_gzip_header(raw, position + _GZIP_TRAILER.size)
        except DamagedPayload:
            return  # no other member: Java does not look at what it is


def _behind_gzip_header(raw: memoryview, start: int) -> int:
    """The position behind the header of a member that begins at `start`."""
    if not _begins_with(raw, start, _GZIP_MAGIC) or len(raw) - start < _GZIP_HEADER_SIZE:
        raise DamagedPayload("gzip: no header")
    flags, position = raw[start + 3], start + _GZIP_HEADER_SIZE
    try:
        if flags & 0x04:
            position += 2 + raw[position] + (raw[position + 1] << 8)
        for optional_text in (0x08, 0x10):
            if flags & optional_text:
                while raw[position]:
                    position += 1
                position += 1
        if flags & 0x02:
            crc = zlib.crc32(raw[start:position]) & 0xFFFF
            position += 2
            if crc != raw[position - 2] | raw[position - 1] << 8:
                raise DamagedPayload("gzip: a wrong checksum of a header")
    except IndexError:
        raise DamagedPayload("gzip: a header is cut off") from None
    if position > len(raw):
        raise DamagedPayload("gzip: a header is cut off")
    return position


def _deflate_lz4(pieces: Iterable[Buffer], level: int) -> Iterator[bytes]:
    import lz4.frame

    deflater = lz4.frame.LZ4FrameCompressor(compression_level=level, block_linked=False)
    yield bytes(deflater.begin())
    for piece in pieces:
        yield bytes(deflater.compress(bytes(piece)))
    yield bytes(deflater.flush())


def _inflate_lz4(raw: memoryview) -> Iterator[bytes]:
    """Blocks one by one: what lies around them Kafka sees otherwise than the library's own reader of frames."""
    import lz4.frame

    position, flags, size_code = _lz4_header(raw)
    most = 1 << 2 * (size_code >> 4) + 8
    descriptor = bytes([flags & (_LZ4_INDEPENDENT | _LZ4_BLOCK_CHECKSUM), size_code])
    inflater = lz4.frame.LZ4FrameDecompressor()
    inflater.decompress(_LZ4_MAGIC + descriptor + _lz4_check(descriptor))
    after_nothing = False
    while True:
        if len(raw) - position < _LZ4_WORD.size:
            raise DamagedPayload("lz4: the frame ends too early")
        (word,) = _LZ4_WORD.unpack_from(raw, position)
        size = word & ~_LZ4_PLAIN
        if size == 0:
            if flags & _LZ4_CONTENT_CHECKSUM and len(raw) - position < 2 * _LZ4_WORD.size:
                raise DamagedPayload("lz4: the frame ends too early")
            return
        end = position + _LZ4_WORD.size + size + (_LZ4_WORD.size if flags & _LZ4_BLOCK_CHECKSUM else 0)
        if size > most or end > len(raw):
            raise DamagedPayload(f"lz4: a block of {size} bytes does not fit")
        try:
            piece = bytes(inflater.decompress(raw[position:end], max_length=most))
        except RuntimeError as error:
            raise DamagedPayload(f"lz4: {error}") from None
        if after_nothing:
            raise CorruptBatch("lz4: an empty block")  # in which Kafka reads an end, and then goes on
        after_nothing = not piece
        yield piece
        position = end


def _lz4_header(raw: memoryview) -> tuple[int, int, int]:
    """The position behind the frame's header, its flags, and the byte that says how large a block may be."""
    flags, size_code = raw[4:6] if len(raw) > 6 else (0, 0)
    known = flags & 0xE3 == _LZ4_INDEPENDENT and size_code in (0x40, 0x50, 0x60, 0x70)
    if not known or not _begins_with(raw, 0, _LZ4_MAGIC):
        raise DamagedPayload("lz4: no frame that is read here")
    position = 6 + (8 if flags & _LZ4_CONTENT_SIZE else 0)
    if not _begins_with(raw, position, _lz4_check(bytes(raw[4:position]))):
        raise DamagedPayload("lz4: a wrong checksum of the header")
    return position + 1, flags, size_code


def _lz4_check(descriptor: bytes) -> bytes:
    """The byte behind a frame's descriptor of 2 or 10 bytes: the second of its xxHash of 32 bits."""
    value = 0x165667B1 + len(descriptor)
    whole = len(descriptor) & ~3
    for (word,) in _LZ4_WORD.iter_unpack(descriptor[:whole]):
        value = _turned(value + word * 0xC2B2AE3D, 17) * 0x27D4EB2F
    for byte in descriptor[whole:]:
        value = _turned(value + byte * 0x165667B1, 11) * 0x9E3779B1
    value = (value & 0xFFFFFFFF ^ (value & 0xFFFFFFFF) >> 15) * 0x85EBCA77 & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0xC2B2AE3D & 0xFFFFFFFF
    return bytes([(value ^ value >> 16) >> 8 & 0xFF])


def _turned(value: int, bits: int) -> int:
    value &= 0xFFFFFFFF
    return value << bits | value >> 32 - bits


def _zstd() -> Any:
    try:
        from compression import zstd  # part of Python from 3.14 on
    except ImportError:
        from backports import zstd
    return zstd


def _deflate_zstd(pieces: Iterable[Buffer], level: int) -> Iterator[bytes]:
    deflater = _zstd().ZstdCompressor(level=level)
    last: Buffer | None = None
    for piece in pieces:
        if last is not None:
            yield deflater.compress(last)
        last = piece
    yield deflater.compress(last or b"", deflater.FLUSH_FRAME)  # a frame of one piece tells its size


def _inflate_zstd(data: Buffer) -> Iterator[bytes]:
    zstd = _zstd()
    inflater, ended = None, True
    try:
        for fed in _pieces(data, _ZSTD_FED_BYTES):
            ended, rest = False, fed
            while rest:
                if inflater is None:
                    inflater = zstd.ZstdDecompressor()
                while True:
                    yield inflater.decompress(rest, max_length=PIECE_BYTES)
                    rest = b""
                    if inflater.eof or inflater.needs_input:
                        break
                if inflater.eof:
                    ended, rest, inflater = True, inflater.unused_data, None
    except zstd.ZstdError as error:
        raise DamagedPayload(f"zstd: {error}") from None
    if not ended:  # what is begun behind a frame and cut off is left alone, as in Java
        raise DamagedPayload("zstd: the frame ends too early")


def _deflate_snappy(pieces: Iterable[Buffer]) -> Iterator[bytes]:
    import snappy

    yield _XERIAL_MAGIC + struct.pack(">ii", 1, 1)
    for piece in pieces:
        for plain in _pieces(piece, _XERIAL_BLOCK_SIZE):
            block = bytes(snappy.compress(plain))
            yield _WORD.pack(len(block)) + block


def _inflate_snappy(raw: memoryview, most: int) -> Iterator[bytes]:
    if len(raw) < _XERIAL_HEADER_SIZE or not _begins_with(raw, 0, _XERIAL_MAGIC):
        yield from _pieces(_snappy_block(raw, most), PIECE_BYTES)
        return
    position = _XERIAL_HEADER_SIZE  # the two version numbers are not looked at: clients differ in them
    rest = b""
    while len(raw) - position >= _WORD.size:
        if _begins_with(raw, position, _XERIAL_MAGIC[: _WORD.size]):
            begin, position = position, position + _XERIAL_HEADER_SIZE
            if position > len(raw):
                raise DamagedPayload("snappy: a header is cut off")
            if not _begins_with(raw, begin, _XERIAL_MAGIC):
                if not rest:
                    return  # to Java this is an end, once: who asks again is given what follows
                yield rest
                rest = b""
            elif _WORD.unpack_from(raw, begin + len(_XERIAL_MAGIC))[0] < 1:
                raise DamagedPayload("snappy: a version before the first")  # which at the start nobody looks at
            continue
        (length,) = _WORD.unpack_from(raw, position)
        position += _WORD.size
        if not 0 <= length <= len(raw) - position:
            raise DamagedPayload(f"snappy: a block of {length} bytes does not fit")
        plain = rest + _snappy_block(raw[position : position + length], most)
        position += length
        cut = len(plain) - len(plain) % _XERIAL_FILL_BYTES
        yield from _pieces(memoryview(plain)[:cut], PIECE_BYTES)
        if not cut:
            yield b""  # a step is over, also where blocks are small
        rest = plain[cut:]
    yield rest


def _snappy_block(block: Buffer, most: int) -> bytes:
    """One bare snappy block. It says at its start how large it becomes: more than can be is refused at once."""
    import snappy

    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    else:
        raise DamagedPayload("snappy: no length")
    if size > min(_SNAPPY_MOST * len(block), most):
        raise DamagedPayload(f"snappy: {len(block)} bytes do not stand for {size}")
    try:
        return bytes(snappy.decompress(bytes(block)))
    except snappy.UncompressError as error:
        raise DamagedPayload(f"snappy: {error}") from None
