"""Scores every response with a cheap member and only the promising ones with a strong member.

Knows who goes on, and how two members' scores are put into one order. Knows nothing of what the
members are. The idea is FrugalGPT's (arXiv:2305.05176); a cascade always pays for its first stage,
so that it saves only where few responses go on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rewardserve.errors import NonFiniteScore, RewardServeError
from rewardserve.routing.ensemble import tokens_of
from rewardserve.routing.evaluate import Group, Outcome, Request, Route, within
from rewardserve_client._types import Reward


@dataclass(frozen=True, slots=True)
class Cascade:
    """`first` scores all responses of a group, `then` those that are promoted."""

    name: str
    first: Route
    then: Route
    top_k: int | None
    margin: float | None

    async def outcomes(self, groups: Sequence[Group], request: Request) -> list[Outcome]:
        cheap = [
            self._placed(outcome, self.first)
            for outcome in await self.first.outcomes(groups, request)
        ]
        chosen = [self._promoted(outcome) for outcome in cheap]
        contests = [
            [group[index] for index in indices]
            for group, indices in zip(groups, chosen, strict=True)
            if indices
        ]
        strong = iter(await self.then.outcomes(contests, request) if contests else [])
        return [
            self._joined(outcome, indices, next(strong) if indices else [])
            for outcome, indices in zip(cheap, chosen, strict=True)
        ]

    def _placed(self, outcome: Outcome, stage: Route) -> Outcome:
        if isinstance(outcome, RewardServeError):
            return within(outcome, f"stage `{stage.name}` of route `{self.name}`")
        return outcome

    def _promoted(self, outcome: Outcome) -> list[int]:
        if isinstance(outcome, RewardServeError):
            return []
        return promoted([reward.score for reward in outcome], self.top_k, self.margin)

    def _joined(self, cheap: Outcome, indices: list[int], strong: Outcome) -> Outcome:
        if isinstance(cheap, RewardServeError):
            return cheap
        placed = self._placed(strong, self.then)
        if isinstance(placed, RewardServeError):
            return placed
        rescored = dict(zip(indices, placed, strict=True))
        scores = joined_scores(
            [reward.score for reward in cheap],
            {index: reward.score for index, reward in rescored.items()},
        )
        if not all(map(math.isfinite, scores)):
            return NonFiniteScore(f"route `{self.name}`: its stages' scores are too large to join")
        return [
            self._reward(score, reward, rescored.get(index))
            for index, (score, reward) in enumerate(zip(scores, cheap, strict=True))
        ]

    def _reward(self, score: float, cheap: Reward, strong: Reward | None) -> Reward:
        members = {self.first.name: cheap} | ({self.then.name: strong} if strong else {})
        return Reward(
            score=score,
            model=self.name,
            tokens=tokens_of(members),
            truncated=any(reward.truncated for reward in members.values()),
            members=members,
            stage=self.then.name if strong else self.first.name,
        )


def promoted(scores: Sequence[float], top_k: int | None, margin: float | None) -> list[int]:
    """Indices of the responses that go on, best first; equal scores keep the given order.

    With `margin`, those within so much of the best, and nobody when the best stands alone; for a
    pair that is: both, when their scores differ by less than the margin or by exactly as much. Of
    those, or without a margin of all, at most `top_k`.
    """
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    if margin is not None:
        order = [index for index in order if scores[order[0]] - scores[index] <= margin]
        if len(order) == 1:
            return []
    return order[:top_k]


def joined_scores(cheap: Sequence[float], strong: dict[int, float]) -> list[float]:
    """One list of scores in which promoted responses have their strong score.

    The others keep their distances and are moved as a whole, so that the lowest promoted response
    has the same score on both scales: min(strong) + r - min(cheap of the promoted). No one is then
    above a promoted response, although the two members' scales differ. Nobody promoted: `cheap`.
    """
    if not strong:
        return list(cheap)
    lowest = min(strong.values())
    shift = lowest - min(cheap[index] for index in strong)
    # The minimum takes back what rounding may have added at the boundary.
    return [strong.get(index, min(score + shift, lowest)) for index, score in enumerate(cheap)]
