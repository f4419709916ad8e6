"""Whether a loaded model gives the numbers that its card prints, and keeps its own promises.

Scoring is passed in, so that this module knows neither engine nor device; it prints nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rewardserve.families.registry import Check, ModelSpec, registry
from rewardserve_client._types import Conversation, Reward

Score = Callable[[Sequence[Conversation]], Sequence[Reward]]

PACKING_TOLERANCE = 1e-4
"""Packed against alone, in float32, relative to scores of order one."""
HALF_PACKING_TOLERANCE = 0.05
"""The same in bfloat16 and float16, whose grid is coarser than any reordering of sums."""
SUM_TOLERANCE = 1e-3
"""Sum of weight x attribute against the score: both are float32."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the report."""

    check: str
    expected: float
    found: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the two numbers are within the tolerance; NaN never is."""
        return abs(self.found - self.expected) <= self.tolerance


def verify(score: Score, spec: ModelSpec, *, half_precision: bool = False) -> list[Finding]:
    """Every published value of `spec`, and the invariants that need none.

    `score` gives the rewards of conversations in order, and is called several times.
    """
    conversations = {name: example.conversation for name, example in registry().examples.items()}
    together = score(list(conversations.values()))
    rewards = dict(zip(conversations, together, strict=True))
    alone = {name: score([conversation])[0] for name, conversation in conversations.items()}
    tolerance = HALF_PACKING_TOLERANCE if half_precision else PACKING_TOLERANCE
    return [
        *(_published(check, rewards[check.example]) for check in spec.checks),
        *_packing(rewards, alone, tolerance),
        *_sums(rewards),
    ]


@dataclass(frozen=True, slots=True)
class QuantizationEffect:
    """How far rounded weights move scores, over pairs of answers."""

    mean_difference: float
    largest_difference: float
    agreement: float
    """Share of pairs whose order is the same."""


def quantization_effect(exact: Sequence[float], rounded: Sequence[float]) -> QuantizationEffect:
    """Compares scores of the same conversations, listed pair by pair."""
    differences = [abs(a - b) for a, b in zip(exact, rounded, strict=True)]
    orders = [
        [first > second for first, second in zip(scores[::2], scores[1::2], strict=True)]
        for scores in (exact, rounded)
    ]
    same = [a == b for a, b in zip(*orders, strict=True)]
    return QuantizationEffect(
        mean_difference=sum(differences) / len(differences),
        largest_difference=max(differences),
        agreement=sum(same) / len(same),
    )


def _published(check: Check, reward: Reward) -> Finding:
    name = f"{check.example}: {check.name or 'score'}"
    if check.part == "score":
        found = reward.score
    else:
        values = (reward.attributes if check.part == "attributes" else reward.weights) or {}
        name = f"{name} ({check.part})"
        found = values.get(check.name or "", float("nan"))
    return Finding(name, check.expected, found, check.tolerance)


def _packing(
    packed: dict[str, Reward], alone: dict[str, Reward], tolerance: float
) -> Iterable[Finding]:
    for name, reward in packed.items():
        expected = alone[name].score
        allowed = tolerance * max(1.0, abs(expected))
        yield Finding(f"{name}: packed = alone", expected, reward.score, allowed)


def _sums(rewards: dict[str, Reward]) -> Iterable[Finding]:
    for name, reward in rewards.items():
        if reward.attributes and reward.weights:
            weights = reward.weights
            total = sum(weights[key] * value for key, value in reward.attributes.items())
            allowed = SUM_TOLERANCE * max(1.0, abs(reward.score))
            yield Finding(
                f"{name}: sum of weight x attribute = score", reward.score, total, allowed
            )
