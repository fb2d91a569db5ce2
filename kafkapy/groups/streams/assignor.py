"""Kafka's `sticky` assignor of streams groups: who is to run which tasks, and keep whose state. Pure.

An active task stays with the member that has it, as long as that has no more than its share; else it goes to one that
has its state, else to the process with least, counted by members. Standby tasks follow in the same manner, and never to
a process that has the task already. At the first start subtopologies come one after the other, so that consecutive
partitions lie together.

Where the outcome hangs on the order of members and processes, it is that of Kafka's tables and queues;
`compat/assignors` compares with Kafka's own class. Warm-up tasks are nobody's yet, as in Kafka 4.4.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Final, Generic, NamedTuple, TypeVar

from kafkapy.groups.modern.java_order import hash_of_text, in_order, in_table
from kafkapy.groups.streams.tasks import NO_TASKS, Assignment, TaskOffsets, Tasks, has_task, pairs_of, tasks_of

T = TypeVar("T")
Task = tuple[str, int]

STICKY: Final = "sticky"


class StreamsMemberSpec(NamedTuple):
    """What the assignor knows of a member: the process that it is a thread of, what it has, what it could have."""

    process_id: str
    active: Tasks = NO_TASKS
    standby: Tasks = NO_TASKS
    offsets: TaskOffsets = {}


class SubtopologySpec(NamedTuple):
    """What the assignor knows of a subtopology: as many tasks as its widest input has partitions."""

    task_count: int
    is_stateful: bool


class StreamsGroupSpec(NamedTuple):
    """What the assignor knows of a group."""

    members: Mapping[str, StreamsMemberSpec]
    subtopologies: Mapping[str, SubtopologySpec]
    standby_count: int = 0


def assign_sticky(spec: StreamsGroupSpec) -> dict[str, Assignment]:
    """What each member is to have; nobody is missing."""
    state = _State(spec)
    state.assign_active()
    if spec.standby_count:
        state.assign_standby()
    return {
        member_id: Assignment(tasks_of(state.active[member_id]), tasks_of(state.standby[member_id]))
        for member_id in spec.members
    }


def _text_rank(text: str) -> bytes:
    return text.encode("utf-16-be", "surrogatepass")


_by_partition: Final[Callable[[Task], int]] = itemgetter(1)


class _State:
    def __init__(self, spec: StreamsGroupSpec) -> None:
        self._subtopologies = {name: spec.subtopologies[name] for name in sorted(spec.subtopologies, key=_text_rank)}
        self._places = {name: place for place, name in enumerate(self._subtopologies)}
        self._standby_count = spec.standby_count
        active_count = sum(each.task_count for each in spec.subtopologies.values())
        stateful_count = sum(each.task_count for each in spec.subtopologies.values() if each.is_stateful)
        self._active_share = _Share(active_count, len(spec.members))
        self._total_share = _Share(active_count + stateful_count * spec.standby_count, len(spec.members))
        self.active: dict[str, set[Task]] = {member_id: set() for member_id in spec.members}
        self.standby: dict[str, set[Task]] = {member_id: set() for member_id in spec.members}
        self._counts = dict.fromkeys(spec.members, 0)
        self._process_of: dict[str, _Process] = {}
        self._had: dict[Task, str] = {}
        processes: dict[str, _Process] = {}
        ranked: dict[Task, list[tuple[bool, int, str]]] = {}
        buckets = 1 << max(len(spec.members) - 1, 0).bit_length()
        for member_id in in_order(spec.members, hash_of_text):
            member = spec.members[member_id]
            if len(processes) * 4 > buckets * 3:
                buckets *= 2
            process = processes.setdefault(member.process_id, _Process())
            process.member_ids.append(member_id)
            self._process_of[member_id] = process
            self._had |= dict.fromkeys(pairs_of(member.active), member_id)
            for task in pairs_of(member.standby):
                offset = member.offsets.get(task[0], {}).get(task[1], 0)
                ranked.setdefault(task, []).append((False, -offset, member_id))
            for subtopology, offsets in member.offsets.items():
                for partition, offset in offsets.items():
                    if not has_task(member.standby, subtopology, partition):
                        ranked.setdefault((subtopology, partition), []).append((True, -offset, member_id))
        self._had_state = {
            task: [member_id for _, _, member_id in sorted(candidates, key=lambda each: each[:2])]
            for task, candidates in ranked.items()
        }
        # Kafka's table is asked to make what is not there: it puts that first, and grows when it is asked once more.
        self._processes = [processes[each] for each in in_table([*reversed(processes)], hash_of_text, buckets)]

    def _tasks(self, *, only_stateful: bool = False) -> list[Task]:
        """By subtopology, then by partition; who sorts them by partition, or keeps some, has subtopologies in order."""
        return [
            (name, partition)
            for name, subtopology in self._subtopologies.items()
            if subtopology.is_stateful or not only_stateful
            for partition in range(subtopology.task_count)
        ]

    def _by_subtopology(self, task: Task) -> tuple[int, int]:
        return self._places[task[0]], task[1]

    def assign_active(self) -> None:
        tasks = sorted(self._tasks(), key=_by_partition)
        left = [task for task in tasks if not self._keep_active(task, self._had.get(task))]
        left = [task for task in left if not self._keep_active(task, self._least_loaded(self._had_state.get(task, ())))]
        queue = _JavaQueue(_load, self._processes)
        for task in sorted(left, key=self._by_subtopology):
            process = queue.poll()
            self._give_active(task, self._least_of(process))
            queue.add(process)

    def assign_standby(self) -> None:
        left: list[tuple[Task, int]] = []
        tasks = self._tasks(only_stateful=True)
        tasks.reverse()
        for task in sorted(tasks, key=_by_partition, reverse=True):
            for number in range(self._standby_count):
                if not self._keep_standby(task):
                    left.append((task, self._standby_count - number))
                    break
        queue = _JavaQueue(_load, self._processes)
        for task, count in sorted(left, key=lambda each: self._by_subtopology(each[0]), reverse=True):
            for _ in range(count):
                if not self._give_standby_to_least(task, queue):
                    break

    def _keep_active(self, task: Task, member_id: str | None) -> bool:
        if member_id is None or self._counts[member_id] >= self._active_share.per_member:
            return False
        self._process_of[member_id].forget_queue()
        self._give_active(task, member_id)
        return True

    def _keep_standby(self, task: Task) -> bool:
        had = self._had.get(task)
        if had is not None and not self._has(had, task) and self._counts[had] < self._total_share.per_member:
            member_id = had
        else:
            candidates = [each for each in self._had_state.get(task, ()) if not self._has(each, task)]
            found = self._least_loaded(candidates)
            if found is None or self._counts[found] >= self._total_share.per_member:
                return False
            member_id = found
        self._process_of[member_id].forget_queue()
        self._give_standby(task, member_id)
        return True

    def _give_standby_to_least(self, task: Task, queue: "_JavaQueue[_Process]") -> bool:
        """To the process with least that does not have the task; those that do keep their places in the queue."""
        passed = []
        found = False
        while queue and not found:
            process = queue.poll()
            passed.append(process)
            if task not in process.tasks:
                self._give_standby(task, self._least_of(process))
                found = True
        for process in reversed(passed):
            queue.add(process)
        return found

    def _has(self, member_id: str, task: Task) -> bool:
        return task in self._process_of[member_id].tasks

    def _least_loaded(self, member_ids: Sequence[str]) -> str | None:
        """The first of them, unless another has less and so has its process."""
        found: str | None = None
        for member_id in member_ids:
            if found is None or (
                self._process_of[member_id].load < self._process_of[found].load
                and self._counts[member_id] < self._counts[found]
            ):
                found = member_id
        return found

    def _least_of(self, process: "_Process") -> str:
        """The member of the process that has least."""
        if len(process.member_ids) == 1:
            return process.member_ids[0]
        if process.queue is None:
            member_ids = in_order(process.member_ids, hash_of_text)
            process.queue = _JavaQueue(self._counts.__getitem__, member_ids)
        member_id = process.queue.poll()
        process.polled = member_id
        return member_id

    def _give_active(self, task: Task, member_id: str) -> None:
        self.active[member_id].add(task)
        count = self._count(task, member_id)
        if count == self._active_share.per_member:
            self._active_share.leave_out(count)
        if count == self._total_share.per_member:
            self._total_share.leave_out(count)

    def _give_standby(self, task: Task, member_id: str) -> None:
        self.standby[member_id].add(task)
        count = self._count(task, member_id)
        if count == self._total_share.per_member:
            self._total_share.leave_out(count)

    def _count(self, task: Task, member_id: str) -> int:
        process = self._process_of[member_id]
        process.tasks.add(task)
        process.task_count += 1
        process.load = process.task_count / len(process.member_ids)
        self._counts[member_id] += 1
        if process.queue is not None:
            process.requeue(process.queue, member_id)
        return self._counts[member_id]


class _Share:
    """How many tasks a member may have, so that all have the same; who has as many is no longer counted."""

    def __init__(self, task_count: int, member_count: int) -> None:
        self._task_count, self._member_count = task_count, member_count
        self.per_member = self._compute()

    def leave_out(self, count: int) -> None:
        """A member has come to have its share, which is so many."""
        self._member_count -= 1
        self._task_count -= count
        self.per_member = self._compute()

    def _compute(self) -> int:
        if self._member_count == 0:
            return 0
        whole = abs(self._task_count) // self._member_count
        if self._task_count < 0:  # Java rounds towards zero
            return -whole
        return whole + (self._task_count % self._member_count > 0)


class _Process:
    """A process: its members, and the tasks that one of them has. Kafka queues its members once, and anew when one of
    them was given something out of turn.
    """

    def __init__(self) -> None:
        self.member_ids: list[str] = []
        self.tasks: set[Task] = set()
        self.task_count = 0
        self.load = 0.0
        """So many tasks a member has."""
        self.queue: _JavaQueue[str] | None = None
        self.polled: str | None = None

    def forget_queue(self) -> None:
        self.queue = None

    def requeue(self, queue: "_JavaQueue[str]", member_id: str) -> None:
        """Who was at the head has been given a task."""
        if self.polled == member_id:
            queue.add(member_id)
        self.polled = None


_load: Final[Callable[[_Process], float]] = attrgetter("load")


class _JavaQueue(Generic[T]):
    """Java's priority queue: what is equal comes out in the order that its heap happens to have."""

    def __init__(self, rank: Callable[[T], float], items: Iterable[T]) -> None:
        self._rank = rank
        self._heap: list[T] = []
        for item in items:
            self.add(item)

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, item: T) -> None:
        heap, rank = self._heap, self._rank
        heap.append(item)
        place = len(heap) - 1
        while place:
            parent = (place - 1) >> 1
            if rank(item) >= rank(heap[parent]):
                break
            heap[place] = heap[parent]
            place = parent
        heap[place] = item

    def poll(self) -> T:
        heap, rank = self._heap, self._rank
        found, item = heap[0], heap.pop()
        count, place = len(heap), 0
        if not count:
            return found
        while place < count >> 1:
            child = 2 * place + 1
            if child + 1 < count and rank(heap[child]) > rank(heap[child + 1]):
                child += 1
            if rank(item) <= rank(heap[child]):
                break
            heap[place] = heap[child]
            place = child
        heap[place] = item
        return found
