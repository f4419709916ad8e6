"""vLLM's pooling server: `/classify`, `/pooling`, `/score`, `/rerank`, and what is probed beside.

Scores are raw unless the request sets `use_activation`; there it is a sigmoid, as vLLM's is for one
label. Queries and documents are prompts and responses, rendered by the model's own template.
"""

from importlib.metadata import version
from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Body
from pydantic import AliasChoices, BaseModel, Field

from rewardserve.serving.dialects.foreign_errors import dialect_router
from rewardserve.serving.dialects.foreign_requests import (
    DEFAULT_ROUTE,
    NO_SIDE,
    NO_TEMPLATE,
    ONE_NUMBER,
    TEXT_ONLY,
    ForeignRequest,
    Texts,
    by_key,
    items_of,
    with_key,
)
from rewardserve.serving.dialects.openai_envelope import (
    OPENAI_ERRORS,
    OpenAIList,
    as_vector,
    new_id,
    usage_of,
)
from rewardserve.serving.dialects.ranking import best_first, groups_of
from rewardserve.serving.dialects.sigmoid import sigmoid_of
from rewardserve.serving.service import Service
from rewardserve_client._types import Message, Reward

FINISHED = "a reward is given to a finished response"
RENAMED = "vLLM replaced it by use_activation"


class VllmRequest(ForeignRequest):
    """What all of vLLM's pooling requests have."""

    refused: ClassVar = {
        "chat_template": NO_TEMPLATE,
        "chat_template_kwargs": NO_TEMPLATE,
        "truncation_side": NO_SIDE,
        "mm_processor_kwargs": TEXT_ONLY,
        "activation": RENAMED,
        "normalize": RENAMED,
        "softmax": RENAMED,
    }
    model: str | None = None
    use_activation: bool | None = None
    """True asks for the sigmoid of the score."""
    truncate_prompt_tokens: Literal[-1] | None = None
    """-1 shortens what is too long to the model's limit; left out, that is an error."""

    @property
    def route(self) -> str:
        return self.model or DEFAULT_ROUTE

    @property
    def truncate(self) -> bool:
        return self.truncate_prompt_tokens is not None

    def value(self, reward: Reward) -> float:
        """What the client is to see of `reward`."""
        return sigmoid_of(reward) if self.use_activation else reward.score


class CompletionRequest(VllmRequest):
    """Rendered texts or token ids."""

    input: Texts


class ChatRequest(VllmRequest):
    """One conversation."""

    refused: ClassVar = VllmRequest.refused | {
        "media_io_kwargs": TEXT_ONLY,
        "add_generation_prompt": FINISHED,
        "continue_final_message": FINISHED,
    }
    messages: Annotated[list[Message], Field(min_length=1)]


class PoolingOptions(BaseModel):
    """What `/pooling` takes besides."""

    task: Literal["classify"] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    embed_dtype: Literal["float32"] = "float32"
    endianness: Literal["native", "little"] = "native"


class PoolingCompletionRequest(CompletionRequest, PoolingOptions):
    refused: ClassVar = CompletionRequest.refused | {"dimensions": ONE_NUMBER}


class PoolingChatRequest(ChatRequest, PoolingOptions):
    refused: ClassVar = ChatRequest.refused | {"dimensions": ONE_NUMBER}


PoolingRequest = Annotated[
    Annotated[PoolingCompletionRequest, with_key("input")]
    | Annotated[PoolingChatRequest, with_key("messages")],
    by_key("input", "messages"),
]


class _RankingRequest(VllmRequest):
    refused: ClassVar = VllmRequest.refused | {
        "instruction": NO_TEMPLATE,
        "max_tokens_per_query": "truncate_prompt_tokens=-1 shortens the whole conversation",
        "max_tokens_per_doc": "truncate_prompt_tokens=-1 shortens the whole conversation",
    }


Strings = str | Annotated[list[str], Field(min_length=1)]


class ScoreRequest(_RankingRequest):
    """One prompt with N responses, or N prompts with one response each."""

    queries: Strings = Field(validation_alias=AliasChoices("queries", "text_1", "data_1"))
    documents: Strings = Field(
        validation_alias=AliasChoices("documents", "items", "text_2", "data_2")
    )


