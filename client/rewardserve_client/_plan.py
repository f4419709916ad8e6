"""Conversations to requests, and answers back to rewards in the same order: pure."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict

from rewardserve_client._errors import InvalidRequest, InvalidResponse, RewardClientError
from rewardserve_client._results import Rewards
from rewardserve_client._types import (
    CandidatesInput,
    Conversation,
    ConversationInput,
    Priority,
    Prompt,
    RewardsRequest,
    RewardsResponse,
    as_conversations,
)

CONVERSATIONS_PER_REQUEST: Final = 64
"""One request of 64 conversations costs the server far less than 64 requests."""

CHARS_PER_REQUEST: Final = 500_000
"""Keeps a body well below a server's limit of some megabytes, whatever the script."""


class ScoreOptions(TypedDict, total=False):
    """What every scoring call takes besides its input."""

    model: str
    """A model or a route of the cluster; its `default` route when left out."""
    truncate: bool
    """Shorten what is over the model's limit instead of refusing it; such a reward says so."""
    priority: Priority
    tags: dict[str, str]
    """Free labels that `select` routes read."""


@dataclass(frozen=True)
class Part:
    """Some consecutive conversations of a larger input, as one request."""

    request: RewardsRequest
    first: int
    """The place of its first conversation in the whole input."""

    def halves(self) -> "tuple[Part, Part]":
        """The same conversations in two requests."""
        inputs = self.request.inputs
        middle = len(inputs) // 2
        front = self.request.model_copy(update={"inputs": inputs[:middle]})
        back = self.request.model_copy(update={"inputs": inputs[middle:]})
        return Part(front, self.first), Part(back, self.first + middle)

    def placed(self, error: RewardClientError) -> RewardClientError:
        """`error` about this request, with places counted in the whole input."""
        message, param, *rest = error.args
        return type(error)(self._shifted(message), param and self._shifted(param), *rest)

    def _shifted(self, text: str) -> str:
        def shift(match: re.Match[str]) -> str:
            return f"inputs[{int(match[1]) + self.first}]"

        return re.sub(r"inputs\[(\d+)\]", shift, text)


def parts(conversations: Iterable[Conversation], options: ScoreOptions) -> Iterator[Part]:
    """Requests for finished conversations, in order; reads the input only as far as needed.

    Raises `InvalidRequest`, naming the conversation by its place in the input.
    """
    first = 0
    for chunk in _chunks(conversations):
        inputs = [
            _checked(ConversationInput, f"inputs[{index}]", messages=conversation)
            for index, conversation in enumerate(chunk, first)
        ]
        yield Part(_checked(RewardsRequest, "", inputs=inputs, **options), first)
        first += len(chunk)


def conversation_request(conversation: Conversation, options: ScoreOptions) -> RewardsRequest:
    """The request for one finished conversation."""
    (part,) = parts([conversation], options)
    return part.request


def candidates_request(
    prompt: Prompt, responses: Sequence[str], options: ScoreOptions
) -> RewardsRequest:
    """The request for all responses to one prompt.

    They stay in one request, however many: routes that compare the candidates of a prompt must
    see all of them.
    """
    if not responses:
        raise InvalidRequest("responses is empty; give at least one", param="responses")
    candidates = _checked(CandidatesInput, "inputs[0]", prompt=prompt, responses=list(responses))
    return _checked(RewardsRequest, "", inputs=[candidates], **options)


def rewards_of(response: RewardsResponse, request: RewardsRequest) -> Rewards:
    """The rewards in the order of the request's conversations.

    Raises `InvalidResponse` if one is missing, doubled, out of place or not finite.
    """
    if [item.index for item in response.data] != list(range(len(request.inputs))):
        raise InvalidResponse(
            f"{len(request.inputs)} inputs were sent, and the answer does not have exactly one "
            f"item for each, in order; it has {len(response.data)}"
        )
    rewards = Rewards()
    for item, sent in zip(response.data, request.inputs, strict=True):
        expected = len(as_conversations(sent))
        if len(item.rewards) != expected:
            raise InvalidResponse(
                f"input {item.index} stands for {expected} conversations and the answer has "
                f"{len(item.rewards)} rewards for it"
            )
        rewards += item.rewards
    if not all(math.isfinite(score) for score in rewards.scores):
        raise InvalidResponse("the answer holds a score that is not finite")
    return rewards


def _chunks(conversations: Iterable[Conversation]) -> Iterator[list[Conversation]]:
    """Consecutive conversations, as many as one request should carry."""
    chunk: list[Conversation] = []
    chars = 0
    for conversation in conversations:
        length = _chars(conversation)
        full = len(chunk) == CONVERSATIONS_PER_REQUEST or chars + length > CHARS_PER_REQUEST
        if chunk and full:
            yield chunk
            chunk, chars = [], 0
        chunk.append(conversation)
        chars += length
    if chunk:
        yield chunk


def _chars(conversation: Conversation) -> int:
    try:
        return sum(len(message["content"]) for message in conversation)
    except (KeyError, TypeError):
        return 0  # not a conversation: refused, with its index, when its request is made


Model = TypeVar("Model", bound=BaseModel)


def _checked(kind: type[Model], where: str, **fields: object) -> Model:
    """A wire object; what is wrong with its fields is said without repeating the input."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        param = _place(where, first["loc"])
        raise InvalidRequest(f"{param}: {first['msg']}", param=param) from None


def _place(where: str, location: tuple[str | int, ...]) -> str:
    """`inputs[3].messages[0].content`, as the server writes it."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return (where + "".join(steps)).removeprefix(".")
