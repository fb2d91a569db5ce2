"""Settings by which an operator keeps people out, or apart, and which kafkapy does not act on yet.

With a warning alone the broker would start and let everyone in. So they are refused, as listeners are that cannot be
served: Java classes that decide who is who, also on one listener, and what may veto a change. A value that is Kafka's
default asks for nothing; and what some of Kafka's own classes do is done here, too.
"""

import re
from collections.abc import Mapping
from typing import Final

from kafkapy.config.broker import BROKER

_FAMILIES: Final = re.compile(
    r"(?:listener\.name\.[^.]+\.(?:.+\.)?)?"
    r"(?:ssl\.engine\.factory\.class|ssl\.provider|ssl\.(?:key|trust)manager\.algorithm"
    r"|sasl\.oauthbearer\.jwt\.validator\.class|sasl\.server\.callback\.handler\.class|principal\.builder\.class)"
)

_OAUTH: Final = r"org\.apache\.kafka\.common\.security\.oauthbearer\."
_KNOWN_CLASSES: Final = (
    (
        r"listener\.name\.[^.]+\.oauthbearer\.sasl\.server\.callback\.handler\.class",
        _OAUTH + r"(?:secured\.)?OAuthBearerValidatorCallbackHandler",
    ),
    (
        r"(?:listener\.name\.[^.]+\.(?:oauthbearer\.)?)?sasl\.oauthbearer\.jwt\.validator\.class",
        _OAUTH + r"(?:DefaultJwtValidator|BrokerJwtValidator)",
    ),
)
"""Settings, and Kafka's classes that have their like here: both mean that signatures are checked."""

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
    if any(re.fullmatch(setting, name) and re.fullmatch(classes, text) for setting, classes in _KNOWN_CLASSES):
        return False
    setting = BROKER.get(name) or BROKER.get(re.sub(r"listener\.name\.[^.]+\.", "", name))
    if setting is None:
        return bool(text)
    return bool(text) and setting.parse(text) != setting.default_value
