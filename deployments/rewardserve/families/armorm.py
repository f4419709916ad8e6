"""ArmoRM: 19 named objectives, weighed by a gate that reads the prompt.

R = W h                      objectives, from the last token's hidden state h
G = softmax(MLP(p) / T) s    gate, from the hidden state p of the `<|eot_id|>` that closes the
                             prompt, with temperature T and the learned scale s
score = sum((R M) G) = sum(c R) with the coefficients c = G M^T

The same architecture name with `num_quantiles` in its config is QRM, another network.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rewardserve.errors import UnsupportedCheckpoint
from rewardserve.families.base import Family, Head
from rewardserve.families.gated import LLAMA3_MARKER, GatedHead

if TYPE_CHECKING:
    from rewardserve.families.checkpoint import Checkpoint

ARCHITECTURE = "LlamaForRewardModelWithGating"
OBJECTIVES = (
    "helpsteer-helpfulness",
    "helpsteer-correctness",
    "helpsteer-coherence",
    "helpsteer-complexity",
    "helpsteer-verbosity",
    "ultrafeedback-overall_score",
    "ultrafeedback-instruction_following",
    "ultrafeedback-truthfulness",
    "ultrafeedback-honesty",
    "ultrafeedback-helpfulness",
    "beavertails-is_safe",
    "prometheus-score",
    "argilla-overall_quality",
    "argilla-judge_lm",
    "code-complexity",
    "code-style",
    "code-explanation",
    "code-instruction-following",
    "code-readability",
)


class Gate(nn.Module):
    """Weights over the objectives: softmax(MLP(p) / temperature) * logit_scale."""

    def __init__(self, widths: Sequence[int], temperature: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.logit_scale = nn.Parameter(torch.ones(1))
        self.temperature = temperature

    def forward(self, prompt: Tensor) -> Tensor:
        """[conversations, objectives] from the prompts' hidden states."""
        *inner, last = self.layers
        for layer in inner:
            prompt = torch.relu(layer(prompt))
        return torch.softmax(last(prompt) / self.temperature, dim=-1) * self.logit_scale


class ArmoHead(GatedHead):
    """Regression, gate and the matrix that takes verbosity out of the other objectives."""

    def __init__(self, hidden_size: int, gate: Gate) -> None:
        super().__init__(OBJECTIVES, LLAMA3_MARKER)
        self.regression_layer = nn.Linear(hidden_size, len(OBJECTIVES), bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.eye(len(OBJECTIVES)))
        self.gating = gate

    def rewards(self, last: Tensor) -> Tensor:
        """R = W h."""
        rewards: Tensor = self.regression_layer(last)
        return rewards

    def coefficients(self, prompt: Tensor) -> Tensor:
        """c = G M^T."""
        coefficients: Tensor = self.gating(prompt) @ self.reward_transform_matrix.T
        return coefficients


def _matches(checkpoint: "Checkpoint") -> bool:
    return checkpoint.architecture == ARCHITECTURE and "num_quantiles" not in checkpoint.config


def _build(config: Mapping[str, Any]) -> Head:
    objectives = config.get("num_objectives", len(OBJECTIVES))
    if objectives != len(OBJECTIVES):
        raise UnsupportedCheckpoint(
            f"config.json: num_objectives is {objectives}; ArmoRM has {len(OBJECTIVES)} named ones"
        )
    inner = [config.get("gating_hidden_dim", 1024)] * config.get("gating_n_hidden", 3)
    gate = Gate(
        [config["hidden_size"], *inner, objectives],
        temperature=float(config.get("gating_temperature", 10)),
    )
    return ArmoHead(config["hidden_size"], gate)


ARMORM = Family(name="armorm", matches=_matches, build_head=_build, remote_classes=(ARCHITECTURE,))
