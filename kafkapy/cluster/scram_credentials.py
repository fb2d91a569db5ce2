"""Users' credentials for SCRAM (KIP-554): how they are altered, and what images show of them.

Pure. A kind of metadata facts (`kinds.py`). What is kept proves a password without telling it; the salted password that
a request brings is nowhere kept.
"""

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import new as new_hash
from typing import Any, ClassVar, Final, NamedTuple

from kafkapy.coordination.shard import Moment
from kafkapy.errors import Error, KafkaError
from kafkapy.model import ScramCredential
from kafkapy.protocol.journal.cluster_metadata import RemoveUserScramCredentialRecord, UserScramCredentialRecord

MECHANISMS: Final = {"SCRAM-SHA-256": 1, "SCRAM-SHA-512": 2}
"""The codes of the mechanisms on the wire and in records."""

_HASHES: Final = {1: "sha256", 2: "sha512"}
_MIN_ITERATIONS: Final = 4096
_MAX_ITERATIONS: Final = 16384


class CredentialKey(NamedTuple):
    """Whose credential, for which mechanism (its code)."""

    user: str
    mechanism: int


class Upsertion(NamedTuple):
    """A credential that is to be: made of a password that the client has salted and hashed."""

    user: str
    mechanism: int
    iterations: int
    salt: bytes
    salted_password: bytes

    def __repr__(self) -> str:
        return f"Upsertion({self.user!r}, {self.mechanism}, [hidden])"


@dataclass(slots=True)
class AlterScramCredentials:
    """Answered by a dict: for each user None, or the `KafkaError` that refuses what was asked for it."""

    deletions: Sequence[CredentialKey]
    upsertions: Sequence[Upsertion] = field(repr=False)


class ScramCredentials:
    """The credentials that all facts so far add up to."""

    facts: ClassVar[tuple[type[Any], ...]] = (UserScramCredentialRecord, RemoveUserScramCredentialRecord)
    commands: ClassVar[tuple[type[Any], ...]] = (AlterScramCredentials,)

    def __init__(self) -> None:
        self._credentials: dict[CredentialKey, ScramCredential] = {}
        self._shown: Mapping[CredentialKey, ScramCredential] | None = None

    @property
    def shown(self) -> Mapping[CredentialKey, ScramCredential]:
        if self._shown is None:
            self._shown = dict(self._credentials)
        return self._shown

    def decide(
        self, command: AlterScramCredentials, moment: Moment
    ) -> tuple[list[UserScramCredentialRecord | RemoveUserScramCredentialRecord], dict[str, KafkaError | None]]:
        accepted: dict[str, CredentialKey | Upsertion] = {}
        refused: dict[str, KafkaError] = {}
        alterations: list[CredentialKey | Upsertion] = [*command.deletions, *command.upsertions]
        for asked in alterations:
            if asked.user in refused:
                continue
            try:
                if accepted.pop(asked.user, None) is not None:
                    raise KafkaError(
                        Error.DUPLICATE_RESOURCE, "A user credential cannot be altered twice in the same request"
                    )
                self._check(asked)
            except KafkaError as refusal:
                refused[asked.user] = refusal
            else:
                accepted[asked.user] = asked
        return [_fact(asked) for asked in accepted.values()], {**dict.fromkeys(accepted), **refused}

    def _check(self, asked: CredentialKey | Upsertion) -> None:
        if not asked.user:
            raise KafkaError(Error.UNACCEPTABLE_CREDENTIAL, "Username must not be empty")
        if asked.mechanism not in _HASHES:
            raise KafkaError(Error.UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism")
        if isinstance(asked, Upsertion):
            if asked.iterations < _MIN_ITERATIONS:
                raise KafkaError(Error.UNACCEPTABLE_CREDENTIAL, "Too few iterations")
            if asked.iterations > _MAX_ITERATIONS:
                raise KafkaError(Error.UNACCEPTABLE_CREDENTIAL, "Too many iterations")
            if not asked.salted_password:
                raise KafkaError(Error.UNKNOWN_SERVER_ERROR)  # as Kafka answers to what cannot be a key
        elif asked not in self._credentials:
            raise KafkaError(Error.RESOURCE_NOT_FOUND, "Attempt to delete a user credential that does not exist")

    def apply(self, fact: UserScramCredentialRecord | RemoveUserScramCredentialRecord) -> None:
        self._set(CredentialKey(fact.name, fact.mechanism), _credential_of(fact))

    def undo_of(self, fact: UserScramCredentialRecord | RemoveUserScramCredentialRecord) -> Callable[[], None]:
        key = CredentialKey(fact.name, fact.mechanism)
        return partial(self._set, key, self._credentials.get(key))

    def _set(self, key: CredentialKey, credential: ScramCredential | None) -> None:
        self._shown = None
        if credential is None:
            self._credentials.pop(key, None)
        else:
            self._credentials[key] = credential

    @staticmethod
    def snapshot(shown: Mapping[CredentialKey, ScramCredential]) -> Iterator[UserScramCredentialRecord]:
        for key, credential in shown.items():
            yield _record(key, credential)


def _fact(asked: CredentialKey | Upsertion) -> UserScramCredentialRecord | RemoveUserScramCredentialRecord:
    if isinstance(asked, CredentialKey):
        return RemoveUserScramCredentialRecord(name=asked.user, mechanism=asked.mechanism)
    name = _HASHES[asked.mechanism]
    client_key = hmac.digest(asked.salted_password, b"Client Key", name)
    server_key = hmac.digest(asked.salted_password, b"Server Key", name)
    credential = ScramCredential(asked.salt, new_hash(name, client_key).digest(), server_key, asked.iterations)
    return _record(CredentialKey(asked.user, asked.mechanism), credential)


def _record(key: CredentialKey, credential: ScramCredential) -> UserScramCredentialRecord:
    return UserScramCredentialRecord(
        name=key.user,
        mechanism=key.mechanism,
        salt=credential.salt,
        stored_key=credential.stored_key,
        server_key=credential.server_key,
        iterations=credential.iterations,
    )


def _credential_of(fact: UserScramCredentialRecord | RemoveUserScramCredentialRecord) -> ScramCredential | None:
    if isinstance(fact, RemoveUserScramCredentialRecord):
        return None
    return ScramCredential(fact.salt, fact.stored_key, fact.server_key, fact.iterations)
