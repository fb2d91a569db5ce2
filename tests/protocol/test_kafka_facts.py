"""`scripts/kafka_facts` without Java: of the same facts it makes what lies here, of others what they say."""

import zipfile
from pathlib import Path

import pytest
from facts import tables
from facts.classes import ClassFacts, Definition, ErrorFact
from facts.node import NodeFacts
from facts.specs import DATA_MODULES, JARS, read_definitions, spec_files

from kafkapy.config.setting import ConfigError
from kafkapy.errors import Error

ROOT = Path(__file__).resolve().parent.parent.parent


def recorded(name: str) -> list[list[str]]:
    lines = (ROOT / "tests" / "config" / "data" / name).read_text("utf-8").split("\n")[1:]
    return [line.split("\t") for line in lines if line]


@pytest.fixture
def facts() -> ClassFacts:
    """What the classes of the release said that we follow."""
    definitions = [Definition(*row) for row in recorded("config_definitions.tsv")]
    parsed = {}
    for scope, (_, table) in tables.SETTINGS.items():
        for name, setting in table.items():
            try:
                parsed[scope, name, ""] = ("ok", str(setting.parse("")))
            except ConfigError as refusal:
                parsed[scope, name, ""] = ("refused", str(refusal.message))
    errors = [ErrorFact(error, error.name, error.retriable, error.text) for error in Error]
    return ClassFacts(errors, definitions, parsed)


@pytest.fixture
def node() -> NodeFacts:
    return NodeFacts({}, {}, recorded("described_configs.tsv"))


@pytest.mark.parametrize("scope", tables.SETTINGS)
def test_the_same_release_changes_no_table_of_settings(scope: str, facts: ClassFacts, node: NodeFacts) -> None:
    path, _ = tables.SETTINGS[scope]
    assert tables.settings_file(scope, facts, node) == (ROOT / path).read_text("utf-8")


def test_the_same_release_changes_no_error(facts: ClassFacts) -> None:
    assert tables.errors_file(facts) == (ROOT / tables.ERRORS).read_text("utf-8")


def test_what_is_new_and_what_is_other_gets_into_the_table_and_our_words_stay(
    facts: ClassFacts, node: NodeFacts
) -> None:
    at = next(i for i, row in enumerate(facts.definitions) if row[:2] == ("topic", "segment.bytes"))
    other = facts.definitions[at]._replace(default="7", valid="[5,...]")
    new = Definition("topic", "segment.colour", "LIST", "red,blue", "[red, blue]", "LOW", "", "log.segment.colour")
    facts.definitions[at : at + 1] = [other, new]
    facts.parsed["topic", "segment.colour", ""] = ("refused", "Configuration 'segment.colour' must not be empty.")
    lines = tables.settings_file("topic", facts, node).splitlines()
    [line] = [line for line in lines if '"segment.bytes"' in line]
    assert 'Type.INT, "7", "Size at which a new segment begins, in bytes.", valid="[5,...]"' in line
    assert "used=True" in line
    [line] = [line for line in lines if '"segment.colour"' in line]
    assert line.strip() == (
        'Setting("segment.colour", Type.LIST, "red,blue", "", valid="[red, blue]", dynamic=True, '
        'synonym="log.segment.colour", non_empty=True),'
    )


def test_bounds_that_nothing_was_asked_about_are_asked_about(facts: ClassFacts) -> None:
    assert tables.more_questions(facts.definitions) == []
    new = Definition("broker", "warp.factor", "DOUBLE", "1.0", "[1,...,9.99]", "HIGH", "", "")
    asked = tables.more_questions([*facts.definitions, new])
    assert {(scope, name) for scope, name, _ in asked} == {("broker", "warp.factor")}
    assert {"1.5", "NaN", "-1", "abc"} < {text for *_, text in asked}


def jars(tmp_path: Path, *definitions: str) -> Path:
    (tmp_path / "libs").mkdir()
    for jar in JARS:
        with zipfile.ZipFile(tmp_path / "libs" / f"kafka-{jar}-9.9.9.jar", "w") as archive:
            for number, text in enumerate(definitions if jar == "clients" else ()):
                archive.writestr(f"common/message/{number}.json", text)
    return tmp_path


