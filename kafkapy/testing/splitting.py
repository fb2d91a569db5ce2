"""Takes a request apart by topic and partition, and puts the answers to its parts together.

Almost every API that names topics does it in the same shape: a list of topics, each with a list of partitions. What is
found here by that shape needs no knowledge of single APIs.
"""

import copy
from collections.abc import Iterator
from typing import Any, Final

_NAMES: Final = ("name", "topic", "topic_name")
_NUMBERS: Final = ("partition", "index", "partition_index")


def split(request: Any, topic: str, topic_id: bytes | None, partition: int | None) -> tuple[Any, Any] | None:
    """The request without this topic (or partition of it), and the request for that alone.

    None where it does not name it. The first is None where nothing else is named.
    """
    for attribute, topics in _lists(request):
        rest, part = [], []
        for one in topics:
            if not _is_topic(one, topic, topic_id):
                rest.append(one)
                continue
            left, taken = (None, one) if partition is None else _split_partitions(one, partition)
            rest += [] if left is None else [left]
            part += [] if taken is None else [taken]
        if part:
            return (_with(request, attribute, rest) if rest else None), _with(request, attribute, part)
    return None


def merged(response: Any, other: Any) -> Any:
    """The first response with what the other says of further topics and partitions."""
    for attribute, topics in _lists(response):
        more = getattr(other, attribute)
        if not more or not isinstance(more[0], type(topics[0]) if topics else object):
            continue
        setattr(response, attribute, _joined(topics, more))
    return response


def _joined(topics: list[Any], more: list[Any]) -> list[Any]:
    found = [*topics]
    for one in more:
        same = next((known for known in found if _key(known) is not None and _key(known) == _key(one)), None)
        lists = [] if same is None else [(name, value) for name, value in _lists(same) if _numbered(value)]
        if same is None or not lists:
            found.append(one)
            continue
        for name, value in lists:
            setattr(same, name, sorted([*value, *getattr(one, name)], key=lambda row: _number(row) or 0))
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
    names = [getattr(one, name) for name in (*_NAMES, "topic_id") if hasattr(one, name)]
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
