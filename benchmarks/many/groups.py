"""A group that commits for long: how soon it is back after a restart, and what one refused commit costs."""

import time

from brokers import Trouble
from client import Client, frame_of
from given import Side
from logs import size_of, until_cleaned

from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from kafkapy.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchResponse

Figures = dict[str, float]
COMMIT, FETCH_OFFSETS, FIND_COORDINATOR = 8, 7, 4
GROUP, TOPIC = "g", "t"


def commits(side: Side, count: int) -> Figures:
    """So many commits to one group, a stop, a start: when the group answers again."""
    with side.running() as running:
        rate = _commit(running.port, count)
        running.broker.stop()
        begin = time.monotonic()
        running.broker.start()
        ready = time.monotonic()
        _await_offset(running.port, count - 1)
        back = time.monotonic()
    return {
        "s from ready to the group's answer": back - ready,
        "s from start to ready": ready - begin,
        "commits/s": rate,
    }


def cleaned_commits(side: Side, count: int) -> Figures:
    """So many commits to one group, cleaned: what is left of them, and when the group answers after a restart."""
    with side.running({"log.cleaner.backoff.ms": "200"}) as running:
        _commit(running.port, count)
        [log] = (path for path in running.broker.directory.glob("__consumer_offsets-*") if size_of(path))
        before = size_of(log)
        until_cleaned(running, log)
        left = size_of(log)
        running.restart()
        ready = time.monotonic()
        _await_offset(running.port, count - 1)
        back = time.monotonic()
    return {
        "MB of offsets": before / 1e6,
        "MB of them after cleaning": left / 1e6,
        "s from ready to the group's answer": back - ready,
    }


def refused_commit(side: Side, count: int) -> Figures:
    """So many commits, one that the full disk refuses, and room again: how long the group's commits are refused."""
    with side.running(full_path="__consumer_offsets") as running:
        _commit(running.port, count)
        with Client(running.port) as client:
            try:
                with running.full():
                    refused = _committed(client, 1)
                room = time.monotonic()
                while _committed(client, 2) != 0:
                    time.sleep(0.002)
            except (OSError, Trouble):  # the broker has ended
                return {"error of the refused commit": -1, "s until a commit is taken": float("inf")}
            return {"error of the refused commit": refused, "s until a commit is taken": time.monotonic() - room}


def _await_offset(port: int, offset: int) -> None:
    """Return once the group answers that it has committed this."""
    with Client(port) as client:
        while _offset(client) != offset:
            time.sleep(0.002)


def _request(offset: int) -> OffsetCommitRequest:
    partition = OffsetCommitRequest.OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
    topic = OffsetCommitRequest.OffsetCommitRequestTopic(name=TOPIC, partitions=[partition])
    return OffsetCommitRequest(group_id=GROUP, generation_id_or_member_epoch=-1, member_id="", topics=[topic])


def _committed(client: Client, offset: int) -> int:
    """The error code of a commit."""
    answer: OffsetCommitResponse = client.ask(_request(offset), COMMIT)
    return answer.topics[0].partitions[0].error_code


def _coordinator_error(client: Client) -> int:
    """0 once the group has a coordinator; to ask makes the topic where groups are kept."""
    return client.ask(FindCoordinatorRequest(coordinator_keys=[GROUP]), FIND_COORDINATOR).coordinators[0].error_code


def _commit(port: int, count: int) -> float:
    """Commits a second; the last one commits offset `count - 1`."""
    with Client(port) as client:
        client.make_topic(TOPIC, 1)
        while _coordinator_error(client) or _committed(client, 0):
            time.sleep(0.05)
        frame, last = frame_of(_request(0), COMMIT), frame_of(_request(count - 1), COMMIT)
        begin = time.monotonic()
        client.pipelined(frame for _ in range(count - 2))
        client.exchange(last)
        return count / (time.monotonic() - begin)


def _offset(client: Client) -> int:
    """What the group has committed; -1 while it does not answer."""
    topic = OffsetFetchRequest.OffsetFetchRequestTopic(name=TOPIC, partition_indexes=[0])
    answer: OffsetFetchResponse = client.ask(OffsetFetchRequest(group_id=GROUP, topics=[topic]), FETCH_OFFSETS)
    return -1 if answer.error_code else answer.topics[0].partitions[0].committed_offset
