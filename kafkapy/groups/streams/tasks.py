"""The nouns of streams groups' assignments: tasks, in three roles. A task is a partition number of a subtopology. Pure.

An active task processes; a standby task keeps its state up to date elsewhere; a warm-up task gets it there, so that an
active one may follow.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

Tasks = Mapping[str, frozenset[int]]
"""Partition numbers by subtopology; no subtopology is without any."""

TaskEpochs = Mapping[str, Mapping[int, int]]
"""The group's epoch in which each task was given to its member."""

TaskOffsets = Mapping[str, Mapping[int, int]]
"""How much of its state a member has of each task, as a sum of offsets."""

NO_TASKS: Final[Tasks] = {}


class Assignment(NamedTuple):
    """What a member is to have, or says that it has."""

    active: Tasks = NO_TASKS
    standby: Tasks = NO_TASKS
    warmup: Tasks = NO_TASKS


class OwnedTasks(NamedTuple):
    """What a member has."""

    active: TaskEpochs = {}
    standby: Tasks = NO_TASKS
    warmup: Tasks = NO_TASKS

    @property
    def without_epochs(self) -> Assignment:
        return Assignment(
            {subtopology: frozenset(epochs) for subtopology, epochs in self.active.items()}, self.standby, self.warmup
        )

    @property
    def is_empty(self) -> bool:
        return not (self.active or self.standby or self.warmup)


def tasks_of(pairs: Iterable[tuple[str, int]]) -> Tasks:
    """The tasks by subtopology, both ascending."""
    found: dict[str, set[int]] = {}
    for subtopology, partition in sorted(pairs):
        found.setdefault(subtopology, set()).add(partition)
    return {subtopology: frozenset(partitions) for subtopology, partitions in found.items()}


def pairs_of(tasks: Mapping[str, Iterable[int]]) -> Iterator[tuple[str, int]]:
    for subtopology, partitions in tasks.items():
        for partition in partitions:
            yield subtopology, partition


def has_task(tasks: Mapping[str, Mapping[int, int] | frozenset[int]], subtopology: str, partition: int) -> bool:
    return partition in tasks.get(subtopology, ())


def overlap(tasks: Mapping[str, Iterable[int]], others: Tasks) -> bool:
    """Whether a task is among both."""
    return any(has_task(others, *task) for task in pairs_of(tasks))
