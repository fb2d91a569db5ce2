"""Consumer groups under arbitrary histories: members come, go, fall silent, cling, change what they read; topics come,
grow and go; the coordinator restarts, and its log refuses writes.

What must hold whatever happens stands in the invariants. At any point everything must settle within a bounded number of
heartbeats, and then every partition that somebody reads has one owner who knows of it.
"""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kafkapy.errors import Error
from kafkapy.groups.modern.core import LEFT_EPOCH
from tests.groups.consumers import Consumers, Member

NAMES = ("t1", "t2", "x")
SUBSCRIPTIONS = st.sampled_from([("t1",), ("t1", "t2"), ("t2", "x"), ("x", "nowhere"), ()])
PATTERNS = st.sampled_from(["t.*", "x|t1", "nothing"])
SETTLED_AFTER = 12
"""Rounds of heartbeats: patterns may only be looked up every ten seconds, targets computed every one."""

FENCED = {Error.UNKNOWN_MEMBER_ID, Error.FENCED_MEMBER_EPOCH, Error.FENCED_INSTANCE_ID, Error.GROUP_ID_NOT_FOUND}


class ConsumerHistory(RuleBasedStateMachine):
    """One group, and the clients that are or were in it."""

    def __init__(self) -> None:
        super().__init__()
        self.consumers = Consumers()
        self.counts = {"t1": 3, "t2": 2}
        self.consumers.set_topics(**self.counts)
        self.members: list[Member] = []
        self.names = iter(range(10_000))
        self.epochs = Counter[str]()
        self.group_epoch = 0

    @initialize(pattern=PATTERNS)
    def begin(self, pattern):
        self._join(Member(self.consumers, "m-first", pattern=pattern))

    def _join(self, member: Member) -> None:
        member.join()
        self.members.append(member)

    @precondition(lambda self: len(self.members) < 5)
    @rule(topics=SUBSCRIPTIONS, assignor=st.sampled_from([None, None, "range"]))
    def newcomer(self, topics, assignor):
        self._join(Member(self.consumers, f"m-{next(self.names)}", *topics, assignor=assignor))

    @precondition(lambda self: len(self.members) < 5)
    @rule(pattern=PATTERNS)
    def newcomer_by_pattern(self, pattern):
        self._join(Member(self.consumers, f"m-{next(self.names)}", pattern=pattern))

    @precondition(lambda self: all(member.instance is None for member in self.members))
    @rule(topics=SUBSCRIPTIONS)
    def static_newcomer(self, topics):
        self._join(Member(self.consumers, f"m-{next(self.names)}", *topics, instance=f"i-{next(self.names)}"))

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def beat(self, data):
        self._beat(data.draw(st.sampled_from(self.members)))

    def _beat(self, member: Member, **changes) -> None:
        """A heartbeat; who is fenced gives everything up, and joins anew."""
        answer = member.try_beat(**changes)
        if isinstance(answer, Error):
            assert answer in FENCED
            member.epoch, member.owned = 0, {}
            member.join()
        else:
            member._told(answer)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), topics=SUBSCRIPTIONS)
    def change_subscription(self, data, topics):
        member = data.draw(st.sampled_from(self.members))
        if member.pattern is None:
            member.topics = list(topics)
            self._beat(member, topics=list(topics))

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def cling(self, data):
        """From now on the member does not give up what it is told to, until it has been fenced."""
        data.draw(st.sampled_from(self.members)).clings = True

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def leave(self, data):
        member = data.draw(st.sampled_from(self.members))
        answer = self.consumers.beat(member_id=member.member_id, epoch=LEFT_EPOCH, instance=member.instance)
        assert not isinstance(answer, Error) or answer in FENCED
        self.members.remove(member)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), topics=SUBSCRIPTIONS)
    def leave_and_join_at_once(self, data, topics):
        """A client that unsubscribes and subscribes: the same id, whatever it was about to give up."""
        member = data.draw(st.sampled_from(self.members))
        answer = self.consumers.beat(member_id=member.member_id, epoch=LEFT_EPOCH, instance=member.instance)
        assert not isinstance(answer, Error) or answer in FENCED
        member.topics, member.pattern, member.clings = list(topics), None, False
        member.join()

    @precondition(lambda self: any(member.pattern is None for member in self.members))
    @rule(data=st.data(), topics=SUBSCRIPTIONS)
    def an_answer_is_lost(self, data, topics):
        """That to another subscription: the member says everything once more, in the epoch that it knows of."""
        member = data.draw(st.sampled_from([member for member in self.members if member.pattern is None]))
        member.topics = list(topics)
        member.try_beat(topics=member.topics)
        self._beat(member, rebalance_ms=60_000, topics=member.topics)

    @precondition(lambda self: any(member.instance for member in self.members))
    @rule()
    def come_back(self):
        [member] = [each for each in self.members if each.instance is not None]
        answer = self.consumers.beat(member_id=member.member_id, epoch=-2, instance=member.instance)
        if not isinstance(answer, Error):
            member.member_id = f"m-{next(self.names)}"
            member.clings = False
        member.join()

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def crash(self, data):
        self.members.remove(data.draw(st.sampled_from(self.members)))

    @rule(seconds=st.sampled_from([0, 1, 1, 11, 50]))
    def time_passes(self, seconds):
        self.consumers.advance(seconds * 1_000)

    @rule(name=st.sampled_from(NAMES))
    def topic_comes_or_grows(self, name):
        self.counts[name] = min(self.counts.get(name, 0) + 2, 6)
        self.consumers.set_topics(**self.counts)

    @precondition(lambda self: self.counts)
    @rule(data=st.data())
    def topic_goes(self, data):
        del self.counts[data.draw(st.sampled_from(sorted(self.counts)))]
        self.consumers.set_topics(**self.counts)

    @rule(from_snapshot=st.booleans())
    def restart(self, from_snapshot):
        before = self.seen()
        other = self.consumers.restarted_from_snapshot() if from_snapshot else self.consumers.restarted()
        self.consumers = other
        for member in self.members:
            member.coordinator = other
        assert self.seen() == before

    def seen(self):
        """What administrators see, whoever comes first."""
        if "g" not in self.consumers.machine.consumers:
            return None
        description = self.consumers.describe()
        return description._replace(members=sorted(description.members))

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def a_write_is_refused(self, data):
        """Whatever one member's heartbeat comes to is taken back; the member hears nothing of it."""
        before = self.seen()
        member = data.draw(st.sampled_from(self.members))
        self.consumers.begin_write()
        member.try_beat(topics=None if member.pattern is not None else ["x"])
        self.consumers.end_write(Error.NOT_ENOUGH_REPLICAS)
        assert self.seen() == before

    @rule()
    def everything_settles(self):
        for member in self.members:
            member.clings = False
        for _ in range(SETTLED_AFTER):
            for member in list(self.members):
                self._beat(member)
            self.consumers.advance(3_000)
        for member in list(self.members):
            self._beat(member)
        self.epochs_only_grow()
        if not self.members:
            return
        description = self.consumers.describe()
        ours = {member.member_id for member in self.members}
        if {each.member_id for each in description.members} != ours:
            return  # some that crashed are not fenced yet
        assert description.state == "Stable"
        image = self.consumers.image
        read = {
            name
            for name in self.counts
            for member in self.members
            if name in (member.topics or ()) or (member.pattern and self.matches(member.pattern, name))
        }
        expected = {(name, number) for name in read for number in range(len(image.topic(name).partitions))}
        owned = Counter(partition for member in self.members for partition in member.partitions)
        assert set(owned) == expected
        assert set(owned.values()) <= {1}

    @staticmethod
    def matches(pattern: str, name: str) -> bool:
        return name in {"t.*": ("t1", "t2"), "x|t1": ("x", "t1"), "nothing": ()}[pattern]

    @invariant()
    def no_partition_has_two_owners(self):
        group = self.consumers.machine.consumers.get("g")
        if group is None:
            return
        owned = Counter(
            (topic_id, number)
            for current in group.currents.values()
            for partitions in (current.assigned, current.revoking)
            for topic_id, numbers in partitions.items()
            for number in numbers
        )
        assert set(owned.values()) <= {1}
        assert set(owned) == set(group.owners)
        wanted = Counter(
            (topic_id, number)
            for partitions in group.targets.values()
            for topic_id, numbers in partitions.items()
            for number in numbers
        )
        assert set(wanted.values()) <= {1}

    @invariant()
    def epochs_only_grow(self):
        group = self.consumers.machine.consumers.get("g")
        if group is None:
            self.group_epoch = 0
            self.epochs.clear()
            return
        assert group.epoch >= self.group_epoch
        assert group.target_epoch <= group.epoch
        self.group_epoch = group.epoch
        for member_id in group.subscriptions:
            epoch = group.current(member_id).epoch
            if epoch >= 0:
                assert self.epochs[member_id] <= epoch <= group.epoch
                self.epochs[member_id] = epoch

    @invariant()
    def counts_are_those_of_the_facts(self):
        group = self.consumers.machine.consumers.get("g")
        if group is None:
            return
        again = type(group)("g")
        for fact in group.facts():
            again.apply(fact)
        assert again.subscribed == group.subscribed
        assert again.assignors == group.assignors
        assert again.static_members == group.static_members
        assert again.owners == group.owners
        assert (again.epoch, again.target_epoch, again.patterns) == (group.epoch, group.target_epoch, group.patterns)


def test_any_history_keeps_the_invariants():
    run_state_machine_as_test(
        ConsumerHistory, settings=settings(max_examples=30, stateful_step_count=30, deadline=None, derandomize=True)
    )
