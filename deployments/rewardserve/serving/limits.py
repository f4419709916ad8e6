"""What a request may cost: bytes on the stream, conversations, messages and characters.

Everything is counted before anything is tokenised. Knows nothing of models, keys or Ray.
"""

from collections.abc import Callable, Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rewardserve.errors import InvalidRequest, TooLarge
from rewardserve.families.conversation import check_text, checked_conversation
from rewardserve.routing.evaluate import Group, Item
from rewardserve.serving.error_responses import error_response
from rewardserve.serving.router_settings import Limits

MAX_HEADER_BYTES: Final = 16_384
"""Names and values; as the front proxy has it."""

TOO_LARGE_HEADERS: Final = TooLarge(f"the headers are over the limit of {MAX_HEADER_BYTES} bytes")


def check_groups(groups: Sequence[Group], limits: Limits, places: Sequence[Sequence[str]]) -> None:
    """Refuse what no model should see; `places` says where in the request each item stands.

    Raises TooLarge for what is over a limit, InvalidConversation for what is no conversation and
    InvalidRequest where there is nothing to score.
    """
    if not groups or not all(groups):
        raise InvalidRequest("there is nothing to score: send at least one response per input")
    count = sum(len(group) for group in groups)
    if count > limits.max_conversations:
        raise TooLarge(
            f"{count} conversations in one request; the limit is {limits.max_conversations}: "
            "send them in several requests"
        )
    for group, group_places in zip(groups, places, strict=True):
        for item, place in zip(group, group_places, strict=True):
            _check_item(item, limits, place)


def _check_item(item: Item, limits: Limits, place: str) -> None:
    if isinstance(item, str):
        _check_chars(len(item), limits, place)
        check_text(item, place)
        return
    if item and isinstance(item[0], int):
        # A token stands for at least one byte of text, so token ids share the characters' limit.
        _check_chars(len(item), limits, place)
        return
    try:
        messages = checked_conversation(item)
    except InvalidRequest as error:
        raise type(error)(error.message, f"{place}.{error.param}") from None
    if len(messages) > limits.max_messages:
        raise TooLarge(
            f"{len(messages)} messages in one conversation; the limit is {limits.max_messages}",
            param=place,
        )
    _check_chars(sum(len(message["content"]) for message in messages), limits, place)


def _check_chars(count: int, limits: Limits, place: str) -> None:
    if count > limits.max_chars:
        raise TooLarge(
            f"{count} characters in one conversation; the limit is {limits.max_chars}: shorten it",
            param=place,
        )


class RequestLimit:
    """ASGI middleware that reads a body up to `max_bytes`, counted on the stream, and no further.

    A longer one is answered with 413 whatever its headers claim, and nobody behind sees it; nor one
    whose sender left before its end. Headers over `MAX_HEADER_BYTES` are answered with 431.

    Of whoever `may_send` turns away by the `Authorization` header no body is read at all. Which
    routes are closed is not decided here: the app goes on with an empty body.
    """

    def __init__(
        self, app: ASGIApp, *, max_bytes: int, may_send: Callable[[str], bool] | None
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._may_send = may_send

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            await error_response(TOO_LARGE_HEADERS, status=431)(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._may_send and not self._may_send(headers.get("authorization", "")):
            await self._app(scope, _replay(b"", receive), send)
            return
        try:
            body = await self._read(headers, receive)
        except ClientDisconnect:
            return
        except TooLarge as error:
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        claimed = headers.get("content-length", "")
        self._check(int(claimed) if claimed.isdecimal() else 0)
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            self._check(len(body))
            more = message.get("more_body", False)
        return bytes(body)

    def _check(self, length: int) -> None:
        if length > self._max_bytes:
            raise TooLarge(
                f"the body is over the limit of {self._max_bytes} bytes: send several requests"
            )


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body that was read, once; afterwards whatever the connection says."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return unread.pop() if unread else await receive()

    return replay
