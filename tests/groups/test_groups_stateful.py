"""The group machine under arbitrary histories: members come, go, fall silent, lie; the coordinator restarts.

What must hold whatever happens stands in the invariants; that a ticket is never answered twice is checked by the
driver.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from kafkapy.errors import Error
from kafkapy.groups.commands import DeleteGroups, Joined, Leaver
from kafkapy.groups.group import Group, GroupState
from kafkapy.groups.machine import GroupMachine

PROTOCOLS = st.sampled_from(
    [
        (("range", b"1"),),
        (("range", b"2"),),
        (("range", b"1"), ("sticky", b"1")),
        (("sticky", b"1"), ("range", b"1")),
        (("sticky", b"2"),),
    ]
)
VERSIONS = st.sampled_from([3, 5, 9])


class GroupHistory(RuleBasedStateMachine):
    """One group. Requests come from its members, from members that were, and from nobody it knows."""

    coordinator_class: type

    def __init__(self) -> None:
        super().__init__()
        self.coordinator = self.coordinator_class(initial_rebalance_delay_ms=100, max_size=4)
        self.generations: dict[str, int] = {}
        self.waiting: set[int] = set()
        self.promised: list[str] = []
        self.once_known: set[str] = set()

    @property
    def group(self) -> Group | None:
        return self.coordinator.machine.groups.get("g")

    def anyone(self, data: st.DataObject) -> Joined:
        """A member as it sees itself: mostly a real one in its generation, sometimes one that is not."""
        group = self.group
        real = sorted(group.members) if group else []
        self.once_known.update(real)
        member_id = data.draw(st.sampled_from([*real, *real, *real, *sorted(self.once_known), "nobody"]))
        generation = (group.generation if group else 0) - data.draw(st.sampled_from([0, 0, 0, 0, 1]))
        leader_id = group.leader_id or "" if group else ""
        return Joined(Error.NONE, member_id, generation, None, None, leader_id)

    def instance_of(self, member_id: str) -> str | None:
        member = self.group.members.get(member_id) if self.group else None
        return member.instance_id if member else None

    @rule(version=VERSIONS, protocols=PROTOCOLS, instance=st.sampled_from([None, None, "a", "b"]))
    def newcomer(self, version, protocols, instance):
        ticket = self.coordinator.join(version=version, protocols=protocols, instance=instance)
        self.waiting.add(ticket)
        answer = self.coordinator.answers.get(ticket)
        if answer is not None and answer.error is Error.MEMBER_ID_REQUIRED:
            self.promised.append(answer.member_id)

    @precondition(lambda self: self.promised)
    @rule(protocols=PROTOCOLS)
    def keep_a_promise(self, protocols):
        self.waiting.add(self.coordinator.join(self.promised.pop(), protocols=protocols))

    @rule(data=st.data(), protocols=PROTOCOLS)
    def rejoin(self, data, protocols):
        member_id = self.anyone(data).member_id
        instance = self.instance_of(member_id)
        self.waiting.add(self.coordinator.join(member_id, protocols=protocols, instance=instance))

    @rule(data=st.data())
    def rejoin_unchanged(self, data):
        member_id = self.anyone(data).member_id
        member = self.group.members.get(member_id) if self.group else None
        if member is not None:
            protocols = tuple(member.protocols)
            self.waiting.add(self.coordinator.join(member_id, protocols=protocols, instance=member.instance_id))

    @rule(data=st.data())
    def sync(self, data):
        member = self.anyone(data)
        assignments = {m: m.encode() for m in self.group.members} if self.group else {}
        self.waiting.add(self.coordinator.sync(member, assignments if member.member_id == member.leader_id else None))

    @precondition(lambda self: self.group and self.group.state is GroupState.PREPARING_REBALANCE)
    @rule()
    def all_rejoin(self):
        for member in list(self.group.members.values()):
            if member.join_ticket is None and member.member_id in self.group.members:
                ticket = self.coordinator.join(
                    member.member_id, protocols=tuple(member.protocols), instance=member.instance_id
                )
                self.waiting.add(ticket)
        self.coordinator.advance(100)

    @precondition(lambda self: self.group and self.group.state is GroupState.COMPLETING_REBALANCE)
    @rule(count=st.integers(0, 4))
    def some_sync_and_the_leader_assigns(self, count):
        group = self.group
        for member_id in [*list(group.members)[:count], group.leader_id]:
            member = Joined(Error.NONE, member_id, group.generation, None, None, group.leader_id)
            assignments = {m: m.encode() for m in group.members} if member_id == group.leader_id else {}
            self.waiting.add(self.coordinator.sync(member, assignments))

    @rule(data=st.data())
    def heartbeat(self, data):
        self.coordinator.heartbeat(self.anyone(data))

    @precondition(lambda self: self.group)
    @rule(data=st.data())
    def leave(self, data):
        self.coordinator.leave(self.anyone(data).member_id)

    @precondition(lambda self: self.group)
    @rule(instance=st.sampled_from(["a", "b"]))
    def remove_static(self, instance):
        self.coordinator.leave(Leaver("", instance))

    @rule(data=st.data(), offset=st.integers(0, 100), partition=st.integers(0, 3))
    def commit(self, data, offset, partition):
        self.coordinator.commit(offset, partition=partition, member=self.anyone(data))

    @rule(duration_ms=st.sampled_from([0, 100, 100, 3_000, 9_000]))
    def wait(self, duration_ms):
        self.coordinator.advance(duration_ms)

    @rule(duration_ms=st.sampled_from([0, 0, 0, 10_000, 60_000, 300_000, 700_000]))
    def wait_long(self, duration_ms):
        self.coordinator.advance(duration_ms)

    @rule(really=st.sampled_from([False, False, True]))
    def restart(self, really):
        """Those who wait lose their connection, and with it their answer."""
        if not really or self.coordinator.is_writing:
            return
        facts = list(self.coordinator.machine.snapshot())
        self.coordinator = self.coordinator.restarted()
        brought_back = GroupMachine(self.coordinator.settings)
        for fact in facts:
            brought_back.apply(fact)
        assert set(brought_back.snapshot()) == set(self.coordinator.machine.snapshot())
        self.waiting.clear()
        self.generations.clear()

    @precondition(lambda self: not self.coordinator.is_writing)
    @rule()
    def begin_write(self):
        self.coordinator.begin_write()

    @precondition(lambda self: self.coordinator.is_writing)
    @rule()
    def write_succeeds(self):
        self.coordinator.end_write()

    @precondition(lambda self: self.coordinator.is_writing)
    @rule()
    def write_is_refused(self):
        self.coordinator.end_write(Error.NOT_COORDINATOR)
        self.generations.clear()

    @precondition(lambda self: self.group)
    @rule(group=st.sampled_from(["g", "other"]))
    def delete_a_group(self, group):
        self.coordinator.ask(DeleteGroups([group]))

    @rule(offset=st.integers(0, 100))
    def commit_of_another_group(self, offset):
        self.coordinator.commit(offset, group="other")

    @invariant()
    def whoever_waits_is_known_to_wait(self):
        """A ticket without an answer belongs to exactly one member, and no member waits with an answered one."""
        held = [
            ticket
            for group in self.coordinator.machine.groups.values()
            for member in group.members.values()
            for ticket in (member.join_ticket, member.sync_ticket)
            if ticket is not None
        ]
        unanswered = {ticket for ticket in self.waiting if ticket not in self.coordinator.answers}
        assert len(held) == len(set(held))
        assert set(held) == unanswered

    @invariant()
    def the_generation_never_goes_back(self):
        for group_id, group in self.coordinator.machine.groups.items():
            assert group.generation >= self.generations.get(group_id, 0)
            self.generations[group_id] = group.generation
        for group_id in set(self.generations) - set(self.coordinator.machine.groups):
            del self.generations[group_id]

    @invariant()
    def members_and_leader_fit_together(self):
        for group in self.coordinator.machine.groups.values():
            assert (group.leader_id is None) == (not group.members)
            assert group.leader_id is None or group.leader_id in group.members
            assert set(group.static_members.values()) == {
                m.member_id for m in group.members.values() if m.instance_id is not None
            }
            assert group.pending_syncs <= set(group.members)
            assert not group.pending_joins & set(group.members)
            assert not group.members or group.select_protocol()

    @invariant()
    def states_mean_what_they_say(self):
        for group in self.coordinator.machine.groups.values():
            if group.state is GroupState.EMPTY:
                assert not group.members
            if group.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
                assert group.members
                assert all(member.join_ticket is None for member in group.members.values())
            if group.state is not GroupState.COMPLETING_REBALANCE:
                assert all(member.sync_ticket is None for member in group.members.values())

    @invariant()
    def what_is_written_is_what_is_remembered(self):
        """Replaying the log gives the same groups and offsets, but for rebalances under way. So does the snapshot."""
        if self.coordinator.is_writing:
            return
        again = self.coordinator.restarted().machine
        assert set(again.groups) == set(self.coordinator.machine.groups)
        for group_id, group in self.coordinator.machine.groups.items():
            if group.state is GroupState.STABLE:
                assert _durable(again.groups[group_id]) == _durable(group)
            elif group.state is GroupState.EMPTY and group.latest is not None:
                assert again.groups[group_id].generation == group.generation
                assert not again.groups[group_id].members
        assert again.offsets._by_group == self.coordinator.machine.offsets._by_group
        assert {g: group.stored for g, group in again.groups.items()} == {
            g: group.stored for g, group in self.coordinator.machine.groups.items()
        }
        assert set(self.coordinator.machine.snapshot()) == set(again.snapshot())

    @invariant()
    def whoever_has_a_session_has_a_timer(self):
        """After whatever was taken back, too: every member that waits for nothing can expire."""
        timers = self.coordinator.timer_keys
        for group_id, group in self.coordinator.machine.groups.items():
            for member in group.members.values():
                waits = member.join_ticket is not None or member.sync_ticket is not None
                assert waits or ("session", group_id, member.member_id) in timers
            if group.state is GroupState.PREPARING_REBALANCE:
                assert ("join", group_id) in timers
            if group.pending_syncs:
                assert ("sync", group_id) in timers


def _durable(group: Group) -> object:
    return (
        group.state,
        group.generation,
        group.protocol_type,
        group.protocol_name,
        group.leader_id,
        group.state_timestamp_ms,
        group.subscribed_topics,
        {
            member.member_id: (
                member.instance_id,
                member.client_id,
                member.rebalance_timeout_ms,
                member.session_timeout_ms,
                member.metadata(group.protocol_name),
                member.assignment,
            )
            for member in group.members.values()
        },
    )


def test_any_history_of_a_group(make_coordinator):
    class History(GroupHistory):
        coordinator_class = make_coordinator

    run_state_machine_as_test(
        History,
        settings=settings(max_examples=150, stateful_step_count=60, deadline=None, derandomize=True),
    )
