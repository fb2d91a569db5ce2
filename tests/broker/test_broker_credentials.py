"""Credentials and tokens that the cluster keeps: who has one logs in, until it goes; and who is told of which."""

import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.messages.alter_user_scram_credentials import AlterUserScramCredentialsRequest
from kafkapy.protocol.messages.create_acls import CreateAclsRequest
from kafkapy.protocol.messages.create_delegation_token import CreateDelegationTokenRequest
from kafkapy.protocol.messages.describe_acls import DescribeAclsRequest
from kafkapy.protocol.messages.describe_delegation_token import DescribeDelegationTokenRequest
from kafkapy.protocol.messages.describe_user_scram_credentials import DescribeUserScramCredentialsRequest
from kafkapy.protocol.messages.expire_delegation_token import ExpireDelegationTokenRequest
from kafkapy.protocol.messages.renew_delegation_token import RenewDelegationTokenRequest
from kafkapy.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from kafkapy.protocol.messages.sasl_handshake import SaslHandshakeRequest
from tests.broker.wire import Wire
from tests.security.scram_client import ScramClient

PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SETTINGS = {
    "listeners": "SASL_PLAINTEXT://127.0.0.1:0",
    "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
    "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
        f'{PLAIN} required user_admin="a" user_alice="b" user_bob="c";'
    ),
    "connection.failed.authentication.delay.ms": "0",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:admin",
    "delegation.token.secret.key": "of the brokers",
    "delegation.token.expiry.time.ms": "1000",
    "delegation.token.max.lifetime.ms": "5000",
    "delegation.token.expiry.check.interval.ms": "60000",
}
PASSWORDS = {"admin": "a", "alice": "b", "bob": "c"}
SHA_256 = 1


class Cluster:
    """A broker, and connections of users."""

    def __init__(self, port: int, clock: ManualClock) -> None:
        self.port = port
        self.clock = clock

    @asynccontextmanager
    async def user(self, name: str) -> AsyncIterator[Wire]:
        async with await Wire.connect(self.port) as wire:
            await wire.ask(SaslHandshakeRequest(mechanism="PLAIN"), 1)
            answer = await wire.ask(SaslAuthenticateRequest(auth_bytes=f"\0{name}\0{PASSWORDS[name]}".encode()), 2)
            assert answer.error_code == 0
            yield wire

    @asynccontextmanager
    async def scram(self, user: str, password: str, extensions: str = "") -> AsyncIterator[Wire | None]:
        """A connection that has logged in so; None when it was refused."""
        async with await Wire.connect(self.port) as wire:
            await wire.ask(SaslHandshakeRequest(mechanism="SCRAM-SHA-256"), 1)
            client = ScramClient("sha256", user, password, extensions=extensions)
            offer = await wire.ask(SaslAuthenticateRequest(auth_bytes=client.first()), 2)
            answer = await wire.ask(SaslAuthenticateRequest(auth_bytes=client.final(offer.auth_bytes)), 2)
            yield wire if answer.error_code == 0 else None


@pytest.fixture
async def cluster(start_broker: Any) -> AsyncIterator[Cluster]:
    clock = ManualClock()
    async with start_broker(memory=True, settings=SETTINGS, clock=clock) as broker:
        with trio.fail_after(120):
            yield Cluster(broker.port, clock)


def credential(user: str, password: str) -> AlterUserScramCredentialsRequest.ScramCredentialUpsertion:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 4096)
    return AlterUserScramCredentialsRequest.ScramCredentialUpsertion(
        name=user, mechanism=SHA_256, iterations=4096, salt=b"salt", salted_password=salted
    )


async def alter(wire: Wire, **fields: Any) -> list[tuple[str, int]]:
    answer = await wire.ask(AlterUserScramCredentialsRequest(**fields), 0)
    return [(result.user, result.error_code) for result in answer.results]


async def test_who_has_a_credential_logs_in_until_it_goes(cluster: Cluster) -> None:
    deletion = AlterUserScramCredentialsRequest.ScramCredentialDeletion(name="carol", mechanism=SHA_256)
    async with cluster.user("admin") as admin:
        async with cluster.scram("carol", "secret") as stranger:
            assert stranger is None
        assert await alter(admin, upsertions=[credential("carol", "secret")]) == [("carol", 0)]
        async with cluster.scram("carol", "secret") as carol:
            assert carol is not None
        async with cluster.scram("carol", "wrong") as stranger:
            assert stranger is None
        assert await alter(admin, upsertions=[credential("carol", "changed")]) == [("carol", 0)]
        async with cluster.scram("carol", "secret") as stranger:
            assert stranger is None
        assert await alter(admin, deletions=[deletion]) == [("carol", 0)]
        async with cluster.scram("carol", "changed") as stranger:
            assert stranger is None


