"""OpenAI's `POST /v1/embeddings`, by which verl asks a reward model that SGLang serves.

The embedding of a text is its score, alone: verl reads the last number of the last embedding.
"""

from typing import ClassVar, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from rewardserve.serving.dialects.foreign_errors import dialect_router
from rewardserve.serving.dialects.foreign_requests import (
    DEFAULT_ROUTE,
    ONE_NUMBER,
    ForeignRequest,
    Texts,
    items_of,
)
from rewardserve.serving.dialects.openai_envelope import (
    OPENAI_ERRORS,
    OpenAIUsage,
    as_vector,
    usage_of,
)
from rewardserve.serving.service import Service


class EmbeddingsRequest(ForeignRequest):
    """Rendered texts or token ids."""

    refused: ClassVar = {"dimensions": ONE_NUMBER}
    input: Texts
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsResponse(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: OpenAIUsage


def routes(service: Service) -> APIRouter:
    router = dialect_router("OpenAI embeddings", OPENAI_ERRORS)

    @router.post("/v1/embeddings")
    async def embeddings(body: EmbeddingsRequest) -> EmbeddingsResponse:
        """Scores as embeddings of one number."""
        route = body.model or DEFAULT_ROUTE
        rewards = await service.score(route, items_of(body.input))
        vectors = [as_vector(reward.score, body.encoding_format) for reward in rewards]
        return EmbeddingsResponse(
            model=route,
            data=[Embedding(index=index, embedding=vector) for index, vector in enumerate(vectors)],
            usage=usage_of(rewards),
        )

    return router
