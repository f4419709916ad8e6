"""URM: five attributes, each a mean and an uncertainty parameter, weighed by a gate.

z = W h with z[2k] the mean and z[2k+1] the uncertainty parameter of attribute k
g = W4 selu(W2 selu(W0 h + b0) + b2) + b4, not normalised
score = sum(mean g); nothing is sampled

The 3-8B model came before the gate: its g are constants, and only the registry can tell it apart.

Regression and gate read the same state: the last token's. How the uncertainty parameter maps to
a standard deviation is not published, so it is given as it is.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from rewardserve.families.base import Family, Head, RewardParts, float_lists

if TYPE_CHECKING:
    from rewardserve.families.checkpoint import Checkpoint

ARCHITECTURE = "LlamaForSequenceClassificationWithNormal_Weights"
FIXED_ARCHITECTURE = "LlamaForSequenceClassificationWithNormal"
ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


class UrmHead(Head):
    """Distribution head `score` and gate `weights.fc`."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden_size, 2 * len(ATTRIBUTES), bias=False)
        gate = nn.Sequential(
            nn.Linear(hidden_size, hidden_size),
            nn.SELU(),
            nn.Linear(hidden_size, hidden_size),
            nn.SELU(),
            nn.Linear(hidden_size, len(ATTRIBUTES)),
        )
        self.weights = nn.ModuleDict({"fc": gate})

    def forward(self, hidden: Tensor) -> list[RewardParts]:
        """Scores, attribute means, gate and raw uncertainty parameters."""
        last = hidden[:, -1]
        means, spreads = self.score(last).unflatten(-1, (len(ATTRIBUTES), 2)).unbind(-1)
        gate = self.weights["fc"](last)
        scores = (means * gate).sum(-1, keepdim=True)
        rows = zip(*map(float_lists, (scores, means, gate, spreads)), strict=True)
        return [
            RewardParts(score, _named(mean), _named(weight), _named(spread))
            for (score,), mean, weight, spread in rows
        ]


def _named(values: list[float]) -> dict[str, float]:
    return dict(zip(ATTRIBUTES, values, strict=True))


def _matches(checkpoint: "Checkpoint") -> bool:
    return checkpoint.architecture == ARCHITECTURE


def _build(config: Mapping[str, Any]) -> Head:
    return UrmHead(config["hidden_size"])


URM = Family(name="urm", matches=_matches, build_head=_build, remote_classes=(ARCHITECTURE,))


class FixedUrmHead(Head):
    """The earlier URM: the same distribution head, weighed by constants of the authors."""

    PRIOR = (0.3, 0.74, 0.46, 0.47, -0.33)

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden_size, 2 * len(ATTRIBUTES), bias=False)

    def forward(self, hidden: Tensor) -> list[RewardParts]:
        """Scores, attribute means, the constants and raw uncertainty parameters."""
        z = self.score(hidden[:, -1])
        means, spreads = z.unflatten(-1, (len(ATTRIBUTES), 2)).unbind(-1)
        scores = (means * means.new_tensor(self.PRIOR)).sum(-1, keepdim=True)
        rows = zip(*map(float_lists, (scores, means, spreads)), strict=True)
        return [
            RewardParts(score, _named(mean), _named(list(self.PRIOR)), _named(spread))
            for (score,), mean, spread in rows
        ]


def _is_fixed(checkpoint: "Checkpoint") -> bool:
    head = checkpoint.tensors.get("score.weight")
    return (
        checkpoint.architecture in {"LlamaForSequenceClassification", FIXED_ARCHITECTURE}
        and head is not None
        and head.shape[0] == 2 * len(ATTRIBUTES)
    )


def _build_fixed(config: Mapping[str, Any]) -> Head:
    return FixedUrmHead(config["hidden_size"])


URM_FIXED = Family(
    name="urm_fixed",
    matches=_is_fixed,
    build_head=_build_fixed,
    remote_classes=(FIXED_ARCHITECTURE,),
    named_only=True,
)
