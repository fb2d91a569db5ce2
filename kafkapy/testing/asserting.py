"""Which records a block must have added, and what is said when it did not."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kafkapy.testing.nouns import ConsumedRecord

Produced = bytes | str | Mapping[str, Any] | None
"""A value, or the fields of a record that matter."""


def compare(topic: str, found: Sequence[ConsumedRecord], expected: Iterable[Produced]) -> None:
    """Raises AssertionError unless each of these was found once, and nothing else."""
    extra, missing = [*found], []
    for wanted in map(_fields, expected):
        match = next((one for one in extra if all(getattr(one, name) == wanted[name] for name in wanted)), None)
        if match is None:
            missing.append(wanted)
        else:
            extra.remove(match)
    if missing or extra:
        lines = [f"{topic} was given other records than expected"]
        lines += [f"  missing: {', '.join(f'{name}={value!r}' for name, value in one.items())}" for one in missing]
        lines += [f"  not expected: {told(one)}" for one in extra]
        raise AssertionError("\n".join(lines))


def told(record: ConsumedRecord) -> str:
    """A record in a line."""
    headers = f" headers={record.headers!r}" if record.headers else ""
    return f"{record.topic}-{record.partition}@{record.offset} key={record.key!r} value={record.value!r}{headers}"


def _fields(wanted: Produced) -> dict[str, Any]:
    fields = dict(wanted) if isinstance(wanted, Mapping) else {"value": wanted}
    unknown = fields.keys() - set(ConsumedRecord._fields)
    if unknown:
        raise TypeError(f"a record has no {', '.join(sorted(unknown))}; it has {', '.join(ConsumedRecord._fields)}")
    return {
        name: value.encode() if isinstance(value, str) and name in ("key", "value") else value
        for name, value in fields.items()
    }
