"""What became of every test, kept test by test in `compat/results/`, and docs/compatibility.md made of that."""

import dataclasses
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brokers import ROOT, ApacheKafka, Kafkapy
from clusters import KafkaNodes, OneProcess, Processes
from suites import Suite

KEPT = Path(__file__).resolve().parent / "results"
REPORT = ROOT / "docs" / "compatibility.md"
LONGEST_DETAIL = 200
SIDES = (Kafkapy.name, OneProcess.name, Processes.name, ApacheKafka.name, KafkaNodes.name)


@dataclass(slots=True)
class Outcome:
    """What became of one test. `passed` None: it did not run, whatever its own runner calls that."""

    passed: bool | None
    seconds: float
    detail: str

    @property
    def word(self) -> str:
        return {True: "ok", False: "FAILED", None: "not run"}[self.passed]


@dataclass(slots=True)
class Result:
    """What became of one suite against one broker, in the order of the run."""

    suite: str
    broker: str
    commit: str
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d"))
    version: str = "?"
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @property
    def passed_count(self) -> int:
        return sum(outcome.passed is True for outcome in self.outcomes.values())

    def __str__(self) -> str:
        return f"{self.passed_count} of {len(self.outcomes)}"


def excused(suite: Suite, ours: Result) -> dict[str, str]:
    """The tests that may fail without anything being wrong, with the reasons."""
    three = suite.over_database if ours.broker == Processes.name else {}
    return suite.unsteady | (suite.needs_three if ours.broker == Kafkapy.name else three)


def trouble(suite: Suite, ours: Result, kafka: Result | None) -> dict[str, str]:
    """What is wrong, by test: what fails on kafkapy without a room to wait for, and rooms whose tests pass by now.

    A test is kafkapy's to pass when it passes on Apache Kafka, as far as that was run.
    """
    found = {}
    for test, outcome in ours.outcomes.items():
        if outcome.passed and test in suite.rooms:
            found[test] = f"passes: it waits for {suite.rooms[test]} no longer"
        if outcome.passed or test in suite.rooms or test in excused(suite, ours):
            continue
        theirs = kafka.outcomes.get(test) if kafka else None
        if theirs is None and outcome.passed is False:
            found[test] = outcome.detail
        elif theirs is not None and theirs.passed:
            found[test] = f"{outcome.word}, passes on {kafka.broker}: {outcome.detail}"
    if kafka:
        for test in kafka.outcomes.keys() - ours.outcomes.keys():
            found[test] = f"run on {kafka.broker} only"
    return found


def keep(suite: Suite, *news: Result) -> None:
    """Write down what whole runs of the suite gave, each in place of the last against the same broker."""
    by_broker = kept(suite) | {result.broker: result for result in news}
    results = [by_broker[name] for name in SIDES if name in by_broker]
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{suite.name}.json").write_text(
        json.dumps([dataclasses.asdict(result) for result in results], indent=1, ensure_ascii=False) + "\n", "utf-8"
    )


