"""The suites beside this file: what each needs, and what is known of its tests before they run."""

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from brokers import ROOT, WORK, Trouble

HERE = Path(__file__).resolve().parent
# For suites that name no settings: enough partitions for a group of three to share, also in topics that a client can
# only have by naming them.
SETTINGS = {"num.partitions": "6", "auto.create.topics.enable": "true"}
# tables of rooms.toml that name no part of kafkapy
ON_KAFKA = "apache-kafka"  # tests that Apache Kafka does not always pass either
ONE_BROKER = "one-broker"  # those that need three brokers
PROCESSES = "processes"  # those that kafkapy's processes over a database do not pass, by what they promise
NAMES = {"cc": "a C compiler", "java": "Java 17", "mvn": "Maven"}


@dataclass(slots=True)
class Suite:
    """A folder with a `suite.toml`: the checks of one client, or (`whole`) a test suite that the client's makers wrote.

    `requires` are Python packages for the environment of its run.py, `program` one program (from apt when that is
    possible), `tools` programs that whoever runs it must have. `settings` are for both brokers, `kafka_settings` and
    `kafkapy_settings` for one of them on top; `{port}` and `{node}` are the port and the node id.
    """

    name: str
    requires: list[str]
    program: str | None
    tools: list[str]
    quick: bool
    whole: bool
    settings: dict[str, str]
    kafka_settings: dict[str, str]
    kafkapy_settings: dict[str, str]
    rooms: dict[str, str] = field(default_factory=dict)
    unsteady: dict[str, str] = field(default_factory=dict)
    needs_three: dict[str, str] = field(default_factory=dict)
    over_database: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "Suite":
        manifest = tomllib.loads((folder / "suite.toml").read_text("utf-8"))
        suite = cls(
            name=folder.name,
            requires=manifest.get("requires", []),
            program=manifest.get("program"),
            tools=manifest.get("tools", []),
            quick=manifest.get("quick", False),
            whole=manifest.get("whole", False),
            settings=manifest.get("settings", SETTINGS),
            kafka_settings=manifest.get("kafka", {}),
            kafkapy_settings=manifest.get("kafkapy", {}),
        )
        if (folder / "rooms.toml").exists():
            known = tomllib.loads((folder / "rooms.toml").read_text("utf-8"))
            suite.unsteady = known.pop(ON_KAFKA, {})
            suite.needs_three = known.pop(ONE_BROKER, {})
            suite.over_database = known.pop(PROCESSES, {})
            suite.rooms = {test: room for room, tests in known.items() for test in tests}
        return suite

    @property
    def work(self) -> Path:
        """Downloads, builds, data and logs; kept from run to run."""
        return WORK / self.name


def load_all() -> dict[str, Suite]:
    """Every suite by its name: the clients first, then the whole suites."""
    suites = [Suite.load(path.parent) for path in sorted(HERE.glob("*/suite.toml"))]
    return {suite.name: suite for suite in sorted(suites, key=lambda suite: suite.whole)}


def prepare(suite: Suite) -> str:
    """Make sure of what the suite needs; the interpreter to run it with."""
    if missing := [NAMES.get(tool, tool) for tool in suite.tools if shutil.which(tool) is None]:
        raise Trouble(f"{suite.name} needs {', '.join(missing)} on PATH")
    if suite.program:
        if shutil.which(suite.program) is None:
            if os.geteuid() != 0 or shutil.which("apt-get") is None:
                raise Trouble(f"{suite.name} needs the program `{suite.program}` on PATH; please install it")
            print(f"installing {suite.program} …", flush=True)
            subprocess.run(["apt-get", "install", "-y", "-qq", suite.program], check=True, stdout=subprocess.DEVNULL)
        return sys.executable
    return environment(suite.name, suite.requires) if suite.requires else sys.executable


def environment(name: str, requirements: list[str]) -> str:
    """The interpreter of a virtual environment with these packages, made anew when they changed."""
    folder = WORK / name / "environment"
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {', '.join(requirements)} …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], cwd=ROOT, check=True)
        stamp.write_text(wanted)
    return str(python)
