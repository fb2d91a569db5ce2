"""Settings by which an operator keeps people out, or apart, and which kafkapy does not act on yet.

With a warning alone the broker would start and let everyone in. So they are refused, as listeners are that cannot be
served: tokens of OAuth, also of one listener, Java classes that decide who is who, and what may veto a change. A value
that is Kafka's default asks for nothing.
"""

import re
from collections.abc import Mapping
from typing import Final

from kafkapy.config.broker import BROKER

_FAMILIES: Final = re.compile(
    r"(?:listener\.name\.[^.]+\.(?:.+\.)?)?"
    r"(?:ssl\.engine\.factory\.class|ssl\.provider|ssl\.(?:key|trust)manager\.algorithm"
    r"|sasl\.oauthbearer\..+|sasl\.server\.callback\.handler\.class|principal\.builder\.class)"
)

_OTHERS: Final = (
    "alter.config.policy.class.name",
    "create.topic.policy.class.name",
    "security.providers",
)


def refused_protections(given: Mapping[str, str]) -> str | None:
    """One line about all settings given that would protect nobody; None when there is none."""
    names = sorted(name for name, text in given.items() if _protects(name, text.strip()))
    if not names:
        return None
    return (
        f"{', '.join(names)}: kafkapy does not act on that yet, and would let in whom it keeps out; "
        "it starts without such settings"
    )


def _protects(name: str, text: str) -> bool:
    if name not in _OTHERS and not _FAMILIES.fullmatch(name):
        return False
    setting = BROKER.get(name) or BROKER.get(re.sub(r"listener\.name\.[^.]+\.", "", name))
    if setting is None:
        return bool(text)
    return bool(text) and setting.parse(text) != setting.default_value
