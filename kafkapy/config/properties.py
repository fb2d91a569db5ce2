"""Settings as text: Java's .properties files, and the environment variables of Kafka's container images."""

import re
from collections.abc import Iterator, Mapping

from kafkapy.config.setting import ConfigError

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.?))")
_BLANKS = " \t\f"

_NOT_SETTINGS = re.compile(
    r"KAFKA_(VERSION|HOME|HEAP_OPTS|OPTS|(TOOLS_)?LOG4J_.*|JMX_.*|JVM_PERFORMANCE_OPTS|GC_LOG_OPTS|DEBUG|(KRAFT_)?CLUSTER_ID"
    r"|.*CLASSPATH)"
)

_JAAS_FILE = re.compile(r"-Djava\.security\.auth\.login\.config==?(\S+)")
"""A Java property: where the login modules stand."""


def parse_properties(text: str) -> dict[str, str]:
    """The keys and values of a .properties file, by Java's grammar; the last of several wins.

    ConfigError for a malformed `\\uXXXX`, the one thing that Java refuses.
    """
    return dict(_entry(line) for line in _logical_lines(text))


def _entry(line: str) -> tuple[str, str]:
    position = 0
    while position < len(line) and line[position] not in "=: \t\f":
        position += 2 if line[position] == "\\" else 1
    key, rest = line[:position], line[position:].lstrip(_BLANKS)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANKS)
    return _unescape(key), _unescape(rest)


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments and blank ones, those that end in a backslash joined with what follows."""
    joined, continues = "", False
    for line in re.split(r"\r\n|\r|\n", text):
        part = line.lstrip(_BLANKS)
        if not continues and (not part or part[0] in "#!"):
            continue
        backslashes = len(part) - len(part.rstrip("\\"))
        continues = backslashes % 2 == 1
        joined += part[:-1] if continues else part
        if not continues:
            yield joined
            joined = ""
    if joined:
        yield joined


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        code, letter = match.group(1), match.group(2)
        if letter == "u":
            raise ConfigError(f"malformed \\uXXXX in {text!r}")
        return chr(int(code, 16)) if code else _ESCAPES.get(letter, letter)

    return _ESCAPE.sub(replace, text)


def from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings in `KAFKA_*` (and bitnami's `KAFKA_CFG_*`) variables; the former win.

    By the rules of the apache/kafka image: `_` stands for a dot, `__` for an underscore, `___` for a dash; names that
    configure the JVM or the image are left out, all but the JAAS file that KAFKA_OPTS names. As there, when only
    KAFKA_ADVERTISED_LISTENERS is given the listeners are derived from it, on all interfaces.
    """
    settings = {}
    # KAFKA_CFG_ first, so that KAFKA_ overwrites it whatever the order of the environment.
    for name in sorted(environ, key=lambda name: not name.startswith("KAFKA_CFG_")):
        if name.startswith("KAFKA_") and not _NOT_SETTINGS.fullmatch(name):
            body = name.removeprefix("KAFKA_").removeprefix("CFG_")
            key = body.lower().replace("___", "-").replace("__", "\0").replace("_", ".").replace("\0", "_")
            settings[key] = environ[name]
    if jaas_file := _JAAS_FILE.search(environ.get("KAFKA_OPTS", "")):
        settings.setdefault("kafkapy.jaas.file", jaas_file[1])
    if "advertised.listeners" in settings and "listeners" not in settings:
        settings["listeners"] = re.sub(r"://[^,]*:", "://0.0.0.0:", settings["advertised.listeners"])
    return settings
