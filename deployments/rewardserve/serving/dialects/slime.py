"""slime's `--rm-type remote_rm`: one sample in, one bare number out.

slime posts to its `--rm-url` as given, so that what the body does not say stands in the URL.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from rewardserve.errors import InvalidRequest
from rewardserve.routing.evaluate import Item
from rewardserve.serving.dialects.foreign_errors import dialect_router
from rewardserve.serving.dialects.foreign_requests import (
    DEFAULT_ROUTE,
    ForeignRequest,
    ModelInUrl,
)
from rewardserve.serving.dialects.openai_envelope import OPENAI_ERRORS
from rewardserve.serving.service import Service
from rewardserve_client._types import Prompt, Reward, join_turns

PromptForm = Annotated[
    Literal["text", "rendered"],
    Query(
        description="What a prompt that is a string is: one user turn, or, with "
        "`--apply-chat-template`, text rendered by the template that the reward model has, too."
    ),
]
AnswerForm = Annotated[
    Literal["number", "object"],
    Query(description="A bare number, or an object for `--reward-key score`."),
]


class Sample(ForeignRequest):
    """A label may come along, and a reward model does not read it."""

    prompt: Prompt
    response: str


class SampleReward(BaseModel):
    """The reward with what the model says beside it."""

    score: float
    attributes: dict[str, float] | None
    uncertainty: dict[str, float] | None


def routes(service: Service) -> APIRouter:
    router = dialect_router("slime", OPENAI_ERRORS)

    @router.post("/slime")
    async def remote_rm(
        body: Sample,
        model: ModelInUrl = DEFAULT_ROUTE,
        prompt: PromptForm = "text",
        answer: AnswerForm = "number",
    ) -> float | SampleReward:
        """The reward of one sample."""
        (reward,) = await service.score(model, [_item(body, prompt)])
        return reward.score if answer == "number" else _with_details(reward)

    return router


def _item(sample: Sample, prompt_form: Literal["text", "rendered"]) -> Item:
    if prompt_form == "text":
        return join_turns(sample.prompt, sample.response)
    if isinstance(sample.prompt, str) and sample.prompt:
        return sample.prompt + sample.response
    raise InvalidRequest("a rendered prompt is text, and not empty", "prompt")


def _with_details(reward: Reward) -> SampleReward:
    return SampleReward(
        score=reward.score, attributes=reward.attributes, uncertainty=reward.uncertainty
    )
