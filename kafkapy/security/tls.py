"""TLS as a listener's settings have it: keys, trusted certificates, versions, suites, and whether clients show theirs;
for those who come to it, and where it is the one between brokers, for this broker when it comes to others.

Key stores are PEM, in the settings or in a file, or PKCS12; of JKS it is said how to convert it. Files are looked at
now and then: when they have changed, new connections get what they say, or if that is no use what they said before.
Called by `node.py`.
"""

import logging
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from kafkapy.clock import Clock
from kafkapy.config.of_listener import ListenerConfig
from kafkapy.config.setting import ConfigError

if TYPE_CHECKING:
    from kafkapy.security.certificates import KeyStore

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 10.0
"""How often files are looked at."""

_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH: Final = {"none": ssl.CERT_NONE, "requested": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_SUITES_OF_1_3: Final = {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}
_SUITE: Final = re.compile(r"TLS_(?:(ECDHE|DHE)_)?(RSA|ECDSA)_WITH_(.+)")
_JKS: Final = b"\xfe\xed\xfe\xed"
_FILES: Final = ("ssl.keystore.location", "ssl.truststore.location")


class TlsContexts:
    """What one listener's new connections are encrypted with: `current`."""

    def __init__(self, config: ListenerConfig, *, authenticates: bool) -> None:
        """`authenticates`: by certificates, and not by SASL. Raises ConfigError, OSError."""
        self.listener = config.listener
        self._config = config
        # As in Kafka: with SASL, clients are asked for certificates only where that listener's own settings say so.
        self._client_auth = config["ssl.client.auth"] if authenticates else config.own("ssl.client.auth") or "none"
        self._seen = self._look()
        self.current = self._make()

    def refresh(self) -> bool:
        """Read the files again if they have changed; whether they had. Raises ConfigError, OSError."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        self.current = self._make()
        return True

    def _look(self) -> list[tuple[int, int, int] | None]:
        """What shows that a file has changed."""
        found: list[tuple[int, int, int] | None] = []
        for name in _FILES:
            path = self._config[name]
            if path is None:
                found.append(None)
                continue
            status = os.stat(path)
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return found

    def _make(self) -> ssl.SSLContext:
        config = self._config
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_NO_RENEGOTIATION
        _limit(context, config)
        _load_key(context, config)
        context.verify_mode = _CLIENT_AUTH[self._client_auth]
        if context.verify_mode is not ssl.CERT_NONE:
            _trust(context, config, ssl.Purpose.CLIENT_AUTH)
        return context


class ClientContexts(TlsContexts):
    """What connections to other brokers' listener of this name are encrypted with, by this broker's settings of it."""

    def __init__(self, config: ListenerConfig) -> None:
        """Raises ConfigError, OSError."""
        super().__init__(config, authenticates=True)

    def _make(self) -> ssl.SSLContext:
        config = self._config
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = bool(config["ssl.endpoint.identification.algorithm"])
        _limit(context, config)
        if any(config[name] is not None for name in ("ssl.keystore.location", "ssl.keystore.key")):
            _load_key(context, config)
        _trust(context, config, ssl.Purpose.SERVER_AUTH)
        return context


async def keep_fresh(contexts: Sequence[TlsContexts], clock: Clock) -> None:
    """Look at the files of these for ever."""
    while True:
        await clock.sleep(LOOK_SECONDS)
        for each in contexts:
            try:
                if await trio.to_thread.run_sync(each.refresh):
                    _log.info("listener %s has new certificates", each.listener)
            except (ConfigError, OSError) as problem:
                _log.error("listener %s keeps its certificates: %s", each.listener, problem)


def _limit(context: ssl.SSLContext, config: ListenerConfig) -> None:
    """Have no other versions and suites than those that are allowed. Raises ConfigError."""
    versions = set(config["ssl.enabled.protocols"])
    if unknown := versions - _VERSIONS.keys():
        raise ConfigError(
            f"listener {config.listener}: ssl.enabled.protocols may have {' and '.join(_VERSIONS)}, "
            f"not {', '.join(sorted(unknown))}"
        )
    suites = config["ssl.cipher.suites"]
    if suites:
        of_1_3 = _SUITES_OF_1_3.intersection(suites)
        if of_1_3 and of_1_3 != _SUITES_OF_1_3 and "TLSv1.3" in versions:
            raise ConfigError(
                f"listener {config.listener}: of the suites of TLSv1.3, {', '.join(sorted(_SUITES_OF_1_3))}, "
                "ssl.cipher.suites must have all or none: this Python cannot choose among them"
            )
        others = [_openssl_name(suite, config.listener) for suite in suites if suite not in _SUITES_OF_1_3]
        versions &= {*(["TLSv1.3"] if of_1_3 else []), *(["TLSv1.2"] if others else [])}
        if others:
            _try(config, "ssl.cipher.suites", lambda: context.set_ciphers(":".join(others)))
    if not versions:
        raise ConfigError(f"listener {config.listener}: ssl.enabled.protocols and ssl.cipher.suites leave nothing")
    context.minimum_version = min(_VERSIONS[version] for version in versions)
    context.maximum_version = max(_VERSIONS[version] for version in versions)


def _openssl_name(suite: str, listener: str) -> str:
    """What OpenSSL calls a suite of TLSv1.2. Raises ConfigError for what is none."""
    match = _SUITE.fullmatch(suite)
    if match is None:
        raise ConfigError(f"listener {listener}: {suite} in ssl.cipher.suites is unknown")
    exchange, signature, cipher = match.groups()
    cipher = re.sub(r"^AES_(\d+)_", r"AES\1_", cipher).removesuffix("_SHA256" if "CHACHA20" in cipher else "")
    cipher = cipher.replace("_CBC", "")
    prefix = [exchange, signature] if exchange else []
    return "-".join([*prefix, *cipher.split("_")])


def _load_key(context: ssl.SSLContext, config: ListenerConfig) -> None:
    """Have the listener's key and certificates shown. Raises ConfigError, OSError."""
    password = config["ssl.key.password"]
    chain, key = config["ssl.keystore.certificate.chain"], config["ssl.keystore.key"]
    if chain is not None or key is not None:
        if chain is None or key is None:
            raise ConfigError(
                f"listener {config.listener}: ssl.keystore.key and ssl.keystore.certificate.chain belong together"
            )
        pem = f"{key}\n{chain}\n"
    elif (path := config["ssl.keystore.location"]) is None:
        raise ConfigError(f"listener {config.listener} needs a key and a certificate: see ssl.keystore.location")
    elif config["ssl.keystore.type"].upper() == "PEM":
        pem = Path(path).read_text(encoding="ascii", errors="replace")
    else:
        pem = _binary_store(path, config["ssl.keystore.password"], "ssl.keystore").key_and_chain
        password = None
    with _as_file(pem) as file:
        _try(config, "the key store", lambda: context.load_cert_chain(file, password=password or ""))


def _trust(context: ssl.SSLContext, config: ListenerConfig, purpose: ssl.Purpose) -> None:
    """Have certificates of the others be judged. Raises ConfigError, OSError."""
    # As in Java: whatever certificate is trusted is a root, whoever has signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusted = _trusted(config)
    if trusted is None:
        context.load_default_certs(purpose)
    else:
        _try(config, "the trusted certificates", lambda: context.load_verify_locations(cadata=trusted))


def _trusted(config: ListenerConfig) -> str | None:
    """The certificates that the others' must go back to, in PEM form; None for those of the system."""
    inline: str | None = config["ssl.truststore.certificates"]
    path = config["ssl.truststore.location"]
    if inline is not None or path is None:
        return inline
    if config["ssl.truststore.type"].upper() == "PEM":
        return Path(path).read_text(encoding="ascii", errors="replace")
    return _binary_store(path, config["ssl.truststore.password"], "ssl.truststore").trusted


def _binary_store(path: str, password: str | None, family: str) -> "KeyStore":
    """A store that is not PEM: PKCS12, which Java reads as type JKS, too. Raises ConfigError, OSError."""
    data = Path(path).read_bytes()
    if data.startswith(_JKS):
        raise ConfigError(
            f"{family}.location: {path} is in Java's own format JKS, which kafkapy does not read; convert it: keytool "
            f"-importkeystore -srckeystore {path} -destkeystore {path}.p12 -deststoretype PKCS12, "
            f"and set {family}.type=PKCS12"
        )
    from kafkapy.security.certificates import read_pkcs12  # who has PEM does without

    return read_pkcs12(data, password, f"{family}.location: {path}")


def _try(config: ListenerConfig, what: str, load: Callable[[], None]) -> None:
    try:
        load()
    except (ssl.SSLError, ValueError) as problem:
        raise ConfigError(f"listener {config.listener}: {what} cannot be used: {problem}") from None


@contextmanager
def _as_file(pem: str) -> Iterator[str]:
    """A path under which these bytes can be read within the block: OpenSSL takes keys from files alone.

    On Linux the file is in memory, else in a directory that only this user may look into.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("key")
        try:
            os.write(descriptor, pem.encode("utf-8"))
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "key")
            path.touch(mode=0o600)
            path.write_text(pem, encoding="utf-8")
            yield str(path)
