"""The tables in the code, and the data that tests compare them with, as a release has them.

What a release cannot tell stays as it stands in a row: our words for a setting, whether kafkapy acts on it, and that a
list drops repeated entries. A new setting has no words yet, which a test will say.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from facts.classes import ClassFacts, Definition, Question
from facts.node import NodeFacts
from kafkapy.config.broker import BROKER
from kafkapy.config.client_metrics import CLIENT_METRICS
from kafkapy.config.group import GROUP
from kafkapy.config.setting import Setting, Type
from kafkapy.config.topic import TOPIC

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = {
    "broker": ("kafkapy/config/broker.py", BROKER),
    "topic": ("kafkapy/config/topic.py", TOPIC),
    "group": ("kafkapy/config/group.py", GROUP),
    "client-metrics": ("kafkapy/config/client_metrics.py", CLIENT_METRICS),
}
ERRORS = "kafkapy/errors.py"
DEFINITIONS = "tests/config/data/config_definitions.tsv"
DESCRIBED = "tests/config/data/described_configs.tsv"
PARSED = "tests/config/data/parsed_values.tsv"
RANGES = "tests/protocol/data/api_versions.tsv"
FEATURES = "tests/protocol/data/features.tsv"

NOT_EMPTY = "must not be empty"


def questions() -> list[Question]:
    """What to ask Kafka's parser: what the recorded answers are about, and of every list whether it may be empty."""
    asked = [(fields[0], fields[1], fields[2]) for fields in _read(PARSED)]
    lists = [
        (scope, name, "")
        for scope, (_, table) in SETTINGS.items()
        for name, setting in table.items()
        if setting.type is Type.LIST
    ]
    return list(dict.fromkeys(asked + lists))


def more_questions(definitions: Iterable[Definition]) -> list[Question]:
    """For each type with bounds or choices that no recorded answer is about: all texts that its type is asked about."""
    kinds = {(definition.scope, definition.name): definition for definition in definitions}
    asked: dict[str, dict[str, None]] = {}
    covered = set()
    for scope, name, text, *_ in _read(PARSED):
        if definition := kinds.get((scope, name)):
            asked.setdefault(definition.type, {})[text] = None
            covered.add((definition.type, definition.valid))
    found = []
    for definition in kinds.values():
        told = definition.valid.startswith(("[", "(case insensitive)"))  # else only the validator knows
        if told and definition.type in asked and (definition.type, definition.valid) not in covered:
            covered.add((definition.type, definition.valid))
            found += [(definition.scope, definition.name, text) for text in asked[definition.type]]
        if definition.type == "LIST" and definition.name not in SETTINGS[definition.scope][1]:
            found.append((definition.scope, definition.name, ""))
    return list(dict.fromkeys(found))


def files(facts: ClassFacts, node: NodeFacts, names: Mapping[int, str]) -> dict[str, str]:
    """Every file that is made of these facts, by its path. `names`: the APIs by key."""
    ranges = [[str(key), names.get(key, "?"), str(low), str(high)] for key, (low, high) in sorted(node.ranges.items())]
    features = [[name, *map(str, levels)] for name, levels in sorted(node.features.items())]
    recorded = {tuple(fields[:2]) for fields in _read(PARSED)}
    fresh = {question[:2] for question in more_questions(facts.definitions) if question[2]}
    parsed = [[*question, *answer] for question, answer in facts.parsed.items() if question[:2] in recorded | fresh]
    return {
        **{path: settings_file(scope, facts, node) for scope, (path, _) in SETTINGS.items()},
        ERRORS: errors_file(facts),
        DEFINITIONS: _table("scope name type default valid importance internal synonym", facts.definitions),
        DESCRIBED: _table("resource name type value source mode sensitive synonyms", node.described),
        PARSED: _table("scope name given result text", parsed),
        RANGES: _table("key name first last", ranges),
        FEATURES: _table("name lowest highest finalized", features),
    }


def _read(path: str) -> list[list[str]]:
    lines = (ROOT / path).read_text(encoding="utf-8").split("\n")
    return [line.split("\t") for line in lines[1:] if line]


def _table(head: str, rows: Iterable[Iterable[str]]) -> str:
    return "".join("\t".join(row) + "\n" for row in (head.split(" "), *rows))


# Settings


def settings_file(scope: str, facts: ClassFacts, node: NodeFacts) -> str:
    """A table of settings with its rows as the release has them."""
    path, known = SETTINGS[scope]
    may_change = {row[1] for row in node.described if row[0] == "BROKER" and row[5] == "rw"}
    rows = []
    for definition in facts.definitions:
        if definition.scope != scope:
            continue
        ours = known.get(definition.name, Setting(definition.name, Type.UNKNOWN, None, ""))
        _, answer = facts.parsed.get((scope, definition.name, ""), ("", ""))
        setting = ours._replace(
            type=Type[definition.type],
            default=None if definition.default in ("null", "(none)") else definition.default,
            valid=definition.valid,
            dynamic=definition.name in may_change if scope == "broker" else not definition.internal,
            internal=bool(definition.internal),
            synonym=_synonym(definition),
            non_empty=definition.type == "LIST" and NOT_EMPTY in answer,
        )
        rows.append(f"    {rendered(setting)},\n")
    text = (ROOT / path).read_text("utf-8")
    return re.sub(r"(?<=^_ROWS = \(\n)(?:    Setting\(.*\n)*", lambda _: "".join(rows), text, flags=re.M)


def _synonym(definition: Definition) -> str | None:
    if definition.scope == "group" and not definition.internal:
        return definition.synonym or definition.name  # where no broker setting stands behind it, Kafka names it itself
    return definition.synonym or None


def rendered(setting: Setting) -> str:
    """A row of a table as source: what is not as by default, in the order of the fields."""
    parts = [_quoted(setting.name), f"Type.{setting.type.name}", _quoted(setting.default), _quoted(setting.doc)]
    for name in Setting._fields[4:]:
        value = getattr(setting, name)
        if value != Setting._field_defaults[name]:
            parts.append(f"{name}={_quoted(value) if isinstance(value, str) else value}")
    return f"Setting({', '.join(parts)})"


def _quoted(text: str | None) -> str:
    if text is None:
        return "None"
    quote = "'" if '"' in text and "'" not in text else '"'
    escaped = text.replace("\\", "\\\\")
    return quote + (escaped if quote == "'" else escaped.replace('"', '\\"')) + quote


# Errors


def errors_file(facts: ClassFacts) -> str:
    """The table of errors, with Kafka's own text for each: what clients show."""
    rows = "".join(
        f"    {error.name} = {error.code}, {error.retriable}, {_quoted(error.text)}\n" for error in facts.errors
    )
    text = (ROOT / ERRORS).read_text("utf-8")
    return re.sub(r"^    UNKNOWN_SERVER_ERROR(?:.*\n)*?(?=    # fmt: on)", lambda _: rows, text, flags=re.M)
