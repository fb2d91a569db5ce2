"""The same bytes in every framing that a codec has: as clients write them, as the formats allow, and as they do not."""

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator

import lz4.block
import lz4.frame
import snappy
from backports import zstd

from kafkapy.records.batch import Compression
from kafkapy.records.compression import compress

Framings = dict[str, bytes]
_SKIPPABLE = struct.pack("<II", 0x184D2A50, 5) + b"hello"
_XERIAL = b"\x82SNAPPY\x00"


def framings(codec: Compression, plain: bytes) -> Framings:
    """What may stand for these plain bytes, by what is particular about it."""
    usual = compress(codec, plain)
    common = {
        "as kafkapy writes it": usual,
        "nothing at all": b"",
        "nothing, compressed": compress(codec, b""),
        "a byte left over": usual + b"\x00",
        "text left over": usual + b"left over",
        "twice": usual + usual,
        "a half and a half": compress(codec, plain[: len(plain) // 2]) + compress(codec, plain[len(plain) // 2 :]),
        "not compressed": plain,
    }
    return common | dict(_OF[codec](plain))


def cuts(codec: Compression, plain: bytes) -> Framings:
    """The usual framing cut at each byte."""
    usual = compress(codec, plain)
    return {f"cut at {size} of {len(usual)}": usual[:size] for size in range(len(usual))}


def damages(codec: Compression, plain: bytes) -> Framings:
    """The usual framing with one bit of each byte turned: the lowest, the highest, one in between."""
    usual = compress(codec, plain)
    found = {}
    for at in range(len(usual)):
        for bit in (1, 0x10, 0x80):
            data = bytearray(usual)
            data[at] ^= bit
            found[f"byte {at} of {len(usual)} ^ {bit:#x}"] = bytes(data)
    return found


def _gzip(plain: bytes) -> Iterator[tuple[str, bytes]]:
    usual = gzip.compress(plain, mtime=0)
    body, trailer = usual[10:-8], usual[-8:]

    def flagged(flags: int, extra: bytes) -> bytes:
        return usual[:3] + bytes([flags]) + usual[4:10] + extra + body + trailer

    yield "level 0", gzip.compress(plain, 0)
    yield "level 9", gzip.compress(plain, 9)
    yield "with a time and a system", usual[:4] + b"\x01\x02\x03\x04\x02\x03" + usual[10:]
    yield "three members", b"".join(gzip.compress(part) for part in (plain[:7], plain[7:20], plain[20:]))
    yield "an empty member in front", gzip.compress(b"") + usual
    yield "an empty member behind", usual + gzip.compress(b"")
    yield "a second member cut in its header", usual + gzip.compress(b"")[:6]
    yield "a second member with a wrong magic", usual + b"\x1f\x8c" + gzip.compress(b"")[2:]
    yield "a second member that is cut", usual + gzip.compress(b"more")[:-3]
    yield "zeros left over", usual + bytes(40)
    yield "with a name", flagged(8, b"records\x00")
    yield "with a comment", flagged(16, b"no comment\x00")
    yield "with an extra field", flagged(4, struct.pack("<H", 4) + b"AB\x00\x00")
    header = usual[:3] + b"\x02" + usual[4:10]
    yield "with a checksum of the header", header + struct.pack("<H", zlib.crc32(header) & 0xFFFF) + body + trailer
    yield "with a wrong checksum of the header", header + b"\x00\x00" + body + trailer
    yield "called text", flagged(1, b"")
    yield "flags that are reserved", flagged(0xE0, b"")
    yield "another method", usual[:2] + b"\x07" + usual[3:]
    yield "a wrong checksum", usual[:-8] + b"\x00\x00\x00\x00" + usual[-4:]
    yield "a wrong size", usual[:-4] + b"\xff\x00\x00\x00"
    yield "no trailer", usual[:-8]
    yield "zlib instead", zlib.compress(plain)
    yield "bare deflate", body


def _snappy(plain: bytes) -> Iterator[tuple[str, bytes]]:
    def blocks(*parts: bytes) -> bytes:
        packed = (bytes(snappy.compress(part)) for part in parts)
        return b"".join(struct.pack(">i", len(part)) + part for part in packed)

    def stream(*parts: bytes, version: int = 1, compatible: int = 1) -> bytes:
        return _XERIAL + struct.pack(">ii", version, compatible) + blocks(*parts)

    bare = bytes(snappy.compress(plain))
    yield "bare", bare
    yield "bare, with a byte left over", bare + b"\x00"
    yield "bare, cut", bare[:-1]
    yield "bare, literals alone", _snappy_literals(plain)
    yield "bare, said to be larger", _snappy_length(len(plain) + 1) + bare[len(_snappy_length(len(plain))) :]
    yield "bare, said to be huge", _snappy_length(2**31 - 1) + bare[len(_snappy_length(len(plain))) :]
    yield "a length in front, and no header", struct.pack(">i", len(bare)) + bare
    yield "several blocks", stream(plain[:5], plain[5:30], plain[30:])
    yield "an empty block between", stream(plain[:5], b"", plain[5:])
    yield "an empty block at the end", stream(plain, b"")
    yield "a block of no bytes at the end", stream(plain) + bytes(4)
    yield "a block of no bytes in front", stream() + bytes(4) + blocks(plain)
    for version, compatible in ((0, 0), (2, 1), (2, 2), (1, 0), (1, 2), (-1, -1), (0, 1), (2**31 - 1, 1)):
        yield f"version {version}, compatible {compatible}", stream(plain, version=version, compatible=compatible)
    yield "versions little endian", _XERIAL + struct.pack("<ii", 1, 1) + blocks(plain)
    yield "a header again between blocks", stream(plain[:9]) + stream(plain[9:])
    no_header = b"\x82SNAP" + bytes(11)
    yield "no header between blocks", stream(plain[:9]) + no_header + blocks(plain[9:])
    yield (
        "no header between records",
        stream(plain[: 1 + (plain[0] >> 1)]) + no_header + blocks(plain[1 + (plain[0] >> 1) :]),
    )
    yield "no header in front of the blocks", stream() + no_header + blocks(plain)
    yield "no header at the end", stream(plain) + no_header
    yield "no header at the end, twice", stream(plain) + no_header * 2 + b"more"
    yield "no header and a word at the end", stream(plain) + no_header + b"more"
    yield "a header of version 0 between blocks", stream(plain[:9]) + stream(plain[9:], version=0)
    yield "a header and nothing", stream()
    yield "a header that is cut", stream()[:12]
    yield "another byte in the magic", b"\x82SNAPPX\x00" + stream(plain)[8:]
    yield "a block's length below zero", stream() + struct.pack(">i", -1) + blocks(plain)[4:]
    yield "a block's length far below zero", stream() + struct.pack(">i", -(2**31)) + blocks(plain)[4:]
    yield "a block's length beyond the end", stream() + struct.pack(">i", len(bare) + 1) + bare
    yield "a block's huge length", stream() + struct.pack(">i", 2**31 - 1) + bare
    yield "a block's length too small", stream() + struct.pack(">i", len(bare) - 1) + bare
    yield "a length cut off at the end", stream(plain) + b"\x00\x00"
    yield "a broken block at the end", stream(plain) + struct.pack(">i", 3) + b"\xff\xff\xff"
    yield "a copy before the start", stream() + _block(b"\x08\x01\x09" + b"\x00")


def _block(block: bytes) -> bytes:
    return struct.pack(">i", len(block)) + block


def _snappy_length(size: int) -> bytes:
    out = bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*out, size])


