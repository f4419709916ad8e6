"""Linear heads: reward = w . h, with h the last token's hidden state after the final norm.

The stock `*ForSequenceClassification` layout (Skywork, RM-Gemma, GRM-ft, FsfairX and many more).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from rewardserve.families.base import Family, Head, RewardParts, float_lists

if TYPE_CHECKING:
    from rewardserve.families.checkpoint import Checkpoint

ARCHITECTURES = frozenset(
    f"{backbone}ForSequenceClassification"
    for backbone in ("Gemma", "Gemma2", "Llama", "Mistral", "Qwen2", "Qwen3")
)


class LinearHead(Head):
    """One row of weights, under the checkpoint's own key."""

    def __init__(self, hidden_size: int, key: str = "score") -> None:
        super().__init__()
        self.key = key
        self.add_module(key, nn.Linear(hidden_size, 1, bias=False))

    def forward(self, hidden: Tensor) -> list[RewardParts]:
        """Scores alone."""
        scores = self.get_submodule(self.key)(hidden[:, -1])
        return [RewardParts(score) for (score,) in float_lists(scores)]


def _matches(checkpoint: "Checkpoint") -> bool:
    return checkpoint.architecture in ARCHITECTURES and "score.weight" in checkpoint.tensors


def _build(config: Mapping[str, Any]) -> Head:
    return LinearHead(config["hidden_size"])


LINEAR = Family(name="linear", matches=_matches, build_head=_build)
