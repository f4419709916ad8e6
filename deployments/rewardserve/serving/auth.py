"""API keys: who may ask. Kept as SHA-256 digests, compared in constant time, never logged.

Knows nothing of routes; the HTTP app hangs `ApiKeys` on every router that is not open.
"""

import hashlib
import hmac
import os
import re
from typing import Annotated, Self

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from rewardserve.errors import SettingsError, Unauthorized

_bearer = HTTPBearer(auto_error=False, description="An API key of this cluster.")


class ApiKeys:
    """The accepted keys; as a FastAPI dependency it lets nobody else pass."""

    def __init__(self, digests: frozenset[bytes]) -> None:
        self._digests = digests

    @classmethod
    def from_environment(cls, variable: str) -> Self:
        """The keys in an environment variable: `key` or `sha256:<hex>`, comma-separated.

        Raises SettingsError when it is not set or empty: a forgotten secret must not open the
        door.
        """
        entries = [entry.strip() for entry in os.environ.get(variable, "").split(",")]
        digests = frozenset(_digest(entry) for entry in entries if entry)
        if not digests:
            raise SettingsError(
                f"auth.api_keys_env names {variable}, which holds no key here: set it to the keys, "
                "comma-separated, or leave `auth` out to serve without keys"
            )
        return cls(digests)

    async def __call__(
        self, sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> None:
        """Raises Unauthorized unless the request carries `Authorization: Bearer <key>`."""
        if sent is None or not self.accepts(sent.credentials):
            raise Unauthorized("send one of this cluster's API keys as `Authorization: Bearer ...`")

    def accepts(self, key: str) -> bool:
        """Whether `key` is one of them; every stored digest is compared, whatever the outcome."""
        digest = hashlib.sha256(key.encode(errors="surrogateescape")).digest()
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def _digest(entry: str) -> bytes:
    if entry.startswith("sha256:"):
        if not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", entry):
            raise SettingsError("an API key starts with sha256: and is not 64 hex digits long")
        return bytes.fromhex(entry.removeprefix("sha256:"))
    return hashlib.sha256(entry.encode()).digest()
