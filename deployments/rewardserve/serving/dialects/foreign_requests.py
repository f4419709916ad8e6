"""What foreign request bodies have in common: texts, token ids, and fields that are refused.

As the foreign servers do, fields that nobody knows are ignored. Fields that would change the score
and are not supported are refused instead: a score of something else is a wrong score.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from fastapi import Query
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    Tag,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rewardserve.errors import InvalidRequest
from rewardserve.routing.evaluate import Item
from rewardserve.serving.dialects.foreign_errors import TAG

DEFAULT_ROUTE = "default"
"""What a request asks for that names no model."""

ModelInUrl = Annotated[
    str, Query(alias="model", description="Model or route; the body of this protocol names none.")
]
"""The way to choose a model for trainers that post to their URL exactly as it was given."""

NO_TEMPLATE = "each model is rendered by its own template"
NO_SIDE = "each model's text is cut on the side that its card names"
TEXT_ONLY = "reward models read text"
ONE_NUMBER = "a score is one number"


class ForeignRequest(BaseModel):
    """A body of which only the declared fields are read, and the `refused` ones are missed."""

    model_config = ConfigDict(frozen=True, strict=True)

    refused: ClassVar[Mapping[str, str]] = {}
    """Field -> why it cannot be had; null, false, 0 and empty ask for nothing and pass."""

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, body: Any) -> Any:
        for field, reason in cls.refused.items():
            if isinstance(body, dict) and body.get(field):
                raise InvalidRequest(f"`{field}` is not supported: {reason}; leave it out", field)
        return body


def one_sentence(must_be: str) -> WrapValidator:
    """For a union's errors: one message in place of one for each of its members."""

    def read(value: Any, as_union: ModelWrapValidatorHandler[Any]) -> Any:
        try:
            return as_union(value)
        except ValidationError:
            raise PydanticCustomError("union", f"must be {must_be}") from None

    return WrapValidator(read)


Text = Annotated[str, Field(min_length=1)]
"""Text rendered by the model's template; special tokens in it are control tokens."""

TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]

Texts = Annotated[
    Text
    | Annotated[list[Text], Field(min_length=1)]
    | TokenIds
    | Annotated[list[TokenIds], Field(min_length=1)],
    one_sentence("text, token ids or a list of either, and none of them empty"),
]
"""One or several items; a flat list of integers is one."""


def items_of(texts: str | Sequence[Any]) -> list[Item]:
    """What is scored, one by one."""
    return [texts] if _is_one(texts) else list(texts)


def _is_one(texts: str | Sequence[Any]) -> bool:
    return isinstance(texts, str) or isinstance(texts[0], int)


def by_key(*keys: str) -> Discriminator:
    """Tells the members of a union, each tagged `with_key`, apart by which key a body has."""

    def tag(body: Any) -> str | None:
        present = [key for key in keys if isinstance(body, dict) and key in body]
        return f"{TAG}{present[0]}" if len(present) == 1 else None

    return Discriminator(
        tag,
        custom_error_type="ambiguous_body",
        custom_error_message=f"the body must have exactly one of: {', '.join(keys)}",
    )


def with_key(key: str) -> Tag:
    """Marks the member of a `by_key` union whose bodies have `key`."""
    return Tag(f"{TAG}{key}")
