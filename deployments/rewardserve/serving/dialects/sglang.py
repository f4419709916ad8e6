"""SGLang's `/classify` (also `/encode`), `/v1/classify`, `/v1/score` and `/health_generate`.

Scores are raw everywhere, in `/v1/classify` too, where SGLang's own softmax over one class would
always give 1. Clients of SGLang render their texts; a pair `[prompt, response]` is rendered here.
"""

import time
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, TypeVar

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, Field

from rewardserve.errors import MalformedRequest
from rewardserve.routing.evaluate import Item
from rewardserve.serving.dialects.foreign_errors import dialect_router
from rewardserve.serving.dialects.foreign_requests import (
    DEFAULT_ROUTE,
    ONE_NUMBER,
    TEXT_ONLY,
    ForeignRequest,
    Text,
    Texts,
    TokenIds,
    by_key,
    items_of,
    one_sentence,
    with_key,
)
from rewardserve.serving.dialects.openai_envelope import (
    FLAT_ERRORS,
    OPENAI_ERRORS,
    OpenAIUsage,
    new_id,
    usage_of,
)
from rewardserve.serving.dialects.vllm import Classified, ClassifyResponse
from rewardserve.serving.service import Service
from rewardserve_client._types import Reward, join_turns

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

NO_STATES = "hidden states stay inside"


class NativeRequest(ForeignRequest):
    """What SGLang's own requests have."""

    refused: ClassVar = {
        "image_data": TEXT_ONLY,
        "video_data": TEXT_ONLY,
        "audio_data": TEXT_ONLY,
        "lora_path": "an adapter is a model of its own here",
        "dimensions": ONE_NUMBER,
        "return_pooled_hidden_states": NO_STATES,
    }


Pair = Annotated[list[str], Field(min_length=2, max_length=2)]


class TextRequest(NativeRequest):
    """Rendered texts, or pairs of prompt and response."""

    text: Annotated[
        Text
        | Annotated[list[Text], Field(min_length=1)]
        | Annotated[list[Pair], Field(min_length=1)],
        one_sentence("text, a list of texts or a list of pairs, and none of them empty"),
    ]

    @property
    def is_single(self) -> bool:
        return isinstance(self.text, str)

    @property
    def items(self) -> list[Item]:
        texts = [self.text] if isinstance(self.text, str) else self.text
        return [text if isinstance(text, str) else join_turns(*text) for text in texts]


class TokensRequest(NativeRequest):
    """Token ids."""

    input_ids: Annotated[
        TokenIds | Annotated[list[TokenIds], Field(min_length=1)],
        one_sentence("token ids or a list of them, and none of them empty"),
    ]

    @property
    def is_single(self) -> bool:
        return isinstance(self.input_ids[0], int)

    @property
    def items(self) -> list[Item]:
        return items_of(self.input_ids)


NativeBody = Annotated[
    Annotated[TextRequest, with_key("text")] | Annotated[TokensRequest, with_key("input_ids")],
    by_key("text", "input_ids"),
]


class MetaInfo(BaseModel):
    id: str
    finish_reason: None = None
    prompt_tokens: int
    cached_tokens: int = 0
    e2e_latency: float
    """Seconds."""


class NativeAnswer(BaseModel):
    embedding: list[float]
    """The score, alone."""
    meta_info: MetaInfo


class InputRequest(ForeignRequest):
    """The body of `/v1/classify`."""

    input: Texts
    model: str = DEFAULT_ROUTE


