"""Text Embeddings Inference's `/predict` and `/rerank`, and `/info`, which clients read first.

A pair is a prompt and a response, rendered by the model's own template; a lone text is rendered
already. `raw_scores` is false unless the request sets it, and that means a sigmoid here, literally
as in TEI: the one dialect whose silent default is not the raw score.
"""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Annotated, Literal, Self

import structlog
from fastapi import APIRouter
from pydantic import BaseModel, Field

from rewardserve.errors import (
    Busy,
    ConversationTooLong,
    DeadlineExceeded,
    InvalidRequest,
    ModelFailed,
    RewardServeError,
    TooLarge,
    Unauthorized,
    UnknownModel,
)
from rewardserve.routing.evaluate import Item
from rewardserve.serving.dialects.foreign_errors import ErrorShape, dialect_router
from rewardserve.serving.dialects.foreign_requests import (
    DEFAULT_ROUTE,
    ForeignRequest,
    ModelInUrl,
    one_sentence,
)
from rewardserve.serving.dialects.ranking import best_first, groups_of
from rewardserve.serving.dialects.sigmoid import sigmoid_of
from rewardserve.serving.service import Service
from rewardserve_client._types import Reward, ServedModel, join_turns

log = structlog.stdlib.get_logger("rewardserve.tei")

Kind = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class EmptyInputs(InvalidRequest):
    """There is nothing to score, which TEI tells apart from other invalid requests."""


class TeiError(BaseModel):
    """An error as TEI answers it."""

    error: str
    error_type: Kind

    @classmethod
    def of(cls, message: str, param: str | None, status: int, name: str) -> Self:  # noqa: ARG003
        return cls.model_validate({"error": message, "error_type": name})


TEI_ERRORS = ErrorShape(
    TeiError,
    {
        EmptyInputs: (400, "Empty"),
        Unauthorized: (401, "Validation"),
        UnknownModel: (404, "Validation"),
        TooLarge: (413, "Validation"),
        ConversationTooLong: (422, "Validation"),
        InvalidRequest: (422, "Validation"),
        ModelFailed: (424, "Backend"),
        Busy: (429, "Overloaded"),
        DeadlineExceeded: (504, "Backend"),
        RewardServeError: (500, "Backend"),
    },
)


class TeiRequest(ForeignRequest):
    """What both paths have."""

    truncate: bool | None = None
    """Shorten what is too long instead of refusing it."""
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = None
    raw_scores: bool = False

    @property
    def may_cut(self) -> bool:
        """Clients that name a side do so always; theirs is no leave to cut on the model's."""
        return bool(self.truncate) and self.truncation_direction is None

    def value(self, reward: Reward) -> float:
        """What the client is to see of `reward`."""
        if self.raw_scores:
            return reward.score
        _hint_at_sigmoid()
        return sigmoid_of(reward)


TextOrPair = Annotated[list[str], Field(min_length=1, max_length=2)]


class PredictRequest(TeiRequest):
    """A text, a list with one, a pair, or a batch of lists with one text or a pair each."""

    inputs: Annotated[
        str | list[TextOrPair] | TextOrPair,
        one_sentence("a text, one or two texts, or a list of lists of one or two texts"),
    ]

    @property
    def is_single(self) -> bool:
        return isinstance(self.inputs, str) or isinstance(self.inputs[0], str)

    @property
    def items(self) -> list[Item]:
        """Raises EmptyInputs."""
        if not self.inputs:
            raise EmptyInputs("`inputs` is empty: send at least one text", "inputs")
        if isinstance(self.inputs, str):
            return [_item([self.inputs])]
        if isinstance(self.inputs[0], str):
            return [_item([text for text in self.inputs if isinstance(text, str)])]
        return [_item(entry) for entry in self.inputs]


class RerankRequest(TeiRequest):
    """One prompt and its responses, to be put into order."""

    query: str
    texts: list[str]
    return_text: bool = False


class Prediction(BaseModel):
    score: float
    label: Literal["LABEL_0"] = "LABEL_0"


class Rank(BaseModel):
    index: int
    score: float


class RankWithText(Rank):
    text: str


Ranks = list[Rank] | list[RankWithText]


class Classifier(BaseModel):
    id2label: dict[str, str] = {"0": "LABEL_0"}
    label2id: dict[str, int] = {"LABEL_0": 0}


class ModelType(BaseModel):
    classifier: Classifier = Classifier()


class Info(BaseModel):
    """As far as it is true of a cluster: how to ask, and not how TEI itself batches."""

    model_id: str
    model_sha: str | None
    model_type: ModelType = ModelType()
    max_input_length: int | None
    """Tokens; of a route, the shortest of the models that run. Null while none does."""
    max_client_batch_size: int
    auto_truncate: Literal[False] = False
    version: str


def routes(service: Service) -> APIRouter:
    """The paths that are TEI's alone; `/rerank` is in `shared_paths`."""
    router = dialect_router("TEI", TEI_ERRORS)

    @router.get("/info")
    async def info(model: ModelInUrl = DEFAULT_ROUTE) -> Info:
        """What is asked here, and how much of it at once."""
        return described(model, (await service.served_models()).data, service.max_conversations)

    @router.post("/predict")
    async def predict(
        body: PredictRequest, model: ModelInUrl = DEFAULT_ROUTE
    ) -> list[Prediction] | list[list[Prediction]]:
        """The one class's score of each text or pair."""
        rewards = await service.score(model, body.items, truncate=body.may_cut)
        predictions = [[Prediction(score=body.value(reward))] for reward in rewards]
        return predictions[0] if body.is_single else predictions

    return router


def described(name: str, served: Sequence[ServedModel], max_conversations: int) -> Info:
    """What TEI's clients want to know of a model or route. Raises UnknownModel."""
    named = [each for each in served if each.id == name]
    if not named:
        raise UnknownModel("no such model or route; GET /v1/models lists them", "model")
    behind = named if named[0].kind == "model" else served
    limits = [each.max_tokens for each in behind if each.max_tokens is not None]
    return Info(
        model_id=named[0].source or name,
        model_sha=named[0].revision,
        max_input_length=min(limits, default=None),
        max_client_batch_size=max_conversations,
        version=version("rewardserve"),
    )


async def rerank(service: Service, body: RerankRequest) -> Ranks:
    """Responses to one prompt, best first."""
    if not body.texts:
        raise EmptyInputs("`texts` is empty: send at least one text", "texts")
    groups = groups_of(body.query, body.texts)
    (rewards,) = await service.score_groups(DEFAULT_ROUTE, groups, truncate=body.may_cut)
    ranks = [Rank(index=index, score=body.value(rewards[index])) for index in best_first(rewards)]
    if not body.return_text:
        return ranks
    return [RankWithText(**vars(rank), text=body.texts[rank.index]) for rank in ranks]


def _item(texts: list[str]) -> Item:
    if len(texts) == 2:
        return join_turns(*texts)
    if not texts[0]:
        raise EmptyInputs("a text is empty: leave it out", "inputs")
    return texts[0]


@cache
def _hint_at_sigmoid() -> None:
    """Says once what this default does to a reward."""
    log.warning("sigmoid", hint="raw_scores is false; set it to true for the raw rewards")