def _snappy_literals(plain: bytes) -> bytes:
    """Snappy's format without any compression: literals of at most 65536 bytes."""
    parts = (plain[at : at + 65536] for at in range(0, len(plain), 65536))
    literals = (b"\xf4" + struct.pack("<H", len(part) - 1) + part for part in parts)
    return _snappy_length(len(plain)) + b"".join(literals)


def _lz4(plain: bytes) -> Iterator[tuple[str, bytes]]:
    usual = bytes(lz4.frame.compress(plain, block_linked=False, store_size=False))

    def framed(data: bytes = plain, **options: object) -> bytes:
        return bytes(lz4.frame.compress(data, **{"block_linked": False, "store_size": False, **options}))

    yield "without a content size", usual
    yield "linked blocks", framed(block_linked=True)
    yield "a checksum of each block", framed(block_checksum=True)
    yield "a checksum of the content", framed(content_checksum=True)
    yield "all checksums and a size", framed(block_checksum=True, content_checksum=True, store_size=True)
    yield "a wrong checksum of a block", _turned(framed(block_checksum=True), -5)
    yield "a wrong checksum of the content", _turned(framed(content_checksum=True), -1)
    yield "a checksum of the content that is cut", framed(content_checksum=True)[:-2]
    yield "no checksum of the content although it is said", framed(content_checksum=True)[:-4]
    yield "a wrong checksum of the header", _turned(usual, 6)
    yield "a wrong content size", _lz4_header(usual, content_size=len(plain) + 7)
    yield "a huge content size", _lz4_header(usual, content_size=2**63 - 1)
    yield "high compression", framed(compression_level=9)
    for size in (0, 4, 5, 6, 7):
        yield f"block size {size}", framed(block_size=size)
    for code in (0, 1, 3):
        yield f"a block size code of {code}", _lz4_header(usual, block_size_code=code)
    yield "no end mark", usual[:-4]
    yield "half an end mark", usual[:-2]
    yield "an end mark in front", usual[:7] + bytes(4) + usual[7:]
    yield "two frames of a half", framed(plain[:20]) + framed(plain[20:])
    yield "an empty frame in front", framed(b"") + usual
    yield "a skippable frame in front", _SKIPPABLE + usual
    yield "a skippable frame behind", usual + _SKIPPABLE
    yield "a legacy frame", struct.pack("<I", 0x184C2102) + _sized_lz4(plain)
    yield "a bare block", bytes(lz4.block.compress(plain, store_size=False))
    yield "version 0", _lz4_header(usual, version=0)
    yield "version 2", _lz4_header(usual, version=2)
    yield "the reserved bit of the flags", _lz4_header(usual, flags=0x02)
    yield "a dictionary", _lz4_header(usual, flags=0x01)
    yield "the reserved bits of the block descriptor", _lz4_header(usual, descriptor=0x8F)
    yield "blocks that are not compressed", _lz4_frame(usual, (0x80000000 | len(plain), plain))
    half = (None, bytes(lz4.block.compress(plain[:30], store_size=False)))
    yield "a compressed and a plain block", _lz4_frame(usual, half, (0x80000000 | len(plain[30:]), plain[30:]))
    yield "a plain block of no bytes", _lz4_frame(usual, (0x80000000, b""), (0x80000000 | len(plain), plain))
    whole, nothing = (0x80000000 | len(plain), plain), (None, b"\x00")
    yield "a block that inflates to nothing at the end", _lz4_frame(usual, whole, nothing)
    parts = (0x80000000 | 15, plain[:15]), nothing, (0x80000000 | len(plain[15:]), plain[15:])
    yield "a block that inflates to nothing between", _lz4_frame(usual, *parts)
    first = 1 + (plain[0] >> 1)  # of the first record's bytes
    parts = (0x80000000 | first, plain[:first]), nothing, (0x80000000 | len(plain[first:]), plain[first:])
    yield "a block that inflates to nothing between records", _lz4_frame(usual, *parts)
    yield "a block that inflates to nothing", _lz4_frame(usual, (None, b"\x00"), (0x80000000 | len(plain), plain))
    beyond = bytes(lz4.block.compress(plain + bytes(200_000), store_size=False))
    yield "a block that inflates beyond its most", _lz4_frame(usual, (None, beyond))
    yield "a block beyond the frame", usual[:7] + struct.pack("<I", 5000) + usual[11:]
    yield "a block larger than its most", usual[:7] + struct.pack("<I", 70000) + bytes(70000)