class RerankRequest(_RankingRequest):
    """One prompt and its responses, to be put into order."""

    query: str
    documents: Annotated[list[str], Field(min_length=1)]
    top_n: int = 0
    """How many to answer with; 0 for all."""


class Classified(BaseModel):
    index: int
    label: Literal["LABEL_0"] = "LABEL_0"
    probs: list[float]
    """The score, despite the name."""
    num_classes: Literal[1] = 1


class ClassifyResponse(OpenAIList):
    data: list[Classified]


class Pooled(BaseModel):
    index: int
    object: Literal["pooling"] = "pooling"
    data: list[float] | str


class PoolingResponse(OpenAIList):
    data: list[Pooled]


class Scored(BaseModel):
    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreResponse(OpenAIList):
    data: list[Scored]


class RerankedDocument(BaseModel):
    text: str
    multi_modal: None = None


class Reranked(BaseModel):
    index: int
    document: RerankedDocument
    relevance_score: float


class RerankUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class RerankResponse(BaseModel):
    id: str
    model: str
    usage: RerankUsage
    results: list[Reranked]


def routes(service: Service) -> APIRouter:
    """The paths that are vLLM's alone; the others are in `shared_paths`."""
    router = dialect_router("vLLM", OPENAI_ERRORS)

    @router.post("/pooling")
    async def pooling(body: Annotated[PoolingRequest, Body()]) -> PoolingResponse:
        """Scores as vectors of one number."""
        rewards = await _rewards(service, body)
        vectors = [as_vector(body.value(reward), body.encoding_format) for reward in rewards]
        return PoolingResponse(
            id=new_id("pooling"),
            model=body.route,
            usage=usage_of(rewards),
            data=[Pooled(index=index, data=vector) for index, vector in enumerate(vectors)],
        )

    @router.post("/score")
    async def scores(body: ScoreRequest) -> ScoreResponse:
        """Scores of responses to prompts."""
        return await score(service, body)

    @router.post("/v1/rerank")
    @router.post("/v2/rerank")
    async def ranking(body: RerankRequest) -> RerankResponse:
        """Responses to one prompt, best first."""
        return await rerank(service, body)

    @router.get("/ping")
    async def ping() -> dict[str, str]:
        """The process answers."""
        return {}

    @router.get("/version")
    async def server_version() -> dict[str, str]:
        """This server's own version, not one of vLLM's."""
        return {"version": version("rewardserve")}

    return router


async def classify(service: Service, body: CompletionRequest | ChatRequest) -> ClassifyResponse:
    """Scores as the one probability of the one class."""
    rewards = await _rewards(service, body)
    return ClassifyResponse(
        id=new_id("classify"),
        model=body.route,
        usage=usage_of(rewards),
        data=[
            Classified(index=index, probs=[body.value(reward)])
            for index, reward in enumerate(rewards)
        ],
    )


async def score(service: Service, body: ScoreRequest) -> ScoreResponse:
    """Scores of responses to prompts; those of one prompt are one group."""
    groups = groups_of(body.queries, body.documents)
    answer = await service.score_groups(body.route, groups, truncate=body.truncate)
    rewards = [reward for rewards in answer for reward in rewards]
    return ScoreResponse(
        id=new_id("score"),
        model=body.route,
        usage=usage_of(rewards),
        data=[
            Scored(index=index, score=body.value(reward)) for index, reward in enumerate(rewards)
        ],
    )


async def rerank(service: Service, body: RerankRequest) -> RerankResponse:
    """Responses to one prompt, best first."""
    groups = groups_of(body.query, body.documents)
    (rewards,) = await service.score_groups(body.route, groups, truncate=body.truncate)
    usage = usage_of(rewards)
    results = [
        Reranked(
            index=index,
            document=RerankedDocument(text=body.documents[index]),
            relevance_score=body.value(rewards[index]),
        )
        for index in best_first(rewards)
    ]
    return RerankResponse(
        id=new_id("rerank"),
        model=body.route,
        usage=RerankUsage(prompt_tokens=usage.prompt_tokens, total_tokens=usage.total_tokens),
        results=results[: body.top_n] if body.top_n > 0 else results,
    )


async def _rewards(service: Service, body: CompletionRequest | ChatRequest) -> list[Reward]:
    items = items_of(body.input) if isinstance(body, CompletionRequest) else [body.messages]
    return await service.score(body.route, items, truncate=body.truncate)
