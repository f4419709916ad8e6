"""When a request is sent again, and after how long.

The server's `Retry-After` is obeyed; without one the wait doubles from half a second to eight,
with jitter. Knows nothing of transports: it decides by the error alone.
"""

import random
from collections.abc import AsyncIterator
from typing import Final

import stamina

from rewardserve_client._errors import RewardClientError

LONGEST_RETRY_AFTER_S: Final = 120.0
"""A server that asks for a longer wait is not waited for."""

_JITTER: Final = 0.25
"""Share of `Retry-After` that is added at random, so that callers do not come back together."""


def wait_before_retry(error: Exception) -> bool | float:
    """Seconds to wait as the server asked, True for the usual backoff, False to give up."""
    if not isinstance(error, RewardClientError) or not error.retryable:
        return False
    if error.retry_after_s is None:
        return True
    if error.retry_after_s > LONGEST_RETRY_AFTER_S:
        return False
    return error.retry_after_s * (1 + random.uniform(0, _JITTER))  # noqa: S311 - not a secret


def attempts(most: int) -> AsyncIterator[stamina.Attempt]:
    """Up to `most` attempts at one request, as `async for attempt in attempts(3)`."""
    return stamina.retry_context(
        on=wait_before_retry,
        attempts=most,
        timeout=None,
        wait_initial=0.5,
        wait_max=8.0,
        wait_jitter=0.5,
    )
