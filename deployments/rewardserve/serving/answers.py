"""What a model replica says to the router. Plain data that travels between processes."""

from dataclasses import dataclass

from rewardserve_client._types import Reward


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """The rewards of one call, in order, and what they cost."""

    rewards: list[Reward]
    tokens: int
    computed_tokens: int
    render_s: float
    """Templates and tokenizer."""
    queue_s: float
    forward_s: float


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a replica has loaded."""

    family: str
    source: str
    revision: str | None
    max_tokens: int
    attention: str
    """The backend that was chosen at load."""
    pack_tokens: int
    """Computed tokens in one forward, as chosen at load or lowered since."""
