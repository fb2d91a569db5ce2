"""The users, certificates and listeners that both brokers have."""

import ssl
from pathlib import Path

import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

LISTENERS = {
    "PLAINTEXT": "PLAINTEXT",
    "SASL_PLAINTEXT": "SASL_PLAINTEXT",
    "SSL": "SSL",
    "SASL_SSL": "SASL_SSL",
    "MUTUAL": "SSL",  # clients must show a certificate
    "SHORT": "SASL_PLAINTEXT",  # sessions last two seconds
}
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
USER, PASSWORD = "alice", "alice-secret"
STRANGER = ("bob", "bob-secret")
"""May not use the topic GUARDED."""
GUARDED = "guarded"
SESSION_MS = 2000

_MODULES = "org.apache.kafka.common.security"
_JAAS = {
    "plain": f'{_MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}" user_{STRANGER[0]}="{STRANGER[1]}";',
    "scram-sha-256": f"{_MODULES}.scram.ScramLoginModule required;",
    "scram-sha-512": f"{_MODULES}.scram.ScramLoginModule required;",
    "oauthbearer": f'{_MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";',
}


def write_certificates(work: Path) -> None:
    """A key store and a trust store in PEM form, a client's, and a stranger's."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(work / "ca.pem"))
    for name, issuer, identity in (
        ("broker", ca, "127.0.0.1"),
        ("alice", ca, "alice@example.com"),
        ("mallory", trustme.CA(), "mallory@example.com"),
    ):
        certificate = issuer.issue_cert(identity, common_name=name)
        key = certificate.private_key_pem.bytes()
        if b"EC PRIVATE" in key or b"RSA PRIVATE" in key:  # Java reads PKCS8 alone
            key = _pkcs8(key)
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        (work / f"{name}.pem").write_bytes(key + chain)


def _pkcs8(key: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    return load_pem_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def guarded_settings(ports: dict[str, int], work: Path, controller: int | None) -> dict[str, str]:
    """Settings of a broker with all listeners; `controller` is the port of Apache Kafka's."""
    listeners = [f"{name}://127.0.0.1:{port}" for name, port in ports.items()]
    protocols = [f"{name}:{protocol}" for name, protocol in LISTENERS.items()]
    settings = {
        "listeners": ",".join([*listeners, *([f"CONTROLLER://127.0.0.1:{controller}"] if controller else [])]),
        "advertised.listeners": ",".join(listeners),
        "listener.security.protocol.map": ",".join([*protocols, "CONTROLLER:PLAINTEXT"]),
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(work / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(work / "ca.pem"),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.short.connections.max.reauth.ms": str(SESSION_MS),
        "num.partitions": "1",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    for name, protocol in LISTENERS.items():
        if "SASL" in protocol:
            for mechanism, entry in _JAAS.items():
                settings[f"listener.name.{name.lower()}.{mechanism}.sasl.jaas.config"] = entry
    return settings


def create_scram_users(bootstrap: str) -> None:
    """As an operator does it, over the listener that is open."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    kinds = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
    for kind in kinds:
        wanted = UserScramCredentialUpsertion(USER, ScramCredentialInfo(kind, 8192), PASSWORD.encode())
        for future in admin.alter_user_scram_credentials([wanted]).values():
            future.result(30)


def guard_a_topic(bootstrap: str) -> None:
    """A topic that has an ACL: nobody else may use it."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topic = ResourceType.TOPIC, GUARDED, ResourcePatternType.LITERAL
    only = AclBinding(*topic, f"User:{USER}", "*", AclOperation.ALL, AclPermissionType.ALLOW)
    for future in (*admin.create_topics([NewTopic(GUARDED, 1, 1)]).values(), *admin.create_acls([only]).values()):
        future.result(30)


def client_context(work: Path, shown: str | None = None) -> ssl.SSLContext:
    """What a client trusts, and which certificate it shows."""
    context = ssl.create_default_context(cafile=str(work / "ca.pem"))
    if shown is not None:
        context.load_cert_chain(str(work / f"{shown}.pem"))
    return context
