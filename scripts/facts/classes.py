"""What the classes of a release say: errors, definitions of settings, and what its parser makes of values."""

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROGRAM = Path(__file__).resolve().parent / "KafkaFacts.java"

Question = tuple[str, str, str]
"""Scope, name and text: what is made of this text, given to that setting?"""


class ErrorFact(NamedTuple):
    code: int
    name: str
    retriable: bool
    text: str


class Definition(NamedTuple):
    """A setting as a release defines it; texts as Kafka prints them, empty where it has none."""

    scope: str
    name: str
    type: str
    default: str
    valid: str
    importance: str
    internal: str
    synonym: str


class ClassFacts(NamedTuple):
    errors: list[ErrorFact]
    definitions: list[Definition]
    parsed: dict[Question, tuple[str, str]]


def ask_classes(home: Path, questions: Iterable[Question]) -> ClassFacts:
    """Compile and run `KafkaFacts.java` against the jars below `home`. Settings it lacks are asked of no one."""
    libraries = f"{home}/libs/*"
    lines = "".join("\t".join(question) + "\n" for question in questions)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["javac", "-cp", libraries, "-d", folder, str(PROGRAM)], check=True)
        command = ["java", "-Xmx256m", "-cp", f"{folder}:{libraries}", PROGRAM.stem]
        done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    facts = ClassFacts([], [], {})
    for line in done.stdout.removesuffix("\n").split("\n"):
        kind, *fields = line.split("\t")
        if kind == "error":
            code, name, retriable, text = fields
            facts.errors.append(ErrorFact(int(code), name, retriable == "true", text))
        elif kind == "definition":
            facts.definitions.append(Definition(*fields))
        else:
            scope, name, text, result, said = fields
            facts.parsed[scope, name, text] = (result, said)
    return facts
