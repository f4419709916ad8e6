"""Errors in a foreign protocol's own words: its body, its statuses, on its routes alone.

Knows how an error of ours becomes such an answer; which status and name each one gets stands in
the dialect's own file.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Protocol, Self

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from rewardserve.errors import MalformedRequest, RewardServeError
from rewardserve.serving.error_responses import (
    MAX_MESSAGE_CHARS,
    MAX_PARAM_CHARS,
    UNREADABLE,
    as_invalid_request,
    error_headers,
)

ErrorRows = Mapping[type[RewardServeError], tuple[int, str]]
"""Error -> status and the protocol's name for it; subclasses inherit their parent's row."""

TAG = "with_"
"""What the tags of unions begin with; they are no part of a place in a body."""


class ForeignError(Protocol):
    """A pydantic model of a protocol's error body."""

    @classmethod
    def of(cls, message: str, param: str | None, status: int, name: str) -> Self: ...

    def model_dump(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """How one protocol says what went wrong."""

    body: type[ForeignError]
    rows: ErrorRows

    def answer(self, error: RewardServeError) -> Response:
        """`error` as this protocol's client expects it."""
        kind = next(kind for kind in type(error).__mro__ if kind in self.rows)
        status, name = self.rows[kind]
        param = error.param and error.param[:MAX_PARAM_CHARS]
        body = self.body.of(error.message[:MAX_MESSAGE_CHARS], param, status, name)
        return JSONResponse(body.model_dump(), status, error_headers(error))


def dialect_router(
    tag: str, shape: ErrorShape, *, shape_by_key: Mapping[str, ErrorShape] | None = None
) -> APIRouter:
    """A router whose errors have `shape`.

    Where two protocols share a path, `shape_by_key` names the shape of those whose bodies have a
    key that the other's has not.
    """
    others = dict(shape_by_key or {})

    class DialectRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override] # theirs says Coroutine
            handle = super().get_route_handler()

            async def answered(request: Request) -> Response:
                try:
                    return await handle(request)
                except (RewardServeError, RequestValidationError, HTTPException) as error:
                    chosen = await _shape_of(request, others) if others else None
                    return (chosen or shape).answer(_as_ours(error))

            return answered

    return APIRouter(
        tags=[tag], route_class=DialectRoute, responses=_documented(shape, *others.values())
    )


def _as_ours(error: RewardServeError | RequestValidationError | HTTPException) -> RewardServeError:
    """What the protocol's schema does not allow is malformed, whichever part of it is broken."""
    if isinstance(error, RewardServeError):
        return error
    if isinstance(error, HTTPException):
        return MalformedRequest(UNREADABLE)
    problems = [{**problem, "loc": _untagged(problem["loc"])} for problem in error.errors()]
    invalid = as_invalid_request(RequestValidationError(problems))
    return MalformedRequest(invalid.message, invalid.param)


def _untagged(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    return tuple(step for step in location if not str(step).startswith(TAG))


async def _shape_of(request: Request, by_key: Mapping[str, ErrorShape]) -> ErrorShape | None:
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        return None
    keys = [key for key in by_key if isinstance(body, dict) and key in body]
    return by_key[keys[0]] if keys else None


def _documented(*shapes: ErrorShape) -> dict[int | str, dict[str, Any]]:
    """Every status and body that the shapes have, for the OpenAPI document."""
    names = {status: name for shape in shapes for status, name in shape.rows.values()}
    return {
        status: {
            "description": names[status],
            "model": reduce(or_, [shape.body for shape in shapes if _answers(shape, status)]),
        }
        for status in sorted(names)
    }


def _answers(shape: ErrorShape, status: int) -> bool:
    return any(status == own for own, _ in shape.rows.values())
