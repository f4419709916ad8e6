"""Paths that two protocols claim; the body says which of them is spoken.

`/classify`: SGLang sends `text` or `input_ids`, by POST or PUT, vLLM `input` or `messages`.
`/rerank`: TEI sends `texts`, vLLM `documents`. `/v1/score`: SGLang sends `query`, vLLM `queries`,
`text_1` or `data_1`.
"""

from typing import Annotated

from fastapi import APIRouter, Body

from rewardserve.serving.dialects import sglang, tei, vllm
from rewardserve.serving.dialects.foreign_errors import dialect_router
from rewardserve.serving.dialects.foreign_requests import by_key, with_key
from rewardserve.serving.dialects.openai_envelope import FLAT_ERRORS, OPENAI_ERRORS
from rewardserve.serving.service import Service

ClassifyBody = Annotated[
    Annotated[vllm.CompletionRequest, with_key("input")]
    | Annotated[vllm.ChatRequest, with_key("messages")]
    | Annotated[sglang.TextRequest, with_key("text")]
    | Annotated[sglang.TokensRequest, with_key("input_ids")],
    by_key("input", "messages", "text", "input_ids"),
]
ClassifyAnswer = vllm.ClassifyResponse | sglang.NativeAnswer | list[sglang.NativeAnswer]

RerankBody = Annotated[
    Annotated[vllm.RerankRequest, with_key("documents")]
    | Annotated[tei.RerankRequest, with_key("texts")],
    by_key("documents", "texts"),
]

ScoreBody = Annotated[
    Annotated[vllm.ScoreRequest, with_key("queries")]
    | Annotated[vllm.ScoreRequest, with_key("text_1")]
    | Annotated[vllm.ScoreRequest, with_key("data_1")]
    | Annotated[sglang.ScoringRequest, with_key("query")],
    by_key("queries", "text_1", "data_1", "query"),
]


def routes(service: Service) -> APIRouter:
    router = APIRouter()
    router.include_router(_classify(service))
    router.include_router(_rerank(service))
    router.include_router(_score(service))
    return router


def _classify(service: Service) -> APIRouter:
    router = dialect_router("vLLM, verl, SGLang", OPENAI_ERRORS)

    @sglang.post_or_put(router, "/classify")
    async def classify(body: Annotated[ClassifyBody, Body()]) -> ClassifyAnswer:
        """Scores of rendered texts, token ids or one conversation."""
        if isinstance(body, sglang.TextRequest | sglang.TokensRequest):
            return await sglang.classify(service, body)
        return await vllm.classify(service, body)

    return router


def _rerank(service: Service) -> APIRouter:
    router = dialect_router("vLLM, TEI", OPENAI_ERRORS, shape_by_key={"texts": tei.TEI_ERRORS})

    @router.post("/rerank")
    async def rerank(body: Annotated[RerankBody, Body()]) -> vllm.RerankResponse | tei.Ranks:
        """Responses to one prompt, best first."""
        if isinstance(body, tei.RerankRequest):
            return await tei.rerank(service, body)
        return await vllm.rerank(service, body)

    return router


def _score(service: Service) -> APIRouter:
    router = dialect_router("vLLM, SGLang", OPENAI_ERRORS, shape_by_key={"query": FLAT_ERRORS})

    @router.post("/v1/score")
    async def score(
        body: Annotated[ScoreBody, Body()],
    ) -> vllm.ScoreResponse | sglang.ScoringResponse:
        """Scores of responses to prompts, or of items appended to a query."""
        if isinstance(body, sglang.ScoringRequest):
            return await sglang.score(service, body)
        return await vllm.score(service, body)

    return router
