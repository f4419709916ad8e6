"""Text Embeddings Inference's `/predict` and `/rerank`.

A pair is a prompt and a response, rendered by the model's own template; a lone text is rendered
already. `raw_scores` is false unless the request sets it, and that means a sigmoid here, literally
as in TEI: the one dialect whose silent default is not the raw score.
"""

from functools import cache
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
    NO_SIDE,
    ForeignRequest,
    ModelInUrl,
    one_sentence,
)
from rewardserve.serving.dialects.ranking import best_first, groups_of
from rewardserve.serving.dialects.sigmoid import sigmoid_of
from rewardserve.serving.service import Service
from rewardserve_client._types import Reward, join_turns

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

    def check(self) -> None:
        """Raises InvalidRequest when the text is to be cut on a side of the caller's choice."""
        if self.truncate and self.truncation_direction:
            raise InvalidRequest(
                f"`truncation_direction` is not supported: {NO_SIDE}; leave it out",
                "truncation_direction",
            )

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


def routes(service: Service) -> APIRouter:
    """The path that is TEI's alone; `/rerank` is in `shared_paths`."""
    router = dialect_router("TEI", TEI_ERRORS)

    @router.post("/predict")
    async def predict(
        body: PredictRequest, model: ModelInUrl = DEFAULT_ROUTE
    ) -> list[Prediction] | list[list[Prediction]]:
        """The one class's score of each text or pair."""
        body.check()
        rewards = await service.score(model, body.items, truncate=bool(body.truncate))
        predictions = [[Prediction(score=body.value(reward))] for reward in rewards]
        return predictions[0] if body.is_single else predictions

    return router


async def rerank(service: Service, body: RerankRequest) -> Ranks:
    """Responses to one prompt, best first."""
    body.check()
    if not body.texts:
        raise EmptyInputs("`texts` is empty: send at least one text", "texts")
    groups = groups_of(body.query, body.texts)
    (rewards,) = await service.score_groups(DEFAULT_ROUTE, groups, truncate=bool(body.truncate))
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
