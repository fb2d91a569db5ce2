"""Share groups under arbitrary histories: members come, go, fall silent, change what they read; topics come, grow, go
and come again; the share coordinator answers, refuses, or does not answer; the coordinator restarts, and its log
refuses writes; administrators alter and forget.

At any point everything must settle within a bounded number of heartbeats: then every partition that somebody reads has
readers, as many for each member as for any other, and nobody reads what he did not ask for.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import DeleteGroups, ForgetTopic
from kafkapy.groups.persister import TopicIdPartition
from kafkapy.groups.share.commands import (
    AlterStarts,
    DeleteStates,
    PrepareDeletion,
    ShareHeartbeatAnswer,
    StatesDeleted,
)
from kafkapy.groups.share.group import ShareGroup
from tests.groups.consumers import image_of
from tests.groups.shares import Sharer, Shares

NAMES = ("t1", "t2", "x")
SUBSCRIPTIONS = st.sampled_from([("t1",), ("t1", "t2"), ("t2", "x"), ("x", "nowhere")])
SETTLED_AFTER = 6
"""Rounds of heartbeats, each followed by the share coordinator, and by more than the assignment interval."""

FENCED = {Error.UNKNOWN_MEMBER_ID, Error.FENCED_MEMBER_EPOCH, Error.GROUP_ID_NOT_FOUND}


class ShareHistory(RuleBasedStateMachine):
    """One group, and the clients that are or were in it."""

    def __init__(self) -> None:
        super().__init__()
        self.shares = Shares()
        self.counts = {"t1": 3, "t2": 2}
        self.incarnations: dict[str, int] = {}
        self._set_topics()
        self.members: list[Sharer] = []
        self.names = iter(range(10_000))
        self.kept: set[TopicIdPartition] = set()
        """What the share coordinator has."""
        self.lost: set[str] = set()
        """Who has not heard an answer, and will say everything next time, as clients do."""
        self.epoch = 0

    def _set_topics(self) -> None:
        self.shares.image = image_of(self.counts, incarnations=self.incarnations)

    @property
    def group(self) -> ShareGroup | None:
        group: ShareGroup | None = self.shares.machine._modern.find("g")
        return group

    @precondition(lambda self: len(self.members) < 5)
    @rule(topics=SUBSCRIPTIONS)
    def newcomer(self, topics):
        member = Sharer(self.shares, f"m-{next(self.names)}", *topics)
        member.join()
        self.members.append(member)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def beat(self, data):
        self._beat(data.draw(st.sampled_from(self.members)))

    def _beat(self, member: Sharer, *topics: str) -> None:
        """A heartbeat; who is fenced gives everything up, and joins anew."""
        if member.member_id in self.lost:
            topics = topics or member.topics
            self.lost.remove(member.member_id)
        answer = self.shares.share_beat(member.member_id, member.epoch, *topics)
        if isinstance(answer, Error):
            assert answer in FENCED
            member.assigned = {}
            member.join()
        else:
            member._told(answer)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def an_answer_is_lost(self, data):
        """The member comes again with the epoch that it knows."""
        member = data.draw(st.sampled_from(self.members))
        self.shares.share_beat(member.member_id, member.epoch)
        self.lost.add(member.member_id)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), topics=SUBSCRIPTIONS)
    def change_subscription(self, data, topics):
        member = data.draw(st.sampled_from(self.members))
        member.topics = topics
        self._beat(member, *topics)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def leave(self, data):
        member = data.draw(st.sampled_from(self.members))
        answer = self.shares.share_beat(member.member_id, -1)
        assert isinstance(answer, ShareHeartbeatAnswer) or answer in FENCED
        self.members.remove(member)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def crash(self, data):
        self.members.remove(data.draw(st.sampled_from(self.members)))

    @rule()
    def the_share_coordinator_answers(self):
        for _, asks in self.shares.asked:
            self.kept |= set(asks.starts)
        self.shares.initialize()

    @rule()
    def the_share_coordinator_refuses(self):
        self.shares.initialize(fails=True)

    @rule()
    def the_share_coordinator_is_silent(self):
        for _, asks in self.shares.asked:
            self.kept |= set(asks.starts)  # it may have begun all the same
        self.shares.asked.clear()

    @rule(seconds=st.sampled_from([0, 1, 1, 31, 50]))
    def time_passes(self, seconds):
        self.shares.advance(seconds * 1_000)

    @rule(name=st.sampled_from(NAMES))
    def topic_comes_or_grows(self, name):
        self.counts[name] = min(self.counts.get(name, 0) + 2, 6)
        self._set_topics()

    @precondition(lambda self: self.counts)
    @rule(data=st.data())
    def topic_goes(self, data):
        name = data.draw(st.sampled_from(sorted(self.counts)))
        topic_id = self.shares.image.topic(name).topic_id
        del self.counts[name]
        self.incarnations[name] = self.incarnations.get(name, 0) + 1
        self._set_topics()
        self.shares.ask(ForgetTopic(name, topic_id))
        self.kept = {each for each in self.kept if each.topic_id != topic_id}
        self.shares.asked = []  # what was asked for it is answered by nobody

    @rule(starts=st.dictionaries(st.sampled_from(NAMES), st.just([(0, 5), (1, 7)])))
    def starts_are_altered(self, starts):
        try:
            altered = self.shares.ask(AlterStarts("g", list(starts.items())))
        except KafkaError as refusal:
            assert refusal.error is Error.NON_EMPTY_GROUP
            return
        if altered.asks.starts:
            self.shares.asked.append(("g", altered.asks))

    @rule(name=st.sampled_from(NAMES))
    def topic_is_forgotten(self, name):
        try:
            deleting = self.shares.ask(DeleteStates("g", [name]))
        except KafkaError as refusal:
            assert refusal.error in (Error.NON_EMPTY_GROUP, Error.GROUP_ID_NOT_FOUND)
            return
        self.kept -= set(deleting.partitions)
        self.shares.ask(StatesDeleted("g", [each.topic_id for each in deleting.partitions]))

    @rule()
    def group_is_deleted(self):
        try:
            partitions = self.shares.ask(PrepareDeletion("g"))
        except KafkaError as refusal:
            assert refusal.error is Error.NON_EMPTY_GROUP
            return
        assert self.group is None or set(partitions) >= self.kept, "nothing that was begun is forgotten"
        self.kept -= set(partitions)
        self.shares.asked.clear()
        self.shares.ask(DeleteGroups(["g"]))
        assert self.group is None
        self.epoch = 0

    def seen(self):
        """What administrators see, whoever comes first."""
        if self.group is None:
            return None
        description = self.shares.describe_share()
        return description._replace(members=sorted(description.members)), self.shares.initialized()

    @rule(from_snapshot=st.booleans())
    def restart(self, from_snapshot):
        before = self.seen()
        asked = self.shares.asked
        self.shares = self.shares.restarted_from_snapshot() if from_snapshot else self.shares.restarted()
        self.shares.asked = asked
        for member in self.members:
            member.coordinator = self.shares
        assert self.seen() == before

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def a_write_is_refused(self, data):
        """Whatever one member's heartbeat comes to is taken back; the member hears nothing of it."""
        before, asked = self.seen(), list(self.shares.asked)
        member = data.draw(st.sampled_from(self.members))
        self.shares.begin_write()
        self.shares.share_beat(member.member_id, member.epoch, "x")
        self.shares.end_write(Error.NOT_ENOUGH_REPLICAS)
        self.shares.asked = asked
        assert self.seen() == before

    @rule()
    def everything_settles(self):
        self.shares.advance(31_000)  # whatever is under way is asked for again
        for _ in range(SETTLED_AFTER):
            for member in self.members:
                self._beat(member)
            self.the_share_coordinator_answers()
            self.shares.advance(2_000)
        for member in self.members:
            self._beat(member)
        if not self.members:
            return
        ours = {member.member_id for member in self.members}
        if {each.member_id for each in self.shares.describe_share().members} != ours:
            return  # some that crashed are not fenced yet
        image = self.shares.image
        for member in self.members:
            assert {name for name, _ in member.partitions} <= set(member.topics)
        for name in self.counts:
            readers = [member for member in self.members if name in member.topics]
            if readers:
                read = {partition for member in readers for partition in member.partitions if partition[0] == name}
                assert read == {(name, number) for number in range(len(image.topic(name).partitions))}
        if len({member.topics for member in self.members}) == 1:
            sizes = [len(member.partitions) for member in self.members]
            assert max(sizes) - min(sizes) <= 1

    @invariant()
    def only_initialised_partitions_are_assigned(self):
        group = self.group
        if group is None:
            return
        initialized = {
            (topic_id, number) for topic_id, topic in group.states.initialized.items() for number in topic.partitions
        }
        for current in group.currents.values():
            for topic_id, numbers in current.assigned.items():
                if self.shares.image.topic_by_id(topic_id) is not None:
                    assert {(topic_id, number) for number in numbers} <= initialized

    @invariant()
    def epochs_only_grow(self):
        group = self.group
        if group is None:
            return
        assert group.target_epoch <= group.epoch
        assert group.epoch >= self.epoch
        self.epoch = group.epoch
        for current in group.currents.values():
            assert current.previous_epoch <= current.epoch <= group.target_epoch

    @invariant()
    def what_is_counted_is_what_there_is(self):
        group = self.group
        if group is not None:
            other = ShareGroup("g")
            for fact in group.facts():
                other.apply(fact)
            assert (other.subscribed, other.states) == (group.subscribed, group.states)


def test_share_groups_settle_whatever_happens():
    run_state_machine_as_test(
        ShareHistory, settings=settings(max_examples=30, stateful_step_count=30, deadline=None, derandomize=True)
    )
