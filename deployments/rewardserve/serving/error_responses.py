"""Errors as HTTP answers: one body shape, at most 2 kB, and nothing of the input in it.

The table of statuses is in `rewardserve.errors`. Knows nothing of routes or models.
"""

import math
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from rewardserve.errors import (
    Busy,
    InvalidRequest,
    MalformedRequest,
    RewardServeError,
    Unauthorized,
    http_error,
)
from rewardserve_client._types import ErrorBody, ErrorDetail

MAX_MESSAGE_CHARS = 1000
MAX_PARAM_CHARS = 200
SHOWN_ERRORS = 3
"""Of a body with many."""

UNREADABLE = "the body cannot be read: send JSON in UTF-8"

DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": description}
    for status, description in {
        400: "The body is not JSON, or not UTF-8.",
        401: "The API key is missing or unknown.",
        404: "No model or route of that name is served.",
        413: "The body, a conversation or their number is over the limit.",
        422: "The request or a conversation in it is not one that can be scored.",
        429: "The queue is full; come back after `Retry-After` seconds.",
        500: "A bug, or a model that computed something that is no number.",
        502: "A model, or a member of the route, gave no score.",
        504: "The deadline passed.",
    }.items()
}
"""What every scoring route may answer beside 200, for the OpenAPI document."""


def error_response(error: RewardServeError, *, status: int | None = None) -> JSONResponse:
    """The answer for `error`, with its headers and its status, or a more exact one."""
    usual, code = http_error(error)
    headers = error_headers(error)
    kind = type(error).__name__
    return _response(status or usual, error.message, kind, error.param, code, headers)


def error_headers(error: RewardServeError) -> dict[str, str]:
    """The headers that go with `error`, whatever shape the body has."""
    if isinstance(error, Busy):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    return {}


def add_error_handlers(app: FastAPI) -> None:
    """Answer every exception that reaches the app in the one shape."""

    @app.exception_handler(RewardServeError)
    async def known(_: Request, error: RewardServeError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(as_invalid_request(error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:
            return error_response(MalformedRequest(UNREADABLE))
        message = f"{error.detail}"
        headers = dict(error.headers or {})
        return _response(error.status_code, message, "HTTPError", None, None, headers)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
        return error_response(RewardServeError("internal error; the server's log has the details"))


def _response(
    status: int,
    message: str,
    kind: str,
    param: str | None,
    code: str | None,
    headers: dict[str, str],
) -> JSONResponse:
    detail = ErrorDetail(
        message=message[:MAX_MESSAGE_CHARS],
        type=kind,
        param=param and param[:MAX_PARAM_CHARS],
        code=code or status,
    )
    return JSONResponse(ErrorBody(error=detail).model_dump(), status, headers)


def as_invalid_request(error: RequestValidationError) -> InvalidRequest:
    """What is wrong and where, without a word of the value that was sent."""
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        return MalformedRequest("the body is not valid JSON")
    places = [_place(problem["loc"]) for problem in problems]
    shown = [
        f"{place}: {problem['msg']}" if place else str(problem["msg"])
        for place, problem in zip(places, problems, strict=True)
    ][:SHOWN_ERRORS]
    rest = f" (and {len(problems) - SHOWN_ERRORS} more)" if len(problems) > SHOWN_ERRORS else ""
    return InvalidRequest("; ".join(shown) + rest, param=places[0] or None)


def _place(location: tuple[str | int, ...]) -> str:
    """`inputs[0].messages`, from pydantic's path; a name no schema would have is not repeated."""
    place = ""
    for step in location[1:]:
        if isinstance(step, int):
            place += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,39}", step):
            place += f".{step}" if place else step
        else:
            place += ".?"
    return place
