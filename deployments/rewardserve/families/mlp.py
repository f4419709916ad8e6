"""Two-layer heads on the last token (INF-ORM, Qwen2.5-Math-RM): W2 relu(W0 h + b0) + b2."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from rewardserve.families.base import Family, Head, RewardParts, float_lists

if TYPE_CHECKING:
    from rewardserve.families.checkpoint import Checkpoint

REMOTE_CLASSES = ("INFORMForSequenceClassification", "Qwen2ForRewardModel", "Qwen2RMConfig")


class MlpHead(Head):
    """`score.0` and `score.2` in the checkpoint."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1)
        )

    def forward(self, hidden: Tensor) -> list[RewardParts]:
        """Scores alone."""
        return [RewardParts(score) for (score,) in float_lists(self.score(hidden[:, -1]))]


def _matches(checkpoint: "Checkpoint") -> bool:
    return checkpoint.architecture in REMOTE_CLASSES and "score.2.weight" in checkpoint.tensors


def _build(config: Mapping[str, Any]) -> Head:
    return MlpHead(config["hidden_size"])


MLP = Family(name="mlp", matches=_matches, build_head=_build, remote_classes=REMOTE_CLASSES)
