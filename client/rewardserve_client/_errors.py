"""What can go wrong for a caller of the cluster.

    RewardClientError             base of all; code is the server's, None where the client found it
    ├── InvalidRequest            the input; param names the field
    │   ├── MalformedRequest
    │   ├── InvalidConversation
    │   ├── ConversationTooLong
    │   └── UnknownModel
    ├── TooLarge                  body, item count or characters over the server's limit
    ├── Unauthorized
    ├── Busy                      nothing was computed; retry_after_s says when to come back
    ├── DeadlineExceeded          the call's time was up, here or there
    │   └── Stalled               no request of a large call finished for too long
    ├── ModelFailed               a model, or a member of a route, gave an error instead of a score
    │   └── NonFiniteScore
    ├── ServerFailed              the server broke without saying why
    ├── ConnectionFailed          no answer: refused, reset, or nothing of ours at that address
    └── InvalidResponse           an answer that the protocol does not allow

Each code that the server sends has its twin here, found by `from_code`. All arguments reach
`super().__init__`, so that an error survives pickling between processes.
"""

from typing import ClassVar, Final


class RewardClientError(Exception):
    """Base of everything this distribution raises on purpose."""

    retryable: ClassVar[bool] = False
    """Whether the same request may succeed when it is sent again."""

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, param, code, request_id, retry_after_s)
        self.message = message
        self.param = param
        self.code = code
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class InvalidRequest(RewardClientError):
    """The input is not one that can be scored."""


class MalformedRequest(InvalidRequest):
    """The body is not what the protocol allows (not JSON, wrong encoding)."""


class InvalidConversation(InvalidRequest):
    """The messages are not a conversation that ends with the assistant."""


class ConversationTooLong(InvalidRequest):
    """More tokens than the model takes, and truncation was not asked for."""


class UnknownModel(InvalidRequest):
    """No model or route of that name is served."""


class TooLarge(RewardClientError):
    """Body, item count or characters over the server's limit."""


class Unauthorized(RewardClientError):
    """The API key is missing or not one of the server's keys."""


class Busy(RewardClientError):
    """The server's queue is full; nothing was computed."""

    retryable = True


class DeadlineExceeded(RewardClientError):
    """The call's time was up before its rewards were complete."""


class Stalled(DeadlineExceeded):
    """No request of a large call finished for as long as the caller is ready to wait."""


class ModelFailed(RewardClientError):
    """A model, or a member of a route, gave an error instead of a score."""

    retryable = True


class NonFiniteScore(ModelFailed):
    """A model computed NaN or infinity, and would again."""

    retryable = False


class ServerFailed(RewardClientError):
    """The server broke without saying why."""

    retryable = True


class ConnectionFailed(RewardClientError):
    """No answer: refused, reset, timed out, or nothing of ours at that address."""

    retryable = True


class InvalidResponse(RewardClientError):
    """The answer is not one that the protocol allows."""


TWINS: Final[dict[str, type[RewardClientError]]] = {
    "malformed_request": MalformedRequest,
    "unauthorized": Unauthorized,
    "unknown_model": UnknownModel,
    "too_large": TooLarge,
    "conversation_too_long": ConversationTooLong,
    "invalid_conversation": InvalidConversation,
    "invalid_request": InvalidRequest,
    "busy": Busy,
    "non_finite_score": NonFiniteScore,
    "model_failed": ModelFailed,
    "deadline_exceeded": DeadlineExceeded,
    "internal_error": ServerFailed,
}
"""The error that stands for each code of the server."""

_BY_STATUS: Final[dict[int, type[RewardClientError]]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: ConnectionFailed,
    408: DeadlineExceeded,
    413: TooLarge,
    429: Busy,
    503: Busy,
    504: DeadlineExceeded,
}
"""What a status means in an answer without a code of ours (a proxy's, or Serve's own)."""


def from_code(code: str) -> type[RewardClientError]:
    """The twin of the server's error `code`; a code from a newer server is a `ServerFailed`."""
    return TWINS.get(code, ServerFailed)


def from_status(status: int) -> type[RewardClientError]:
    """The error for an answer that carries a status and nothing else of ours."""
    return _BY_STATUS.get(status, InvalidRequest if status < 500 else ServerFailed)
