"""The router application's deployment: HTTP in front, the router behind, in one replica.

They share a process because a hop between deployments costs milliseconds and one more copy of the
conversations. Inside the cluster its methods are called by handle; outside by HTTP. Knows how
requests become groups, and little else.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog
from fastapi import FastAPI
from ray import serve
from ray.serve.schema import ServeStatus

from rewardserve.errors import RewardServeError, http_error
from rewardserve.routing.evaluate import Group, Item
from rewardserve.routing.plan import INLINE
from rewardserve.serving.auth import ApiKeys
from rewardserve.serving.http_app import build_http_app
from rewardserve.serving.limits import check_groups
from rewardserve.serving.logs import configure_logs
from rewardserve.serving.metrics import RouterMetrics
from rewardserve.serving.model_client import Resolver
from rewardserve.serving.model_states import ModelStates
from rewardserve.serving.router import Answer, Router, Terms
from rewardserve.serving.router_settings import RouterSettings
from rewardserve_client._types import (
    CandidatesInput,
    Priority,
    Reward,
    RewardsItem,
    RewardsRequest,
    RewardsResponse,
    ServedModel,
    ServedModels,
    as_conversations,
)

log = structlog.stdlib.get_logger("rewardserve.gateway")


class Gateway:
    """One replica of the router; it implements `serving.service.Service`."""

    def __init__(
        self,
        settings: RouterSettings,
        resolver: Resolver,
        read_status: Callable[[], ServeStatus] = serve.status,
    ) -> None:
        configure_logs()
        self._limits = settings.limits
        self._metrics = RouterMetrics()
        self._keys = ApiKeys.from_environment(settings.auth.api_keys_env) if settings.auth else None
        self._router = Router(settings, resolver, self._metrics)
        self._states = ModelStates(self._router.models, read_status)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_http_app(self, max_body_bytes=self._limits.max_body_bytes, keys=self._keys)

    @property
    def max_conversations(self) -> int:
        """In one request."""
        return self._limits.max_conversations

    async def rewards(self, request: RewardsRequest) -> RewardsResponse:
        """The answer to `POST /v1/rewards`. Raises RewardServeError."""
        groups = [as_conversations(entry) for entry in request.inputs]
        answer = await self._answer(
            request.model,
            groups,
            _places(request),
            replace(
                self._terms(request.truncate, request.deadline_s, request.priority, request.tags),
                ensemble=request.ensemble,
            ),
        )
        return RewardsResponse(
            id=f"rw-{uuid.uuid4().hex}",
            model=request.model if request.ensemble is None else INLINE,
            created=int(time.time()),
            data=[
                RewardsItem(index=index, rewards=rewards)
                for index, rewards in enumerate(answer.rewards)
            ],
            usage=answer.usage,
            timings_ms=answer.timings_ms,
        )

    async def score(
        self,
        model: str,
        items: Sequence[Item],
        *,
        truncate: bool = False,
        deadline_s: float | None = None,
        priority: Priority = "interactive",
        tags: Mapping[str, str] | None = None,
    ) -> list[Reward]:
        """One reward per item, in order; see `Service.score`."""
        groups = [[item] for item in items]
        places = [[f"items[{index}]"] for index in range(len(items))]
        terms = self._terms(truncate, deadline_s, priority, tags)
        answer = await self._answer(model, groups, places, terms)
        return [reward for rewards in answer.rewards for reward in rewards]

    async def score_groups(
        self,
        model: str,
        groups: Sequence[Group],
        *,
        truncate: bool = False,
        deadline_s: float | None = None,
        priority: Priority = "interactive",
        tags: Mapping[str, str] | None = None,
    ) -> list[list[Reward]]:
        """The rewards of each group, in order; see `Service.score_groups`."""
        places = [
            [f"groups[{row}][{column}]" for column in range(len(group))]
            for row, group in enumerate(groups)
        ]
        terms = self._terms(truncate, deadline_s, priority, tags)
        return (await self._answer(model, groups, places, terms)).rewards

    async def served_models(self) -> ServedModels:
        """Everything a request may name: the models with their state, and the routes."""
        models = await self._states.described()
        routes = [ServedModel(id=name, kind="route") for name in self._router.plan.routes]
        return ServedModels(data=[*models, *routes])

    async def unready_models(self) -> list[str]:
        """The models that should answer and do not."""
        return await self._states.unready()

    async def _answer(
        self, model: str, groups: Sequence[Group], places: Sequence[Sequence[str]], terms: Terms
    ) -> Answer:
        route = self._router.plan.label(model)
        if terms.ensemble is not None:
            route = INLINE
        try:
            check_groups(groups, self._limits, places)
            answer = await self._router.answer(model, groups, places, terms)
        except RewardServeError as error:
            code = http_error(error)[1]
            self._metrics.refused(route, code)
            log.warning("refused", route=route, code=code)
            raise
        self._metrics.answered(route, answer.timings_ms["total"] / 1000, answer.rewards)
        log.info(
            "answered",
            route=route,
            conversations=sum(map(len, answer.rewards)),
            tokens=answer.usage.tokens,
            timings_ms=answer.timings_ms,
        )
        return answer

    def _terms(
        self,
        truncate: bool,
        deadline_s: float | None,
        priority: Priority,
        tags: Mapping[str, str] | None,
    ) -> Terms:
        seconds = self._limits.default_deadline_s if deadline_s is None else deadline_s
        return Terms(seconds, truncate, priority, tags or {})


def _places(request: RewardsRequest) -> list[list[str]]:
    """Where in the request each conversation stands, for error messages."""
    return [
        [f"inputs[{index}].responses[{n}]" for n in range(len(entry.responses))]
        if isinstance(entry, CandidatesInput)
        else [f"inputs[{index}]"]
        for index, entry in enumerate(request.inputs)
    ]
