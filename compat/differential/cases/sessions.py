"""What stock clients said to Apache Kafka, as recorded, said again to both brokers."""

import uuid

import session
from cases.groups import find
from cases.topics import settle
from registry import CASES, Case, Scene

from kafkapy.protocol.messages import request_class


def replay(path) -> Case:
    def run(s: Scene) -> None:
        mark = uuid.uuid4().hex[: len(session.MARK)]
        awake(s, mark)
        session.play(session.load(path), s.probe, mark, created=lambda: settle(s, [mark]))

    return run


def awake(s: Scene, mark: str) -> None:
    """A fresh node loads for a while what it needs for groups and producer ids; no session is about that."""
    for group in (mark, f"{mark}-range", f"{mark}-cooperative-sticky"):
        find(s, group)
    while s.ask(request_class(22)(transactional_id=None), version=4, note=False)["error_code"]:
        pass


for path in sorted(session.FOLDER.glob("*.json.gz")):
    CASES.append(("Recorded sessions", path.name.removesuffix(".json.gz"), [0], replay(path)))
