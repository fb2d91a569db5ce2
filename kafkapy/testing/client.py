"""Asks a broker requests, as messages, in the latest version that both sides know."""

from collections.abc import Iterable
from itertools import count
from typing import Any

from kafkapy.errors import Error, KafkaError
from kafkapy.protocol.header import API_VERSIONS, decode_response_header, encode_request_header
from kafkapy.protocol.messages import APIS, response_class
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.testing.connection import Connection, Disconnected

CLIENT_ID = "kafkapy-testing"
_PRODUCE = 0
_EVERY_BROKERS = 3
"""The version of ApiVersions that every broker of today answers."""


class Client:
    """One connection, and what is known of the broker at its end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._versions: dict[int, tuple[int, int]] = {}
        self._correlation_ids = count()

    async def ask(self, request: Any, *, most: int | None = None) -> Any:
        """The answer, as a message. `most` is the last version whose fields the request was filled in for.

        Raises the KafkaError of the answer as a whole, UNSUPPORTED_VERSION when there is no version that both know,
        and `Disconnected` when the broker is not there. Where the connection was lost since the last request, it is
        asked again over a new one, unless that could write something twice.
        """
        key = request.API_KEY
        was_connected = bool(self._versions)
        try:
            return await self._ask(request, await self._version(key, most))
        except Disconnected:
            self._versions.clear()
            if not was_connected or key == _PRODUCE:
                raise
        return await self._ask(request, await self._version(key, most))

    async def serves(self, key: int) -> bool:
        """Whether the broker knows the API."""
        if not self._versions:
            await self._learn()
        return key in self._versions

    def monotonic(self) -> float:
        return self._connection.monotonic()

    async def pause(self, seconds: float) -> None:
        await self._connection.pause(seconds)

    async def close(self) -> None:
        self._versions.clear()
        await self._connection.close()

    async def _version(self, key: int, most: int | None) -> int:
        if not self._versions:
            await self._learn()
        api = APIS[key]
        least, last = self._versions.get(key, (0, -1))
        version = min(last, api.stable_version, api.stable_version if most is None else most)
        if version < max(least, api.min_version):
            raise KafkaError(Error.UNSUPPORTED_VERSION, f"the broker does not serve {api.name} as it is asked here")
        return version

    async def _learn(self) -> None:
        request = ApiVersionsRequest(client_software_name="kafkapy", client_software_version="testing")
        response = await self._ask(request, _EVERY_BROKERS)
        self._versions = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}

    async def _ask(self, request: Any, version: int) -> Any:
        key = request.API_KEY
        asked = next(self._correlation_ids)
        out = bytearray()
        encode_request_header(key, version, asked, CLIENT_ID, out)
        frame = await self._connection.exchange(b"".join(request.encode(version, out)))
        correlation_id, offset = decode_response_header(key, version, frame)
        assert correlation_id == asked, "a connection carries one request at a time"
        decoded, _ = response_class(key).decode(version, frame, offset)
        response: Any = decoded
        if key != API_VERSIONS and getattr(response, "error_code", 0):
            raise KafkaError(Error.of(response.error_code), getattr(response, "error_message", None))
        return response


def check(answers: Iterable[Any], but: Iterable[Error] = ()) -> None:
    """Raises the first error among the answers to the parts of a request."""
    for answer in answers:
        if answer.error_code and Error.of(answer.error_code) not in but:
            raise KafkaError(Error.of(answer.error_code), getattr(answer, "error_message", None))
