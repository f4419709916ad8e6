"""Evaluates a route: asks its models for rewards and combines what they say.

Knows groups, outcomes and failures. Knows nothing of Ray, handles, deadlines or retries: those
belong to the injected `Ask`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rewardserve.errors import RewardServeError
from rewardserve_client._types import Conversation, Reward

Item = Conversation | str | Sequence[int]
"""What is scored: a conversation, text already rendered, or token ids. Opaque here."""

Group = Sequence[Item]
"""The responses of one prompt, at least one; a lone conversation is a group of one."""

Outcome = list[Reward] | RewardServeError
"""What a route makes of one group: one finite reward per item in order, or the error."""

Ask = Callable[[str, Sequence[Item]], Awaitable[list[Reward]]]
"""`ask(model, items)` gives one reward per item, in order, or raises a `RewardServeError`.

It keeps the deadline, retries what may be retried, and on cancellation tells the model.
"""


@dataclass(frozen=True, slots=True)
class Shadowed:
    """An answer that was given, and the route whose scores are to be recorded beside it."""

    route: "Route"
    groups: Sequence[Group]
    answer: list[Outcome]


def _ignore(_: Shadowed) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Request:
    """What a route may read beside the groups."""

    ask: Ask
    tags: Mapping[str, str] = field(default_factory=dict)
    on_shadow: Callable[[Shadowed], None] = _ignore


class Route(Protocol):
    """Anything that a request may be answered by: a model, or a route over other routes."""

    @property
    def name(self) -> str: ...

    async def outcomes(self, groups: Sequence[Group], request: Request) -> list[Outcome]:
        """One outcome per group, in order. Raises nothing but cancellation and bugs."""
        ...


async def evaluate(
    route: Route,
    groups: Sequence[Group],
    ask: Ask,
    *,
    tags: Mapping[str, str] | None = None,
    on_shadow: Callable[[Shadowed], None] = _ignore,
) -> list[list[Reward]]:
    """Rewards of every item of every group, all finite, in order.

    `on_shadow` is called at once for each shadow route; whoever passes it runs
    `record_shadow` when it pleases. Raises the first failed group's error.
    """
    outcomes = await route.outcomes(groups, Request(ask, tags or {}, on_shadow))
    return [_rewards(outcome) for outcome in outcomes]


def _rewards(outcome: Outcome) -> list[Reward]:
    if isinstance(outcome, RewardServeError):
        raise outcome
    return outcome
