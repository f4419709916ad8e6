"""How a client is set up: plain picklable values, and the environment they default to."""

import os
from dataclasses import dataclass
from typing import Final

from rewardserve_client._http import HttpAddress
from rewardserve_client._transport import Address

DEFAULT_URL: Final = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Timeout:
    """How long a call may take, in seconds."""

    total: float = 60.0
    """One scoring call with all its retries. Streams of many are watched for progress instead."""
    connect: float = 5.0
    """One attempt to reach the server; HTTP alone."""


@dataclass(frozen=True)
class ClientSettings:
    """Everything that makes one client different from another."""

    address: Address
    timeout: Timeout = Timeout()
    max_retries: int = 2
    max_concurrency: int = 32

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise ValueError(f"max_retries is {self.max_retries}; it must be 0 or more")
        if self.max_concurrency < 1:
            raise ValueError(f"max_concurrency is {self.max_concurrency}; it must be 1 or more")


def http_address(
    base_url: str | None, api_key: str | None, timeout: Timeout, max_concurrency: int
) -> HttpAddress:
    """The address given, else the one in `REWARDSERVE_URL`, else a cluster on this machine.

    The key given, else the one in `REWARDSERVE_API_KEY`, else none.
    """
    url = base_url or os.environ.get("REWARDSERVE_URL") or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        raise ValueError("base_url must start with http:// or https://")
    key = api_key or os.environ.get("REWARDSERVE_API_KEY")
    return HttpAddress(url.rstrip("/"), key, timeout.connect, max_concurrency)
