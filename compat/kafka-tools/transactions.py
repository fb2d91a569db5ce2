"""What kafka-transactions.sh tells of transactions that are open, and how it ends them."""

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scenarios import fresh

if TYPE_CHECKING:
    from run import Tools

PATIENCE_S = 60


@contextlib.contextmanager
def left_open(t: "Tools") -> Iterator[tuple[str, str, int]]:
    """A transaction whose producer stands still: its id, its topic, and the offset where it begins."""
    topic, name = t.create(), fresh("open")
    t.produce(topic, ["before"])
    command = t.command(
        "ProducerPerformance",
        *("--bootstrap-server", t.bootstrap, "--topic", topic, "--record-size", "10", "--num-records", "1000"),
        *("--throughput", "5", "--transactional-id", name, "--transaction-duration-ms", "600000"),
        *("--command-property", "transaction.timeout.ms=600000"),
    )
    producer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        begins = until(t, topic, r"\d+$")
        producer.send_signal(signal.SIGSTOP)
        yield name, topic, int(begins)
    finally:
        producer.kill()
        producer.wait()


def until(t: "Tools", topic: str, wanted: str) -> str:
    """Describe the topic's last transactional producer, until it tells such a start offset of its transaction."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        shown = t("TransactionsCommand", "describe-producers", "--topic", topic, "--partition", "0")
        rows = [line.split() for line in shown.splitlines() if re.match(r"\d+\s", line)]
        started = [row[5] for row in rows if re.match(wanted, row[5])]
        if started:
            return started[-1]
        assert time.monotonic() < deadline, shown


def described(t: "Tools", name: str, *wanted: str) -> None:
    shown = t("TransactionsCommand", "describe", "--transactional-id", name)
    for pattern in wanted:
        assert re.search(pattern, shown, re.MULTILINE), f"{pattern!r} is not in {shown[-400:]!r}"


def listed(t: "Tools", name: str, *options: str) -> bool:
    return name in t("TransactionsCommand", "list", *options)


def looked_at_and_terminated(t: "Tools") -> None:
    with left_open(t) as (name, topic, _):
        described(t, name, rf"\b{name}\b", r"\bOngoing\b", rf"\b{topic}-0\b", r"\b600000\b")
        assert listed(t, name)
        assert not listed(t, name, "--transactional-id-pattern", f"no{name}")
        assert not listed(t, name, "--duration-filter", "3600000")
        shown = t("TransactionsCommand", "find-hanging", "--topic", topic, "--partition", "0")
        assert not re.search(rf"^{topic}\s", shown, re.MULTILINE), f"its coordinator knows of it: {shown}"
        t("TransactionsCommand", "forceTerminateTransaction", "--transactionalId", name)
        assert until(t, topic, "None") == "None"
        described(t, name, r"\b(CompleteAbort|Empty)\b")


def aborted_at_its_log(t: "Tools") -> None:
    with left_open(t) as (_, topic, begins):
        place = ("--topic", topic, "--partition", "0", "--start-offset")
        wrong = t("TransactionsCommand", "abort", *place, str(begins + 1), code=None)
        assert "Could not find any open transactions" in wrong, wrong
        t("TransactionsCommand", "abort", *place, str(begins))
        assert until(t, topic, "None") == "None"
        assert t.consume(topic, 1, "--from-beginning", "--isolation-level", "read_committed") == ["before"]


CHECKS = {
    "kafka-transactions: an open one looked at and force-terminated": looked_at_and_terminated,
    "kafka-transactions: an open one aborted at its log": aborted_at_its_log,
}
