"""JSON logs: one event a line, with the request's id, and never a word of a conversation.

Knows how lines look. Knows nothing of what is logged.
"""

import logging
import re
import sys
import uuid
from typing import TextIO

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever stderr is at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def configure_logs() -> None:
    """Write this process's events, and the standard library's, to stderr as JSON."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(
            # Local variables hold conversations.
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        ),
    ]
    renderer = structlog.processors.JSONRenderer()
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=renderer)
    )
    ours = logging.getLogger("rewardserve")
    ours.handlers = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class RequestIds:
    """ASGI middleware that puts the request's id into every log line about it.

    Serve's proxy has set the header where the caller had not; an id that could break a log line is
    replaced.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            sent = Headers(scope=scope).get("x-request-id", "")
            request_id = sent if REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)
