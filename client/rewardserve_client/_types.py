"""The wire types of a rewardserve cluster: what goes into a request and what comes back.

The server imports these types, so that both sides speak from one definition. This module knows
nothing of transport, models or files.
"""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

Priority = Literal["interactive", "bulk"]
"""Interactive work goes first; bulk work is delayed, never starved."""


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


Conversation = list[Message]
"""Messages ending with the assistant's: the last turn is the response, the rest the prompt."""

Prompt = str | list[Message]
"""What a response answers: one user turn as text, or all turns before the response."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reward(_Frozen):
    """The full answer for one conversation."""

    score: float
    """Raw and finite; no sigmoid, no softmax."""
    model: str
    """The model, or the route, that gave the score."""
    revision: str | None = None
    """The checkpoint's pinned commit; None for a local folder or a route."""
    tokens: int = 0
    """Length of the conversation in tokens, before prefix sharing."""
    truncated: bool = False
    attributes: dict[str, float] | None = None
    """Named objectives inside one model (ArmoRM's 19, URM's 5); of an ensemble, the members'
    normalized scores."""
    weights: dict[str, float] | None = None
    """What the attributes were weighed by: ArmoRM's coefficients, URM's gate, a mean's shares."""
    uncertainty: dict[str, float] | None = None
    """URM: the raw parameter of each attribute. Ensembles: `spread`, the std over members."""
    members: dict[str, "Reward"] | None = None
    """An ensemble's or a cascade's member rewards, by member name."""
    failed_members: list[str] = Field(default_factory=list)
    stage: str | None = None
    """The member of a cascade that gave this score."""

    def to_dict(self) -> dict[str, Any]:
        """A plain dict without the parts that this reward does not have."""
        return self.model_dump(exclude_none=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Leaves out what is at its default: most rewards have few of these fields."""
        shown = self.model_dump(exclude_defaults=True)
        return [(name, value) for name, value in super().__repr_args__() if name in shown]


class ConversationInput(_Request):
    """One finished conversation; gives one reward."""

    messages: Conversation


class CandidatesInput(_Request):
    """N responses to one prompt; gives N rewards, in the same order."""

    prompt: Prompt
    responses: list[str]


RewardInput = ConversationInput | CandidatesInput


class RewardsRequest(_Request):
    """The body of `POST /v1/rewards`."""

    model: str = "default"
    inputs: list[RewardInput]
    truncate: bool = False
    """Shorten what is over the model's limit instead of refusing it; such a reward says so."""
    deadline_s: float | None = Field(default=None, gt=0, le=3600)
    priority: Priority = "interactive"
    tags: dict[str, str] = Field(default_factory=dict)
    """Free labels that `select` routes read."""
    ensemble: dict[str, Any] | None = None
    """An ensemble for this request alone, in cluster.yaml's terms; asked instead of `model`."""


class RewardsItem(_Frozen):
    index: int
    rewards: list[Reward]


class Usage(_Frozen):
    tokens: int = 0
    """Counted before prefix sharing, over all members."""
    computed_tokens: int = 0
    """Counted after prefix sharing."""


class RewardsResponse(_Frozen):
    id: str
    object: Literal["list"] = "list"
    model: str
    created: int
    data: list[RewardsItem]
    usage: Usage = Usage()
    timings_ms: dict[str, float] = Field(default_factory=dict)


class ServedModel(_Frozen):
    """One entry of `GET /v1/models`."""

    id: str
    kind: Literal["model", "route"]
    family: str | None = None
    source: str | None = None
    revision: str | None = None
    max_tokens: int | None = None
    attention: str | None = None
    """The attention backend a model runs on: `sdpa`, `flash` or `flex`."""
    pack_tokens: int | None = None
    """Computed tokens that a model takes in one forward."""
    state: str = "ready"


class ServedModels(_Frozen):
    object: Literal["list"] = "list"
    data: list[ServedModel]


class ErrorDetail(_Frozen):
    message: str
    type: str
    param: str | None = None
    code: str | int | None = None


class ErrorBody(_Frozen):
    """The body of every answer that is not 2xx."""

    error: ErrorDetail


def as_conversations(item: RewardInput) -> list[Conversation]:
    """The conversations that one input stands for, one per reward."""
    if isinstance(item, ConversationInput):
        return [item.messages]
    return [join_turns(item.prompt, response) for response in item.responses]


def join_turns(prompt: Prompt, response: str) -> Conversation:
    """Prompt and response as one conversation."""
    turns: list[Any] = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    return [*turns, Message(role="assistant", content=response)]
