"""Runs those of librdkafka's own tests that need a broker and belong to one scenario; the body of both run.py.

The suite's test-runner takes tests by number, so that what has one number (the three tests of subscription updates)
runs in one process, each test still with its own time limit, and is reported test by test. The test of the admin API
ends with its first failure, which would hide what comes behind it: its parts run one by one, each as a test.

A test counts as run when its test-runner says so and at least one of its subtests, if it has any, was not skipped.
The test-runner's quick mode is never used: it passes tests none of whose subtests ran.
"""

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import build
import harness
from brokers import Trouble, kafka_home
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

HERE = Path(__file__).resolve().parent
KAFKA_VERSION = "4.4.0"  # what the tests take the broker for: below, some skip themselves
LIMIT_S = 900.0  # for a process; each test has a limit of its own in the test-runner
# Fast ones that together touch produce, fetch, offsets, groups and topics.
QUICK = {
    "0002_unkpart",
    "0007_autotopic",
    "0012_produce_consume",
    "0022_consume_batch",
    "0031_get_offsets",
    "0039_event_dr",
    "0044_partition_cnt",
    "0045_subscribe_update_non_exist_and_partchange",
    "0070_null_empty",
    "0085_headers",
    "0099_commit_metadata",
}
# Run part by part: the test, and the file that its parts, functions with subtests, are in.
IN_PARTS = {"0081_admin": "0081-admin.c"}

ENTRY = re.compile(r"^    _TEST\((\w+),(.*?)(?=^    _TEST|^#|^ *};)", re.MULTILINE | re.DOTALL)
PART = re.compile(r"^static void\s+(do_test_\w+)\((?=(?:(?!^}$).)*?\bSUB_TEST)", re.MULTILINE | re.DOTALL)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
FAILURE = re.compile(r"^### Test \"(\w+)[^\n]*failed at [^\n]*\n(.*?)^(?:\[|###)", re.MULTILINE | re.DOTALL)


class Outcome(NamedTuple):
    passed: bool | None  # None: did not run
    seconds: float
    detail: str


def main(scenario: str) -> None:
    parser = argparse.ArgumentParser(description="librdkafka's own tests; compat/run calls this.")
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--quick", action="store_true", help="only some fast ones")
    parser.add_argument("--no-restarts", action="store_true", help="nothing is ever restarted here")
    parser.add_argument("--only", metavar="TEXT", help="only tests whose name contains TEXT")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    sources = Path(os.environ["COMPAT_WORK"]).parent / HERE.name  # those of one scenario serve the other too
    with harness.alone(sources):
        tests = build.tests_folder(sources)
    runner = Runner(tests, Path(os.environ["COMPAT_RUN"]), options.bootstrap, scenario)
    chosen = [
        name
        for name in names(tests, scenario)
        if (name in QUICK or not options.quick) and (not options.only or options.only in name)
    ]
    say({"client": "librdkafka's tests", "version": build.VERSION, "checks": chosen})
    warm_up(options.bootstrap)
    for group in dict.fromkeys(runner_arguments(name) for name in chosen):
        together = [name for name in chosen if runner_arguments(name) == group]
        say({"began": together[0]})
        outcomes = runner.run(*group, together)
        for name in together:
            if name != together[0]:
                say({"began": name})
            say({"check": name, **outcomes[name]._asdict()})


def names(tests: Path, scenario: str) -> Iterator[str]:
    """The tests of a scenario in the order of the test-runner's table, without those that need no broker."""
    for name, rest in ENTRY.findall((tests / "test.c").read_text("utf-8")):
        wanted = re.search(r'\.scenario = "([^"]*)"', rest)
        local = "TEST_F_LOCAL" in rest or "TEST_F_MANUAL" in rest or name.endswith("_mock")
        if local or scenario not in (wanted[1] if wanted else "default").split(","):
            continue
        if name in IN_PARTS:
            source = (tests / IN_PARTS[name]).read_text("utf-8")
            yield from (f"{name} {part}" for part in PART.findall(source))
        else:
            yield name


def number(name: str) -> str:
    return name.split("_")[0]


def runner_arguments(name: str) -> tuple[str, str]:
    """The number by which the test-runner takes a test, and the part of it (empty: all)."""
    return number(name), name.partition(" ")[2]


def warm_up(bootstrap: str, timeout_s: float = 60) -> None:
    """Have the broker make its topic of offsets: the tests that expect no error want a broker in use, not a new one."""
    deadline = time.monotonic() + timeout_s
    with Consumer({"bootstrap.servers": bootstrap, "group.id": "warm-up"}) as consumer:
        while True:
            try:
                consumer.committed([TopicPartition("warm-up", 0)], timeout=timeout_s)
                return
            except KafkaException as error:
                if error.args[0].code() != KafkaError.NOT_COORDINATOR or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)


