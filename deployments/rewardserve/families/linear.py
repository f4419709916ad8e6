"""Linear heads: reward = w . h, with h the last token's hidden state after the final norm.

The stock `*ForSequenceClassification` layout (Skywork, RM-Gemma, GRM-ft, FsfairX and many more),
and the same head under other names: `regression_head` (Eurus, UltraRM), `v_head` beside a backbone
called `transformer` (Starling).
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
REGRESSION_CLASSES = ("EurusRewardModel", "LlamaRewardModel")


class LinearHead(Head):
    """One row of weights, under the checkpoint's own key; `(r - mean) / std` where it says so."""

    def __init__(
        self, hidden_size: int, key: str = "score", *, mean: float = 0.0, std: float = 1.0
    ) -> None:
        super().__init__()
        self.key = key
        self.mean = mean
        self.std = std
        self.add_module(key, nn.Linear(hidden_size, 1, bias=False))

    def forward(self, hidden: Tensor) -> list[RewardParts]:
        """Scores alone."""
        scores = self.get_submodule(self.key)(hidden[:, -1])
        return [RewardParts(score) for (score,) in float_lists((scores - self.mean) / self.std)]


def _key(config: Mapping[str, Any]) -> str:
    """OpenRLHF names the head in its config; everyone else calls it `score`."""
    return str(config.get("value_head_prefix", "score"))


def _is_classifier(checkpoint: "Checkpoint") -> bool:
    return (
        checkpoint.architecture in ARCHITECTURES
        and f"{_key(checkpoint.config)}.weight" in checkpoint.tensors
    )


def _classifier(config: Mapping[str, Any]) -> Head:
    if not config.get("normalize_reward"):
        return LinearHead(config["hidden_size"], _key(config))
    return LinearHead(
        config["hidden_size"],
        _key(config),
        mean=float(config.get("mean", 0)),
        std=float(config.get("std", 1)),
    )


def _is_regression(checkpoint: "Checkpoint") -> bool:
    return (
        checkpoint.architecture in REGRESSION_CLASSES
        and "regression_head.weight" in checkpoint.tensors
    )


def _regression(config: Mapping[str, Any]) -> Head:
    return LinearHead(config["hidden_size"], "regression_head")


def _is_starling(checkpoint: "Checkpoint") -> bool:
    return (
        checkpoint.architecture == "LlamaForSequenceClassification"
        and "v_head.weight" in checkpoint.tensors
        and "transformer.norm.weight" in checkpoint.tensors
    )


def _starling(config: Mapping[str, Any]) -> Head:
    return LinearHead(config["hidden_size"], "v_head")


LINEAR = Family(name="linear", matches=_is_classifier, build_head=_classifier)
REGRESSION = Family(
    name="regression_head",
    matches=_is_regression,
    build_head=_regression,
    remote_classes=REGRESSION_CLASSES,
)
STARLING = Family(
    name="starling",
    matches=_is_starling,
    build_head=_starling,
    backbone_prefix="transformer.",
)