def kept(suite: Suite) -> dict[str, Result]:
    """What `keep` wrote, by broker, as far as the suite was run whole against them."""
    path = KEPT / f"{suite.name}.json"
    entries: list[dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.exists() else []
    return {
        entry["broker"]: Result(
            **entry | {"outcomes": {test: Outcome(**one) for test, one in entry["outcomes"].items()}}
        )
        for entry in entries
    }


def report(suites: list[Suite]) -> str:
    """docs/compatibility.md from what is kept."""
    sides = [(suite, kept(suite)) for suite in suites]
    single = (Kafkapy.name, ApacheKafka.name)
    runs = [(suite, *map(found.__getitem__, single)) for suite, found in sides if found.keys() >= set(single)]
    lines = [
        "# Compatibility",
        "",
        "Written by `compat/run` from what it ran and nothing else: clients and test suites that none of us wrote, by",
        f"the same script against kafkapy and against Apache Kafka {ApacheKafka.version()}. Every test's outcome is",
        "kept in `compat/results/`; what we learned on the way is in `compat/<suite>/FINDINGS.md`.",
        "",
        "- *waits*: passes on Apache Kafka, and needs a part of kafkapy that does not exist yet, named below;",
        "- *differs*: passes on Apache Kafka, not on kafkapy, and should;",
        "- *not run* (a test that skipped itself, or ran nothing) is never counted as passed.",
        "",
        "| suite | version | tests | pass on Apache Kafka | pass on kafkapy | waits | differs | kafkapy, date |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for suite, ours, kafka in runs:
        waits = [test for test in ours.outcomes if test in suite.rooms and not ours.outcomes[test].passed]
        tests = len(ours.outcomes.keys() | kafka.outcomes.keys())
        lines.append(
            f"| {suite.name} | {ours.version} | {tests} | {kafka.passed_count} | {ours.passed_count} "
            f"| {len(waits)} | {len(trouble(suite, ours, kafka))} | {ours.commit}, {ours.date} |"
        )
    lines += ["", *of_three([(suite, found) for suite, found in sides if found.keys() - single])]
    for suite, ours, kafka in runs:
        lines += ["", f"## {suite.name}", "", *details(suite, ours, kafka)]
    return "\n".join(lines) + "\n"


def of_three(sides: list[tuple[Suite, dict[str, Result]]]) -> list[str]:
    """What three brokers came to, beside one; and each test that not all of them did the same with."""
    lines = [
        "## Three brokers",
        "",
        "`compat/run --three brokers` and `--three processes`: how many tests passed. A check that has the broker",
        "killed has each of the three killed, one after the other.",
        "",
        f"| suite | {' | '.join(SIDES)} | differs, brokers | differs, processes |",
        f"| --- | {'--- | ' * len(SIDES)}--- | --- |",
    ]
    for suite, found in sides:
        kafka = found.get(KafkaNodes.name) or found.get(ApacheKafka.name)
        cells = [str(found[side]) if side in found else "" for side in SIDES]
        ours = [found.get(side) for side in (OneProcess.name, Processes.name)]
        cells += [str(len(trouble(suite, result, kafka))) if result else "" for result in ours]
        lines.append(f"| {suite.name} | {' | '.join(cells)} |")
    for suite, found in sides:
        shown = [side for side in SIDES if side in found]
        rows = []
        for test in dict.fromkeys(test for side in shown for test in found[side].outcomes):
            outcomes = [found[side].outcomes.get(test) for side in shown]
            if len({outcome.word for outcome in outcomes if outcome}) > 1:
                reasons = [excused(suite, found[side]).get(test) for side in shown]
                details = [outcome.detail for outcome in outcomes if outcome and not outcome.passed]
                why = next(filter(None, [*reasons, *details]), "")
                cells = [outcome.word if outcome else "" for outcome in outcomes]
                rows.append(f"| {' | '.join(map(one_line, [test, *cells, why]))} |")
        if rows:
            head = f"| {suite.name} | {' | '.join(shown)} | |"
            lines += ["", head, f"| --- | {'--- | ' * len(shown)}--- |", *rows]
    return lines


def details(suite: Suite, ours: Result, kafka: Result) -> list[str]:
    """One suite's part: all tests when they are the checks of a client; what did not pass when it is a whole suite."""
    tests = list(dict.fromkeys([*ours.outcomes, *kafka.outcomes]))
    if suite.whole:
        tests = [test for test in tests if not (passed(ours, test) and passed(kafka, test))]
        if not tests:
            return ["Every test passes on both."]
        counts = Counter(suite.rooms[test] for test in tests if test in suite.rooms and not passed(ours, test))
        rooms = ", ".join(f"{room} {count}" for room, count in counts.most_common())
        lines = [f"Waiting for a room: {rooms}.", ""] if rooms else []
        lines += ["Every test that did not pass on both:", ""]
    else:
        lines = []
    lines += [f"| test | {Kafkapy.name} | {ApacheKafka.name} | |", "| --- | --- | --- | --- |"]
    wrong = trouble(suite, ours, kafka)
    for test in tests:
        if test in wrong:
            why = f"**differs**: {wrong[test]}"
        elif test in suite.rooms and not passed(ours, test):
            why = f"waits for {suite.rooms[test]}"
        elif test in excused(suite, ours) and not (passed(ours, test) and passed(kafka, test)):
            why = excused(suite, ours)[test]
        else:
            failed = [result.outcomes[test] for result in (kafka, ours) if test in result.outcomes]
            why = next((outcome.detail for outcome in failed if not outcome.passed), "")
        cells = [one_line(text) for text in (test, cell(ours, test), cell(kafka, test), why)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def passed(result: Result, test: str) -> bool:
    return test in result.outcomes and result.outcomes[test].passed is True


def cell(result: Result, test: str) -> str:
    outcome = result.outcomes.get(test)
    return "" if outcome is None else f"{outcome.word} ({outcome.seconds:.1f} s)" if outcome.passed else outcome.word


def one_line(text: str) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= LONGEST_DETAIL else text[: LONGEST_DETAIL - 1] + "…"
