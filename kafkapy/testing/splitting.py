"""Takes a request apart by topic and partition, and puts the answers to its parts together.

Almost every API that names topics does it in the same shape: a list of topics, each with a list of partitions, maybe
within another list, of groups for one. What is found here by that shape needs no knowledge of single APIs.
"""

import copy
from collections.abc import Iterator
from typing import Any, Final

_NAMES: Final = ("name", "topic", "topic_name")
_TOPICS: Final = ("topics", "topic_data", "topic_names")
"""Lists of topics; elsewhere a `name` may be anything's."""
_HOLDERS: Final = ("group_id", "transactional_id", "producer_id", "log_dir")
"""Of what has topics in it."""
_NUMBERS: Final = ("partition", "index", "partition_index")


def split(request: Any, topic: str, topic_id: bytes | None, partition: int | None) -> tuple[Any, Any] | None:
    """The request without this topic (or partition of it), and the request for that alone.

    None where it does not name it. The first is None where nothing else is named.
    """
    for attribute, items in _lists(request):
        rest, part = [], []
        for one in items:
            left, taken = _parted(one, topic, topic_id, partition)
            rest += [] if left is None else [left]
            part += [] if taken is None else [taken]
        if part:
            return (_with(request, attribute, rest) if rest else None), _with(request, attribute, part)
    return None


def merged(response: Any, other: Any) -> Any:
    """The first response with what the other says of further topics and partitions.

    An error that the other has as a whole, for the API has none for its parts, is that of all.
    """
    if getattr(other, "error_code", 0):
        return other
    for attribute, items in _lists(response):
        setattr(response, attribute, _joined(items, getattr(other, attribute)))
    return response


def topics_of(message: Any) -> Iterator[str | bytes]:
    """The topics that a request names, by name or id."""
    for attribute, items in _lists(message):
        for one in items:
            if attribute not in _TOPICS:
                if hasattr(one, "__slots__"):
                    yield from topics_of(one)
            elif isinstance(one, str):
                yield one
            elif named := next((name for name in (*_NAMES, "topic_id") if getattr(one, name, None)), None):
                yield getattr(one, named)


def _parted(one: Any, topic: str, topic_id: bytes | None, partition: int | None) -> tuple[Any | None, Any | None]:
    """What of an item of a list is not about the topic, and what is: a topic, or what has topics in it (a group)."""
    if _is_topic(one, topic, topic_id):
        return (None, one) if partition is None else _split_partitions(one, partition)
    if isinstance(getattr(one, "topics", None), list) and (parts := split(one, topic, topic_id, partition)):
        return parts
    return one, None


def _joined(items: list[Any], more: list[Any]) -> list[Any]:
    if _numbered(items) and _numbered(more):
        return sorted([*items, *more], key=lambda row: _number(row) or 0)
    found = [*items]
    keys = [_key(one) for one in items]
    for one in more:
        key = _key(one)
        if key is None or key not in keys:
            found.append(one)
        else:
            place = keys.index(key)
            found[place] = merged(found[place], one)
    return found


def _split_partitions(topic: Any, partition: int) -> tuple[Any | None, Any | None]:
    for name, value in _lists(topic):
        numbers = [_number(one) for one in value]
        if numbers and None not in numbers:
            rest = [one for one, number in zip(value, numbers, strict=True) if number != partition]
            part = [one for one, number in zip(value, numbers, strict=True) if number == partition]
            return (_with(topic, name, rest) if rest else None), (_with(topic, name, part) if part else None)
    return None, topic


def _lists(struct: Any) -> Iterator[tuple[str, list[Any]]]:
    for attribute in struct.__slots__:
        value = getattr(struct, attribute)
        if isinstance(value, list):
            yield attribute, value


def _is_topic(one: Any, topic: str, topic_id: bytes | None) -> bool:
    if isinstance(one, str):
        return one == topic
    if any(getattr(one, name, None) == topic for name in _NAMES):
        return True
    return topic_id is not None and getattr(one, "topic_id", None) == topic_id


def _key(one: Any) -> Any:
    names = [getattr(one, name) for name in (*_NAMES, *_HOLDERS, "topic_id") if hasattr(one, name)]
    return tuple(names) or None


def _number(one: Any) -> int | None:
    if isinstance(one, int):
        return one
    return next((getattr(one, name) for name in _NUMBERS if isinstance(getattr(one, name, None), int)), None)


def _numbered(value: list[Any]) -> bool:
    return bool(value) and _number(value[0]) is not None


def _with(struct: Any, attribute: str, value: list[Any]) -> Any:
    copied = copy.copy(struct)
    setattr(copied, attribute, value)
    return copied
