"""What can go wrong in the cluster, and what HTTP says about it.

    RewardServeError
    ├── InvalidRequest            the caller's input; param names the field
    │   ├── MalformedRequest
    │   ├── InvalidConversation
    │   ├── ConversationTooLong
    │   └── UnknownModel
    ├── TooLarge
    ├── Unauthorized
    ├── Busy                      try again after retry_after_s
    ├── DeadlineExceeded
    ├── ModelFailed               a model or a member could not give a score
    │   └── NonFiniteScore
    ├── SettingsError             cluster.yaml or a command's options
    ├── CheckpointError           a folder or hub id that cannot be loaded
    │   ├── UnsupportedCheckpoint
    │   ├── UnsafeCheckpoint
    │   └── WeightsMismatch
    └── DataError                 an input or output file of the bulk path
        ├── UnknownColumns
        ├── OutputConflict
        └── OutputFailed

Every message names the thing, the limit and the remedy, and echoes no input text. All arguments
reach `super().__init__`, so that an error survives pickling between processes.
"""

from typing import Final


class RewardServeError(Exception):
    """Base of everything this distribution raises on purpose."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, param)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        return self.message


class InvalidRequest(RewardServeError):
    """The input is not one that can be scored."""


class MalformedRequest(InvalidRequest):
    """The body is not what the protocol allows (not JSON, wrong encoding)."""


class InvalidConversation(InvalidRequest):
    """The messages are not a conversation that ends with the assistant."""


class ConversationTooLong(InvalidRequest):
    """More tokens than the model takes, and truncation was not asked for."""


class UnknownModel(InvalidRequest):
    """No model or route of that name is served."""


class TooLarge(RewardServeError):
    """Body, item count or characters over the configured limit."""


class Unauthorized(RewardServeError):
    """The API key is missing or not one of the configured keys."""


class Busy(RewardServeError):
    """The queue is full; nothing was computed."""

    def __init__(self, message: str, param: str | None = None, retry_after_s: float = 1.0) -> None:
        super().__init__(message, param)
        self.args = (message, param, retry_after_s)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(RewardServeError):
    """The request's deadline passed before its rewards were complete."""


class ModelFailed(RewardServeError):
    """A model, or a member of a route, gave an error instead of a score."""


class NonFiniteScore(ModelFailed):
    """A model computed NaN or infinity; that is an error, never a score."""


class SettingsError(RewardServeError):
    """A setting is unknown, contradictory or out of range."""


class CheckpointError(RewardServeError):
    """A checkpoint cannot be loaded."""


class UnsupportedCheckpoint(CheckpointError):
    """No native family knows this architecture and configuration."""


class UnsafeCheckpoint(CheckpointError):
    """The checkpoint holds pickles, remote code or paths out of its folder."""


class WeightsMismatch(CheckpointError):
    """Tensors are missing, unexpected or of the wrong shape."""


class DataError(RewardServeError):
    """A bulk input cannot be read, or an output cannot be written."""


class UnknownColumns(DataError):
    """The columns are not one of the known corpus shapes."""


class OutputConflict(DataError):
    """The output folder belongs to another run, or one is at work in it."""


class OutputFailed(DataError):
    """The output cannot be written: the disk is full, or the folder read-only."""


HTTP_ERRORS: Final[dict[type[RewardServeError], tuple[int, str]]] = {
    MalformedRequest: (400, "malformed_request"),
    Unauthorized: (401, "unauthorized"),
    UnknownModel: (404, "unknown_model"),
    TooLarge: (413, "too_large"),
    ConversationTooLong: (422, "conversation_too_long"),
    InvalidConversation: (422, "invalid_conversation"),
    InvalidRequest: (422, "invalid_request"),
    Busy: (429, "busy"),
    NonFiniteScore: (500, "non_finite_score"),
    ModelFailed: (502, "model_failed"),
    DeadlineExceeded: (504, "deadline_exceeded"),
    RewardServeError: (500, "internal_error"),
}
"""Status and code of each error that may reach a caller; subclasses inherit their parent's row."""


def http_error(error: RewardServeError) -> tuple[int, str]:
    """Status and code for `error`: the row of its nearest listed ancestor."""
    return next(HTTP_ERRORS[kind] for kind in type(error).__mro__ if kind in HTTP_ERRORS)
