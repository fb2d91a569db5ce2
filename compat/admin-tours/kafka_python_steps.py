"""kafka-python's admin command line, step by step: `kafka_python_steps.py BOOTSTRAP` prints a line for each.

A line is the command, a tab, and what it printed or how it was refused, as JSON.
"""

import contextlib
import io
import json
import re
import sys
import time
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.cli.admin import run_cli
from kafka.errors import KafkaError

REFUSED = (KafkaError, ValueError, TypeError, LookupError, AssertionError, NotImplementedError)
"""What the client makes of an answer that it does not like."""
T, G = "py-tour", "py-group"
COMMANDS = [
    f"topics create -t {T} --num-partitions 3 --replication-factor 1",
    f"topics create -t {T} --num-partitions 3 --replication-factor 1",
    "topics create -t py-wide --num-partitions 1 --replication-factor 3",
    "topics create -t py*bad",
    "topics create -t py-other",
    "topics list",
    f"topics describe -t {T}",
    "topics describe -t py-missing",
    f"partitions create -p {T}:5",
    f"partitions create -p {T}:2",
    f"partitions create -p {T}:9 --validate-only",
    f"partitions describe -t {T}",
    f"partitions describe -t {T} --response-partition-limit 2",
    f"partitions describe -t {T} --cursor-topic {T} --cursor-partition 3",
    "FILL",
    f"partitions list-offsets -t {T} -s earliest",
    f"partitions list-offsets -t {T} -s latest",
    f"partitions list-offsets -t {T} -s max-timestamp",
    f"partitions list-offsets -t {T} -s 5",
    f"partitions list-offsets -p {T}:0:earliest -p {T}:1:latest",
    f"partitions delete-records -r {T}:0:2",
    f"partitions delete-records -r {T}:1:-1",
    f"partitions delete-records -r {T}:2:900",
    f"partitions elect-leaders -t {T}",
    f"partitions elect-leaders -p {T}:0 --election-type unclean --no-raise-errors",
    "partitions elect-leaders",
    f"partitions alter-reassignments -r {T}:0=1",
    f"partitions alter-reassignments -r {T}:0=7",
    f"partitions alter-reassignments -r {T}:0=cancel",
    "partitions list-reassignments",
    f"partitions list-reassignments -p {T}:0",
    "configs list",
    "configs list -r topic",
    "configs list -r group",
    f"configs describe -r topic -n {T}",
    f"configs describe -r topic -n {T} -c retention.ms",
    "configs describe -r topic -n py-missing",
    f"configs alter -r topic -n {T} -c retention.ms=7200000 -c cleanup.policy=compact",
    f"configs alter -r topic -n {T} -c retention.ms=3600000 --force-incremental",
    f"configs alter -r topic -n {T} -c segment.bytes=10000000 --force-alter",
    f"configs alter -r topic -n {T} -c retention.ms=soon",
    f"configs alter -r topic -n {T} -c no.such=1",
    f"configs alter -r topic -n {T} -c no.such=1 --allow-unknown",
    f"configs alter -r topic -n {T} -c retention.ms=1000 -v",
    f"configs describe -r topic -n {T} --modified",
    f"configs reset -r topic -n {T} -c segment.bytes",
    f"configs describe -r topic -n {T} --dynamic",
    "configs describe -r broker -n 1 -c num.network.threads",
    "configs alter -r broker -n 1 -c message.max.bytes=2000000",
    "configs describe -r broker -n 1 --dynamic",
    "configs reset -r broker -n 1 -c message.max.bytes",
    "configs alter -r broker -n 1 -c log.dirs=/elsewhere",
    "configs alter -r client_metrics -n py-metrics -c interval.ms=10000",
    "configs describe -r client_metrics -n py-metrics",
    f"configs alter -r group -n {G} -c consumer.session.timeout.ms=50000",
    f"configs describe -r group -n {G}",
    "GROUP",
    "groups list",
    "groups list --state empty",
    "groups list --type classic",
    f"groups describe -g {G}",
    "groups describe -g py-nobody",
    f"groups list-offsets -g {G}",
    f"groups alter-offsets -g {G} -o {T}:0:3 -o {T}:2:1",
    f"groups list-offsets -g {G}",
    f"groups reset-offsets -g {G} -s earliest",
    f"groups reset-offsets -g {G} -s latest -p {T}:2",
    f"groups reset-offsets -g {G} --to-offset 4",
    f"groups reset-offsets -g {G} --shift-by -1",
    f"groups reset-offsets -g {G} --to-current",
    f"groups reset-offsets -g {G} --to-datetime 2020-01-01T00:00:00",
    f"groups delete-offsets -g {G} -p {T}:0",
    f"groups remove-members -g {G} -m nobody",
    f"groups remove-members -g {G} -i nobody",
    f"groups delete -g {G}",
    f"groups delete -g {G}",
    "acls create --principal User:py --operation read --resource-type topic --resource-name py-tour",
    "acls create --principal User:py --operation write --permission-type deny --resource-type topic "
    "--resource-name py- --pattern-type prefixed",
    "acls describe",
    "acls describe --principal User:py --resource-type topic --resource-name py-tour --pattern-type match",
    "acls delete --principal User:py --operation read",
    "acls delete --principal User:py",
    "acls describe",
    "users alter-scram-credentials --upsert py:SCRAM-SHA-256:secret",
    "users alter-scram-credentials --upsert py:SCRAM-SHA-512:secret --iterations 1",
    "users describe-scram-credentials",
    "users describe-scram-credentials --user nobody",
    "users alter-scram-credentials --delete py:SCRAM-SHA-256",
    "users alter-scram-credentials --delete py:SCRAM-SHA-256",
    "transactions list",
    "transactions list --state Ongoing",
    "transactions list --id-pattern py.*",
    "transactions describe --transactional-id py-nobody",
    f"transactions describe-producers -t {T} -p 0",
    f"transactions abort -t {T} -p 0 --producer-id 5 --producer-epoch 0",
    "transactions find-hanging",
    "cluster describe",
    "cluster describe-quorum",
    "cluster broker-version --broker 1",
    "cluster describe-features -f metadata.version",
    "cluster update-features -f metadata.version=1",
    "cluster update-features -f no.such=1",
    f"cluster describe-log-dirs --topic {T}",
    f"cluster alter-log-dirs -a {T}:0:1=/nowhere",
    "topics delete -t py-missing",
    f"topics delete -t {T}",
    "topics delete -t py-other",
    "SETTLE",
    "topics list",
]


