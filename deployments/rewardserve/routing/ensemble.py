"""Asks several members at once and combines their scores into one.

Knows members, quorums and how a combined reward is made up. Knows nothing of the formulas
(`normalizers`, `aggregators`).

All rewards of a group come from the same members: a member that fails for one response is left out
of its whole group, since scores combined from different members cannot be compared.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rewardserve.errors import NonFiniteScore, RewardServeError
from rewardserve.route_settings import EnsembleSettings
from rewardserve.routing.aggregators import make_aggregator, shares, spread
from rewardserve.routing.attributes import AttributeRoute
from rewardserve.routing.calibration import Calibration
from rewardserve.routing.evaluate import Group, Outcome, Request, Route, within
from rewardserve.routing.normalizers import Array, Normalizer
from rewardserve_client._types import Reward


@dataclass(frozen=True, slots=True)
class Member:
    """One voice of an ensemble."""

    name: str
    weight: float
    route: Route
    normalizer: Normalizer
    calibration: Calibration | None = None
    """What the normalizer was made from, if from a calibration."""

    @property
    def source(self) -> Route:
        """What is asked; the attributes of one model share one call."""
        return self.route.source if isinstance(self.route, AttributeRoute) else self.route

    def read(self, outcome: Outcome) -> Outcome:
        """The member's part of its source's outcome."""
        return self.route.seen(outcome) if isinstance(self.route, AttributeRoute) else outcome

    def normalized(self, rewards: Sequence[Reward]) -> Array:
        """The rewards' scores, normalized. Raises SettingsError for a calibration out of date."""
        if self.calibration is not None:
            for revision in {reward.revision for reward in rewards}:
                self.calibration.check_revision(revision)
        return self.normalizer(np.array([reward.score for reward in rewards], np.float64))


@dataclass(slots=True)
class _Hearing:
    """The members heard so far on one request."""

    groups: Sequence[Group]
    request: Request
    heard: dict[str, list[Outcome]] = field(default_factory=dict)
    calls: list[asyncio.Task[None]] = field(default_factory=list)

    def on(self, index: int) -> dict[str, Outcome]:
        """What each member said of one group."""
        return {member: outcomes[index] for member, outcomes in self.heard.items()}


@dataclass(frozen=True, slots=True)
class _Mixture:
    """The numbers of one group, from the members that answered."""

    scores: Array
    """Normalized, [members, responses]."""
    weights: Array
    """[members], of sum 1."""
    combined: Array
    spreads: Array

    def finite(self) -> bool:
        return all(np.isfinite(part).all() for part in (self.scores, self.combined, self.spreads))


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Several members in parallel, one reward from all of them.

    A reward's `attributes` are the members' normalized scores; where the score is their weighted
    mean, its `weights` say by what, so that score = sum of weight * attribute. Its `uncertainty` is
    the spread over members; what a member says of its own uncertainty stands in `members`.
    """

    name: str
    members: tuple[Member, ...]
    settings: EnsembleSettings

    async def outcomes(self, groups: Sequence[Group], request: Request) -> list[Outcome]:
        hearing = _Hearing(groups, request)
        sources = {member.source.name: member.source for member in self.members}
        async with asyncio.TaskGroup() as tasks:
            for source in sources.values():
                hearing.calls.append(tasks.create_task(self._hear(source, hearing)))
        return [self._combine(hearing.on(index)) for index in range(len(groups))]

    async def _hear(self, source: Route, hearing: _Hearing) -> None:
        outcomes = await source.outcomes(hearing.groups, hearing.request)
        for member in self.members:
            if member.source.name == source.name:
                hearing.heard[member.name] = [member.read(outcome) for outcome in outcomes]
        if all(self._lost(hearing.on(index)) for index in range(len(hearing.groups))):
            for call in hearing.calls:  # nothing can be answered any more: stop computing
                call.cancel()

    def _lost(self, heard: Mapping[str, Outcome]) -> bool:
        """Whether too many members failed for the quorum."""
        failures = sum(isinstance(outcome, RewardServeError) for outcome in heard.values())
        return len(self.members) - failures < (self.settings.quorum or len(self.members))

    def _combine(self, heard: Mapping[str, Outcome]) -> Outcome:
        if self._lost(heard):
            return self._failure(heard)
        answers = [
            (member, outcome)
            for member in self.members
            if not isinstance(outcome := heard[member.name], RewardServeError)
        ]
        try:
            return self._rewards(answers)
        except RewardServeError as error:
            return within(error, f"route `{self.name}`")

    def _failure(self, heard: Mapping[str, Outcome]) -> RewardServeError:
        """The error of the first member, in the route's order, that failed."""
        return next(
            within(outcome, f"member `{member.name}` of route `{self.name}`")
            for member in self.members
            if isinstance(outcome := heard.get(member.name), RewardServeError)
        )

    def _rewards(self, answers: Sequence[tuple[Member, list[Reward]]]) -> list[Reward]:
        if not answers[0][1]:
            return []
        mixture = self._mixture(answers)
        said = [
            {member.name: rewards[index] for member, rewards in answers}
            for index in range(len(mixture.combined))
        ]
        return [self._reward(members, mixture, index) for index, members in enumerate(said)]

    def _mixture(self, answers: Sequence[tuple[Member, list[Reward]]]) -> _Mixture:
        members = [member for member, _ in answers]
        weights = np.array([member.weight for member in members], np.float64)
        aggregate = make_aggregator(self.settings, [member.name for member in members])
        with np.errstate(all="ignore"):  # what overflows is not finite, and is refused below
            scores = np.stack([member.normalized(rewards) for member, rewards in answers])
            mixture = _Mixture(scores, shares(weights), aggregate(scores, weights), spread(scores))
        if not mixture.finite():
            raise NonFiniteScore("the members' scores are too large to be combined")
        return mixture

    def _reward(self, said: dict[str, Reward], mixture: _Mixture, index: int) -> Reward:
        scores, weights = mixture.scores[:, index].tolist(), mixture.weights.tolist()
        weighed = self.settings.aggregate == "mean"
        return Reward(
            score=float(mixture.combined[index]),
            model=self.name,
            tokens=tokens_of(said),
            truncated=any(reward.truncated for reward in said.values()),
            attributes=dict(zip(said, scores, strict=True)),
            weights=dict(zip(said, weights, strict=True)) if weighed else None,
            uncertainty={"spread": float(mixture.spreads[index])},
            members=said,
            failed_members=[member.name for member in self.members if member.name not in said],
        )


def tokens_of(members: Mapping[str, Reward]) -> int:
    """Tokens that all models below these rewards read; the attributes of one model count once."""
    return sum(_tokens_by_model(members).values())


def _tokens_by_model(members: Mapping[str, Reward]) -> dict[str, int]:
    tokens: dict[str, int] = {}
    for reward in members.values():
        tokens |= (
            _tokens_by_model(reward.members) if reward.members else {reward.model: reward.tokens}
        )
    return tokens
