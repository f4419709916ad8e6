"""Answers a request by the models that its route names, under one deadline.

Each member is called in chunks, so that one large request spreads over a model's replicas. Knows
nothing of HTTP or limits, nor of what a route computes (`routing`).
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rewardserve.errors import InvalidRequest, RewardServeError, http_error
from rewardserve.routing.calibration import load_calibrations
from rewardserve.routing.evaluate import Group, Item, evaluate
from rewardserve.routing.plan import Plan, resolve
from rewardserve.serving.answers import ModelAnswer
from rewardserve.serving.metrics import RouterMetrics
from rewardserve.serving.model_client import ModelClient, Resolver
from rewardserve.serving.router_settings import RouterSettings
from rewardserve.serving.shadows import Shadows
from rewardserve_client._types import Priority, Reward, Usage

CHUNK = 64
"""Conversations in one call of a replica."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How one request wants its conversations scored."""

    deadline_s: float
    truncate: bool = False
    priority: Priority = "interactive"
    tags: Mapping[str, str] = field(default_factory=dict)
    ensemble: Mapping[str, Any] | None = None
    """Made for this request, and asked instead of the named model."""


@dataclass(slots=True)
class Cost:
    """What the members' answers to one request add up to."""

    tokens: int = 0
    computed_tokens: int = 0
    slowest_s: dict[str, float] = field(default_factory=dict)
    """Part of the way -> the longest any member's call spent there."""

    def add(self, answer: ModelAnswer) -> None:
        self.tokens += answer.tokens
        self.computed_tokens += answer.computed_tokens
        parts = {
            "render": answer.render_s,
            "queue": answer.queue_s,
            "forward": answer.forward_s,
        }
        for part, seconds in parts.items():
            self.slowest_s[part] = max(self.slowest_s.get(part, 0.0), seconds)

    def usage(self) -> Usage:
        return Usage(tokens=self.tokens, computed_tokens=self.computed_tokens)

    def timings_ms(self, total_s: float) -> dict[str, float]:
        """Milliseconds by part, and in all."""
        seconds = {**self.slowest_s, "total": total_s}
        return {part: round(1000 * value, 3) for part, value in seconds.items()}


@dataclass(frozen=True, slots=True)
class Answer:
    """The rewards of every group, and what they cost."""

    rewards: list[list[Reward]]
    usage: Usage
    timings_ms: dict[str, float]


class Router:
    """Routes by name, and the models behind them."""

    def __init__(
        self, settings: RouterSettings, resolver: Resolver, metrics: RouterMetrics
    ) -> None:
        self.models = {
            name: ModelClient(name, resolver, on_death=metrics.replica_died)
            for name in settings.models
        }
        self.plan = plan_of(settings)
        self.shadows = Shadows()
        self._metrics = metrics

    async def answer(
        self, model: str, groups: Sequence[Group], places: Sequence[Sequence[str]], terms: Terms
    ) -> Answer:
        """The rewards of every group, in order; `places` names each item in error messages.

        Raises UnknownModel, and what the route's models and its own rules raise.
        """
        inline = terms.ensemble
        route = self.plan.route(model) if inline is None else self.plan.inline(inline)
        began = time.monotonic()
        by_item = _places_by_item(groups, places)
        request = _Request(self.models, terms, by_item, self._metrics)
        unhurried = _Request(self.models, replace(terms, priority="bulk"), by_item, self._metrics)
        rewards = await evaluate(
            route,
            groups,
            request.ask,
            tags=terms.tags,
            on_shadow=lambda shadowed: self.shadows.start(shadowed, unhurried.ask),
        )
        cost = request.cost
        return Answer(rewards, cost.usage(), cost.timings_ms(time.monotonic() - began))


class _Request:
    """One request on its way to its members."""

    def __init__(
        self,
        models: Mapping[str, ModelClient],
        terms: Terms,
        places: Mapping[int, str],
        metrics: RouterMetrics,
    ) -> None:
        self.cost = Cost()
        self._models = models
        self._terms = terms
        self._places = places
        self._metrics = metrics
        self._deadline = asyncio.get_running_loop().time() + terms.deadline_s

    async def ask(self, model: str, items: Sequence[Item]) -> list[Reward]:
        """One model's rewards of `items`, in order, or its RewardServeError."""
        chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
        try:
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(self._call(model, chunk)) for chunk in chunks]
        except* RewardServeError as failures:
            # The first failure cancelled the other chunks; it alone is the answer.
            error = next(one for one in failures.exceptions if isinstance(one, RewardServeError))
        else:
            return [reward for call in calls for reward in call.result()]
        self._metrics.member_failed(model, http_error(error)[1])
        raise error

    async def _call(self, model: str, chunk: Sequence[Item]) -> list[Reward]:
        terms = self._terms
        try:
            answer = await self._models[model].score(
                chunk, truncate=terms.truncate, priority=terms.priority, deadline=self._deadline
            )
        except InvalidRequest as error:
            raise self._placed(error, chunk) from None
        self.cost.add(answer)
        return answer.rewards

    def _placed(self, error: InvalidRequest, chunk: Sequence[Item]) -> InvalidRequest:
        """A replica names the item by its index in the chunk; the caller knows its own place."""
        index = int(error.param or 0)
        place = self._places[id(chunk[index])]
        return type(error)(f"{place}: {error.message}", param=place)


def _places_by_item(groups: Sequence[Group], places: Sequence[Sequence[str]]) -> dict[int, str]:
    return {
        id(item): place
        for group, group_places in zip(groups, places, strict=True)
        for item, place in zip(group, group_places, strict=True)
    }


def plan_of(settings: RouterSettings) -> Plan:
    """Every name that a request may ask for. Raises SettingsError naming the route."""
    models = settings.models
    folder = settings.calibration
    calibrations = load_calibrations(Path(folder), models) if folder else {}
    return resolve(settings.routes, models, calibrations)
