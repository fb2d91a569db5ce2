"""Settings of the authorizer: which there is, if any, and whom it lets do everything.

Kafka hands its settings to an authorizer unseen, and its table knows none but the class: `super.users` and
`allow.everyone.if.no.acl.found` are StandardAuthorizer's own. Without an authorizer they would protect nobody, and so a
broker does not start with them alone.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

STANDARD_AUTHORIZER: Final = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"

_CLASS: Final = "authorizer.class.name"
_SUPER_USERS: Final = "super.users"
_ALLOW_EVERYONE: Final = "allow.everyone.if.no.acl.found"


class AuthorizerSettings(NamedTuple):
    """Principals, as `type:name`, who may do everything, and what holds for a resource that no ACL speaks of."""

    super_users: frozenset[str]
    allow_everyone_if_no_acl_found: bool


def authorizer_settings(given: Mapping[str, str]) -> AuthorizerSettings | None:
    """The authorizer that these settings ask for, if they ask for one."""
    if not given.get(_CLASS, "").strip():
        return None
    return AuthorizerSettings(frozenset(_super_users(given)), _allows_everyone(given))


def authorizer_problem(given: Mapping[str, str]) -> str | None:
    """Why a broker cannot start with these settings of an authorizer."""
    name = given.get(_CLASS, "").strip()
    if name not in ("", STANDARD_AUTHORIZER):
        return f"{_CLASS}: kafkapy has no class {name}; the authorizer that it has is {STANDARD_AUTHORIZER}"
    unreadable = [user for user in _super_users(given) if ":" not in user]
    if unreadable:
        return f"{_SUPER_USERS}: expected a string in format principalType:principalName but got {unreadable[0]}"
    asks = [_SUPER_USERS] * bool(_super_users(given))
    if _ALLOW_EVERYONE in given and not _allows_everyone(given):
        asks.append(_ALLOW_EVERYONE)
    if asks and not name:
        return f"{', '.join(asks)}: protects nobody without {_CLASS}={STANDARD_AUTHORIZER}"
    return None


def _super_users(given: Mapping[str, str]) -> list[str]:
    return [user for entry in given.get(_SUPER_USERS, "").split(";") if (user := entry.strip())]


def _allows_everyone(given: Mapping[str, str]) -> bool:
    return given.get(_ALLOW_EVERYONE, "").strip().lower() == "true"