async def test_credentials_are_described_and_not_told(cluster: Cluster) -> None:
    async with cluster.user("admin") as admin, cluster.user("alice") as alice:
        await alter(admin, upsertions=[credential("carol", "secret"), credential("dave", "secret")])
        answer = await admin.ask(DescribeUserScramCredentialsRequest(users=None), 0)
        told = [(r.user, [(info.mechanism, info.iterations) for info in r.credential_infos]) for r in answer.results]
        assert told == [("carol", [(SHA_256, 4096)]), ("dave", [(SHA_256, 4096)])]
        names = [DescribeUserScramCredentialsRequest.UserName(name=name) for name in ("carol", "carol", "nobody")]
        twice, missing = (await admin.ask(DescribeUserScramCredentialsRequest(users=names), 0)).results
        assert (twice.error_code, missing.error_code) == (Error.DUPLICATE_RESOURCE, Error.RESOURCE_NOT_FOUND)
        refused = await alice.ask(DescribeUserScramCredentialsRequest(users=None), 0)
        assert (refused.error_code, refused.results) == (Error.CLUSTER_AUTHORIZATION_FAILED, [])
        denied = Error.CLUSTER_AUTHORIZATION_FAILED
        upsertions = [credential("x", "y"), credential("x", "z"), credential("a", "y")]
        assert await alter(alice, upsertions=upsertions) == [("a", denied), ("x", denied)]


def creation(**fields: Any) -> CreateDelegationTokenRequest:
    return CreateDelegationTokenRequest(**{"owner_principal_name": None, "max_lifetime_ms": -1, **fields})


async def described(wire: Wire, owners: list[str] | None = None) -> list[str]:
    """The ids of the tokens that the user sees."""
    asked = None
    if owners is not None:
        Owner = DescribeDelegationTokenRequest.DescribeDelegationTokenOwner
        asked = [Owner(principal_type="User", principal_name=name) for name in owners]
    answer = await wire.ask(DescribeDelegationTokenRequest(owners=asked), 3)
    assert answer.error_code == 0
    return [token.token_id for token in answer.tokens]


async def test_a_token_lets_its_bearer_in_as_its_owner_until_it_ends(cluster: Cluster) -> None:
    async with cluster.user("admin") as admin:
        token = await admin.ask(creation(), 3)
        assert (token.error_code, token.principal_name, token.token_requester_principal_name) == (0, "admin", "admin")
        assert token.expiry_timestamp_ms - token.issue_timestamp_ms == 1000
        assert token.max_timestamp_ms - token.issue_timestamp_ms == 5000
        assert len(token.hmac) == 64
        password = b64encode(token.hmac).decode()
        everything = DescribeAclsRequest(resource_type_filter=1, pattern_type_filter=1, operation=1, permission_type=1)
        async with cluster.scram(token.token_id, password, ",tokenauth=true") as bearer:
            assert bearer is not None
            assert (await bearer.ask(everything, 3)).error_code == 0  # as only admin may
            again = await bearer.ask(creation(), 3)
            assert again.error_code == Error.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
            assert (again.issue_timestamp_ms, again.token_id, again.hmac) == (-1, "", b"")
        async with cluster.scram(token.token_id, password) as stranger:
            assert stranger is None
        cluster.clock.advance_ms(900)
        renewed = await admin.ask(RenewDelegationTokenRequest(hmac=token.hmac, renew_period_ms=-1), 2)
        assert renewed.expiry_timestamp_ms == token.issue_timestamp_ms + 1900
        cluster.clock.advance_ms(1001)
        async with cluster.scram(token.token_id, password, ",tokenauth=true") as late:
            # As in Kafka the exchange succeeds, and the session that it begins is over.
            assert late is not None
            cluster.clock.advance_ms(1)
            await late.send(everything, 3)
            assert await late.is_closed()
        late = await admin.ask(RenewDelegationTokenRequest(hmac=token.hmac, renew_period_ms=-1), 2)
        assert late.error_code == Error.DELEGATION_TOKEN_EXPIRED
        assert await described(admin) == [token.token_id]
        ended = await admin.ask(ExpireDelegationTokenRequest(hmac=token.hmac, expiry_time_period_ms=-1), 2)
        assert (ended.error_code, ended.expiry_timestamp_ms) == (0, cluster.clock.now_ms())
        assert await described(admin) == []
        gone = await admin.ask(ExpireDelegationTokenRequest(hmac=token.hmac, expiry_time_period_ms=-1), 2)
        assert gone.error_code == Error.DELEGATION_TOKEN_NOT_FOUND


