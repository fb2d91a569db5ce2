"""Settings as text: Java's .properties files, and the environment variables of Kafka's container images."""

import re
from collections.abc import Iterator, Mapping

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}

_NOT_SETTINGS = re.compile(
    r"KAFKA_(VERSION|HOME|HEAP_OPTS|OPTS|LOG4J_.*|JMX_.*|JVM_PERFORMANCE_OPTS|GC_LOG_OPTS|DEBUG|CLUSTER_ID|.*_CLASSPATH)$"
)


def parse_properties(text: str) -> dict[str, str]:
    """The keys and values of a .properties file, by Java's grammar; the last of several wins."""
    return dict(_entries(text))


def _entries(text: str) -> Iterator[tuple[str, str]]:
    for line in _logical_lines(text):
        position = 0
        while position < len(line) and line[position] not in "=: \t\f":
            position += 2 if line[position] == "\\" else 1
        key, rest = line[:position], line[position:].lstrip(" \t\f")
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip(" \t\f")
        yield _unescape(key), _unescape(rest).rstrip()


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments, those that end in a backslash joined with what follows."""
    joined = ""
    for line in text.splitlines():
        part = line.lstrip(" \t\f")
        if not joined and (not part or part[0] in "#!"):
            continue
        backslashes = len(part) - len(part.rstrip("\\"))
        if backslashes % 2:
            joined += part[:-1]
            continue
        yield joined + part
        joined = ""
    if joined:
        yield joined


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        code, letter = match.group(1), match.group(2)
        return chr(int(code, 16)) if code else _ESCAPES.get(letter, letter)

    return re.sub(r"\\(?:u([0-9a-fA-F]{4})|(.))", replace, text)


def from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings in `KAFKA_*` (and `KAFKA_CFG_*`) variables.

    By the rules of the apache/kafka image: `_` stands for a dot, `__` for an underscore, `___` for a dash; names that
    configure the JVM or the image are left out. As there, when only KAFKA_ADVERTISED_LISTENERS is given the listeners
    are derived from it, on all interfaces.
    """
    settings = {}
    for name, value in environ.items():
        if not name.startswith("KAFKA_") or _NOT_SETTINGS.match(name):
            continue
        body = name.removeprefix("KAFKA_CFG_") if name.startswith("KAFKA_CFG_") else name.removeprefix("KAFKA_")
        key = body.lower().replace("___", "-").replace("__", "\0").replace("_", ".").replace("\0", "_")
        settings[key] = value
    if "advertised.listeners" in settings and "listeners" not in settings:
        settings["listeners"] = re.sub(r"://[^,]*:", "://0.0.0.0:", settings["advertised.listeners"])
    return settings
