"""The client's side of SCRAM, straight from RFC 5802: nothing of kafkapy's is used."""

import hashlib
import hmac
from base64 import b64decode, b64encode


class ScramClient:
    """One exchange; `proof` is what the last message ends with, for tests that bend it."""

    def __init__(self, hash_name: str, user: str, password: str, *, extensions: str = "", gs2: str = "n,,") -> None:
        self.hash_name = hash_name
        self.password = password
        self.gs2 = gs2
        self.bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r=clientnonce{extensions}"
        self.server_signature = b""

    def first(self) -> bytes:
        return (self.gs2 + self.bare).encode()

    def final(self, server_first: bytes) -> bytes:
        fields = dict(part.split("=", 1) for part in server_first.decode().split(","))
        assert fields["r"].startswith("clientnonce") and len(fields["r"]) > len("clientnonce")
        salted = hashlib.pbkdf2_hmac(self.hash_name, self.password.encode(), b64decode(fields["s"]), int(fields["i"]))
        key = hmac.digest(salted, b"Client Key", self.hash_name)
        without_proof = f"c={b64encode(self.gs2.encode()).decode()},r={fields['r']}"
        signed = f"{self.bare},{server_first.decode()},{without_proof}".encode()
        stored = hashlib.new(self.hash_name, key).digest()
        signature = hmac.digest(stored, signed, self.hash_name)
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", self.hash_name)
        self.server_signature = b"v=" + b64encode(hmac.digest(server_key, signed, self.hash_name))
        return f"{without_proof},p={b64encode(proof).decode()}".encode()
