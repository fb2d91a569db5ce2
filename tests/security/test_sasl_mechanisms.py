"""PLAIN and SCRAM: who gets in, who does not, and in which words."""

from base64 import b64encode
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kafkapy.model import ScramCredential
from kafkapy.security.sasl.client import Login
from kafkapy.security.sasl.plain import PlainServer
from kafkapy.security.sasl.scram import HASHES, ScramServer, TokenCredential, credential_of
from kafkapy.security.sasl.server import SaslFailed, SaslRefused, SaslServer
from tests.security.scram_client import ScramClient

PASSWORDS = {"alice": "alice-secret", "b,o=b": "pässword"}
CREDENTIALS = {
    (mechanism, user): credential_of(mechanism, password, b"salt", 4096)
    for mechanism in HASHES
    for user, password in PASSWORDS.items()
}
MECHANISMS = pytest.mark.parametrize("mechanism", HASHES)


class Known:
    """Users, and one token of alice's."""

    def of_user(self, mechanism: str, user: str) -> ScramCredential | None:
        return CREDENTIALS.get((mechanism, user))

    def of_token(self, mechanism: str, token_id: str) -> TokenCredential | None:
        if token_id != "token-1":
            return None
        return TokenCredential(credential_of(mechanism, "hmac", b"salt", 4096), "alice", 1_000)


def scram(mechanism: str) -> ScramServer:
    numbers = count()
    return ScramServer(mechanism, Known(), lambda: f"server{next(numbers)}", b"hidden")


def login(server: SaslServer, client: ScramClient) -> bytes:
    return server.evaluate(client.final(server.evaluate(client.first(), 0)), 0)


# -- PLAIN


@pytest.mark.parametrize("authorization_id", ["", "alice"])
def test_plain_lets_in_who_knows_the_password(authorization_id: str) -> None:
    server = PlainServer(PASSWORDS)
    assert server.evaluate(f"{authorization_id}\0alice\0alice-secret".encode(), 0) == b""
    assert server.user == "alice"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("\0alice\0wrong", "Authentication failed: Invalid username or password"),
        ("\0nobody\0alice-secret", "Authentication failed: Invalid username or password"),
        ("\0alice\0", "Authentication failed: password not specified"),
        ("\0\0alice-secret", "Authentication failed: username not specified"),
        ("b\0alice\0alice-secret", "Authentication failed: Client requested an authorization id that is different"),
        ("alice\0alice-secret", "Invalid SASL/PLAIN response: expected 3 tokens, got 2"),
        ("\0alice\0alice-secret\0", "Invalid SASL/PLAIN response: expected 3 tokens, got 4"),
        ("", "Invalid SASL/PLAIN response: expected 3 tokens, got 1"),
    ],
)
def test_plain_refuses_in_kafkas_words(message: str, words: str) -> None:
    server = PlainServer(PASSWORDS)
    with pytest.raises(SaslRefused, match=f"^{words}"):
        server.evaluate(message.encode(), 0)
    assert server.user is None


# -- SCRAM


@MECHANISMS
@pytest.mark.parametrize("user", PASSWORDS)
def test_scram_lets_in_who_proves_the_password_and_proves_itself(mechanism: str, user: str) -> None:
    server, client = scram(mechanism), ScramClient(HASHES[mechanism], user, PASSWORDS[user])
    assert login(server, client) == client.server_signature
    assert server.user == user
    assert not server.by_token


@MECHANISMS
@pytest.mark.parametrize(("user", "password"), [("alice", "wrong"), ("nobody", "alice-secret"), ("nobody", "")])
def test_scram_refuses_a_wrong_password_and_an_unknown_user_at_the_same_point(
    mechanism: str, user: str, password: str
) -> None:
    server = scram(mechanism)
    with pytest.raises(SaslFailed, match=r"^Invalid client credentials$"):
        login(server, ScramClient(HASHES[mechanism], user, password))
    assert server.user is None


@MECHANISMS
def test_who_is_unknown_is_offered_the_same_salt_each_time_and_like_one_of_kafkas(mechanism: str) -> None:
    first = ScramClient(HASHES[mechanism], "nobody", "").first()
    offers = [
        dict(part.split("=", 1) for part in scram(mechanism).evaluate(first, 0).decode().split(",")) for _ in range(2)
    ]
    assert offers[0]["s"] == offers[1]["s"]
    assert len(offers[0]["s"]) in (32, 36)  # base64 of 25 or 26 characters
    assert offers[0]["i"] == "4096"


@MECHANISMS
def test_an_exchange_that_failed_cannot_be_taken_up_again(mechanism: str) -> None:
    """The way past SCRAM in other brokers: fail, and go on as if nothing had been."""
    server, client = scram(mechanism), ScramClient(HASHES[mechanism], "alice", "alice-secret")
    final = client.final(server.evaluate(client.first(), 0))
    with pytest.raises(SaslFailed):
        server.evaluate(final[:-4] + b"AAA=", 0)
    with pytest.raises(SaslFailed):
        server.evaluate(final, 0)
    assert server.user is None


@MECHANISMS
def test_a_proof_cannot_be_used_twice(mechanism: str) -> None:
    client = ScramClient(HASHES[mechanism], "alice", "alice-secret")
    final = client.final(scram(mechanism).evaluate(client.first(), 0))
    other = ScramServer(mechanism, Known(), lambda: "another", b"hidden")
    other.evaluate(client.first(), 0)
    with pytest.raises(SaslFailed, match="nonce"):
        other.evaluate(final, 0)


