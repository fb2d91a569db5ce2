#!/usr/bin/env python3
"""What a broker costs a suite of tests: to be there, to be empty again, to be there twice.

    benchmarks/in_tests.py --rounds 7

Runs in the project's environment. Each round is an interpreter of its own, in which kafkapy is imported, a broker is
started and acknowledges a record, is emptied of ten topics again and again, and gets company. Memory is Rss from /proc
(Linux); what a further broker costs is measured over several, each with a record in it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

TOPICS = 10
RESETS = 50
FURTHER = 10
FIGURES = {
    "import": ("`import kafkapy`, `kafkapy.Broker`", "ms"),
    "first_record": ("`Broker()`, started, to its first acknowledged record", "ms"),
    "second_broker": ("the same of a second broker", "ms"),
    "reset": (f"`reset()` with {TOPICS} topics, median of {RESETS}", "ms"),
    "reset_idle": ("`reset()` with nothing to forget", "ms"),
    "rss": ("Rss of the process, with its first broker", "MB"),
    "further_rss": ("Rss of a further broker", "MB"),
}


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Stopwatch:
    """Milliseconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def __call__(self) -> float:
        return (time.perf_counter() - self._began) * 1000


def measure() -> dict[str, float]:
    """One round, in an interpreter that has imported nothing yet."""
    figures = {}
    elapsed = Stopwatch()
    from kafkapy import Broker

    figures["import"] = elapsed()
    with ExitStack() as brokers:

        def started() -> Broker:
            broker = brokers.enter_context(Broker())
            broker.produce("first", "v")
            return broker

        elapsed = Stopwatch()
        broker = started()
        figures["first_record"] = elapsed()
        figures["rss"] = rss_mb()
        resets, idle = [], []
        for _ in range(RESETS):
            for number in range(TOPICS):
                broker.produce(f"t{number}", "v")
            elapsed = Stopwatch()
            broker.reset()
            resets.append(elapsed())
            elapsed = Stopwatch()
            broker.reset()
            idle.append(elapsed())
        figures["reset"], figures["reset_idle"] = statistics.median(resets), statistics.median(idle)
        elapsed = Stopwatch()
        started()
        figures["second_broker"] = elapsed()
        before = rss_mb()
        for _ in range(FURTHER):
            started()
        figures["further_rss"] = (rss_mb() - before) / FURTHER
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure()))
        return 0
    command = [sys.executable, __file__, "--one"]
    # One round before the counted ones warms the page cache and Python's bytecode.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    rounds = [
        json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
        for _ in range(options.rounds + 1)
    ][1:]
    system = f"{platform.system()} {platform.release()}; {platform.python_implementation()} {platform.python_version()}"
    print(f"{options.rounds} rounds; {os.cpu_count()} cores; {system}\n")
    print("| | median | least | most |\n| --- | ---: | ---: | ---: |")
    for figure, (name, unit) in FIGURES.items():
        found = [one[figure] for one in rounds]
        cells = [f"{value:.1f} {unit}" for value in (statistics.median(found), min(found), max(found))]
        print(f"| {name} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
