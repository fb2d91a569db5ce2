"""Asks the coordinators of share partitions for their state, and has them keep it.

The coordinator of a partition's state is the broker that leads its log of `__share_group_state`: this one is asked
directly, others by requests. Who cannot tell yet is asked again. Called by the share partitions, and for share groups.
"""

import logging
from typing import TYPE_CHECKING, Any, Final

from kafkapy.clock import Clock
from kafkapy.errors import Error, KafkaError
from kafkapy.sharing.state.commands import PartitionCommand
from kafkapy.sharing.state.requests import answer_of, request_of
from kafkapy.sharing.state.service import ShareStateService

if TYPE_CHECKING:
    from kafkapy.cluster.membership import Peers
    from kafkapy.cluster.service import ClusterService

_log = logging.getLogger(__name__)

_MAY_PASS: Final = frozenset(
    {
        Error.NOT_COORDINATOR,
        Error.COORDINATOR_NOT_AVAILABLE,
        Error.COORDINATOR_LOAD_IN_PROGRESS,
        Error.BROKER_NOT_AVAILABLE,
    }
)

MAX_ATTEMPTS: Final = 5
FIRST_BACKOFF_SECONDS: Final = 0.1
"""As often Kafka asks before it gives up, with longer pauses: here the coordinator is mostly in this very process."""


class SharePersister:
    """The state of share partitions, wherever it is kept."""

    def __init__(self, cluster: "ClusterService", state: ShareStateService, peers: "Peers", clock: Clock) -> None:
        self._cluster = cluster
        self._state = state
        self._peers = peers
        self._clock = clock

    async def ask(self, command: PartitionCommand) -> Any:
        """The answer to the command (`state/commands.py`). Raises its refusal, or why there is no coordinator."""
        attempts = 0
        while True:
            attempts += 1
            try:
                return await self._ask_once(command)
            except KafkaError as refusal:
                if refusal.error not in _MAY_PASS or attempts == MAX_ATTEMPTS:
                    raise
                _log.info("the share coordinator of %s: %s", command.key, refusal)
            await self._clock.sleep(FIRST_BACKOFF_SECONDS * 2**attempts)

    async def _ask_once(self, command: PartitionCommand) -> Any:
        log, leadership = await self._state.coordinating_log(command.key), self._cluster.leadership
        node_id = leadership.holder(log).node_id
        if node_id == leadership.node_id:
            return await self._state.ask(command)
        return answer_of(command, await self._peers.ask(node_id, request_of(command)))
