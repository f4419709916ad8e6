"""LLaMA-Factory's `POST /v1/score/evaluation`, which its PPO trainer asks for rewards.

Every message is one whole text, rendered. The trainer always names the model `model`.
"""

from typing import Annotated, ClassVar, Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel, Field

from rewardserve.serving.dialects.foreign_errors import ErrorShape, dialect_router
from rewardserve.serving.dialects.foreign_requests import DEFAULT_ROUTE, ForeignRequest, Text
from rewardserve.serving.dialects.openai_envelope import ROWS, new_id
from rewardserve.serving.service import Service

PLACEHOLDER = "model"


class DetailError(BaseModel):
    """An error as FastAPI words it, which LLaMA-Factory leaves as it is."""

    detail: str

    @classmethod
    def of(cls, message: str, param: str | None, status: int, name: str) -> Self:  # noqa: ARG003
        return cls(detail=message)


DETAIL_ERRORS = ErrorShape(DetailError, ROWS)


class ScoreEvaluationRequest(ForeignRequest):
    refused: ClassVar = {"max_length": "each model has its own limit, and nothing is cut"}

    model: str = DEFAULT_ROUTE
    messages: Annotated[list[Text], Field(min_length=1)]


class ScoreEvaluationResponse(BaseModel):
    id: str
    object: Literal["score.evaluation"] = "score.evaluation"
    model: str
    scores: list[float]


def routes(service: Service) -> APIRouter:
    router = dialect_router("LLaMA-Factory", DETAIL_ERRORS)

    @router.post("/v1/score/evaluation")
    async def score_evaluation(body: ScoreEvaluationRequest) -> ScoreEvaluationResponse:
        """Scores of rendered texts."""
        route = DEFAULT_ROUTE if body.model == PLACEHOLDER else body.model
        rewards = await service.score(route, body.messages)
        return ScoreEvaluationResponse(
            id=new_id("scoreval"), model=body.model, scores=[reward.score for reward in rewards]
        )

    return router
