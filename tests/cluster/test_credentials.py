"""Credentials for SCRAM and delegation tokens in the cluster's metadata: commands, facts through their bytes, undo."""

import hashlib
import hmac

import pytest

from kafkapy.cluster.delegation_tokens import CreateToken, ExpireToken, RemoveExpiredTokens, RenewToken
from kafkapy.cluster.journal import MetadataJournal
from kafkapy.cluster.scram_credentials import AlterScramCredentials, CredentialKey, Upsertion
from kafkapy.coordination.shard import Moment
from kafkapy.errors import Error, KafkaError
from kafkapy.model import Principal, ScramCredential
from tests.cluster.machines import Driver

SHA_256, SHA_512 = 1, 2
ALICE, BOB, CAROL = (Principal("User", name) for name in ("alice", "bob", "carol"))


class CredentialDriver(Driver):
    """The cluster machine, asked for credentials."""

    def refusal(self, command: object) -> Error:
        with pytest.raises(KafkaError) as refusal:
            self.do(command)
        return refusal.value.error

    def alter(self, *upsertions: Upsertion, deletions: tuple[CredentialKey, ...] = ()) -> dict[str, object]:
        results = self.do(AlterScramCredentials(deletions, upsertions))
        return {user: refusal and (refusal.error, refusal.message) for user, refusal in results.items()}


@pytest.fixture
def driver() -> CredentialDriver:
    return CredentialDriver()


def wanted(user: str, mechanism: int = SHA_256, iterations: int = 4096, salted: bytes = b"salted") -> Upsertion:
    return Upsertion(user, mechanism, iterations, b"salt", salted)


def test_what_is_kept_proves_the_password_and_does_not_tell_it(driver: CredentialDriver) -> None:
    assert driver.alter(wanted("alice"), wanted("bob", SHA_512, 16384)) == {"alice": None, "bob": None}
    client_key = hmac.digest(b"salted", b"Client Key", "sha256")
    assert driver.shown.scram_credentials[CredentialKey("alice", SHA_256)] == ScramCredential(
        b"salt", hashlib.sha256(client_key).digest(), hmac.digest(b"salted", b"Server Key", "sha256"), 4096
    )
    assert len(driver.shown.scram_credentials[CredentialKey("bob", SHA_512)].stored_key) == 64
    assert not [
        entry for entry in driver.log if entry.value and (b"salted" in entry.value or client_key in entry.value)
    ]
    assert "salted" not in repr(AlterScramCredentials([], [wanted("alice")]))