REQUEST = """
// A licence, in lines like this.
{
  "apiKey": 99, "type": "request", "listeners": ["broker"], "name": "PaintRequest",
  // Version 2 is unstable.
  "validVersions": "1-2", "flexibleVersions": "1+", "latestVersionUnstable": true,
  "fields": [
    { "name": "Url", "type": "string", "versions": "0+", "default": "http://x", "about": "Where // and why." },
    { "name": "Coat", "type": "Coat", "versions": "1+", "nullableVersions": "2+", "default": "null" },
    { "name": "Under", "type": "[]Coat", "versions": "1+", "ignorable": true },
    { "name": "Mask", "type": "int64", "versions": "1+", "taggedVersions": "2+", "tag": 3, "default": "0x10" },
    { "name": "Wet", "type": "bool", "tag": 4, "taggedVersions": "1+", "default": "false" }
  ],
  "commonStructs": [
    { "name": "Coat", "versions": "1+", "fields": [
      { "name": "Colour", "type": "uuid", "versions": "1+", "mapKey": true, "about": "Its colour." } ] } ]
}
"""
RESPONSE = """
{ "apiKey": 99, "type": "response", "name": "PaintResponse", "validVersions": "1-2", "flexibleVersions": "1+",
  "fields": [ { "name": "ErrorCode", "type": "int16", "versions": "1+", "default": "0" } ] }
"""

SPEC = """{
  "key": 99, "name": "Paint", "versions": "1-2", "flexible": "1+", "stable": 1, "advertised_from": 0,
  "request": [
    {"name": "Url", "type": "string", "versions": "0+", "default": "http://x"},
    {"name": "Coat", "type": "Coat", "versions": "1+", "nullable": "2+", "default": null, "fields": [
      {"name": "Colour", "type": "uuid", "versions": "1+", "key": true}]},
    {"name": "Under", "type": "[]Coat", "versions": "1+", "ignorable": true},
    {"name": "Mask", "type": "int64", "versions": "1+", "tag": 3, "tagged": "2+", "default": 16},
    {"name": "Wet", "type": "bool", "versions": "1+", "tag": 4}
  ],
  "response": [
    {"name": "ErrorCode", "type": "int16", "versions": "1+"}
  ]
}
"""

KEY = """
{ "type": "coordinator-key", "name": "PaintKey", "apiKey": 7, "validVersions": "0", "flexibleVersions": "none",
  "fields": [ { "name": "pot", "type": "string", "versions": "0" } ] }
"""
METADATA = """
{ "type": "metadata", "name": "PaintRecord", "apiKey": 8, "validVersions": "0", "flexibleVersions": "0+", "fields": [] }
"""


def data(name: str) -> str:
    return f'{{"type": "data", "name": "{name}", "validVersions": "0", "flexibleVersions": "none", "fields": []}}'


KNOWN = [data(name) for names in DATA_MODULES.values() for name in names]


def test_definitions_become_specs_without_their_comments(tmp_path: Path) -> None:
    home = jars(tmp_path, REQUEST, RESPONSE, KEY, METADATA, *KNOWN)
    files = spec_files(read_definitions(home, "9.9.9"), {99: (0, 1)})
    assert files.keys() == {
        "paint.json",
        "journal/paint.json",
        "journal/cluster_metadata.json",
        "journal/control_records.json",
        "journal/consumer_protocol.json",
        "journal/principal.json",
    }
    assert files["paint.json"] == SPEC
    assert '"name": "PaintKey", "kind": "coordinator-key", "key": 7, "versions": "0"' in files["journal/paint.json"]


def test_data_that_no_module_wants_ends_the_run(tmp_path: Path) -> None:
    home = jars(tmp_path, METADATA, data("Palette"), *KNOWN)
    with pytest.raises(SystemExit, match="Palette"):
        spec_files(read_definitions(home, "9.9.9"), {})
