"""From a certificate's name to a principal's: `ssl.principal.mapping.rules`, as Kafka's SslPrincipalMapper reads them.

Pure. The first rule that fits the whole name gives the principal; DEFAULT takes the name as it is.
"""

import re
from collections.abc import Callable
from typing import Final

from kafkapy.config.setting import ConfigError

_RULE: Final = r"(DEFAULT)|RULE:((?:\\.|[^\\/])*)/((?:\\.|[^\\/])*)/([LU]?).*?|(?:.*?)"
_SPLITTER: Final = re.compile(rf"\s*({_RULE})\s*(?:,\s*|$)")
_PARSER: Final = re.compile(_RULE)
_REFERENCE: Final = re.compile(r"\\(.)|\$(\d+)", re.DOTALL)

Rule = Callable[[str], str | None]


def principal_mapping(text: str) -> Callable[[str], str | None]:
    """What maps a distinguished name to a principal's name; None when no rule applies. Raises ConfigError."""
    rules = [rule for entry in _SPLITTER.finditer(text.strip()) if (rule := _rule(entry[1])) is not None]

    def map_name(name: str) -> str | None:
        return next((mapped for rule in rules if (mapped := rule(name)) is not None), None)

    return map_name


def _rule(text: str) -> Rule | None:
    match = _PARSER.fullmatch(text)
    if match is None or (text and match[1] is None and match[2] is None):
        raise ConfigError(f"Invalid rule in ssl.principal.mapping.rules: `{text}`")
    if match[1] is not None:
        return lambda name: name
    if match[2] is None:
        return None
    case = {"L": str.lower, "U": str.upper}.get(match[4], str)
    try:
        pattern = re.compile(match[2])
    except re.error as malformed:
        raise ConfigError(f"Invalid rule in ssl.principal.mapping.rules: `{text}`: {malformed}") from None
    replacement = match[3]

    def apply(name: str) -> str | None:
        if pattern.fullmatch(name) is None:
            return None
        return case(pattern.sub(lambda found: _filled(replacement, found), name))

    return apply


def _filled(replacement: str, found: re.Match[str]) -> str:
    """The replacement with its `$n`, of whose digits as many count as there is a group for."""

    def fill(reference: re.Match[str]) -> str:
        if reference[1] is not None:
            return reference[1]
        for end in range(len(reference[2]), 0, -1):
            if int(reference[2][:end]) <= found.re.groups:
                return (found[int(reference[2][:end])] or "") + reference[2][end:]
        return reference[0]

    return _REFERENCE.sub(fill, replacement)
