"""Streams groups under arbitrary histories: members come, go, fall silent and lose answers; topics grow; standby tasks
are wanted or not; the coordinator restarts, and its log refuses writes.

Nobody is ever given an active task that another one has. At any point everything must settle within a bounded number of
heartbeats: then each task is run by one member, nobody runs more than his share, and state is kept by other processes.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from kafkapy.errors import Error
from kafkapy.groups.streams.commands import StreamsHeartbeatAnswer
from kafkapy.groups.streams.facts import InternalTopic, Subtopology, Topology
from kafkapy.groups.streams.group import StreamsGroup
from kafkapy.groups.streams.tasks import pairs_of
from tests.groups.consumers import image_of
from tests.groups.streams import StreamsCoordinator, StreamsMember

PROCESSES = ("p1", "p2", "p3")
TOPOLOGY = Topology(0, (Subtopology("0", ("t1",), changelogs=(InternalTopic("log"),)), Subtopology("1", ("t2",))))
FENCED = {Error.UNKNOWN_MEMBER_ID, Error.FENCED_MEMBER_EPOCH, Error.GROUP_ID_NOT_FOUND}
SETTLED_AFTER = 8
"""Rounds of heartbeats, each followed by more than the assignment interval."""


class StreamsHistory(RuleBasedStateMachine):
    """One group, and the clients that are or were in it."""

    def __init__(self) -> None:
        super().__init__()
        self.coordinator = StreamsCoordinator()
        self.counts = {"t1": 2, "log": 2, "t2": 1}
        self.standbys = 0
        self._set_up()
        self.members: list[StreamsMember] = []
        self.names = iter(range(10_000))
        self.epoch = 0
        self.lost: set[str] = set()
        """Who has not heard an answer."""

    def _set_up(self) -> None:
        self.coordinator.image = image_of(self.counts)
        own = {"streams.initial.rebalance.delay.ms": "0", "streams.num.standby.replicas": str(self.standbys)}
        self.coordinator.set_group("g", own)

    @property
    def group(self) -> StreamsGroup | None:
        group = self.coordinator.machine._modern.find("g")
        return group if isinstance(group, StreamsGroup) else None

    @precondition(lambda self: len(self.members) < 5)
    @rule(process=st.sampled_from(PROCESSES))
    def newcomer(self, process):
        member = StreamsMember(self.coordinator, f"m-{next(self.names)}", TOPOLOGY, process=process)
        member.join()
        self.members.append(member)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def beat(self, data):
        self._beat(data.draw(st.sampled_from(self.members)))

    def _beat(self, member):
        """A heartbeat that says which tasks the member has; who is fenced gives them up, and joins anew.

        So does who missed an answer: as in Kafka, tasks are told once, and never again under that epoch.
        """
        if member.member_id in self.lost:
            self.lost.remove(member.member_id)
            member.join()
            return
        claimed = member.tasks.without_epochs
        answer = self.coordinator.streams_beat(member.member_id, member.epoch, claimed=claimed)
        if isinstance(answer, Error):
            assert answer in FENCED
            member.join()
        else:
            member._told(answer)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), claims=st.booleans())
    def an_answer_is_lost(self, data, claims):
        """The member does not know what became of its heartbeat."""
        member = data.draw(st.sampled_from(self.members))
        claimed = member.tasks.without_epochs if claims else None
        self.coordinator.streams_beat(member.member_id, member.epoch, claimed=claimed)
        self.lost.add(member.member_id)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def leave(self, data):
        member = data.draw(st.sampled_from(self.members))
        answer = self.coordinator.streams_beat(member.member_id, -1)
        assert isinstance(answer, StreamsHeartbeatAnswer) or answer in FENCED
        self.members.remove(member)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def crash(self, data):
        self.members.remove(data.draw(st.sampled_from(self.members)))

    @rule(seconds=st.sampled_from([0, 1, 1, 31, 50]))
    def time_passes(self, seconds):
        self.coordinator.advance(seconds * 1_000)

    @rule(name=st.sampled_from(["t1", "t2"]))
    def topic_grows(self, name):
        self.counts[name] = min(self.counts[name] + 1, 6)
        self.counts["log"] = self.counts["t1"]
        self._set_up()

    @rule(count=st.integers(0, 2))
    def standbys_are_wanted(self, count):
        self.standbys = count
        self._set_up()

    def seen(self):
        """What administrators see, whoever comes first."""
        if self.group is None:
            return None
        description = self.coordinator.describe_streams()
        return description._replace(members=sorted(description.members), configured=None)

    @rule(from_snapshot=st.booleans())
    def restart(self, from_snapshot):
        before = self.seen()
        coordinator = self.coordinator
        self.coordinator = coordinator.restarted_from_snapshot() if from_snapshot else coordinator.restarted()
        for member in self.members:
            member.coordinator = self.coordinator
        assert without_soft(self.seen()) == without_soft(before)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def a_write_is_refused(self, data):
        """Whatever one member's heartbeat comes to is taken back; the member hears nothing of it."""
        before = self.seen()
        member = data.draw(st.sampled_from(self.members))
        self.coordinator.begin_write()
        self.coordinator.streams_beat(member.member_id, member.epoch, claimed=member.tasks.without_epochs)
        self.coordinator.end_write(Error.NOT_ENOUGH_REPLICAS)
        assert self.seen() == before

    @rule()
    def everything_settles(self):
        for _ in range(SETTLED_AFTER):
            for member in self.members:
                self._beat(member)
            self.coordinator.advance(2_000)
        if not self.members:
            return
        ours = {member.member_id for member in self.members}
        if {each.member_id for each in self.coordinator.describe_streams().members} != ours:
            return  # some that crashed are not fenced yet
        tasks = {("0", number) for number in range(self.counts["t1"])}
        stateful = set(tasks)
        tasks |= {("1", number) for number in range(self.counts["t2"])}
        run = [task for member in self.members for task in member.active]
        assert sorted(run) == sorted(tasks)
        assert max(len(member.active) for member in self.members) <= -(-len(tasks) // len(self.members))
        processes = {member.fields["process"] for member in self.members}
        for task in stateful:
            keepers = [member.fields["process"] for member in self.members if task in member.active | member.standby]
            assert len(keepers) == len(set(keepers)), "no process keeps a task's state twice"
            assert len(keepers) == min(1 + self.standbys, len(processes))
        for member in self.members:
            assert member.standby <= stateful
            assert member.statuses == []
        assert self.coordinator.describe_streams().state == "Stable"

    @invariant()
    def an_active_task_is_one_members(self):
        group = self.group
        if group is not None:
            had = [
                task
                for member_id in group.subscriptions
                for current in [group.current(member_id)]
                for task in {*pairs_of(current.assigned.active), *pairs_of(current.revoking.active)}
            ]
            assert len(had) == len(set(had))

    @invariant()
    def epochs_only_grow(self):
        group = self.group
        if group is None:
            self.epoch = 0
            return
        assert group.target_epoch <= group.epoch
        assert group.epoch >= self.epoch
        self.epoch = group.epoch
        for member_id in group.subscriptions:
            assert group.current(member_id).epoch <= group.target_epoch

    @invariant()
    def facts_add_up(self):
        group = self.group
        if group is not None:
            other = StreamsGroup("g")
            for fact in group.facts():
                other.apply(fact)
            assert list(other.facts()) == list(group.facts())


def without_soft(seen):
    """What is written down: offsets that members report are not, and whether a group is ready is found out anew."""
    if seen is None:
        return None
    members = [member._replace(offsets={}, end_offsets={}) for member in seen.members]
    return seen._replace(members=members, state="")


def test_streams_groups_settle_whatever_happens():
    run_state_machine_as_test(
        StreamsHistory, settings=settings(max_examples=30, stateful_step_count=30, deadline=None, derandomize=True)
    )
