"""OpenRLHF's remote reward model, `POST /get_reward`.

Its client sends one query at a time, repeats whatever is not 2xx five times within seconds, and
then trains on without a reward; so an empty list is answered, and busy is 503.
"""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from rewardserve.serving.dialects.foreign_errors import dialect_router
from rewardserve.serving.dialects.foreign_requests import (
    DEFAULT_ROUTE,
    ForeignRequest,
    ModelInUrl,
    Text,
)
from rewardserve.serving.dialects.openai_envelope import OPENAI_ERRORS
from rewardserve.serving.service import Service
from rewardserve_client._types import Reward


class RewardQuery(ForeignRequest):
    """Prompts and labels may come along, and a reward model reads neither."""

    query: list[Text]
    """Prompt and response, rendered, with their special tokens."""


class QueryRewards(BaseModel):
    rewards: list[float]
    scores: list[float]
    """What dynamic filtering compares; the raw rewards, as OpenRLHF's own server has it."""
    extra_logs: dict[str, list[float]] = Field(default_factory=dict)
    """Logged by the trainer under these names."""


def routes(service: Service) -> APIRouter:
    router = dialect_router("OpenRLHF", OPENAI_ERRORS)

    @router.post("/get_reward")
    async def get_reward(body: RewardQuery, model: ModelInUrl = DEFAULT_ROUTE) -> QueryRewards:
        """Rewards of rendered texts."""
        rewards = await service.score(model, body.query) if body.query else []
        scores = [reward.score for reward in rewards]
        return QueryRewards(rewards=scores, scores=scores, extra_logs=_logs(rewards))

    return router


def _logs(rewards: list[Reward]) -> dict[str, list[float]]:
    """Attributes and uncertainties that every reward has, each as one list."""
    rows = [
        (reward.attributes or {})
        | {f"uncertainty/{name}": value for name, value in (reward.uncertainty or {}).items()}
        for reward in rewards
    ]
    shared = [name for name in (rows[0] if rows else {}) if all(name in row for row in rows)]
    return {name: [row[name] for row in rows] for name in shared}
