"""Where in answers brokers are told of by their addresses, for who wants their readers to go elsewhere."""

from collections.abc import Iterator
from typing import Any, Final

from kafkapy.protocol.messages import APIS

_TOLD_FROM: Final = {
    "Produce": 10,
    "Fetch": 16,
    "Metadata": 0,
    "FindCoordinator": 0,
    "DescribeCluster": 0,
    "ShareFetch": 0,
    "ShareAcknowledge": 0,
}
"""APIs whose answers hold addresses of brokers, and from which version on."""


def may_tell_addresses(api_key: int, version: int) -> bool:
    """Whether an answer of that version may hold some."""
    return version >= _TOLD_FROM.get(APIS[api_key].name, version + 1)


def addressed(answer: Any) -> Iterator[tuple[int, Any]]:
    """The node ids in an answer, each with what has its `host` and `port`."""
    for one in (answer, *_listed(answer)):
        if getattr(one, "host", "") and one.port > 0:
            yield (one.node_id if hasattr(one, "node_id") else one.broker_id), one


def _listed(answer: Any) -> Iterator[Any]:
    for name in ("brokers", "coordinators", "node_endpoints"):
        yield from getattr(answer, name, None) or ()
