"""What each listener asks of its clients before it serves them, and what a broker has for those of other brokers.

Made by `node.py` when it starts.

A listener that is open to all, PLAINTEXT, has no door.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kafkapy.config.layers import BrokerConfig
from kafkapy.config.of_listener import ListenerConfig
from kafkapy.errors import CloseConnection
from kafkapy.model import Endpoint

if TYPE_CHECKING:
    from kafkapy.security.sasl.client import Login
    from kafkapy.security.sasl.scram import Credentials
    from kafkapy.security.sasl.settings import SaslSettings
    from kafkapy.security.tls import ClientContexts, TlsContexts


class Door(NamedTuple):
    """One listener's: TLS, SASL, or both."""

    tls: "TlsContexts | None"
    sasl: "SaslSettings | None"
    user_of: Callable[[bytes], str]
    """Whom a certificate in DER form names. Raises CloseConnection where that cannot be read, or no rule applies."""


def doors(config: BrokerConfig, endpoints: Sequence[Endpoint], credentials: "Credentials") -> dict[str, Door]:
    """Those of these listeners, by name. Reads files and hashes passwords. Raises ConfigError, OSError."""
    return {
        endpoint.listener: _door(ListenerConfig(config, endpoint.listener), endpoint.security_protocol, credentials)
        for endpoint in endpoints
        if endpoint.security_protocol != "PLAINTEXT"
    }


class Key(NamedTuple):
    """What opens other brokers' door at the listener between brokers."""

    tls: "ClientContexts | None"
    login: "Login | None"


def key(config: BrokerConfig, between: Endpoint) -> Key:
    """That of a broker with these settings, by its own listener between brokers. Raises ConfigError, OSError."""
    listener, protocol = ListenerConfig(config, between.listener), between.security_protocol
    login = tls = None
    if "SASL" in protocol:
        from kafkapy.security.sasl.settings import login_between_brokers

        login = login_between_brokers(listener)
    if "SSL" in protocol:
        from kafkapy.security.tls import ClientContexts

        tls = ClientContexts(listener)
    return Key(tls, login)


def _door(config: ListenerConfig, protocol: str, credentials: "Credentials") -> Door:
    """A broker without TLS, or without SASL, imports nothing of it."""
    sasl = tls = None
    if "SASL" in protocol:
        from kafkapy.security.sasl.settings import sasl_settings

        sasl = sasl_settings(config, credentials)
    if "SSL" in protocol:
        from kafkapy.security.tls import TlsContexts

        tls = TlsContexts(config, authenticates=sasl is None)
    return Door(tls, sasl, _user_of(config))


def _user_of(config: ListenerConfig) -> Callable[[bytes], str]:
    from kafkapy.security.principal_mapping import principal_mapping

    map_name = principal_mapping(config["ssl.principal.mapping.rules"])

    def user_of(certificate: bytes) -> str:
        from kafkapy.security.certificates import distinguished_name

        try:
            name = distinguished_name(certificate)
        except (ValueError, TypeError) as problem:  # TLS is content with more than `cryptography` reads
            raise CloseConnection(f"its certificate names nobody: {problem}") from problem
        user = map_name(name)
        if user is None:
            raise CloseConnection(f"no rule of ssl.principal.mapping.rules applies to {name}")
        return user

    return user_of
