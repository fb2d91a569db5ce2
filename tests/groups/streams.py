"""A group machine with a cluster around it, and the members of its streams groups."""

from typing import Any

from kafkapy.cluster.image import ClusterImage
from kafkapy.config.setting import ConfigResource
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.streams.commands import (
    DescribeStreamsGroup,
    StreamsGroupDescription,
    StreamsHeartbeat,
    StreamsHeartbeatAnswer,
)
from kafkapy.groups.streams.facts import InternalTopic, Subtopology, Topology, UserEndpoint
from kafkapy.groups.streams.tasks import Assignment, OwnedTasks, pairs_of
from tests.groups.consumers import BROKER, Consumers

READS_T = Topology(0, (Subtopology("0", ("t",)),))
"""An application without state, which reads the topic t."""
COUNTS_T = Topology(0, (Subtopology("0", ("t",), changelogs=(InternalTopic("g-log"),)),))
"""One that keeps state of it, in a changelog that the broker must make."""


class StreamsCoordinator(Consumers):
    """The machine."""

    def set_group(self, group: str, settings: dict[str, str]) -> None:
        """The group has these settings of its own from now on."""
        overrides = {(int(ConfigResource.GROUP), group): settings}
        names = {topic.topic_id: name for name, topic in self.image.topics.items()}
        self.image = ClusterImage("c", BROKER, self.image.topics, names, overrides)

    def streams_beat(self, member_id: str, epoch: int, **fields: Any) -> StreamsHeartbeatAnswer | Error:
        """One heartbeat, which says nothing but what is given."""
        command = StreamsHeartbeat(
            group_id=fields.get("group", "g"),
            member_id=member_id,
            member_epoch=epoch,
            endpoint_epoch=fields.get("endpoint_epoch", 0),
            instance_id=fields.get("instance"),
            rack_id=fields.get("rack"),
            rebalance_timeout_ms=fields.get("rebalance_timeout_ms", 300_000 if epoch == 0 else -1),
            topology=fields.get("topology"),
            claimed=fields.get("claimed"),
            process_id=fields.get("process"),
            endpoint=fields.get("endpoint"),
            tags=fields.get("tags"),
            offsets=fields.get("offsets"),
            end_offsets=fields.get("end_offsets"),
            shuts_down=fields.get("shuts_down", False),
            client_id="client",
            client_host="/127.0.0.1",
            knows_client_tags=True,
        )
        answer = self.answers[self.send(command)]
        return answer.error if isinstance(answer, KafkaError) else answer

    def describe_streams(self, group: str = "g") -> StreamsGroupDescription:
        description: StreamsGroupDescription = self.ask(DescribeStreamsGroup(group))
        return description


class StreamsMember:
    """A client: what it was told, and which tasks it has. It gives up at once what it is told to."""

    def __init__(
        self, coordinator: StreamsCoordinator, member_id: str, topology: Topology = READS_T, **fields: Any
    ) -> None:
        self.coordinator = coordinator
        self.member_id = member_id
        self.topology = topology
        self.fields = {"process": member_id, **fields}
        self.epoch = 0
        self.tasks = OwnedTasks()
        self.statuses: list[int] = []

    def join(self, endpoint: UserEndpoint | None = None) -> StreamsHeartbeatAnswer:
        self.epoch, self.tasks = 0, OwnedTasks()
        nothing = Assignment()
        answer = self.coordinator.streams_beat(
            self.member_id, 0, topology=self.topology, claimed=nothing, endpoint=endpoint, **self.fields
        )
        return self._told(answer)

    def beat(self, **fields: Any) -> StreamsHeartbeatAnswer:
        instance = self.fields.get("instance")
        claimed = fields.pop("claimed", self.tasks.without_epochs)
        return self._told(
            self.coordinator.streams_beat(self.member_id, self.epoch, instance=instance, claimed=claimed, **fields)
        )

    def leave(self, epoch: int = -1) -> StreamsHeartbeatAnswer:
        answer = self.coordinator.streams_beat(self.member_id, epoch, instance=self.fields.get("instance"))
        assert isinstance(answer, StreamsHeartbeatAnswer), answer
        return answer

    def _told(self, answer: StreamsHeartbeatAnswer | Error) -> StreamsHeartbeatAnswer:
        assert isinstance(answer, StreamsHeartbeatAnswer), answer
        self.epoch = answer.member_epoch
        self.statuses = [status.code for status in answer.statuses]
        if answer.assigned is not None:
            self.tasks = answer.assigned
        return answer

    @property
    def active(self) -> set[tuple[str, int]]:
        return set(pairs_of(self.tasks.active))

    @property
    def standby(self) -> set[tuple[str, int]]:
        return set(pairs_of(self.tasks.standby))