async def test_a_renewer_whom_no_record_can_hold_ends_no_broker(cluster: Cluster) -> None:
    async with cluster.user("bob") as bob:
        for length, error in ((32767, Error.UNKNOWN_SERVER_ERROR), (32767 - len("User:"), Error.NONE)):
            renewer = CreateDelegationTokenRequest.CreatableRenewers(principal_type="User", principal_name="x" * length)
            answer = await bob.ask(creation(renewers=[renewer]), 3)
            assert answer.error_code == error


async def test_tokens_that_have_expired_are_looked_for(cluster: Cluster) -> None:
    async with cluster.user("admin") as admin:
        await admin.ask(creation(), 3)
        cluster.clock.advance_ms(59_999)
        assert len(await described(admin)) == 1
        cluster.clock.advance_ms(1)
        while await described(admin):
            await trio.lowlevel.checkpoint()


async def test_tokens_are_seen_by_whom_they_concern_and_by_whom_an_acl_lets(cluster: Cluster) -> None:
    Renewer = CreateDelegationTokenRequest.CreatableRenewers

    def allowing(kind: int, name: str, operation: int) -> CreateAclsRequest:
        acl = CreateAclsRequest.AclCreation(
            resource_type=kind,
            resource_name=name,
            principal="User:alice",
            host="*",
            operation=operation,
            permission_type=3,
        )
        return CreateAclsRequest(creations=[acl])

    async with cluster.user("admin") as admin, cluster.user("alice") as alice, cluster.user("bob") as bob:
        renewers = [Renewer(principal_type="User", principal_name="bob")]
        own = await alice.ask(creation(), 3)
        token = await admin.ask(creation(renewers=renewers), 3)
        assert await described(alice) == [own.token_id]
        assert await described(bob) == [token.token_id]
        assert await described(bob, ["alice"]) == []
        assert await described(admin, ["bob"]) == [token.token_id]
        assert await described(admin, []) == []
        mismatch = await alice.ask(RenewDelegationTokenRequest(hmac=token.hmac, renew_period_ms=-1), 2)
        assert mismatch.error_code == Error.DELEGATION_TOKEN_OWNER_MISMATCH
        assert (await bob.ask(RenewDelegationTokenRequest(hmac=token.hmac, renew_period_ms=-1), 2)).error_code == 0

        for_bob = creation(owner_principal_type="User", owner_principal_name="bob")
        denied = await alice.ask(for_bob, 3)
        assert (denied.error_code, denied.principal_name, denied.token_requester_principal_name) == (
            Error.DELEGATION_TOKEN_AUTHORIZATION_FAILED,
            "bob",
            "alice",
        )
        await admin.ask(allowing(ResourceType.USER, "User:bob", Operation.CREATE_TOKENS), 3)
        bobs = await alice.ask(for_bob, 3)
        assert bobs.error_code == 0
        await admin.ask(allowing(ResourceType.DELEGATION_TOKEN, token.token_id, Operation.DESCRIBE), 3)
        assert set(await described(alice)) == {own.token_id, bobs.token_id, token.token_id}
        groups = [Renewer(principal_type="Group", principal_name="bob")]
        assert (await alice.ask(creation(renewers=groups), 3)).error_code == Error.INVALID_PRINCIPAL_TYPE


async def test_there_are_no_tokens_without_a_secret_nor_for_strangers(start_broker: Any) -> None:
    settings = {**SETTINGS, "delegation.token.secret.key": ""}
    async with (
        start_broker(memory=True, settings=settings) as broker,
        Cluster(broker.port, ManualClock()).user("admin") as admin,
    ):
        refused = await admin.ask(creation(), 3)
        assert (refused.error_code, refused.issue_timestamp_ms) == (Error.DELEGATION_TOKEN_AUTH_DISABLED, 0)
        for request in (RenewDelegationTokenRequest(hmac=b"x"), ExpireDelegationTokenRequest(hmac=b"x")):
            assert (await admin.ask(request, 2)).error_code == Error.DELEGATION_TOKEN_AUTH_DISABLED
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as nobody:
        for request in (
            creation(owner_principal_name=""),
            RenewDelegationTokenRequest(hmac=b"x"),
            ExpireDelegationTokenRequest(hmac=b"x"),
            DescribeDelegationTokenRequest(owners=None),
        ):
            assert (await nobody.ask(request, 2)).error_code == Error.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
