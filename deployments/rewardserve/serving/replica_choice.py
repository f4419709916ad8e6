"""Which replica of a model gets the next call: the one with the least work that is still out.

Serve counts calls, and one call holds sixty-four long conversations as well as a single short one.
`python -m benchmarks.replica_choice` compares the two. Knows what its own router sent and what came
back. Knows nothing of other routers' calls, which fall on all replicas alike, and asks nobody.
"""

import random
import time
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

TOKEN_CHARS = 4
"""Characters that a token id counts as."""

ROUTING_S = 1.0
"""A choice that no replica has confirmed by then counts no more: its caller has left."""


class OutstandingWork:
    """Work by replica, of calls that were given to it and have not ended."""

    def __init__(self) -> None:
        self._calls: dict[str, tuple[Hashable, int]] = {}
        self._unconfirmed: dict[str, float] = {}
        """Call -> when it was chosen for, the oldest first."""
        self._work: Counter[Hashable] = Counter()

    def of(self, replica: Hashable) -> int:
        """What is out on this replica."""
        return self._work[replica]

    def choose(self, call: str, replica: Hashable, work: int, now: float) -> None:
        """The call is on its way; one that a replica had no room for is chosen for again."""
        self.end(call)
        self._forget_before(now - ROUTING_S)
        self._add(call, replica, work)
        self._unconfirmed[call] = now

    def confirm(self, call: str, replica: Hashable) -> None:
        """A replica has taken the call, perhaps not the one that was chosen."""
        if self._unconfirmed.pop(call, None) is not None:
            _, work = self._calls[call]
            self.end(call)
            self._add(call, replica, work)

    def end(self, call: str) -> None:
        """The call was answered, or failed."""
        self._unconfirmed.pop(call, None)
        replica, work = self._calls.pop(call, (None, 0))
        if replica is not None:
            self._work[replica] -= work
            self._work += Counter()  # drops the replicas that have nothing

    def _add(self, call: str, replica: Hashable, work: int) -> None:
        self._calls[call] = (replica, work)
        self._work[replica] += work

    def _forget_before(self, moment: float) -> None:
        while self._unconfirmed:
            call, chosen_at = next(iter(self._unconfirmed.items()))
            if chosen_at >= moment:
                return
            self.end(call)


class LeastWorkRouter(RequestRouter):
    """Serve's request router by `OutstandingWork`; a full replica leaves its calls to the next."""

    def initialize_state(self, **_: Any) -> None:
        self._outstanding = OutstandingWork()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """The replicas, one by one, the one with the least work first; ties in any order."""
        shuffled = random.sample(candidate_replicas, len(candidate_replicas))
        order = sorted(shuffled, key=lambda replica: self._outstanding.of(replica.replica_id))
        if pending_request is not None and order:
            # All of them full: Serve is to pause before it asks again.
            pending_request.routing_context.should_backoff = True
            call = pending_request.metadata.internal_request_id
            work = work_of(pending_request.args)
            self._outstanding.choose(call, order[0].replica_id, work, time.monotonic())
        return [[replica] for replica in order]

    def on_request_routed(
        self,
        pending_request: PendingRequest,
        replica_id: ReplicaID,
        result: Any,  # noqa: ARG002
    ) -> None:
        self._outstanding.confirm(pending_request.metadata.internal_request_id, replica_id)

    def on_request_completed(
        self,
        replica_id: ReplicaID,  # noqa: ARG002
        internal_request_id: str,
    ) -> None:
        self._outstanding.end(internal_request_id)


def work_of(arguments: Sequence[Any]) -> int:
    """Characters in a call of `RewardModel.score`; 0 for calls that score nothing."""
    items = arguments[0] if arguments else ()
    return sum(_chars(item) for item in items)


def _chars(item: Any) -> int:
    if isinstance(item, str):
        return len(item)
    if item and isinstance(item[0], int):
        return TOKEN_CHARS * len(item)
    return sum(len(message["content"]) for message in item)
