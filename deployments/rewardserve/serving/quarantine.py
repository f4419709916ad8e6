"""Requests that were on one replica after another when it died, and are not sent again.

Something in such a request may kill whatever scores it. Knows fingerprints and a clock that its
caller owns. Knows nothing of Ray or models.
"""

import hashlib
import json
from collections.abc import Sequence

from rewardserve.routing.evaluate import Item

QUARANTINE_S = 600.0
MOST = 1000
"""Fingerprints kept; the oldest make room."""


class Quarantine:
    """Remembers items for `QUARANTINE_S` seconds."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def add(self, items: Sequence[Item], now: float) -> None:
        """Keep these items out from now on."""
        if len(self._until) >= MOST:
            del self._until[next(iter(self._until))]
        self._until[_fingerprint(items)] = now + QUARANTINE_S

    def holds(self, items: Sequence[Item], now: float) -> bool:
        """Whether exactly these items are kept out."""
        # Nearly always empty, and then no fingerprint is taken.
        return bool(self._until) and self._until.get(_fingerprint(items), now) > now


def _fingerprint(items: Sequence[Item]) -> bytes:
    content = json.dumps(list(items), sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=16).digest()
