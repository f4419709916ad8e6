"""Which waiting conversations make up the next pack: priorities, prefixes, bounds and deadlines.

A pure scheduling object: time is an argument, so that a test or a simulation owns the clock. Knows
token counts and prefixes. Knows nothing of asyncio, threads, models or Ray; `batcher` is its shell.

The order is first come, first served, with two exceptions:

- Interactive conversations go before bulk ones, but while bulk work waits, at least every fourth
  pack starts with bulk: that is the share bulk never loses, so it is delayed and never starved.
- A conversation that repeats much of what the pack already holds (another response to the same
  prompt, from whichever caller) is pulled forward, because it is cheaper there.

The oldest conversation of the class whose turn it is is in every pack, so no conversation is passed
over for ever.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from rewardserve.engine.prefixes import prefix_digests
from rewardserve.errors import Busy
from rewardserve_client._types import Priority

if TYPE_CHECKING:
    from rewardserve.families.base import Encoded

BULK_TURN = 4
"""While bulk work waits, one pack in this many starts with it."""

BULK_SHARE = 0.5
"""Part of the queue that bulk work may fill; the rest stays free for interactive callers."""

LOOK_AHEAD = 256
"""Conversations of each class that are considered for one pack."""

PREFIX_BLOCK = 16
"""Tokens; prefixes are compared in whole blocks of this length."""

WORTH_PULLING = 0.25
"""Part of a conversation that a pack must hold for it to be pulled forward.

Packs of 192 short answers, four to a prompt and shuffled, had 26 % more tokens than one pack of all
would with 0.5, and no more with 0.25.
"""

LONGEST_RETRY_S = 60.0


@dataclass(eq=False, slots=True)
class Waiting:
    """One conversation in the queue."""

    encoded: "Encoded"
    priority: Priority
    arrived_at: float
    expires_at: float = math.inf
    alone: bool = False
    """Shares its pack with nobody."""
    gone: bool = False
    """Answered, given up or expired: it takes no part any more."""
    tokens: int = field(init=False)
    prefixes: tuple[bytes, ...] = field(init=False)
    """A digest of everything up to the end of each whole block."""

    def __post_init__(self) -> None:
        self.tokens = len(self.encoded.token_ids)
        self.prefixes = tuple(prefix_digests(self.encoded.token_ids, PREFIX_BLOCK))


class _PackBudget:
    """The pack being put together, counted in the tokens it will have to compute."""

    def __init__(self, tokens: int) -> None:
        self.taken: list[Waiting] = []
        self._left = tokens
        self._held: set[bytes] = set()

    def add(self, waiting: Waiting) -> bool:
        """Take it if it fits; the first one always does."""
        cost = waiting.tokens - self._held_tokens(waiting)
        if self.taken and (cost > self._left or waiting.alone or self.taken[0].alone):
            return False
        self.taken.append(waiting)
        self._left -= cost
        self._held.update(waiting.prefixes)
        return True

    def holds_much_of(self, waiting: Waiting) -> bool:
        return self._held_tokens(waiting) >= WORTH_PULLING * waiting.tokens

    def _held_tokens(self, waiting: Waiting) -> int:
        blocks = 0
        for prefix in waiting.prefixes:
            if prefix not in self._held:
                break
            blocks += 1
        return blocks * PREFIX_BLOCK


class TokenQueue:
    """Conversations that wait for one device, bounded in tokens."""

    def __init__(self, *, pack_tokens: int, queue_tokens: int) -> None:
        self._pack_tokens = pack_tokens
        self._limit = {"interactive": queue_tokens, "bulk": int(queue_tokens * BULK_SHARE)}
        self._waiting: dict[Priority, list[Waiting]] = {"interactive": [], "bulk": []}
        self._packs_without_bulk = 0
        self.tokens = 0
        """Tokens that wait, before prefix sharing."""

    def put(self, call: Sequence[Waiting], *, retry_after_s: float = 1.0) -> None:
        """Let one call's conversations wait, all or none.

        Raises Busy when they do not fit. An empty queue takes any call, however large, so that
        none is refused for ever.
        """
        tokens = sum(waiting.tokens for waiting in call)
        self.check_room(tokens, call[0].priority, retry_after_s=retry_after_s)
        self._waiting[call[0].priority].extend(call)
        self.tokens += tokens

    def check_room(self, tokens: int, priority: Priority, *, retry_after_s: float = 1.0) -> None:
        """Raises Busy when so many more tokens do not fit."""
        limit = self._limit[priority]
        if self.tokens and self.tokens + tokens > limit:
            raise Busy(
                f"{self.tokens} tokens wait and {priority} work may bring that to {limit}: "
                "send the request again later",
                retry_after_s=min(max(retry_after_s, 1.0), LONGEST_RETRY_S),
            )

    def discard(self, call: Iterable[Waiting]) -> int:
        """Forget the conversations of a call that still wait; returns how many did."""
        waited = [waiting for waiting in call if not waiting.gone]
        for waiting in waited:
            self._leave(waiting)
        return len(waited)

    def take(self, now: float) -> list[Waiting]:
        """The next pack, which leaves the queue; empty when nothing waits.

        What it computes after prefix sharing is at most `pack_tokens`, unless its one conversation
        alone is longer. Nothing in it is past its deadline.
        """
        self._expire(now)
        candidates = self._candidates()
        budget = _PackBudget(self._pack_tokens)
        for index, head in enumerate(candidates):
            if head.gone or not budget.add(head):
                continue
            self._leave(head)
            for other in candidates[index + 1 :]:
                if not other.gone and budget.holds_much_of(other) and budget.add(other):
                    self._leave(other)
        self._remember_turn(budget.taken)
        return budget.taken

    def _candidates(self) -> list[Waiting]:
        for priority, waiting in self._waiting.items():
            self._waiting[priority] = [entry for entry in waiting if not entry.gone]
        order: tuple[Priority, Priority] = ("interactive", "bulk")
        if self._packs_without_bulk >= BULK_TURN - 1:
            order = ("bulk", "interactive")
        return [
            entry for priority in order for entry in islice(self._waiting[priority], LOOK_AHEAD)
        ]

    def _remember_turn(self, pack: Sequence[Waiting]) -> None:
        bulk_waits = any(not entry.gone for entry in self._waiting["bulk"])
        starved = bulk_waits and pack and pack[0].priority == "interactive"
        self._packs_without_bulk = self._packs_without_bulk + 1 if starved else 0

    def _expire(self, now: float) -> None:
        for waiting in self._waiting.values():
            self.discard(entry for entry in waiting if entry.expires_at <= now)

    def _leave(self, waiting: Waiting) -> None:
        waiting.gone = True
        self.tokens -= waiting.tokens