class Runner:
    """The built test-runner, against one broker."""

    def __init__(self, tests: Path, work: Path, bootstrap: str, scenario: str) -> None:
        self.tests = tests
        self.logs = work / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.report = work / "report.json"
        configuration = work / "test.conf"
        # the factor of the suite's own cluster scripts
        configuration.write_text(f"test.timeout.multiplier=2\nbootstrap.servers={bootstrap}\n")
        tools(work / "kafka" / "bin")
        self.environment = {
            **os.environ,
            "LD_LIBRARY_PATH": f"{tests.parent / 'src'}:{tests.parent / 'src-cpp'}",
            "RDKAFKA_TEST_CONF": str(configuration),
            "TEST_KAFKA_VERSION": KAFKA_VERSION,
            "TEST_SCENARIO": scenario,
            "TEST_REPORT": str(self.report),
            "KAFKA_PATH": str(work / "kafka"),
            "BROKERS": bootstrap,
        }

    def run(self, group: str, part: str, together: list[str]) -> dict[str, Outcome]:
        """The tests with this number, or this part of them, in one process; the outcomes of those named."""
        log_path = self.logs / f"{'-'.join(filter(None, (group, part)))}.log"
        # subtests are matched by text, and begin with their function and line
        subtests = {"SUBTESTS": f"{part}:"} if part else {}
        self.report.unlink(missing_ok=True)
        begin = time.monotonic()
        with log_path.open("wb") as log:
            child = subprocess.Popen(
                ["./test-runner", "-p1", "-L"],
                cwd=self.tests,
                env={**self.environment, "TESTS": group, **subtests},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
            try:
                child.wait(LIMIT_S)
                ending = f"the test-runner ended with {child.returncode} and without a report"
            except subprocess.TimeoutExpired:
                ending = f"not done within {LIMIT_S:g} s"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        for statistics in self.tests.glob("stats_*.json"):
            statistics.unlink(missing_ok=True)
        lost = Outcome(False, round(time.monotonic() - begin, 2), ending)
        try:
            said = json.loads(self.report.read_text("utf-8", "replace"))["tests"]
        except (FileNotFoundError, ValueError):
            return dict.fromkeys(together, lost)
        log_text = COLOUR.sub("", log_path.read_text("utf-8", "replace"))
        outcomes = {name: judge(said[name.partition(" ")[0]], log_text, whole=not part) for name in together}
        if child.returncode and not any(outcome.passed is False for outcome in outcomes.values()):
            # such as threads of the library that outlived the tests
            return dict.fromkeys(
                together, lost._replace(detail=f"passed, but the test-runner ended with {child.returncode}")
            )
        return outcomes


def judge(said: dict[str, object], log: str, *, whole: bool) -> Outcome:
    """What one test came to, from the test-runner's report and its log."""
    name, state, seconds = said["name"], said["state"], said["duration"]
    if state == "SKIPPED":
        reason = re.search(rf"\[{name}[ /][^\n]*SKIPPING TEST: ([^\n]*)", log)
        return Outcome(None, seconds, f"skipped: {reason[1] if reason else 'the test-runner did not start it'}")
    if state != "PASSED":
        failure = next((text for test, text in FAILURE.findall(log) if test == name), f"state {state}")
        return Outcome(False, seconds, " ".join(failure.split())[:300])
    lines = [line for line in log.splitlines() if line.startswith((f"[{name} ", f"[{name}/"))]
    passed = sum(bool(re.search(r": PASS \([0-9.]+s\) \]$", line)) for line in lines)
    skipped = [found[1] for line in lines if (found := re.search(r"\] \[ (.*): SKIP.*\]$", line))]
    if not passed and (skipped or not whole):
        return Outcome(None, seconds, f"skipped: all of its {len(skipped)} subtests")
    counts = [f"{passed} subtests"] * (passed > 0) + [f"skipped: {', '.join(skipped)}"] * bool(skipped)
    return Outcome(True, seconds, "; ".join(counts)[:300])


def tools(folder: Path) -> None:
    """The scripts that the tests look for in the `bin` folder of a Kafka, and its jars, for a test written in Java."""
    folder.mkdir(parents=True, exist_ok=True)
    commands = {
        tool: shlex.join([sys.executable, str(HERE / "admin.py"), tool])
        for tool in ("kafka-topics.sh", "kafka-acls.sh")
    }
    commands["kafka-run-class.sh"] = 'java -cp "$CLASSPATH:$KAFKA_PATH/libs/*"'
    for tool, command in commands.items():
        (folder / tool).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / tool).chmod(0o755)
    libraries = folder.parent / "libs"
    with contextlib.suppress(Trouble):  # then that test fails
        if not libraries.is_symlink():
            libraries.symlink_to(kafka_home() / "libs")


def say(thing: object) -> None:
    print(json.dumps(thing), flush=True)
