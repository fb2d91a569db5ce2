"""A worker of `sharing.py` that speaks the protocol raw: a member that holds records for longer than a lock lasts.

    renewing.py BOOTSTRAP SEED JOURNAL

Its journal is as that of `taking.py`, with a line more ("renewed") once the broker has said that records are the
member's for longer: until when at least, counted from before it asked. Whatever goes wrong, it ends, and another
follows.
"""

import json
import os
import random
import sys
import time
import uuid
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent), str(HERE.parent / "differential")]

from probe import Closed, Probe
from taking import GROUP, LOCK_SECONDS, POISON, TOPIC

from kafkapy.protocol.messages import request_class

Metadata, Heartbeat, Fetch, Acknowledge = (request_class(key) for key in (3, 76, 78, 79))
ACCEPT, RELEASE, REJECT, RENEW = 1, 2, 3, 4
RENEWALS = 3
LEAVING_SHARE = 0.05
Ranges = dict[int, list[tuple[int, int, int]]]
"""By partition: first offset, last offset, delivery count."""


class Ended(Exception):
    """There is nothing more to be done with this connection."""


class Worker:
    def __init__(self, bootstrap: str, seed: int, journal: int) -> None:
        self.rng = random.Random(seed)
        self.journal = journal
        host, _, port = bootstrap.rpartition(":")
        self.probe = Probe(host, int(port))
        self.member_id = str(uuid.UUID(int=self.rng.getrandbits(128)))
        self.member_epoch = self.session_epoch = 0

    def note(self, **what: object) -> None:
        os.write(self.journal, (json.dumps({"at": time.monotonic(), **what}) + "\n").encode())

    def ask(self, request: Any, version: int) -> dict[str, Any]:
        answer = self.probe.call(request, version, note=False)
        if "connection" in answer or answer.get("error_code"):
            raise Ended(answer)
        return answer

    def run(self) -> None:
        self.note(begun=True)
        [topic] = self.ask(Metadata(topics=[Metadata.MetadataRequestTopic(name=TOPIC)]), 12)["topics"]
        self.topic_id = uuid.UUID(str(topic["topic_id"])).bytes
        self.partitions = [partition["partition_index"] for partition in topic["partitions"]]
        self.beat([TOPIC])
        while self.rng.random() > LEAVING_SHARE:
            os.utime(self.journal)  # a sign of life
            self.beat()
            given = self.fetch()
            if not given:
                continue
            self.note(given=[(partition, offset, count) for partition, offset, count in each(given)])
            for _ in range(self.rng.randrange(RENEWALS + 1)):
                self.hold(self.rng.uniform(0.3, 0.8) * LOCK_SECONDS)
                self.renew(given)
            kinds = {(partition, offset): self.kind(offset) for partition, offset, _ in each(given)}
            self.note(telling=[(*place, kind) for place, kind in kinds.items()])
            answer = self.tell(given, lambda *place: kinds[place])  # noqa: B023  called at once
            self.note(told=[partition for partition, error in answer.items() if not error])
        self.ask(Heartbeat(group_id=GROUP, member_id=self.member_id, member_epoch=-1), 1)

    def beat(self, topics: list[str] | None = None) -> None:
        asked = Heartbeat(
            group_id=GROUP, member_id=self.member_id, member_epoch=self.member_epoch, subscribed_topic_names=topics
        )
        self.member_epoch = self.ask(asked, 1)["member_epoch"]

    def hold(self, seconds: float) -> None:
        """Do something with what is held for so long, as a member that is there."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.4))
            self.beat()

    def fetch(self) -> Ranges:
        partitions = [Fetch.FetchPartition(partition_index=number) for number in self.partitions]
        asked = Fetch(
            group_id=GROUP,
            member_id=self.member_id,
            share_session_epoch=self.session_epoch,
            topics=[Fetch.FetchTopic(topic_id=self.topic_id, partitions=partitions)] if not self.session_epoch else [],
            max_wait_ms=200,
            min_bytes=1,
            max_bytes=1 << 16,
            max_records=20,
            batch_size=20,
        )
        answer = self.ask(asked, 2)
        self.session_epoch += 1
        return {
            found["partition_index"]: [
                (one["first_offset"], one["last_offset"], one["delivery_count"]) for one in found["acquired_records"]
            ]
            for topic in answer["responses"]
            for found in topic["partitions"]
            if found["acquired_records"]
        }

    def renew(self, given: Ranges) -> None:
        until = time.monotonic() + LOCK_SECONDS
        answer = self.tell(given, lambda *_: RENEW)
        places = [(partition, offset, count) for partition, offset, count in each(given) if not answer[partition]]
        self.note(renewed=places, until=until)
        if len(places) < len(list(each(given))):
            raise Ended("held for too long")

    def tell(self, given: Ranges, kind: Any) -> dict[int, int]:
        """The error of each partition."""
        partitions = [
            Acknowledge.AcknowledgePartition(
                partition_index=partition,
                acknowledgement_batches=[
                    Acknowledge.AcknowledgementBatch(
                        first_offset=first,
                        last_offset=last,
                        acknowledge_types=[kind(partition, offset) for offset in range(first, last + 1)],
                    )
                    for first, last, _ in ranges
                ],
            )
            for partition, ranges in given.items()
        ]
        asked = Acknowledge(
            group_id=GROUP,
            member_id=self.member_id,
            share_session_epoch=self.session_epoch,
            is_renew_ack=kind(*next((partition, offset) for partition, offset, _ in each(given))) == RENEW,
            topics=[Acknowledge.AcknowledgeTopic(topic_id=self.topic_id, partitions=partitions)],
        )
        answer = self.ask(asked, 2)
        self.session_epoch += 1
        return {
            found["partition_index"]: found["error_code"]
            for topic in answer["responses"]
            for found in topic["partitions"]
        }

    def kind(self, offset: int) -> int:
        if offset % POISON == 0:
            return RELEASE
        return self.rng.choices((ACCEPT, RELEASE, REJECT), (80, 10, 10))[0]


def each(given: Ranges) -> Any:
    """Partition, offset and delivery count of each record."""
    for partition, ranges in given.items():
        for first, last, count in ranges:
            for offset in range(first, last + 1):
                yield partition, offset, count


if __name__ == "__main__":
    try:
        Worker(sys.argv[1], int(sys.argv[2]), os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND)).run()
    except (Ended, Closed, OSError):
        pass  # the broker is gone, or the member was away for too long
