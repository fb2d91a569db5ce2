"""The lanes that this process has, and the logs that lie in lanes: what is gained and lost, made and removed.

Whoever has a lane leads its logs; who is to have which, `steward.py` sees to, and has done here what that takes. What
is read from and written to a lane is the store's.

A lane's epochs are those of its logs, but that each log counts from the one in which it came into being (`epoch_of`):
all that is said of a log, and written to it, is in its own count, and what is said of a lane in the lane's.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.storage.base import Catalogue
from kafkapy.storage.shared.committer import Committer
from kafkapy.storage.shared.database import Link
from kafkapy.storage.shared.entries import LogKey, Removed
from kafkapy.storage.shared.following import Followed
from kafkapy.storage.shared.lane import Lane, lane_of
from kafkapy.storage.shared.leases import LaneLeases
from kafkapy.storage.shared.loading import load_lanes
from kafkapy.storage.shared.log_state import LogState
from kafkapy.storage.shared.reader import Reader
from kafkapy.storage.shared.tenure import Tenure
from kafkapy.storage.sole import SoleLeases
from kafkapy.storage.watching import Watchers

_log = logging.getLogger(__name__)

_NAMED: Final = 20
"""So many partitions of a lane that cannot be read are named."""


class Lanes:
    """Over `tenure`, which says whose they are. `loads` is the connection over which lanes are read."""

    catalogue: Catalogue
    count: int
    """How many lanes the cluster has."""
    leases: SoleLeases | LaneLeases

    def __init__(
        self,
        tenure: Tenure,
        committer: Committer,
        reader: Reader,
        loads: Link,
        watchers: Watchers,
        read_by_all: LogId | None,
    ) -> None:
        """`read_by_all`: the log that can be read here whoever has its lane, where there is a `followed`."""
        self.tenure = tenure
        self.by_log: dict[LogId, int] = {}
        """Where each log lies that there is."""
        self.followed: Followed | None = None
        self.is_deposed = False
        """A lane was lost to another process."""
        self.lost: Callable[[], None] = _nothing
        """Called when that happens."""
        self._committer = committer
        self._reader = reader
        self._loads = loads
        self._watchers = watchers
        self._read_by_all = read_by_all
        self._damages: dict[int, str] = {}
        """What has been said of lanes that could not be read."""
        tenure.lost = committer.lost = self.lose
        committer.epoch_of = self.epoch_of

    # -- lanes that come and go

    async def gain(self, lanes: Sequence[Lane]) -> None:
        """Serve these, which are empty and ours. Raises DatabaseError."""
        for lane in lanes:
            self._reader.forget_lane(lane.number)
        await load_lanes(self._loads, lanes)
        numbers = {lane.number for lane in lanes}
        origins = {
            key_of(log): self.catalogue.epoch_origin(log) for log, number in self.by_log.items() if number in numbers
        }
        for lane in lanes:
            self._say(lane)
            if await self.tenure.raise_epoch(lane, _last_epoch(lane, origins)):
                self.tenure.owned[lane.number] = lane
                if (followed := self._followed_in(lane)) is not None:
                    followed.own(lane)
        self._hold([log for log, number in self.by_log.items() if number in numbers])
        if self.followed is not None and self.followed.lane.number in numbers:
            self.followed_grew()  # by what its last owner wrote, perhaps

    async def part(self, lanes: Sequence[Lane]) -> None:
        """Lead these no more, and have committed what was begun before."""
        for lane in lanes:
            self.leases.lose(self._logs_of(lane))
        await self._committer.finished(lanes)

    def lose(self, lane: Lane) -> None:
        """Another process has it."""
        if lane.epoch >= 0:
            _log.warning("lane %d is another process's now", lane.number)
            self.forget(lane)
            self.is_deposed = True
            self.lost()

    def forget(self, lane: Lane) -> None:
        """It is not ours."""
        if lane.epoch < 0:
            return
        lane.epoch = -1
        del self.tenure.owned[lane.number]
        self._reader.forget_lane(lane.number)
        if (followed := self._followed_in(lane)) is not None:
            followed.disown()
        logs = self._logs_of(lane)
        self.leases.lose(logs)
        for log in logs:
            self._watchers.notify(log)

    def _say(self, lane: Lane) -> None:
        """Say whether it can be read, where that is news."""
        known, damage = self._damages.pop(lane.number, None), lane.damage
        if damage is None:
            if known is not None:
                _log.info("lane %d can be read again", lane.number)
            return
        self._damages[lane.number] = damage
        if damage != known:
            logs = self._logs_of(lane)
            named = ", ".join(map(str, logs[:_NAMED])) + (" and others" if len(logs) > _NAMED else "")
            _log.error(
                "lane %d cannot be read, and nothing that lies in it is served (%s): %s; `kafkapy check --database` "
                "says more, docs/cluster.md what can be done",
                lane.number,
                named,
                damage,
            )

    def followed_grew(self) -> None:
        """There is more of the log that all read."""
        if self._read_by_all is not None:
            self._watchers.notify(self._read_by_all)

    def _followed_in(self, lane: Lane) -> Followed | None:
        return self.followed if self.followed is not None and self.followed.lane.number == lane.number else None

    def _logs_of(self, lane: Lane) -> list[LogId]:
        return [log for log, number in self.by_log.items() if number == lane.number]

    # -- logs that come and go

    def number_of(self, log: LogId) -> int:
        """The lane in which this log lies, or would."""
        number = self.by_log.get(log)
        return lane_of(key_of(log), self.count) if number is None else number

    def changed(self, logs: Iterable[LogId] | None) -> None:
        """The catalogue says something else of these logs; None: of any."""
        catalogue = self.catalogue
        named = list(dict.fromkeys([*catalogue.logs(), *self.by_log] if logs is None else logs))
        made = [log for log in named if catalogue.settings(log) is not None]
        self.by_log.update((log, self.number_of(log)) for log in made)
        self._hold(made)
        for log in named:
            if catalogue.settings(log) is None and catalogue.is_gone(log):
                self._remove(log)

    def _hold(self, logs: Sequence[LogId]) -> None:
        """Lead those of these logs whose lanes are ours."""
        epochs: dict[LogId, int] = {}
        for log in logs:
            lane = self.tenure.owned.get(self.by_log[log])
            if lane is not None and lane.damage is None:
                lane.log(key_of(log))
                epochs[log] = self.epoch_of(log, lane.epoch)
            elif lane is not None and log != self._read_by_all:
                epochs[log] = self.epoch_of(log, lane.epoch)  # who asks is to hear what is wrong
        self.leases.gain(epochs)

    def _remove(self, log: LogId) -> None:
        lane = self.tenure.owned.get(self.number_of(log))
        self.by_log.pop(log, None)
        if lane is not None and key_of(log) in lane.logs:
            self._committer.change(lane, log, Removed(key_of(log)))
        self.leases.lose([log])
        self._watchers.notify(log)

    def strangers(self) -> set[LogKey]:
        """Logs that lie in lanes of ours, and that the catalogue has not, or not yet."""
        known = {key_of(log) for log in self.by_log}
        return {key for lane in self.tenure.owned.values() for key in lane.logs if key not in known}

    def drop(self, strangers: Iterable[LogKey]) -> None:
        """Remove those of these logs that the catalogue still has not: their topics are no more."""
        for key in self.strangers().intersection(strangers):
            lane = self.tenure.owned[lane_of(key, self.count)]
            self._committer.change(lane, LogId("", key.partition, key.topic_id), Removed(key))

    # -- epochs

    def epoch_of(self, log: LogId, lane_epoch: int) -> int:
        """The log's leader epoch while its lane is in that one."""
        return lane_epoch - self.catalogue.epoch_origin(log)

    def epoch_origin(self, log: LogId) -> int:
        """The epoch of the lane in which this log would come into being now, as far as is known here."""
        number = lane_of(key_of(log), self.count)
        lane = self.tenure.owned.get(number)
        return max(self.tenure.epochs.get(number, 0), 0) if lane is None else lane.epoch

    # -- where a log is

    def lane(self, log: LogId) -> Lane | Error:
        """The lane to write to."""
        number = self.by_log.get(log)
        if number is None:
            return Error.UNKNOWN_TOPIC_OR_PARTITION
        lane = self.tenure.owned.get(number)
        if lane is None:
            return Error.NOT_LEADER_OR_FOLLOWER
        return lane if lane.damage is None else Error.KAFKA_STORAGE_ERROR

    def readable(self, log: LogId) -> Lane | Error:
        """The lane to read from."""
        if self.followed is not None and log == self._read_by_all and log in self.by_log:
            lane = self.followed.lane
            return lane if lane.damage is None else Error.KAFKA_STORAGE_ERROR
        return self.lane(log)

    def led(self, log: LogId) -> Lane:
        """The lane to write to. Raises KafkaError."""
        lane = self.lane(log)
        if isinstance(lane, Error):
            raise KafkaError(lane)
        return lane

    def only_followed(self, log: LogId) -> Followed | None:
        """Who reads this log here, where another process has its lane."""
        return self.followed if log == self._read_by_all and isinstance(self.lane(log), Error) else None

    def state(self, log: LogId) -> LogState | Error:
        """The log, as readers see it."""
        lane = self.readable(log)
        return lane if isinstance(lane, Error) else lane.log(key_of(log))

    def all_led(self) -> Iterator[LogId]:
        """The logs that lie in lanes of ours."""
        return (log for log, number in self.by_log.items() if number in self.tenure.owned)


def key_of(log: LogId) -> LogKey:
    """The log, as lanes know it."""
    return LogKey(log.topic_id, log.partition)


def _last_epoch(lane: Lane, origins: Mapping[LogKey, int]) -> int:
    """The last in which a log of the lane was written, under whatever leaders, as the lane counts."""
    return max((log.epochs[-1][0] + origins.get(key, 0) for key, log in lane.logs.items() if log.epochs), default=-1)


def _nothing() -> None:
    return None
