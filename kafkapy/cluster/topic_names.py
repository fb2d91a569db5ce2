"""Which names a topic may have: Kafka's rules."""

import re
from typing import Final

from kafkapy.errors import Error, KafkaError

MAX_NAME_LENGTH: Final = 249
_LEGAL: Final = re.compile(r"[a-zA-Z0-9._-]+")


def validate_topic_name(name: str) -> None:
    """Raise INVALID_TOPIC_EXCEPTION unless the name is legal."""
    if problem := topic_name_problem(name):
        raise KafkaError(Error.INVALID_TOPIC_EXCEPTION, problem)


def topic_name_problem(name: str) -> str | None:
    """What is wrong with the name; None when nothing is."""
    if not name:
        return "Topic name is invalid: the empty string is not allowed"
    if name in (".", ".."):
        return f"Topic name is invalid: '{name}' is not allowed"
    if len(name) > MAX_NAME_LENGTH:
        return f"Topic name is invalid: the length of '{name}' is longer than the max allowed length {MAX_NAME_LENGTH}"
    if not _LEGAL.fullmatch(name):
        rule = "contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        return f"Topic name is invalid: '{name}' {rule}"
    return None


def collision_key(name: str) -> str:
    """Names with the same key would share a metric's name: '.' and '_' count as one."""
    return name.replace(".", "_")