@pytest.mark.parametrize(
    ("upsertion", "error", "message"),
    [
        (wanted(""), Error.UNACCEPTABLE_CREDENTIAL, "Username must not be empty"),
        (wanted("u", 3), Error.UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism"),
        (wanted("u", 0), Error.UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism"),
        (wanted("u", iterations=4095), Error.UNACCEPTABLE_CREDENTIAL, "Too few iterations"),
        (wanted("u", iterations=16385), Error.UNACCEPTABLE_CREDENTIAL, "Too many iterations"),
    ],
)
def test_what_is_no_credential_is_refused_and_others_are_not(
    driver: CredentialDriver, upsertion: Upsertion, error: Error, message: str
) -> None:
    assert driver.alter(upsertion, wanted("other")) == {upsertion.user: (error, message), "other": None}
    assert list(driver.shown.scram_credentials) == [CredentialKey("other", SHA_256)]


def test_a_user_is_named_once(driver: CredentialDriver) -> None:
    driver.alter(wanted("a"), wanted("b"))
    twice = (Error.DUPLICATE_RESOURCE, "A user credential cannot be altered twice in the same request")
    deletion = CredentialKey("a", SHA_256)
    assert driver.alter(wanted("a"), wanted("c"), wanted("c", SHA_512), wanted("c"), deletions=(deletion,)) == {
        "a": twice,
        "c": twice,
    }
    assert {user for user, _ in driver.shown.scram_credentials} == {"a", "b"}


def test_what_is_not_there_cannot_be_deleted(driver: CredentialDriver) -> None:
    driver.alter(wanted("a"))
    missing = (Error.RESOURCE_NOT_FOUND, "Attempt to delete a user credential that does not exist")
    assert driver.alter(deletions=(CredentialKey("a", SHA_512),)) == {"a": missing}
    assert driver.alter(deletions=(CredentialKey("a", SHA_256),)) == {"a": None}
    assert driver.shown.scram_credentials == {}


def create(driver: CredentialDriver, token_id: str = "t", lifetime_ms: int = 700, renewal_ms: int = 100):
    return driver.do(CreateToken(token_id, ALICE, CAROL, (BOB,), lifetime_ms, renewal_ms))


def test_a_token_lasts_until_it_is_to_be_renewed_and_never_beyond_its_life(driver: CredentialDriver) -> None:
    token = create(driver)
    assert (token.issued_ms, token.expires_ms, token.max_ms) == (1000, 1100, 1700)
    assert create(driver, "short", lifetime_ms=50).expires_ms == 1050
    driver.now_ms = 1100
    assert driver.do(RenewToken("t", BOB, 500)) == 1600
    driver.now_ms = 1600
    assert driver.do(RenewToken("t", ALICE, 500)) == 1700
    assert driver.shown.delegation_tokens["t"].expires_ms == 1700
    driver.now_ms = 1701
    assert driver.refusal(RenewToken("t", ALICE, 500)) is Error.DELEGATION_TOKEN_EXPIRED
    assert driver.refusal(ExpireToken("t", ALICE, 500)) is Error.DELEGATION_TOKEN_EXPIRED


def test_only_its_owner_and_the_renewers_move_a_tokens_end(driver: CredentialDriver) -> None:
    create(driver)
    for command in (RenewToken, ExpireToken):
        assert driver.refusal(command("t", CAROL, 1)) is Error.DELEGATION_TOKEN_OWNER_MISMATCH
        assert driver.refusal(command("u", ALICE, 1)) is Error.DELEGATION_TOKEN_NOT_FOUND
    assert driver.do(ExpireToken("t", BOB, 20)) == 1020
    assert driver.do(ExpireToken("t", BOB, 1 << 62)) == 1700
    assert driver.do(ExpireToken("t", ALICE, -1)) == 1000
    assert driver.shown.delegation_tokens == {}


def test_tokens_that_have_expired_are_removed(driver: CredentialDriver) -> None:
    create(driver, "a")
    create(driver, "b", renewal_ms=200)
    driver.now_ms = 1100
    assert driver.do(RemoveExpiredTokens()) == 0
    driver.now_ms = 1101
    assert driver.do(RemoveExpiredTokens()) == 1
    assert list(driver.shown.delegation_tokens) == ["b"]


def test_replayed_restored_and_taken_back_it_is_the_same(driver: CredentialDriver) -> None:
    driver.alter(wanted("a"), wanted("b"))
    create(driver)
    driver.do(RenewToken("t", BOB, 300))
    journal, before = MetadataJournal(), driver.shown
    for facts in ([journal.decode(entry) for entry in driver.log], driver.machine.snapshot()):
        machine = driver.fresh()
        for fact in facts:
            machine.apply(fact)
        assert machine.state.advance().new.kinds == before._replace(acls=machine.state.advance().new.kinds.acls)
    driver.undos.clear()
    driver.alter(wanted("a", salted=b"other"), wanted("c"), deletions=(CredentialKey("b", SHA_256),))
    driver.do(ExpireToken("t", ALICE, -1))
    create(driver, "u")
    assert driver.shown != before
    driver.machine.revert(reversed(driver.undos), KafkaError(Error.NOT_CONTROLLER), Moment(0))
    assert driver.shown == before
