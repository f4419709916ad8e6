"""GRM sftreg: a causal language model with a small value network beside its LM head.

reward = W2 relu(W1 h + b1) + b2 (`vhead_layer_type: mlp`), or w . h + b (`linear`), with h the
last token's hidden state after the final norm. The config names a plain causal LM; the
`v_head.summary.*` tensors tell these checkpoints apart.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from rewardserve.families.base import Family, Head, RewardParts, float_lists

if TYPE_CHECKING:
    from rewardserve.families.checkpoint import Checkpoint


class ValueHead(Head):
    """The value network, as `v_head.summary` in the checkpoint."""

    def __init__(self, summary: nn.Module) -> None:
        super().__init__()
        self.v_head = nn.ModuleDict({"summary": summary})

    def forward(self, hidden: Tensor) -> list[RewardParts]:
        """Scores alone."""
        scores = self.v_head["summary"](hidden[:, -1])
        return [RewardParts(score) for (score,) in float_lists(scores)]


def _matches(checkpoint: "Checkpoint") -> bool:
    return checkpoint.architecture.endswith("ForCausalLM") and any(
        name.startswith("v_head.summary.") for name in checkpoint.tensors
    )


def _build(config: Mapping[str, Any]) -> Head:
    width = config["hidden_size"]
    if config.get("vhead_layer_type", "mlp") == "linear":
        return ValueHead(nn.Linear(width, 1))
    layers: list[nn.Module] = []
    for _ in range(config.get("vhead_num_layers", 1)):
        neurons = config.get("vhead_num_neurons", 1024)
        layers += [nn.Linear(width, neurons), nn.ReLU()]
        width = neurons
    return ValueHead(nn.Sequential(*layers, nn.Linear(width, 1)))


VALUE_HEAD = Family(
    name="value_head", matches=_matches, build_head=_build, ignored_weights=("lm_head.weight",)
)
