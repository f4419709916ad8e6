"""OpenAI's envelope, which vLLM and SGLang took over: ids, lists, usage and errors."""

import base64
import struct
import time
import uuid
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, Field

from rewardserve.errors import (
    Busy,
    ConversationTooLong,
    DeadlineExceeded,
    InvalidConversation,
    InvalidRequest,
    MalformedRequest,
    ModelFailed,
    NonFiniteScore,
    RewardServeError,
    TooLarge,
    Unauthorized,
    UnknownModel,
)
from rewardserve.serving.dialects.foreign_errors import ErrorRows, ErrorShape
from rewardserve_client._types import Reward

ROWS: ErrorRows = {
    MalformedRequest: (400, "BadRequestError"),
    InvalidConversation: (400, "BadRequestError"),
    ConversationTooLong: (400, "BadRequestError"),
    Unauthorized: (401, "AuthenticationError"),
    UnknownModel: (404, "NotFoundError"),
    TooLarge: (413, "RequestTooLargeError"),
    InvalidRequest: (422, "UnprocessableEntityError"),
    NonFiniteScore: (500, "InternalServerError"),
    ModelFailed: (502, "BadGatewayError"),
    Busy: (503, "ServiceUnavailableError"),
    DeadlineExceeded: (504, "TimeoutError"),
    RewardServeError: (500, "InternalServerError"),
}
"""Busy is 503 and not 429: trainers that speak these protocols repeat only what is 5xx."""


class OpenAIErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: int


class OpenAIError(BaseModel):
    """An error as OpenAI and vLLM answer it."""

    error: OpenAIErrorDetail

    @classmethod
    def of(cls, message: str, param: str | None, status: int, name: str) -> Self:
        return cls(error=OpenAIErrorDetail(message=message, type=name, param=param, code=status))


class FlatError(OpenAIErrorDetail):
    """An error as SGLang answers it under `/v1`."""

    object: Literal["error"] = "error"

    @classmethod
    def of(cls, message: str, param: str | None, status: int, name: str) -> Self:
        return cls(message=message, type=name, param=param, code=status)


OPENAI_ERRORS = ErrorShape(OpenAIError, ROWS)
FLAT_ERRORS = ErrorShape(FlatError, ROWS)


class OpenAIUsage(BaseModel):
    """Tokens of the scored texts, before prefix sharing; nothing is completed."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: Literal[0] = 0
    prompt_tokens_details: None = None
    completion_tokens_details: None = None


def usage_of(rewards: Sequence[Reward]) -> OpenAIUsage:
    tokens = sum(reward.tokens for reward in rewards)
    return OpenAIUsage(prompt_tokens=tokens, total_tokens=tokens)


class OpenAIList(BaseModel):
    """The head of an answer that lists something."""

    id: str
    object: Literal["list"] = "list"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    usage: OpenAIUsage


def new_id(kind: str) -> str:
    """`classify-3f2a...`"""
    return f"{kind}-{uuid.uuid4().hex}"


def as_vector(number: float, encoding: Literal["float", "base64"]) -> list[float] | str:
    """A vector of one number, or its float32 bytes, little-endian, in base64."""
    if encoding == "float":
        return [number]
    return base64.b64encode(struct.pack("<f", number)).decode()
