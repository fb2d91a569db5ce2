"""Has a broker be an older Kafka to its clients: it tells of no more than that one, and answers nothing beyond it."""

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final

from kafkapy.config.setting import ConfigError
from kafkapy.errors import CloseConnection, Error, KafkaError
from kafkapy.handlers.registry import Answer, Registry
from kafkapy.protocol.header import API_VERSIONS, RequestHeader, decode_request_header
from kafkapy.protocol.messages import APIS
from kafkapy.protocol.messages.api_versions import ApiVersionsResponse
from kafkapy.testing.answers import decoded_answer, framed_answer
from kafkapy.testing.interception import Answering, Given, OfBroker
from kafkapy.testing.releases import RELEASES, Release

_ZERO_MINIMUM_FROM_VERSION: Final = 4


def release_of(version: str | None) -> Release | None:
    """What that Kafka tells of itself: 3.9, or 3.9.1. Raises ConfigError for one of which nothing is known."""
    if version is None:
        return None
    found = RELEASES.get(".".join(version.split(".")[:2]))
    if found is None:
        raise ConfigError(f"there is no being as Kafka {version}; there is as {', '.join(RELEASES)}")
    return found


def answering_of(registry: Registry, release: Release | None) -> Answering:
    """What answers for a broker: as that release, if one is named."""
    broker = OfBroker(registry)
    return broker if release is None else AsVersion(broker, release)


class AsVersion:
    """What answers as that release would.

    Versions of APIs that Kafka 4 has dropped are not there in an older one, either.
    """

    def __init__(self, answering: Answering, release: Release) -> None:
        self._answering = answering
        self._release = release
        self.refusal = answering.refusal
        self.topic_id = answering.topic_id
        self.topic_name = answering.topic_name
        self.address_of = answering.address_of

    def dispatch(self, frame: memoryview, session: Any) -> Coroutine[Any, Any, Given]:
        """As `Registry.dispatch`."""
        header = decode_request_header(frame)
        key, version = header.api_key, header.api_version
        if version not in self._release.versions.get(key, ()):
            if key == API_VERSIONS:
                return self._refuse_versions(header)
            name = APIS[key].name if key in APIS else f"API {key}"
            raise CloseConnection(f"{name} version {version} is beyond the Kafka that this broker is to be")
        if key in self._release.refused:
            return _at_once(self.refusal(frame, KafkaError(Error.UNSUPPORTED_VERSION), session))
        if key == API_VERSIONS:
            return self._tell_versions(header, frame, session)
        return self._answering.dispatch(frame, session)

    async def _refuse_versions(self, header: RequestHeader) -> Answer:
        """In a version that all clients know, with what they may ask in (KIP-511)."""
        own = self._release.versions[API_VERSIONS]
        told = ApiVersionsResponse.ApiVersion(api_key=API_VERSIONS, min_version=own.start, max_version=own.stop - 1)
        response = ApiVersionsResponse(error_code=Error.UNSUPPORTED_VERSION, api_keys=[told])
        return framed_answer(replace(header, api_version=0), response)

    async def _tell_versions(self, header: RequestHeader, frame: memoryview, session: Any) -> Given:
        answer: Any = await self._answering.dispatch(frame, session)
        response = decoded_answer(header, answer)
        if response.error_code:
            return [b"".join(answer)]
        known = self._release.versions
        response.api_keys = [one for one in response.api_keys if one.api_key in known]
        for one in response.api_keys:
            one.min_version = max(one.min_version, known[one.api_key].start)
            one.max_version = min(one.max_version, known[one.api_key].stop - 1)
        features = self._release.features
        response.supported_features = [
            ApiVersionsResponse.SupportedFeatureKey(name=name, min_version=low, max_version=high)
            for name, (low, high, _) in features.items()
            if low or header.api_version >= _ZERO_MINIMUM_FROM_VERSION
        ]
        response.finalized_features = [
            ApiVersionsResponse.FinalizedFeatureKey(name=name, max_version_level=level, min_version_level=level)
            for name, (_, _, level) in features.items()
            if level
        ]
        return framed_answer(header, response)


async def _at_once(answer: Answer) -> Answer:
    return answer
