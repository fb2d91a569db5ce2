"""Brings a member from the tasks it has to those it is to have, one step a heartbeat (KIP-1071). Pure.

A task is given up before it is given on: an active one by whichever process, a standby or warm-up one by the other
members of the process, which share one directory. Who has the state of a task that it is to run keeps it till then;
what only changes its role within a member does so at once. Called by `groups/streams/protocol.py`.
"""

from typing import NamedTuple, Protocol

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.streams.facts import StreamsCurrent, StreamsMemberState
from kafkapy.groups.streams.tasks import (
    Assignment,
    OwnedTasks,
    TaskEpochs,
    Tasks,
    has_task,
    overlap,
    pairs_of,
    tasks_of,
)

Task = tuple[str, int]


class Holders(Protocol):
    """Which processes have a task, in which role."""

    def active_process(self, task: Task) -> str | None: ...

    def standby_processes(self, task: Task) -> frozenset[str]: ...

    def warmup_processes(self, task: Task) -> frozenset[str]: ...


class StreamsTarget(NamedTuple):
    """Where a member is to come to."""

    epoch: int
    assignment: Assignment


class StreamsSurroundings(NamedTuple):
    """What decides whether a step can be taken. `claimed`: what the member says it has, None where it does not say."""

    process_id: str
    holders: Holders
    claimed: Assignment | None


def reconcile(current: StreamsCurrent, target: StreamsTarget, around: StreamsSurroundings) -> StreamsCurrent:
    """The member's next state; the same object when there is nothing to do, or it must wait.

    Raises FENCED_MEMBER_EPOCH for a member in a state that is not known here, unless it comes with nothing.
    """
    match current.state:
        case StreamsMemberState.STABLE:
            return current if current.epoch == target.epoch else _next(current, current.epoch, target, around)
        case StreamsMemberState.UNREVOKED_TASKS:
            if _still_has(current.revoking, around):
                return current
            return _next(current, current.epoch + 1, target, around)
        case StreamsMemberState.UNRELEASED_TASKS:
            return _next(current, current.epoch, target, around)
        case StreamsMemberState.UNKNOWN:
            if around.claimed is None or any(around.claimed):
                raise KafkaError(
                    Error.FENCED_MEMBER_EPOCH,
                    "The streams group member is in a unknown state. The member must abandon all its tasks and rejoin.",
                )
            return _next(current, target.epoch, target, around)


def _still_has(revoking: OwnedTasks, around: StreamsSurroundings) -> bool:
    """Whether the member has any of these, for all that it says."""
    claimed = around.claimed
    if claimed is None:
        return True
    return (
        overlap(claimed.active, revoking.without_epochs.active)
        or overlap(claimed.standby, revoking.standby)
        or overlap(claimed.warmup, revoking.warmup)
    )


class _Change:
    """What becomes of a member's tasks in one role: kept, given up, given, and those that it must wait for."""

    def __init__(self, has: Tasks | TaskEpochs, target: Tasks) -> None:
        had, wanted = set(pairs_of(has)), set(pairs_of(target))
        self.had = had
        self.kept = had & wanted
        self.given_up = had - wanted
        self.given = wanted - had
        self.must_wait = False

    def grant(self, task: Task) -> None:
        """Give it at once."""
        self.given.remove(task)
        self.kept.add(task)


def _next(current: StreamsCurrent, epoch: int, target: StreamsTarget, around: StreamsSurroundings) -> StreamsCurrent:
    has, wanted = current.assigned, target.assignment
    active = _Change(has.active, wanted.active)
    standby = _Change(has.standby, wanted.standby)
    warmup = _Change(has.warmup, wanted.warmup)
    _wait_for_others(active, standby, warmup, around)
    for task in active.had & standby.given:
        standby.grant(task)
    for outgoing, incoming in ((standby, warmup), (warmup, standby)):
        for task in outgoing.had & incoming.given:
            incoming.grant(task)
            outgoing.given_up.discard(task)
    promoted = {task for task in standby.had | warmup.had if has_task(wanted.active, *task)}
    standby.given_up -= promoted
    warmup.given_up -= promoted
    revoking = OwnedTasks(
        _with_epochs(active.given_up, has.active), tasks_of(standby.given_up), tasks_of(warmup.given_up)
    )
    must_revoke = not revoking.is_empty and _still_has(revoking, around)
    kept_until_given = promoted if must_revoke else promoted - active.given
    standby.kept |= standby.had & kept_until_given
    warmup.kept |= warmup.had & kept_until_given
    if must_revoke:
        assigned = OwnedTasks(_with_epochs(active.kept, has.active), tasks_of(standby.kept), tasks_of(warmup.kept))
        return StreamsCurrent(epoch, current.epoch, StreamsMemberState.UNREVOKED_TASKS, assigned, revoking)
    assigned = OwnedTasks(
        _with_epochs(active.kept | active.given, has.active, target.epoch),
        tasks_of(standby.kept | standby.given),
        tasks_of(warmup.kept | warmup.given),
    )
    waits = active.must_wait or standby.must_wait or warmup.must_wait
    state = StreamsMemberState.UNRELEASED_TASKS if waits else StreamsMemberState.STABLE
    new = StreamsCurrent(target.epoch, current.epoch, state, assigned)
    return current if new == current else new


def _wait_for_others(active: _Change, standby: _Change, warmup: _Change, around: StreamsSurroundings) -> None:
    """Tasks that others still have are not given yet; how a member has a task itself does not hold it up."""
    process_id, holders = around.process_id, around.holders

    def has_standby(task: Task) -> bool:
        return process_id in holders.standby_processes(task) and task not in standby.had

    def has_warmup(task: Task) -> bool:
        return process_id in holders.warmup_processes(task) and task not in warmup.had

    def active_is_held(task: Task) -> bool:
        return holders.active_process(task) is not None or has_standby(task) or has_warmup(task)

    def standby_is_held(task: Task) -> bool:
        runs_elsewhere = holders.active_process(task) == process_id and task not in active.had
        return runs_elsewhere or process_id in holders.standby_processes(task) or has_warmup(task)

    def warmup_is_held(task: Task) -> bool:
        return (
            holders.active_process(task) == process_id
            or has_standby(task)
            or process_id in holders.warmup_processes(task)
        )

    for change, is_held in ((active, active_is_held), (standby, standby_is_held), (warmup, warmup_is_held)):
        held = {task for task in change.given if is_held(task)}
        change.given -= held
        change.must_wait = bool(held)


def _with_epochs(tasks: set[Task], known: TaskEpochs, epoch: int = 0) -> TaskEpochs:
    """These with the epochs in which they were given, which for new ones is this."""
    found: dict[str, dict[int, int]] = {}
    for subtopology, partition in sorted(tasks):
        found.setdefault(subtopology, {})[partition] = known.get(subtopology, {}).get(partition, epoch)
    return found
