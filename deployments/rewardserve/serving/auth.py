"""API keys: who may ask. Kept as SHA-256 digests, compared in constant time, never logged.

Knows nothing of routes; the HTTP app hangs `ApiKeys` on every router that is not open.
"""

import hashlib
import hmac
import os
import re
from base64 import b64decode
from typing import Annotated, Self

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.http import HTTPBase

from rewardserve.errors import SettingsError, Unauthorized

_bearer = HTTPBearer(auto_error=False, description="An API key of this cluster.")
_basic = HTTPBase(
    scheme="basic", auto_error=False, description="The same as password, under any user name."
)
Sent = HTTPAuthorizationCredentials | None


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
        self,
        bearer: Annotated[Sent, Depends(_bearer)],
        basic: Annotated[Sent, Depends(_basic)],
    ) -> None:
        """Raises Unauthorized unless the request carries a key.

        As `Authorization: Bearer <key>`, or, for clients that take nothing but a URL, as the
        password of HTTP Basic: `http://any:<key>@host`. The answer to a missing key asks for Bearer
        alone: a browser asked for Basic would send the key along from other sites' pages.
        """
        sent = bearer or basic
        if sent is None or not self.accepts(_key(sent)):
            raise Unauthorized("send one of this cluster's API keys as `Authorization: Bearer ...`")

    def accepts_header(self, authorization: str) -> bool:
        """Whether a whole `Authorization` header carries one of them."""
        scheme, _, credentials = authorization.partition(" ")
        sent = HTTPAuthorizationCredentials(scheme=scheme, credentials=credentials)
        return self.accepts(_key(sent))

    def accepts(self, key: str) -> bool:
        """Whether `key` is one of them; every stored digest is compared, whatever the outcome."""
        digest = hashlib.sha256(key.encode(errors="surrogateescape")).digest()
        return bool(key) and sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def _key(sent: HTTPAuthorizationCredentials) -> str:
    """The key that is sent as Bearer, or as the password of Basic; empty where none can be read."""
    if sent.scheme.lower() == "bearer":
        return sent.credentials
    if sent.scheme.lower() != "basic":
        return ""
    try:
        return b64decode(sent.credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _digest(entry: str) -> bytes:
    if entry.startswith("sha256:"):
        if not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", entry):
            raise SettingsError("an API key starts with sha256: and is not 64 hex digits long")
        return bytes.fromhex(entry.removeprefix("sha256:"))
    return hashlib.sha256(entry.encode()).digest()
