"""What a listener with SASL asks of its clients, made of its settings.

Mechanisms are those that are enabled; what each knows of users comes from its login module's options
(`listener.name.<listener>.<mechanism>.sasl.jaas.config`, or a JAAS file's section KafkaServer) and, for SCRAM, from the
cluster's metadata. Called by `node.py` when it starts, in a thread: passwords are hashed.
"""

import logging
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from kafkapy.config.of_listener import ListenerConfig
from kafkapy.config.setting import ConfigError
from kafkapy.model import ScramCredential
from kafkapy.security.jaas import LoginModule, parse_entry, parse_file
from kafkapy.security.sasl.authenticator import Mechanism
from kafkapy.security.sasl.client import Login
from kafkapy.security.sasl.oauthbearer import OAuthBearerServer, Validate, unsecured
from kafkapy.security.sasl.plain import PlainServer
from kafkapy.security.sasl.scram import (
    MIN_ITERATIONS,
    Credentials,
    ScramServer,
    TokenCredential,
    credential_of,
    random_text,
)

if TYPE_CHECKING:
    from kafkapy.security.sasl.jwks import SignedTokens

_log = logging.getLogger(__name__)

_MODULES: Final = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "OAUTHBEARER": "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule",
}
"""The mechanisms that there are, and the login module of each."""

_OF_BROKERS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
"""Those by which a broker comes to another one."""

_USER: Final = "user_"
_RANDOM_BITS: Final = 130
_SECTION: Final = "KafkaServer"


class SaslSettings(NamedTuple):
    """One listener's."""

    mechanisms: Mapping[str, Mechanism]
    max_receive_size: int
    failed_delay_ms: int
    signed_tokens: "SignedTokens | None"
    """Who checks tokens, and has to be kept fresh."""


def sasl_settings(config: ListenerConfig, credentials: Credentials) -> SaslSettings:
    """What a listener asks. `credentials` are the cluster's. Raises ConfigError, OSError."""
    enabled = config["sasl.enabled.mechanisms"]
    if not enabled:
        raise ConfigError(f"listener {config.listener}: no SASL mechanisms are enabled, see sasl.enabled.mechanisms")
    signed_tokens = _signed_tokens(config) if "OAUTHBEARER" in enabled else None
    validate = None if signed_tokens is None else signed_tokens.validate
    return SaslSettings(
        {mechanism: _mechanism(config, mechanism, credentials, validate) for mechanism in enabled},
        config["sasl.server.max.receive.size"],
        config["connection.failed.authentication.delay.ms"],
        signed_tokens,
    )


def _signed_tokens(config: ListenerConfig) -> "SignedTokens | None":
    """What checks signatures; None where tokens have none. Raises ConfigError, OSError."""
    if config.of_mechanism("OAUTHBEARER", "sasl.server.callback.handler.class") is not None:
        from kafkapy.security.sasl.jwks import SignedTokens

        return SignedTokens(config)
    if config["sasl.oauthbearer.jwks.endpoint.url"] is not None:
        prefix = f"listener.name.{config.listener.lower()}.oauthbearer"
        raise ConfigError(
            f"listener {config.listener}: sasl.oauthbearer.jwks.endpoint.url is of no effect, and tokens without a "
            f"signature would be taken, unless {prefix}.sasl.server.callback.handler.class is "
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
        )
    _log.warning(
        "listener %s takes OAuth tokens without a signature, as Kafka does by default: anybody can make one",
        config.listener,
    )
    return None


def _mechanism(config: ListenerConfig, name: str, credentials: Credentials, validate: Validate | None) -> Mechanism:
    max_reauth_ms = config.of_mechanism(name, "connections.max.reauth.ms")
    if max_reauth_ms is None:
        max_reauth_ms = config["connections.max.reauth.ms"]
    if name not in _MODULES:
        known = ", ".join(_MODULES)
        why = "needs Kerberos, which kafkapy does not speak" if name == "GSSAPI" else "is unknown"
        raise ConfigError(
            f"listener {config.listener}: the SASL mechanism {name} {why}; "
            f"set sasl.enabled.mechanisms to some of {known}"
        )
    modules = _login_module(config, name)
    if name == "OAUTHBEARER":
        return Mechanism(partial(OAuthBearerServer, validate or unsecured(_options(modules))), max_reauth_ms)
    users = {key.removeprefix(_USER): value for key, value in _options(modules).items() if key.startswith(_USER)}
    if name == "PLAIN":
        if not users:
            raise ConfigError(
                f"listener {config.listener}: PLAIN knows no users; name them in "
                f'listener.name.{config.listener.lower()}.plain.sasl.jaas.config by user_NAME="PASSWORD"'
            )
        return Mechanism(partial(PlainServer, users), max_reauth_ms)
    known_here = _WithStatic(credentials, name, users)
    return Mechanism(partial(ScramServer, name, known_here, _nonce, secrets.token_bytes(32)), max_reauth_ms)


def login_between_brokers(config: ListenerConfig) -> Login:
    """As whom this broker comes to others, by sasl.mechanism.inter.broker.protocol. Raises ConfigError, OSError."""
    mechanism = config["sasl.mechanism.inter.broker.protocol"]
    if mechanism not in _OF_BROKERS:
        raise ConfigError(
            f"listener {config.listener}: brokers can say to each other who they are by {', '.join(_OF_BROKERS)}, "
            f"not by {mechanism}: set sasl.mechanism.inter.broker.protocol"
        )
    options = _options(_login_module(config, mechanism))
    user, password = options.get("username"), options.get("password")
    if not user or password is None:
        raise ConfigError(
            f"listener {config.listener}: as whom brokers come to each other by {mechanism} is to be said in "
            f'listener.name.{config.listener.lower()}.{mechanism.lower()}.sasl.jaas.config by username="…" password="…"'
        )
    return Login(mechanism, user, password)


class _WithStatic:
    """The cluster's credentials, and for names that have none there, those that the settings give."""

    def __init__(self, credentials: Credentials, mechanism: str, passwords: Mapping[str, str]) -> None:
        self._credentials = credentials
        self._static = {
            user: credential_of(mechanism, password, random_salt(), MIN_ITERATIONS)
            for user, password in passwords.items()
        }

    def of_user(self, mechanism: str, user: str) -> ScramCredential | None:
        return self._credentials.of_user(mechanism, user) or self._static.get(user)

    def of_token(self, mechanism: str, token_id: str) -> TokenCredential | None:
        return self._credentials.of_token(mechanism, token_id)


def random_salt() -> bytes:
    """As Kafka's tools make them."""
    return _nonce().encode("ascii")


def _nonce() -> str:
    return random_text(secrets.randbits(_RANDOM_BITS))


def _options(modules: Sequence[LoginModule]) -> dict[str, str]:
    return {key: value for module in modules for key, value in module.options.items()}


def _login_module(config: ListenerConfig, mechanism: str) -> list[LoginModule]:
    """The login modules of a mechanism: one, or none where the settings are silent. Raises ConfigError, OSError."""
    text = config.of_mechanism(mechanism, "sasl.jaas.config")
    path = config["kafkapy.jaas.file"]
    if text is not None:
        modules = [parse_entry(text)]
    elif path is not None:
        sections = parse_file(Path(path).read_text(encoding="utf-8"))
        own = sections.get(f"{config.listener.lower()}.{_SECTION}")
        modules = sections.get(_SECTION, []) if own is None else own
    else:
        modules = []
    return [module for module in modules if module.name == _MODULES[mechanism]]
