"""All quotas of a broker: what follows the limits in the cluster's image, and is asked what they come to.

Quotas are of one broker each, as in Kafka: what a client uses at another one does not count here. Called by whoever
sees requests and connections come; nothing of it is called while there are no limits.
"""

import logging
import socket
from typing import Any, Final

from kafkapy.clock import Clock
from kafkapy.cluster.client_quotas import (
    CONNECTION_CREATION_RATE,
    CONSUMER_BYTE_RATE,
    CONTROLLER_MUTATION_RATE,
    IP,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    QuotaTable,
    is_address,
)
from kafkapy.config.layers import BrokerConfig
from kafkapy.quotas.clients import ClientLimits, RateQuota
from kafkapy.quotas.connections import ConnectionQuota
from kafkapy.quotas.mutations import MutationQuota
from kafkapy.quotas.rates import Windows

_log = logging.getLogger(__name__)

_MS_PER_SECOND: Final = 1000


class Quotas:
    """What clients are limited to at this broker."""

    def __init__(self, config: BrokerConfig, clock: Clock) -> None:
        self._clock = clock
        windows = Windows(config["quota.window.num"], config["quota.window.size.seconds"] * _MS_PER_SECOND)
        mutation_windows = Windows(
            config["controller.quota.window.num"], config["controller.quota.window.size.seconds"] * _MS_PER_SECOND
        )
        self.produce = RateQuota(windows)
        self.fetch = RateQuota(windows)
        self.request = RateQuota(windows, longest_ms=windows.length_ms)
        self.mutation = MutationQuota(mutation_windows)
        self.connections = ConnectionQuota(windows)
        self._of_clients: dict[str, ClientLimits[Any]] = {
            PRODUCER_BYTE_RATE: self.produce.limits,
            CONSUMER_BYTE_RATE: self.fetch.limits,
            REQUEST_PERCENTAGE: self.request.limits,
            CONTROLLER_MUTATION_RATE: self.mutation.limits,
        }

        self.limits_clients = False
        """Whether any request may have to be held back."""

    def now_ms(self) -> int:
        """The time by which all is counted."""
        return round(self._clock.monotonic() * _MS_PER_SECOND)

    def follow(self, table: QuotaTable) -> None:
        """Hold everybody to these limits from now on."""
        for key, limits in self._of_clients.items():
            limits.follow(table, key)
        self.limits_clients = any(limits.is_set for limits in self._of_clients.values())
        by_address: dict[str | None, float] = {}
        for entity, values in table.items():
            names = dict(entity)
            if IP in names and CONNECTION_CREATION_RATE in values:
                address = _address(names[IP])
                if address != "":
                    by_address[address] = values[CONNECTION_CREATION_RATE]
        self.connections.follow(by_address)

    def hold(self, address: str) -> float:
        """A connection of this address is there: for how many seconds it is held, and then closed; 0: it may stay."""
        return self.connections.record(address, self.now_ms()) / _MS_PER_SECOND


def _address(name: str | None) -> str | None:
    """The address that connections of this host come from; empty when there is none (any longer)."""
    if name is None or is_address(name):
        return name
    try:
        return str(socket.getaddrinfo(name, None)[0][4][0])
    except OSError as failure:
        _log.error("the quota of the IP entity %s does not act: %s", name, failure)
        return ""
