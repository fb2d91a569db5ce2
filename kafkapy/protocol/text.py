"""Text on the wire: UTF-8, and what is malformed of it is replaced as Java replaces it.

Kafka never refuses a request for its bytes being no UTF-8: it reads U+FFFD in their place and goes on, so that who
asked is told what is wrong with the name. How much one U+FFFD stands for is what Python's "replace" says, too, but for
the surrogates of UTF-16 that some write as three bytes each: Java takes such three (or what is there of them) as one.
Called by the codecs and the headers.
"""

import codecs
from typing import Any, Final

REPLACING: Final = "kafkapy.as_java"
"""The name of the error handler, for whoever decodes; what is well-formed costs nothing more for it."""

_REPLACEMENT: Final = "\ufffd"


def _replace(malformed: UnicodeError) -> tuple[str, int]:
    assert isinstance(malformed, UnicodeDecodeError)
    raw, start, end = malformed.object, malformed.start, malformed.end
    if raw[start] == 0xED and 0xA0 <= _at(raw, start + 1) <= 0xBF:
        end = start + (3 if 0x80 <= _at(raw, start + 2) <= 0xBF else 2)
    return _REPLACEMENT, end


def _at(raw: bytes, position: int) -> int:
    return raw[position] if position < len(raw) else -1


codecs.register_error(REPLACING, _replace)


class Replacing(bytes):
    """Bytes whose slices decode so: what a decoder is given again that met something malformed."""

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return Replacing(part) if isinstance(part, bytes) else part

    def decode(self, encoding: str = "utf-8", errors: str = REPLACING) -> str:
        return super().decode(encoding, errors)