@MECHANISMS
@pytest.mark.parametrize("proof", [b"", b"A" * 44, b"A" * 88])
def test_a_proof_of_whatever_length_is_no_way_in(mechanism: str, proof: bytes) -> None:
    server, client = scram(mechanism), ScramClient(HASHES[mechanism], "alice", "wrong")
    final = client.final(server.evaluate(client.first(), 0))
    with pytest.raises(SaslFailed):
        server.evaluate(final.partition(b",p=")[0] + b",p=" + proof, 0)
    assert server.user is None


@MECHANISMS
def test_another_channel_binding_than_announced_is_refused(mechanism: str) -> None:
    server, client = scram(mechanism), ScramClient(HASHES[mechanism], "alice", "alice-secret")
    offer = server.evaluate(client.first(), 0)
    client.gs2 = "y,,"
    with pytest.raises(SaslFailed, match="channel binding"):
        server.evaluate(client.final(offer), 0)


@pytest.mark.parametrize(
    "message", ["", "n,,n=,r=x", "y,,n=alice,r=x", "n,,m=ext,n=alice,r=x", "n,,n=a=b,r=x", "n,,n=a"]
)
def test_what_is_no_first_message_is_refused(message: str) -> None:
    with pytest.raises(SaslFailed, match="first message"):
        scram("SCRAM-SHA-256").evaluate(message.encode(), 0)


def test_somebody_elses_authorization_id_is_refused() -> None:
    client = ScramClient("sha256", "alice", "alice-secret", gs2="n,a=admin,")
    with pytest.raises(SaslRefused, match="authorization id"):
        scram("SCRAM-SHA-256").evaluate(client.first(), 0)


def test_a_delegation_token_stands_for_its_owner_until_it_expires() -> None:
    server = scram("SCRAM-SHA-512")
    login(server, ScramClient("sha512", "token-1", "hmac", extensions=",tokenauth=true"))
    assert (server.user, server.expires_at_ms, server.by_token) == ("alice", 1_000, True)


def test_a_token_is_no_user_and_a_user_no_token() -> None:
    for client in (
        ScramClient("sha256", "token-1", "hmac"),
        ScramClient("sha256", "alice", "alice-secret", extensions=",tokenauth=true"),
    ):
        with pytest.raises(SaslFailed):
            login(scram("SCRAM-SHA-256"), client)


def test_a_credential_of_too_few_iterations_is_not_used() -> None:
    class Weak(Known):
        def of_user(self, mechanism: str, user: str) -> ScramCredential:
            return credential_of(mechanism, "x", b"salt", 4095)

    with pytest.raises(SaslFailed, match="Iterations 4095 is less than the minimum 4096"):
        ScramServer("SCRAM-SHA-256", Weak(), lambda: "n", b"").evaluate(b"n,,n=alice,r=x", 0)


# -- whatever comes


MESSAGES = st.binary(max_size=200) | st.text("n,=ar\0\1cpm%abcAB23/+", max_size=60).map(str.encode)


@given(st.lists(MESSAGES, min_size=1, max_size=4))
@example([b"n,,n=alice,r=x", b"c=" + b64encode(b"n,,") + b",r=xserver0,p="])
def test_nothing_but_a_proof_gets_in(messages: list[bytes]) -> None:
    for server in (PlainServer(PASSWORDS), scram("SCRAM-SHA-256"), scram("SCRAM-SHA-512")):
        for message in messages:
            try:
                server.evaluate(message, 0)
            except (SaslFailed, SaslRefused):
                break
        assert server.user is None


@given(st.data())
def test_a_message_bent_anywhere_gets_nobody_in(data: st.DataObject) -> None:
    server, client = scram("SCRAM-SHA-256"), ScramClient("sha256", "alice", "alice-secret")
    final = bytearray(client.final(server.evaluate(client.first(), 0)))
    position = data.draw(st.integers(0, len(final) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != final[position]))
    final[position] = byte
    with pytest.raises(SaslFailed):
        server.evaluate(bytes(final), 0)
    assert server.user is None


LOGIN = Login("SCRAM-SHA-256", "a=b,c", "secret")


def exchanged(login: Login, server: Any) -> None:
    """Have both sides talk to the end."""
    messages = login.messages(lambda: "nonce")
    answer = server.evaluate(next(messages), 0)
    with pytest.raises(StopIteration):
        while True:
            answer = server.evaluate(messages.send(answer), 0)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_broker_logs_in_at_another(mechanism: str) -> None:
    credential = credential_of(mechanism, "secret", b"salt", 4096)
    credentials = SimpleNamespace(of_user=lambda _, user: credential if user == "a=b,c" else None)
    server = ScramServer(mechanism, credentials, lambda: "more", b"hiding")  # type: ignore[arg-type]
    exchanged(LOGIN._replace(mechanism=mechanism), server)
    assert server.user == "a=b,c"


@pytest.mark.parametrize(
    ("first", "final"),
    [
        (b"r=noncemore,s=c2FsdA==,i=4096", b"v=" + b64encode(bytes(32))),  # it does not know the password
        (b"r=noncemore,s=c2FsdA==,i=4096", b"e=other-error"),
        (b"r=noncemore,s=c2FsdA==,i=4095", None),
        (b"r=noncemore,s=c2FsdA==,i=999999999", None),
        (b"r=nonce,s=c2FsdA==,i=4096", None),  # nothing of its own
        (b"r=others,s=c2FsdA==,i=4096", None),
        (b"r=noncemore,s=c,i=4096", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_a_broker_does_not_log_in_at_one_that_makes_no_sense(first: bytes, final: bytes | None) -> None:
    messages = LOGIN.messages(lambda: "nonce")
    assert next(messages) == b"n,,n=a=3Db=2Cc,r=nonce"
    with pytest.raises(SaslRefused):
        messages.send(first)
        if final is not None:
            messages.send(final)
