"""Which replica of a model gets the next call: the one with the least work that is still out, or,
if that is hardly more, the one that has the prompt's keys and values.

Serve counts calls, and one call holds sixty-four long conversations as well as a single short one.
A prompt's responses often come one by one, and each replica keeps what it computed last. `python -m
benchmarks.replica_choice` compares. Knows what its own router sent and what came back. Knows
nothing of other routers' calls, which fall on all replicas alike, and asks nobody.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from hashlib import blake2b
from typing import Any, Final, TypeVar

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

TOKEN_CHARS: Final = 4
"""Characters that a token id counts as."""

NEAR_CHARS: Final = 8192
"""How much more may be out on a prompt's home: half a pack. With more of it fewer tokens are
computed, and calls with nothing to share wait longer."""

PROMPT_CHARS: Final = 256
"""Of a text without messages, as much counts as its prompt."""

ROUTING_S: Final = 1.0
"""A choice that no replica has confirmed by then counts no more: its caller has left."""


Replica = TypeVar("Replica", bound=Hashable)


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
    """Serve's request router by `ranked`; a full replica leaves its calls to the next."""

    def initialize_state(self, **_: Any) -> None:
        self._outstanding = OutstandingWork()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """The replicas, one by one, the one to be asked first first; ties in any order."""
        replicas = {replica.replica_id: replica for replica in candidate_replicas}
        arguments = () if pending_request is None else pending_request.args
        shuffled = random.sample(list(replicas), len(replicas))
        ids = ranked(shuffled, self._outstanding.of, prompt_of(arguments))
        if pending_request is not None and ids:
            # All of them full: Serve is to pause before it asks again.
            pending_request.routing_context.should_backoff = True
            call = pending_request.metadata.internal_request_id
            self._outstanding.choose(call, ids[0], work_of(arguments), time.monotonic())
        return [[replicas[replica_id]] for replica_id in ids]

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


def ranked(
    replicas: Sequence[Replica], work: Callable[[Replica], int], prompt: str
) -> list[Replica]:
    """The one with the least work first, before it the prompt's home if that has hardly more.

    Every router finds the same home without asking, and when replicas come or go few prompts move
    (rendezvous hashing, Thaler and Ravishankar 1998). An empty prompt has none.
    """
    order = sorted(replicas, key=work)
    if not prompt or not order:
        return order
    home = max(order, key=lambda replica: _rendezvous(prompt, replica))
    if work(home) <= work(order[0]) + NEAR_CHARS:
        order.remove(home)
        order.insert(0, home)
    return order


def _rendezvous(prompt: str, replica: Hashable) -> bytes:
    return blake2b(f"{replica} {prompt}".encode(errors="replace"), digest_size=8).digest()


def prompt_of(arguments: Sequence[Any]) -> str:
    """What the first conversation of a call of `RewardModel.score` begins with, in 16 characters.

    Of messages all up to the first user's, which later turns and other responses leave as they are.
    Empty for calls that score nothing.
    """
    items = arguments[0] if arguments else ()
    if not items or not items[0]:
        return ""
    return blake2b(_beginning(items[0]).encode(errors="replace"), digest_size=8).hexdigest()


def _beginning(item: Any) -> str:
    if isinstance(item, str):
        return item[:PROMPT_CHARS]
    if isinstance(item[0], int):
        return repr(item[: PROMPT_CHARS // TOKEN_CHARS])
    first_user = next((place for place, message in enumerate(item) if message["role"] == "user"), 0)
    return "\n".join(message["content"] for message in item[: first_user + 1])


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