class ScoringRequest(ForeignRequest):
    """The body of `/v1/score`: items to be appended to a query, both rendered text or both ids."""

    refused: ClassVar = {
        "label_token_ids": "a reward model has no next token",
        "apply_softmax": "over one score it is always 1",
        "return_pooled_hidden_states": NO_STATES,
        "score_extraction_token": "each model is read where its card says",
    }
    query: Annotated[str | TokenIds, one_sentence("text or token ids")]
    items_: Annotated[
        str | list[str] | list[TokenIds],
        Field(alias="items"),
        one_sentence("text, a list of texts or a list of token ids"),
    ]
    item_first: bool = False
    """The item goes in front of the query."""
    model: str = DEFAULT_ROUTE

    @property
    def texts(self) -> list[Item]:
        """Raises MalformedRequest for an empty text, and where text and ids are mixed."""
        items = [self.items_] if isinstance(self.items_, str) else self.items_
        return [self._joined(item) for item in items]

    def _joined(self, item: str | list[int]) -> Item:
        if not self.query and not item:
            raise MalformedRequest("query and item are both empty", "items")
        first, last = (item, self.query) if self.item_first else (self.query, item)
        if isinstance(first, str) and isinstance(last, str):
            return first + last
        if isinstance(first, list) and isinstance(last, list):
            return first + last
        raise MalformedRequest("query and items must both be text or both token ids", "items")


class ScoringResponse(BaseModel):
    scores: list[list[float]]
    token_logprobs: None = None
    pooled_hidden_states: None = None
    model: str
    usage: OpenAIUsage
    object: str = "scoring"


def post_or_put(router: APIRouter, path: str) -> Callable[[Endpoint], Endpoint]:
    """Answers both methods, as SGLang does on its native paths."""

    def add(endpoint: Endpoint) -> Endpoint:
        # One route for both, whose 405 names both in `Allow`; one each for the OpenAPI document.
        router.add_api_route(path, endpoint, methods=["POST", "PUT"], include_in_schema=False)
        router.add_api_route(path, endpoint, methods=["POST"])
        router.add_api_route(path, endpoint, methods=["PUT"])
        return endpoint

    return add


def routes(service: Service) -> APIRouter:
    """The paths that are SGLang's alone; the others are in `shared_paths`."""
    native = dialect_router("SGLang", OPENAI_ERRORS)
    under_v1 = dialect_router("SGLang", FLAT_ERRORS)

    @post_or_put(native, "/encode")
    async def encode(body: Annotated[NativeBody, Body()]) -> NativeAnswer | list[NativeAnswer]:
        """The same as `/classify`."""
        return await classify(service, body)

    @native.get(
        "/health_generate",
        response_class=Response,
        responses={503: {"description": "A model that should answer does not."}},
    )
    async def health_generate() -> Response:
        """Every model that should answer does; for scripts that wait for SGLang."""
        return Response(status_code=503 if await service.unready_models() else 200)

    @under_v1.post("/v1/classify")
    async def classify_input(body: InputRequest) -> ClassifyResponse:
        """Raw scores in the shape of vLLM's `/classify`."""
        rewards = await service.score(body.model, items_of(body.input))
        return ClassifyResponse(
            id=new_id("classify"),
            model=body.model,
            usage=usage_of(rewards),
            data=[
                Classified(index=index, probs=[reward.score])
                for index, reward in enumerate(rewards)
            ],
        )

    native.include_router(under_v1)
    return native


async def classify(
    service: Service, body: TextRequest | TokensRequest
) -> NativeAnswer | list[NativeAnswer]:
    """Scores as embeddings of one number; one answer for one text, a list for a list."""
    began = time.perf_counter()
    rewards = await service.score(DEFAULT_ROUTE, body.items)
    answers = [_answer(reward, time.perf_counter() - began) for reward in rewards]
    return answers[0] if body.is_single else answers


async def score(service: Service, body: ScoringRequest) -> ScoringResponse:
    """Raw scores of query and item, joined as they are."""
    texts = body.texts
    answer = await service.score_groups(body.model, [texts]) if texts else [[]]
    rewards = answer[0]
    return ScoringResponse(
        scores=[[reward.score] for reward in rewards], model=body.model, usage=usage_of(rewards)
    )


def _answer(reward: Reward, latency_s: float) -> NativeAnswer:
    info = MetaInfo(id=new_id("classify"), prompt_tokens=reward.tokens, e2e_latency=latency_s)
    return NativeAnswer(embedding=[reward.score], meta_info=info)
