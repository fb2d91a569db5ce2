"""The controller: changes the cluster's metadata, for as long as this broker leads the metadata log.

One shard runs the cluster machine on that log, a shard a tenure. It begins with what this broker's follower has of the
log, so that nothing is read twice. Called by the cluster's core; what comes of a change is for those to see who
follow the log (`follower.py`), the controller's own broker among them.
"""

import logging
from typing import Any, Final

import trio

from kafkapy.clock import Clock
from kafkapy.cluster.follower import Follower
from kafkapy.cluster.image import METADATA_LOG
from kafkapy.coordination.replaying import DamagedLog
from kafkapy.coordination.runtime import Shard, ShardLog
from kafkapy.errors import Error, KafkaError
from kafkapy.storage.base import Leases, Logs

_log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0

_OF_COORDINATORS: Final = {
    Error.COORDINATOR_LOAD_IN_PROGRESS,
    Error.COORDINATOR_NOT_AVAILABLE,
    Error.NOT_COORDINATOR,
}


class Controller:
    """The broker's part in deciding what becomes of the cluster."""

    def __init__(self, follower: Follower, logs: Logs, leases: Leases, clock: Clock) -> None:
        self._follower = follower
        self._logs = logs
        self._leases = leases
        self._clock = clock
        self._shard: Shard | None = None
        self._moved = trio.Event()

    @property
    def is_here(self) -> bool:
        """Whether this process decides."""
        return self._shard is not None

    async def execute(self, command: Any) -> Any:
        """The machine's answer to a command, once what was decided is in the log.

        Raises NOT_CONTROLLER when another broker decides, or when the log refused the facts: in either case a client
        asks for the controller, and tries again. A caller that is cancelled only stops waiting.
        """
        if self._shard is None:
            raise KafkaError(Error.NOT_CONTROLLER)
        try:
            return await self._shard.execute(command)
        except KafkaError as refusal:
            if refusal.error in _OF_COORDINATORS:
                raise KafkaError(Error.NOT_CONTROLLER, refusal.message) from refusal
            raise

    def forget_removed(self, topic_ids: set[bytes]) -> None:
        """The logs of these topics are no more: a checkpoint need not tell any longer that they are to go."""
        if self._shard is not None:
            self._shard.machine.state.removed -= topic_ids

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` once commands are taken, if that is this broker's to do."""
        watch = self._leases.watch(self._note, self._note)
        is_started = False
        try:
            while True:
                self._moved = trio.Event()
                epoch = self._leases.epoch(METADATA_LOG)
                async with trio.open_nursery() as tenure:
                    if epoch is not None:
                        await tenure.start(self._decide, epoch)
                    if not is_started:
                        is_started = True
                        task_status.started()
                    while self._leases.epoch(METADATA_LOG) == epoch:
                        await self._moved.wait()
                        self._moved = trio.Event()
                    self._shard = None
                    tenure.cancel_scope.cancel()
        finally:
            watch.close()

    async def _decide(self, epoch: int, task_status: trio.TaskStatus[None]) -> None:
        said = None
        while True:
            shard_log = ShardLog(self._logs, METADATA_LOG, epoch)
            self._shard = Shard(
                "cluster metadata", self._follower.shard_type, shard_log, self._clock, ahead=self._follower.fork
            )
            try:
                await self._shard.run(task_status)
                task_status = trio.TASK_STATUS_IGNORED  # somebody else wrote to the log, but it is ours: read what
            except (KafkaError, DamagedLog) as failure:  # what is in the log cannot be read
                if isinstance(failure, DamagedLog) and not self._follower.outlives_damage:
                    raise
                if self._leases.epoch(METADATA_LOG) != epoch:
                    task_status.started()
                    return
                if str(failure) != said:
                    said = str(failure)
                    _log.error("this broker cannot be the controller, which is tried again: %s", failure)
                await self._clock.sleep(_RETRY_SECONDS)

    def _note(self, logs: Any) -> None:
        if METADATA_LOG in logs:
            self._moved.set()
