"""Login modules and their options, as Kafka's users write them down (JAAS).

Kafka's grammar: `module flag key="value" … ;`, a value in quotes with Java's escapes, or a bare word; comments as in
Java, and from a lone slash on. In a file such entries stand in sections, `KafkaServer { … };`. Pure.

No text of an entry stands in an error: it may be a password.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from kafkapy.config.setting import ConfigError

_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|/\*.*?(?:\*/|\Z)|/[^\n\r]*)
    |(?P<word>[A-Za-z_$\u00a0-\uffff][A-Za-z0-9._$\u00a0-\uffff-]*)
    |(?P<quoted>"(?:\\.|[^"\\\n\r])*"?|'(?:\\.|[^'\\\n\r])*'?)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\([0-3][0-7]{0,2}|[4-7][0-7]?|.)", re.DOTALL)
_ESCAPED: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_FLAGS: Final = ("REQUIRED", "REQUISITE", "SUFFICIENT", "OPTIONAL")


class LoginModule(NamedTuple):
    """One entry: a Java class, here only a name, and what it is told."""

    name: str
    options: Mapping[str, str]


class _Token(NamedTuple):
    text: str
    is_value: bool  # a word or a quoted string, not a sign


def parse_entry(text: str) -> LoginModule:
    """The one login module of a `sasl.jaas.config`. Raises ConfigError."""
    tokens = _tokens(text)
    modules = []
    while (first := next(tokens, None)) is not None:
        modules.append(_module(first, tokens))
    if not modules:
        raise ConfigError("Login module not specified in JAAS config")
    if len(modules) != 1:
        raise ConfigError(f"JAAS config property contains {len(modules)} login modules, should be 1 module")
    return modules[0]


def parse_file(text: str) -> dict[str, list[LoginModule]]:
    """The login modules of each section of a JAAS file. Raises ConfigError."""
    sections: dict[str, list[LoginModule]] = {}
    tokens = _tokens(text)
    while (name := next(tokens, None)) is not None:
        if not name.is_value or next(tokens, None) != _Token("{", False):
            raise ConfigError("JAAS file: a section begins with its name and {")
        modules = sections.setdefault(name.text, [])
        while (first := next(tokens, None)) is not None and first != _Token("}", False):
            modules.append(_module(first, tokens))
        if first is None or next(tokens, None) != _Token(";", False):
            raise ConfigError("JAAS file: a section ends with }; ")
    return sections


def _module(first: _Token, tokens: Iterator[_Token]) -> LoginModule:
    flag = next(tokens, None)
    if flag is None:
        raise ConfigError("Login module control flag not specified in JAAS config")
    if not flag.is_value or flag.text.upper() not in _FLAGS:
        raise ConfigError("Invalid login module control flag in JAAS config")
    options = {}
    while (key := next(tokens, None)) is not None and key != _Token(";", False):
        value = next(tokens, None) if next(tokens, None) == _Token("=", False) else None
        if value is None or not value.is_value:
            raise ConfigError("Value not specified for a key in JAAS config")
        options[key.text] = value.text
    if key is None:
        raise ConfigError("JAAS config entry not terminated by semi-colon")
    return LoginModule(first.text, options)


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        if match["word"] is not None:
            yield _Token(match["word"], True)
        elif match["quoted"] is not None:
            quote = match["quoted"][0]
            yield _Token(_ESCAPE.sub(_unescaped, match["quoted"][1:].removesuffix(quote)), True)
        elif match["other"] is not None:
            yield _Token(match["other"], False)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code, 8)) if code[0] in "01234567" else _ESCAPED.get(code, code)
