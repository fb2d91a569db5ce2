"""What proves a delegation token: a code over its id, made with the secret of the cluster's brokers.

Pure. Made by `node.py` where `delegation.token.secret.key` is set; without it there are no tokens.
"""

import hmac
from collections.abc import Iterable
from typing import Final

from kafkapy.cluster.delegation_tokens import DelegationToken

_HASH: Final = "sha512"


class TokenSecret:
    """The brokers' secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode("utf-8")

    def code_of(self, token_id: str) -> bytes:
        """What the bearer of a token shows, in base64 its password."""
        return hmac.digest(self._secret, token_id.encode("utf-8"), _HASH)

    def token_of(self, code: bytes, tokens: Iterable[DelegationToken]) -> DelegationToken | None:
        """The token that this is the code of; how long that takes tells nothing about the codes of others."""
        found = None
        for token in tokens:
            if hmac.compare_digest(self.code_of(token.token_id), code):
                found = token
        return found
