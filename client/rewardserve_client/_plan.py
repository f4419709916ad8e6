"""Conversations to requests, and answers back to rewards in the same order: pure."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

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
    RewardInput,
    RewardsRequest,
    RewardsResponse,
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
    ensemble: dict[str, Any]
    """An ensemble for this call alone, in cluster.yaml's terms; asked instead of `model`."""


@dataclass(frozen=True)
class Part:
    """Some consecutive inputs out of many, as one request."""

    request: RewardsRequest
    first: int
    """The place of its first input among all."""

    def halves(self) -> "tuple[Part, Part]":
        """The same inputs in two requests."""
        inputs = self.request.inputs
        middle = len(inputs) // 2
        front = self.request.model_copy(update={"inputs": inputs[:middle]})
        back = self.request.model_copy(update={"inputs": inputs[middle:]})
        return Part(front, self.first), Part(back, self.first + middle)

    def placed(self, error: RewardClientError) -> RewardClientError:
        """`error` about this request, with places counted among all inputs."""
        message, param, *rest = error.args
        return type(error)(self._shifted(message), param and self._shifted(param), *rest)

    def _shifted(self, text: str) -> str:
        def shift(match: re.Match[str]) -> str:
            return f"inputs[{int(match[1]) + self.first}]"

        return re.sub(r"inputs\[(\d+)\]", shift, text)


def conversation_inputs(conversations: Iterable[Conversation]) -> Iterator[RewardInput]:
    """Each finished conversation as an input.

    Raises `InvalidRequest`, naming the conversation by its place.
    """
    for index, conversation in enumerate(conversations):
        yield _checked(ConversationInput, f"inputs[{index}]", messages=conversation)


def candidates_inputs(groups: Iterable[tuple[Prompt, Sequence[str]]]) -> Iterator[RewardInput]:
    """Each prompt with its responses as an input.

    Raises `InvalidRequest`, naming the group by its place, also if it has no responses.
    """
    for index, (prompt, responses) in enumerate(groups):
        place = f"inputs[{index}]"
        if not responses:
            raise InvalidRequest(f"{place}: there is no response to score", f"{place}.responses")
        yield _checked(CandidatesInput, place, prompt=prompt, responses=list(responses))


def request_for(inputs: Iterable[RewardInput], options: ScoreOptions) -> RewardsRequest:
    """One request for all of `inputs`."""
    return _checked(RewardsRequest, "", inputs=list(inputs), **options)


def parts(inputs: Iterable[RewardInput], options: ScoreOptions) -> Iterator[Part]:
    """Requests for `inputs`, in order; reads them only as far as needed.

    The responses to one prompt stay in one request, however many: routes that compare them must
    see all of them.
    """
    first = 0
    for chunk in _chunks(inputs):
        yield Part(request_for(chunk, options), first)
        first += len(chunk)


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
        expected = _conversations(sent)
        if len(item.rewards) != expected:
            raise InvalidResponse(
                f"input {item.index} stands for {expected} conversations and the answer has "
                f"{len(item.rewards)} rewards for it"
            )
        rewards += item.rewards
    if not all(math.isfinite(score) for score in rewards.scores):
        raise InvalidResponse("the answer holds a score that is not finite")
    return rewards


def _chunks(inputs: Iterable[RewardInput]) -> Iterator[list[RewardInput]]:
    """Consecutive inputs, as many as one request should carry."""
    chunk: list[RewardInput] = []
    conversations = chars = 0
    for each in inputs:
        conversations += _conversations(each)
        chars += _chars(each)
        if chunk and (conversations > CONVERSATIONS_PER_REQUEST or chars > CHARS_PER_REQUEST):
            yield chunk
            chunk, conversations, chars = [], _conversations(each), _chars(each)
        chunk.append(each)
    if chunk:
        yield chunk


def _conversations(each: RewardInput) -> int:
    return len(each.responses) if isinstance(each, CandidatesInput) else 1


def _chars(each: RewardInput) -> int:
    if isinstance(each, CandidatesInput):
        prompt = each.prompt
        turns = [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt]
        return sum(map(len, turns)) + sum(map(len, each.responses))
    return sum(len(message["content"]) for message in each.messages)


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
