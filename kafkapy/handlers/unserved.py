"""Says in the log, once a client and API, that somebody asks for what is not served.

Clients that ask which APIs there are find out by themselves. Others see their connection closed, as Apache Kafka closes
it for an API that it does not know, and call that "EOF" or "broken pipe": nothing but the broker's log tells them why.
"""

import logging
from typing import Final

from kafkapy.handlers.context import Session
from kafkapy.protocol.header import RequestHeader
from kafkapy.protocol.messages import APIS

_log = logging.getLogger(__name__)

_REMEMBERED: Final = 1000
"""Clients and APIs that were told of; with more, the first of them may be told of again."""


class Unserved:
    """Who asked for what that is not there."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str | None, int], None] = {}

    def note(self, header: RequestHeader, session: Session, why: str) -> None:
        """Say it, unless this client has heard it for this API."""
        key = (session.peer_host, header.client_id, header.api_key)
        if key in self._told:
            return
        if len(self._told) >= _REMEMBERED:
            del self._told[next(iter(self._told))]
        self._told[key] = None
        _log.warning("%s at %s: %s", described(header), session.peer_host, why)


def described(header: RequestHeader) -> str:
    """The request as a log names it."""
    api = APIS.get(header.api_key)
    name = api.name if api is not None else f"API key {header.api_key}"
    return f"{name} version {header.api_version} of client {header.client_id!r:.80}"
