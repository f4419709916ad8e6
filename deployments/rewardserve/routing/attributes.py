"""Looks at one model through its attributes: one of them as the score, or the caller's own weights.

Knows names of attributes and how to weigh them. Knows nothing of the families that compute them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rewardserve.errors import ModelFailed, NonFiniteScore, RewardServeError
from rewardserve.routing.evaluate import Group, Outcome, Request, Route
from rewardserve_client._types import Reward


@dataclass(frozen=True, slots=True)
class AttributeRoute:
    """A model whose rewards are read through `view`."""

    name: str
    source: Route
    view: Callable[[Reward], Reward]
    attribute: str | None = None
    """The attribute that becomes the score, if one does."""

    async def outcomes(self, groups: Sequence[Group], request: Request) -> list[Outcome]:
        return [self.seen(outcome) for outcome in await self.source.outcomes(groups, request)]

    def seen(self, outcome: Outcome) -> Outcome:
        """What the view makes of the model's outcome."""
        if isinstance(outcome, RewardServeError):
            return outcome
        try:
            return [self.view(reward) for reward in outcome]
        except RewardServeError as error:
            return error


def one_attribute(attribute: str) -> Callable[[Reward], Reward]:
    """The attribute's value becomes the score; the other attributes are left out.

    The view raises ModelFailed for a reward without that attribute.
    """

    def view(reward: Reward) -> Reward:
        value = _attribute(reward, attribute)
        own = (reward.uncertainty or {}).get(attribute)
        return reward.model_copy(
            update={
                "score": value,
                "attributes": {attribute: value},
                "weights": None,
                "uncertainty": None if own is None else {attribute: own},
            }
        )

    return view


def own_weights(weights: Mapping[str, float]) -> Callable[[Reward], Reward]:
    """score = sum of weight * attribute, in place of the model's own gate (arXiv:2406.12845).

    The view raises ModelFailed for a reward without one of the attributes.
    """

    def view(reward: Reward) -> Reward:
        score = math.fsum(weight * _attribute(reward, name) for name, weight in weights.items())
        return reward.model_copy(update={"score": score, "weights": dict(weights)})

    return view


def _attribute(reward: Reward, name: str) -> float:
    attributes = reward.attributes or {}
    if name not in attributes:
        known = ", ".join(attributes) or "none"
        raise ModelFailed(f"model `{reward.model}` has no attribute `{name}`; it has: {known}")
    if not math.isfinite(attributes[name]):
        raise NonFiniteScore(f"model `{reward.model}` computed no finite `{name}`")
    return attributes[name]
