"""Certificates and keys as people have them: what OpenSSL takes of a PKCS12 file, and whom a certificate names.

The only module that knows `cryptography`.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from kafkapy.config.setting import ConfigError

_KEYWORDS: Final = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
"""Attributes that RFC 2253 has a word for."""

_ESCAPED: Final = frozenset(',=+<>#;"\\')
_STRINGS: Final = frozenset({12, 19, 20, 22, 27, 28, 30})
"""The tags of ASN.1's strings. Java reads all of them as UTF-8, those that are not as well."""


class KeyStore(NamedTuple):
    """What a store holds, in PEM form."""

    key_and_chain: str
    trusted: str


def read_pkcs12(data: bytes, password: str | None, where: str) -> KeyStore:
    """A PKCS12 file. Raises ConfigError."""
    try:
        store = pkcs12.load_pkcs12(data, None if password is None else password.encode("utf-8"))
    except ValueError as problem:
        raise ConfigError(f"{where} cannot be read as PKCS12; is its password right? {problem}") from None
    certificates = [*([store.cert] if store.cert else []), *store.additional_certs]
    pem = [entry.certificate.public_bytes(Encoding.PEM).decode("ascii") for entry in certificates]
    key = ""
    if store.key is not None:
        key = store.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
    return KeyStore(key + "".join(pem), "".join(pem))


def distinguished_name(certificate: bytes) -> str:
    """The subject of a certificate in DER form, as Java writes it by RFC 2253. ValueError when it is none."""
    names = [
        "+".join(_attribute(attribute) for attribute in _parts(rdn))
        for rdn in _parts(_whole(x509.load_der_x509_certificate(certificate).subject.public_bytes()))
    ]
    return ",".join(reversed(names))


class _Element(NamedTuple):
    """A piece of DER."""

    tag: int
    content: bytes
    whole: bytes


def _attribute(attribute: _Element) -> str:
    kind, value = _parts(attribute)
    oid = _oid(kind.content)
    if oid not in _KEYWORDS or value.tag not in _STRINGS:
        return f"{_KEYWORDS.get(oid, oid)}=#{value.whole.hex()}"
    text = value.content.decode("utf-8", "replace")
    bare = text.strip(" \r")
    start = text.index(bare) if bare else len(text)
    end = start + len(bare)
    escaped = "".join(
        ("\\" if char in _ESCAPED or not start <= index < end else "") + ("\\00" if char == "\0" else char)
        for index, char in enumerate(text)
    )
    return f"{_KEYWORDS[oid]}={escaped}"


def _parts(element: _Element) -> Iterator[_Element]:
    rest = element.content
    while rest:
        part = _whole(rest)
        yield part
        rest = rest[len(part.whole) :]


def _whole(data: bytes) -> _Element:
    """The piece at the beginning. The library has read it before, so it is well-formed."""
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start])
    return _Element(data[0], data[start : start + length], data[: start + length])


def _oid(content: bytes) -> str:
    numbers = [0]
    for byte in content:
        numbers[-1] = numbers[-1] << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(0)
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:-1]]))
