"""Apache Kafka's own client against a broker: consumers of both group protocols, producers, the admin client.

The checks are the Java files here. They run in one process, several at a time, and a line comes of each. Run by
compat/run; see README.md.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path

from brokers import KAFKA_VERSION, kafka_home

HERE = Path(__file__).resolve().parent
CLASSES = Path(os.environ["COMPAT_RUN"]) / "classes"


def java(*arguments: str) -> list[str]:
    libraries = kafka_home() / "libs"
    return ["java", "-XX:+UseSerialGC", "-Xmx768m", "-cp", f"{CLASSES}:{libraries}/*", "Checks", *arguments]


def say(thing: object) -> None:
    """To compat/run: harness.py has what."""
    print(json.dumps(thing), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="The checks of Apache Kafka's client; compat/run calls this.")
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--quick", action="store_true", help="CI has none of them")
    parser.add_argument("--no-restarts", action="store_true", help="they have no broker killed")
    parser.add_argument("--only", default="", metavar="TEXT", help="only checks whose name contains TEXT")
    options = parser.parse_args()
    client = kafka_home() / "libs" / f"kafka-clients-{KAFKA_VERSION}.jar"
    sources = [str(path) for path in sorted(HERE.glob("*.java"))]
    subprocess.run(["javac", "-Xlint:deprecation", "-cp", str(client), "-d", str(CLASSES), *sources], check=True)
    listed = subprocess.run(java(), check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    names = [name for name in listed if options.only in name]
    say({"client": "kafka-clients", "version": KAFKA_VERSION, "checks": names})
    if not names:
        return
    command = java(options.bootstrap, *names)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            name, seconds, failure = line.rstrip("\n").split("\t")
            say({"began": name})
            say({"check": name, "passed": not failure, "seconds": float(seconds), "detail": failure[:300]})
            names.remove(name)
    for name in names:
        detail = f"the process of the checks ended with {process.returncode}"
        say({"check": name, "passed": False, "seconds": 0.0, "detail": detail})


if __name__ == "__main__":
    main()
