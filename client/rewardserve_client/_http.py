"""The way to the cluster over HTTP: bodies, statuses and headers to types and errors."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from rewardserve_client._errors import (
    ConnectionFailed,
    InvalidRequest,
    InvalidResponse,
    RewardClientError,
    from_code,
    from_status,
)
from rewardserve_client._types import (
    ErrorBody,
    ErrorDetail,
    RewardsRequest,
    RewardsResponse,
    ServedModels,
)

_PROBE_TIMEOUT_S: Final = 5.0
"""How long `GET /health` may take; a server that needs longer is not well."""

Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True)
class HttpAddress:
    """A cluster's base URL and the key it asks for; the key stays out of the repr."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    connect_timeout_s: float = 5.0
    connections: int = 32

    def open(self) -> "HttpTransport":
        return HttpTransport(self)


class HttpTransport:
    """One connection pool. The time an answer may take is the caller's to limit."""

    def __init__(
        self, address: HttpAddress, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        key = address.api_key
        self._client = httpx2.AsyncClient(
            base_url=address.base_url,
            headers={"Authorization": f"Bearer {key}"} if key else None,
            timeout=httpx2.Timeout(None, connect=address.connect_timeout_s),
            limits=httpx2.Limits(
                max_connections=address.connections + 1,  # one more for the health probe
                max_keepalive_connections=address.connections,
            ),
            transport=transport,
        )

    async def rewards(self, request: RewardsRequest) -> RewardsResponse:
        answer = await self._send("POST", "/v1/rewards", _json(request))
        return _parse(RewardsResponse, answer)

    async def models(self) -> ServedModels:
        return _parse(ServedModels, await self._send("GET", "/v1/models"))

    async def alive(self) -> bool:
        try:
            answer = await self._client.get("/health", timeout=_PROBE_TIMEOUT_S)
        except httpx2.HTTPError:
            return False
        return answer.is_success

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _send(self, method: str, path: str, body: str | None = None) -> httpx2.Response:
        headers = {"Content-Type": "application/json"} if body else None
        try:
            answer = await self._client.request(method, path, content=body, headers=headers)
        except httpx2.TransportError as error:
            url = self._client.base_url
            kind = type(error).__name__
            raise ConnectionFailed(f"no answer from {url}: {kind}: {error}") from error
        except httpx2.RequestError as error:
            raise InvalidResponse(f"the answer to {path} cannot be read: {error}") from error
        if not answer.is_success:
            raise _error(answer)
        return answer


def _json(request: RewardsRequest) -> str:
    try:
        return request.model_dump_json(exclude_defaults=True)
    except PydanticSerializationError:
        raise InvalidRequest(
            "a message holds a lone surrogate, which is no character; remove it"
        ) from None


def _parse(kind: type[Body], answer: httpx2.Response) -> Body:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise InvalidResponse(
            f"the answer is not a {kind.__name__} ({error.error_count()} problems); "
            "is the server older or newer than this client?"
        ) from None


def _error(answer: httpx2.Response) -> RewardClientError:
    """The error that an answer outside 2xx stands for, in the server's words where it has any."""
    request_id = answer.headers.get("x-request-id")
    retry_after_s = _retry_after(answer.headers.get("retry-after"))
    detail = _detail(answer)
    if detail is not None and isinstance(detail.code, str):
        kind = from_code(detail.code)
        return kind(detail.message, detail.param, detail.code, request_id, retry_after_s)
    method, path, status = answer.request.method, answer.request.url.path, answer.status_code
    message = f"{method} {path} was answered with status {status}"
    return from_status(status)(message, None, None, request_id, retry_after_s)


def _detail(answer: httpx2.Response) -> ErrorDetail | None:
    try:
        return ErrorBody.model_validate_json(answer.content).error
    except ValidationError:
        return None


def _retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for: a number, or a date to wait for."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