def fill(bootstrap: str) -> str:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for number in range(30):
        producer.send(T, b"%d" % number, partition=number % 3, timestamp_ms=1_000_000 + number)
    producer.close()
    return "30 records"


def commit(bootstrap: str) -> str:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=G, enable_auto_commit=False)
    partitions = [TopicPartition(T, partition) for partition in range(3)]
    consumer.assign(partitions)
    consumer.seek_to_end()
    for partition in partitions:
        consumer.position(partition)
    consumer.commit()
    consumer.close()
    return "committed"


def settle(_: str) -> str:
    time.sleep(2)  # what was changed last is seen everywhere
    return "settled"


def outcome(command: str, bootstrap: str) -> list[Any]:
    """How it ended, and what it printed: as the tool's own JSON where it is some."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = run_cli(["-b", bootstrap, "-l", "CRITICAL", "--format", "json", *command.split()])
        except SystemExit as exit_:
            code = exit_.code
        except REFUSED as error:
            code = f"{type(error).__name__}: {error}"
    try:
        return [code, json.loads(printed.getvalue())]
    except ValueError:
        return [code, re.sub(r"\s+", " ", printed.getvalue())]


def main() -> None:
    bootstrap = sys.argv[1]
    special = {"FILL": fill, "GROUP": commit, "SETTLE": settle}
    for command in COMMANDS:
        said: Any = special[command](bootstrap) if command in special else outcome(command, bootstrap)
        print(command, json.dumps(said), sep="\t", flush=True)


if __name__ == "__main__":
    main()
