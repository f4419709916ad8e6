"""Evaluates a route: the contract of every route, and the way in.

Knows groups, outcomes and failures. Knows nothing of Ray, handles, deadlines or retries: those
belong to the injected `Ask`.
"""

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from rewardserve.errors import ModelFailed, NonFiniteScore, RewardServeError
from rewardserve_client._types import Conversation, Reward

Item = Conversation | str | Sequence[int]
"""What is scored: a conversation, text already rendered, or token ids. Opaque here."""

Group = Sequence[Item]
"""The responses of one prompt; a lone conversation is a group of one."""

Outcome = list[Reward] | RewardServeError
"""What a route makes of one group: one finite reward per item in order, or the error."""

Ask = Callable[[str, Sequence[Item]], Awaitable[list[Reward]]]
"""`ask(model, items)` gives one reward per item, in order, or raises a `RewardServeError`.

It keeps the deadline, retries what may be retried, and on cancellation tells the model.
"""


@dataclass(frozen=True, slots=True)
class Shadowed:
    """An answer that was given, and a route whose scores are to be recorded beside it."""

    route: "Route"
    groups: Sequence[Group]
    tags: Mapping[str, str]
    answer: list[Outcome]


def _unrecorded(_: Shadowed) -> None:
    """Shadows are left out where nobody records them."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a route may read beside the groups."""

    ask: Ask
    tags: Mapping[str, str] = field(default_factory=dict)
    on_shadow: Callable[[Shadowed], None] = _unrecorded


class Route(Protocol):
    """Anything that a request may be answered by: a model, or a route over other routes."""

    @property
    def name(self) -> str:
        """What it is asked for by."""
        ...

    async def outcomes(self, groups: Sequence[Group], request: Request) -> list[Outcome]:
        """One outcome per group, in order. Raises nothing but cancellation and bugs."""
        ...


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """One served model: all groups in one call, and a score that is none is a failure."""

    name: str

    async def outcomes(self, groups: Sequence[Group], request: Request) -> list[Outcome]:
        items = [item for group in groups for item in group]
        try:
            rewards = await request.ask(self.name, items) if items else []
            self._check_count(rewards, len(items))
        except RewardServeError as error:
            return [error for _ in groups]
        answers = iter(rewards)
        return [self._finite([next(answers) for _ in group]) for group in groups]

    def _check_count(self, rewards: Sequence[Reward], count: int) -> None:
        if len(rewards) != count:
            raise ModelFailed(
                f"model `{self.name}` gave {len(rewards)} rewards for {count} conversations"
            )

    def _finite(self, rewards: list[Reward]) -> Outcome:
        if all(math.isfinite(number) for reward in rewards for number in _numbers(reward)):
            return rewards
        return NonFiniteScore(f"model `{self.name}` computed a number that is not finite")


async def evaluate(
    route: Route,
    groups: Sequence[Group],
    ask: Ask,
    *,
    tags: Mapping[str, str] | None = None,
    on_shadow: Callable[[Shadowed], None] = _unrecorded,
) -> list[list[Reward]]:
    """Rewards of every item of every group, all finite, in order.

    `on_shadow` is called for each shadow route once the answer is known; its caller runs
    `selection.record_shadow` when it pleases. Raises the first failed group's error.
    """
    outcomes = await route.outcomes(groups, Request(ask, tags or {}, on_shadow))
    return [_rewards(outcome) for outcome in outcomes]


def within(error: RewardServeError, place: str) -> RewardServeError:
    """The same error, whose message says where it happened."""
    placed = type(error)(f"{place}: {error.message}", *error.args[1:])
    placed.__cause__ = error
    return placed


def _numbers(reward: Reward) -> Iterator[float]:
    parts = (reward.attributes, reward.weights, reward.uncertainty)
    return chain([reward.score], *(part.values() for part in parts if part))


def _rewards(outcome: Outcome) -> list[Reward]:
    if isinstance(outcome, RewardServeError):
        raise outcome
    return outcome
