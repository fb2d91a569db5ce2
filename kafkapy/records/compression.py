"""The codecs of record batches, each imported when first met.

`inflate` and `deflate` work piece by piece: however far a few bytes from the network inflate, no more than a piece is
in memory, and each step is short. `decompress` makes a whole of it, up to a bound. Snappy comes framed by Java clients
(the "xerial" stream: a magic, two version numbers, then length-prefixed blocks) and bare from others; both are read,
the framed form is written, as Java does. LZ4 is the frame format, and zstd a single frame or several.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

from kafkapy.records.batch import Buffer, Compression, CorruptBatch

DEFAULT_MAX_SIZE_BYTES: Final = 256 << 20
"""More than any sane batch: the largest request is 100 MiB by default."""

PIECE_BYTES: Final = 64 << 10
"""How much is inflated at a time; a block of snappy, which is inflated as a whole, may be larger."""

_FED_BYTES: Final = 16 << 10
"""How much an inflater is given at a time: it copies what it leaves over."""

_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_SIZE: Final = 16
_XERIAL_BLOCK_SIZE: Final = 32 * 1024
_SNAPPY_MOST: Final = 22
"""A byte of snappy stands for at most 64/3 bytes."""


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
    for piece in inflate(codec, data):
        size += len(piece)
        if size > max_size_bytes:
            raise CorruptBatch(f"records inflate beyond {max_size_bytes} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def inflate(codec: Compression, data: Buffer) -> Iterator[bytes]:
    """The plain bytes, piece by piece; a piece may be empty. Raises CorruptBatch when it gets to damage."""
    if codec is Compression.NONE:
        return _pieces(data, PIECE_BYTES)
    if codec is Compression.GZIP:
        return _inflate_gzip(data)
    if codec is Compression.SNAPPY:
        return _inflate_snappy(data)
    if codec is Compression.LZ4:
        return _inflate_lz4(data)
    return _inflate_zstd(data)


def _pieces(data: Buffer, size: int) -> Iterator[bytes]:
    view = memoryview(data)
    return (bytes(view[start : start + size]) for start in range(0, len(view), size))


def _deflate_gzip(pieces: Iterable[Buffer], level: int) -> Iterator[bytes]:
    deflater = zlib.compressobj(level, zlib.DEFLATED, 31)
    for piece in pieces:
        yield deflater.compress(piece)
    yield deflater.flush()


def _inflate_gzip(data: Buffer) -> Iterator[bytes]:
    inflater = zlib.decompressobj(31)
    for fed in _pieces(data, _FED_BYTES):
        rest, full = fed, False
        while (rest or full) and not inflater.eof:
            try:
                piece = inflater.decompress(rest, PIECE_BYTES)
            except zlib.error as error:
                raise CorruptBatch(f"gzip: {error}") from None
            rest, full = inflater.unconsumed_tail, len(piece) == PIECE_BYTES
            yield piece
    if not inflater.eof:
        raise CorruptBatch("gzip: the stream ends too early")


def _deflate_lz4(pieces: Iterable[Buffer], level: int) -> Iterator[bytes]:
    import lz4.frame

    deflater = lz4.frame.LZ4FrameCompressor(compression_level=level, block_linked=False)
    yield bytes(deflater.begin())
    for piece in pieces:
        yield bytes(deflater.compress(bytes(piece)))
    yield bytes(deflater.flush())


def _inflate_lz4(data: Buffer) -> Iterator[bytes]:
    import lz4.frame

    inflater = lz4.frame.LZ4FrameDecompressor()
    try:
        for fed in _pieces(data, _FED_BYTES):
            yield from _drained(inflater, fed)
            if inflater.eof:
                return
    except RuntimeError as error:
        raise CorruptBatch(f"lz4: {error}") from None
    raise CorruptBatch("lz4: the frame ends too early")


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
    inflater = zstd.ZstdDecompressor()
    try:
        for fed in _pieces(data, _FED_BYTES):
            rest = fed
            while rest:
                if inflater.eof:
                    inflater = zstd.ZstdDecompressor()
                yield from _drained(inflater, rest)
                rest = inflater.unused_data if inflater.eof else b""
    except zstd.ZstdError as error:
        raise CorruptBatch(f"zstd: {error}") from None
    if not inflater.eof:
        raise CorruptBatch("zstd: the frame ends too early")


def _drained(inflater: Any, fed: bytes) -> Iterator[bytes]:
    """What comes out of lz4 or zstd until they want more, or are at their end."""
    while True:
        yield inflater.decompress(fed, max_length=PIECE_BYTES)
        if inflater.eof or inflater.needs_input:
            return
        fed = b""


def _deflate_snappy(pieces: Iterable[Buffer]) -> Iterator[bytes]:
    import snappy

    yield _XERIAL_MAGIC + struct.pack(">ii", 1, 1)
    for piece in pieces:
        for plain in _pieces(piece, _XERIAL_BLOCK_SIZE):
            block = bytes(snappy.compress(plain))
            yield struct.pack(">i", len(block)) + block


def _inflate_snappy(data: Buffer) -> Iterator[bytes]:
    raw = memoryview(data)
    if bytes(raw[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        yield from _pieces(_snappy_block(bytes(raw)), PIECE_BYTES)
        return
    position = _XERIAL_HEADER_SIZE  # the two version numbers are not looked at: clients differ in them
    while position < len(raw):
        if len(raw) - position < 4:
            raise CorruptBatch("snappy: a block length is cut off")
        (length,) = struct.unpack_from(">i", raw, position)
        position += 4
        if not 0 <= length <= len(raw) - position:
            raise CorruptBatch(f"snappy: a block of {length} bytes does not fit")
        yield from _pieces(_snappy_block(bytes(raw[position : position + length])), PIECE_BYTES)
        yield b""  # a step is over, also when the block was empty
        position += length


def _snappy_block(block: bytes) -> bytes:
    """One bare snappy block. It says at its start how large it becomes: more than can be is refused at once."""
    import snappy

    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    else:
        raise CorruptBatch("snappy: no length")
    if size > _SNAPPY_MOST * len(block):
        raise CorruptBatch(f"snappy: {len(block)} bytes do not stand for {size}")
    try:
        return bytes(snappy.decompress(block))
    except snappy.UncompressError as error:
        raise CorruptBatch(f"snappy: {error}") from None
