"""Writes down which brokers are there, where these come and go by themselves: a duty of the controller's process.

Only the controller's facts say which brokers the cluster has, so that replicas can be counted, and who is gone named.
"""

import logging
import os
from collections.abc import Sequence
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.cluster.brokers import FenceBrokers, RegisterBroker
from kafkapy.cluster.core import Core
from kafkapy.cluster.image import METADATA_LOG
from kafkapy.errors import KafkaError
from kafkapy.model import LogId
from kafkapy.storage.base import Brokers, Leases

_log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 0.1


async def register_brokers(core: Core, brokers: Brokers, leases: Leases, clock: Clock) -> None:
    """Have those registered that are there, and those fenced that are not, whenever that changes, for ever."""
    changed = trio.Event()

    def note(logs: Sequence[LogId] = ()) -> None:
        changed.set()

    watches = brokers.watch(note), leases.watch(note, note)
    try:
        while True:
            changed = trio.Event()
            if leases.epoch(METADATA_LOG) is not None:
                try:
                    await _register(core, brokers)
                except KafkaError as refusal:  # the controller is just coming into being, or gone
                    _log.debug("brokers were not registered: %s", refusal)
                    await clock.sleep(_RETRY_SECONDS)
                    continue
            await changed.wait()
    finally:
        for watch in watches:
            watch.close()


async def _register(core: Core, brokers: Brokers) -> None:
    await core.catch_up()
    live = brokers.live()
    for broker in live:
        await core.change(RegisterBroker(broker.node_id, os.urandom(16), broker.rack, broker.endpoints))
    there = {broker.node_id for broker in live}
    await core.change(FenceBrokers([node_id for node_id in core.image.brokers if node_id not in there]))