def _turned(data: bytes, at: int) -> bytes:
    out = bytearray(data)
    out[at] ^= 0xFF
    return bytes(out)


def _sized_lz4(plain: bytes) -> bytes:
    block = bytes(lz4.block.compress(plain, store_size=False))
    return struct.pack("<I", len(block)) + block


def _lz4_frame(usual: bytes, *blocks: tuple[int | None, bytes]) -> bytes:
    """The header of the usual frame, and blocks given by hand with what their size field says."""
    packed = (struct.pack("<I", len(block) if size is None else size) + block for size, block in blocks)
    return usual[:7] + b"".join(packed) + bytes(4)


def _lz4_header(
    usual: bytes,
    *,
    version: int = 1,
    flags: int = 0,
    block_size_code: int = 4,
    descriptor: int = 0,
    content_size: int | None = None,
) -> bytes:
    """The usual frame with another header, whose checksum is right."""
    flg = version << 6 | 0x20 | flags | (0x08 if content_size is not None else 0)
    header = bytes([flg, block_size_code << 4 | descriptor])
    if content_size is not None:
        header += struct.pack("<Q", content_size)
    return usual[:4] + header + bytes([_xxh32(header) >> 8 & 0xFF]) + usual[7:]


def _xxh32(data: bytes) -> int:
    """xxHash of fewer than 16 bytes, of seed 0: what a frame's header is checked with."""
    first, second, third, fourth, fifth = 2654435761, 2246822519, 3266489917, 668265263, 374761393
    mask = 0xFFFFFFFF

    def turned(value: int, bits: int) -> int:
        value &= mask
        return (value << bits | value >> 32 - bits) & mask

    value = fifth + len(data)
    position = 0
    while position + 4 <= len(data):
        (word,) = struct.unpack_from("<I", data, position)
        value = turned(value + word * third, 17) * fourth & mask
        position += 4
    for byte in data[position:]:
        value = turned(value + byte * fifth, 11) * first & mask
    value ^= value >> 15
    value = value * second & mask
    value ^= value >> 13
    value = value * third & mask
    return value ^ value >> 16


