"""The codecs of record batches, each imported when first met.

Decompression is bounded: a batch that would inflate beyond `max_size_bytes` ends in `CorruptBatch`, so that a few
bytes from the network cannot fill the memory. Snappy comes framed by Java clients (the "xerial" stream: a magic, two
version numbers, then length-prefixed blocks) and bare from others; both are read, the framed form is written, as Java
does. LZ4 is the frame format, and zstd a single frame or several.
"""

import struct
import zlib
from typing import Any

from kafkapy.records.batch import Buffer, Compression, CorruptBatch

DEFAULT_MAX_SIZE_BYTES = 256 << 20
"""More than any sane batch: the largest request is 100 MiB by default."""

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_SIZE = 16
_XERIAL_BLOCK_SIZE = 32 * 1024


def compress(codec: Compression, data: Buffer, level: int | None = None) -> bytes:
    """`data` compressed; `level` as the codec understands it, None for Kafka's default."""
    if codec is Compression.NONE:
        return bytes(data)
    if codec is Compression.GZIP:
        deflate = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, 31)
        return deflate.compress(data) + deflate.flush()
    if codec is Compression.SNAPPY:
        return _compress_snappy(data)
    if codec is Compression.LZ4:
        import lz4.frame

        return bytes(
            lz4.frame.compress(bytes(data), compression_level=0 if level is None else level, block_linked=False)
        )
    return bytes(_zstd().compress(bytes(data), level=3 if level is None else level))


def decompress(codec: Compression, data: Buffer, max_size_bytes: int = DEFAULT_MAX_SIZE_BYTES) -> bytes:
    """The plain bytes; CorruptBatch when `data` is damaged or would inflate beyond the bound."""
    if codec is Compression.NONE:
        return bytes(data)
    if codec is Compression.GZIP:
        return _decompress_gzip(data, max_size_bytes)
    if codec is Compression.SNAPPY:
        return _decompress_snappy(data, max_size_bytes)
    if codec is Compression.LZ4:
        return _decompress_lz4(data, max_size_bytes)
    return _decompress_zstd(data, max_size_bytes)


def _too_large(max_size_bytes: int) -> CorruptBatch:
    return CorruptBatch(f"records inflate beyond {max_size_bytes} bytes")


def _decompress_gzip(data: Buffer, max_size_bytes: int) -> bytes:
    inflate = zlib.decompressobj(31)
    try:
        plain = inflate.decompress(data, max_size_bytes + 1)
    except zlib.error as error:
        raise CorruptBatch(f"gzip: {error}") from None
    if len(plain) > max_size_bytes:
        raise _too_large(max_size_bytes)
    if not inflate.eof:
        raise CorruptBatch("gzip: the stream ends too early")
    return plain


def _decompress_lz4(data: Buffer, max_size_bytes: int) -> bytes:
    import lz4.frame

    inflate = lz4.frame.LZ4FrameDecompressor()
    try:
        plain: bytes = inflate.decompress(bytes(data), max_length=max_size_bytes + 1)
    except RuntimeError as error:
        raise CorruptBatch(f"lz4: {error}") from None
    if len(plain) > max_size_bytes:
        raise _too_large(max_size_bytes)
    if not inflate.eof:
        raise CorruptBatch("lz4: the frame ends too early")
    return plain


def _zstd() -> Any:
    try:
        from compression import zstd  # part of Python from 3.14 on
    except ImportError:
        from backports import zstd
    return zstd


def _decompress_zstd(data: Buffer, max_size_bytes: int) -> bytes:
    zstd = _zstd()
    plain = b""
    rest = bytes(data)
    while rest or not plain:
        inflate = zstd.ZstdDecompressor()
        try:
            plain += inflate.decompress(rest, max_length=max_size_bytes + 1 - len(plain))
        except zstd.ZstdError as error:
            raise CorruptBatch(f"zstd: {error}") from None
        if len(plain) > max_size_bytes:
            raise _too_large(max_size_bytes)
        if not inflate.eof:
            raise CorruptBatch("zstd: the frame ends too early")
        rest = inflate.unused_data
        if not rest:
            break
    return plain


def _compress_snappy(data: Buffer) -> bytes:
    import snappy

    out = bytearray(_XERIAL_MAGIC + struct.pack(">ii", 1, 1))
    for start in range(0, len(data), _XERIAL_BLOCK_SIZE):
        block = snappy.compress(bytes(data[start : start + _XERIAL_BLOCK_SIZE]))
        out += struct.pack(">i", len(block))
        out += block
    return bytes(out)


def _decompress_snappy(data: Buffer, max_size_bytes: int) -> bytes:
    raw = bytes(data)
    if not raw.startswith(_XERIAL_MAGIC):
        return _snappy_block(raw, max_size_bytes)
    plain = bytearray()
    position = _XERIAL_HEADER_SIZE  # the two version numbers are not looked at: clients differ in them
    while position < len(raw):
        if len(raw) - position < 4:
            raise CorruptBatch("snappy: a block length is cut off")
        (length,) = struct.unpack_from(">i", raw, position)
        position += 4
        if not 0 <= length <= len(raw) - position:
            raise CorruptBatch(f"snappy: a block of {length} bytes does not fit")
        plain += _snappy_block(raw[position : position + length], max_size_bytes - len(plain))
        position += length
    return bytes(plain)


def _snappy_block(block: bytes, max_size_bytes: int) -> bytes:
    """One bare snappy block. It says at its start how large it becomes, so the bound is checked before inflating."""
    import snappy

    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    else:
        raise CorruptBatch("snappy: no length")
    if size > max_size_bytes:
        raise _too_large(max_size_bytes)
    try:
        return bytes(snappy.decompress(block))
    except snappy.UncompressError as error:
        raise CorruptBatch(f"snappy: {error}") from None
