"""The credentials for SCRAM that the cluster's metadata keeps: of users, and of delegation tokens.

A token's are made of its code when it is first used, and forgotten once the token is gone.
"""

import secrets
from base64 import b64encode
from collections.abc import Callable

from kafkapy.cluster.image import ClusterImage
from kafkapy.cluster.scram_credentials import MECHANISMS, CredentialKey
from kafkapy.model import ScramCredential
from kafkapy.security.sasl.scram import MIN_ITERATIONS, TokenCredential, credential_of
from kafkapy.security.tokens import TokenSecret

_SALT_BYTES = 16


class ClusterCredentials:
    """`security.sasl.scram.Credentials` of the image as it is when they are asked for."""

    def __init__(self, image: Callable[[], ClusterImage], secret: TokenSecret | None) -> None:
        self._image = image
        self._secret = secret
        self._of_tokens: dict[tuple[str, str], ScramCredential] = {}

    def of_user(self, mechanism: str, user: str) -> ScramCredential | None:
        return self._image().kinds.scram_credentials.get(CredentialKey(user, MECHANISMS[mechanism]))

    def of_token(self, mechanism: str, token_id: str) -> TokenCredential | None:
        tokens = self._image().kinds.delegation_tokens
        token = tokens.get(token_id)
        if token is None or self._secret is None:
            return None
        key = (token_id, mechanism)
        credential = self._of_tokens.get(key)
        if credential is None:
            password = b64encode(self._secret.code_of(token_id)).decode("ascii")
            credential = credential_of(mechanism, password, secrets.token_bytes(_SALT_BYTES), MIN_ITERATIONS)
            self._of_tokens = {known: made for known, made in self._of_tokens.items() if known[0] in tokens}
            self._of_tokens[key] = credential
        return TokenCredential(credential, token.owner.name, token.expires_ms)