def _zstd(plain: bytes) -> Iterator[tuple[str, bytes]]:
    options = zstd.CompressionParameter
    usual = zstd.compress(plain)
    checked = zstd.compress(plain, options={options.checksum_flag: 1})

    def streamed(data: bytes) -> bytes:
        deflater = zstd.ZstdCompressor()
        return deflater.compress(data) + deflater.flush()

    magic, size = usual[:4], struct.pack("<I", len(plain))
    raw = struct.pack("<I", len(plain) << 3 | 1)[:3] + plain  # the last block, of plain bytes
    yield "level 19", zstd.compress(plain, 19)
    yield "a content size", zstd.compress(plain, options={options.content_size_flag: 1})
    yield "no content size", streamed(plain)
    yield "a checksum", checked
    yield "a wrong checksum", _turned(checked, -1)
    yield "a checksum that is cut", checked[:-2]
    yield "two frames of a half", zstd.compress(plain[:20]) + streamed(plain[20:])
    yield "an empty frame in front", zstd.compress(b"") + usual
    yield "an empty frame behind", usual + zstd.compress(b"")
    yield "a skippable frame in front", _SKIPPABLE + usual
    yield "a skippable frame behind", usual + _SKIPPABLE
    yield "a skippable frame and nothing else", _SKIPPABLE
    yield "a skippable frame that is cut", usual + _SKIPPABLE[:-2]
    yield "a second frame cut in its magic", usual + magic[:3]
    yield "a second frame that is cut", usual + usual[:-2]
    yield "no magic", usual[4:]
    yield "the magic of version 0.7", b"\x27" + usual[1:]
    yield "a dictionary's id", magic + b"\xa1\x07" + size + raw
    yield "a plain block", magic + b"\xa0" + size + raw
    yield "a plain block, and a wrong content size", magic + b"\xa0" + struct.pack("<I", len(plain) + 1) + raw
    yield "a plain block, and a reserved bit", magic + b"\xa8" + size + raw
    yield "a plain block, and an unused bit", magic + b"\xb0" + size + raw
    yield "a huge content size", magic + b"\xe0" + struct.pack("<Q", 2**63 - 1) + raw
    for log in (10, 17, 23, 27, 28, 31):
        yield f"a window of 2^{log} bytes", magic + b"\x00" + bytes([(log - 10) << 3]) + raw
    yield "a block of a reserved kind", magic + b"\xa0" + size + b"\x07\x00\x00"
    yield "a block without the last one", magic + b"\x00\x38" + struct.pack("<I", len(plain) << 3)[:3] + plain
    yield "an empty block in front", magic + b"\x00\x38" + b"\x00\x00\x00" + raw
    not_last = struct.pack("<I", len(plain) << 3)[:3] + plain
    yield "an empty block at the end", magic + b"\x00\x38" + not_last + b"\x01\x00\x00"


_OF: dict[Compression, Callable[[bytes], Iterator[tuple[str, bytes]]]] = {
    Compression.GZIP: _gzip,
    Compression.SNAPPY: _snappy,
    Compression.LZ4: _lz4,
    Compression.ZSTD: _zstd,
}
