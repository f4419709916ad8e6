"""QRM: ArmoRM's layout with a distribution per objective, of which the mean over quantiles counts.

R = mean over quantiles of W h        objectives, from the last token's hidden state h
G = softmax(MLP(p) / T) s             gate, from the hidden state p at the end of the prompt
score = sum(c R), with c = G M^T where the checkpoint has a matrix M, and c = G where it has none

The MLP is n x [Linear without bias, ReLU, BatchNorm] and a Linear. Checkpoints under their own
architecture name put a Dropout after each BatchNorm but the last, which shifts the key numbers.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rewardserve.errors import UnsupportedCheckpoint
from rewardserve.families.armorm import ARCHITECTURE as ARMORM_ARCHITECTURE
from rewardserve.families.armorm import OBJECTIVES
from rewardserve.families.base import Family, Head
from rewardserve.families.gated import GEMMA_MARKER, LLAMA3_MARKER, GatedHead

if TYPE_CHECKING:
    from rewardserve.families.checkpoint import Checkpoint

OWN_ARCHITECTURES = (
    "Gemma2ForQuantileSequenceClassification",
    "LlamaForQuantileSequenceClassification",
)
HELPSTEER = OBJECTIVES[:5]


class QuantileGate(nn.Module):
    """softmax(MLP(p) / temperature) * logit_scale, with layers numbered as in the checkpoint."""

    def __init__(
        self, widths: tuple[int, int, int], depth: int, temperature: float, *, dropout: bool
    ) -> None:
        super().__init__()
        width, inner, objectives = widths
        layers: list[nn.Module] = []
        for layer in range(depth):
            layers += [nn.Linear(width, inner, bias=False), nn.ReLU(), nn.BatchNorm1d(inner)]
            if dropout and layer < depth - 1:
                layers.append(nn.Dropout())
            width = inner
        self.layers = nn.ModuleList([*layers, nn.Linear(width, objectives)])
        self.logit_scale = nn.Parameter(torch.ones(1))
        self.temperature = temperature

    def forward(self, prompt: Tensor) -> Tensor:
        """[conversations, objectives] from the prompts' hidden states."""
        for layer in self.layers:
            prompt = layer(prompt)
        return torch.softmax(prompt / self.temperature, dim=-1) * self.logit_scale


class QuantileHead(GatedHead):
    """Quantile regression and gate; with a transform matrix in ArmoRM's layout."""

    def __init__(
        self, hidden_size: int, quantiles: int, gate: QuantileGate, marker: str, objectives: int
    ) -> None:
        super().__init__(OBJECTIVES[:objectives], marker)
        self.quantiles = quantiles
        self.regression_layer = nn.Linear(hidden_size, objectives * quantiles, bias=False)
        self.gating = gate
        self.reward_transform_matrix: nn.Parameter | None = None
        if objectives == len(OBJECTIVES):
            self.reward_transform_matrix = nn.Parameter(torch.eye(objectives))

    def rewards(self, last: Tensor) -> Tensor:
        """The mean over quantiles of each objective."""
        shape = (len(self.objectives), self.quantiles)
        return self.regression_layer(last).unflatten(-1, shape).mean(-1)  # type: ignore[no-any-return]

    def coefficients(self, prompt: Tensor) -> Tensor:
        """c = G M^T, or G without a matrix."""
        gate: Tensor = self.gating(prompt)
        matrix = self.reward_transform_matrix
        return gate if matrix is None else gate @ matrix.T


def _matches(checkpoint: "Checkpoint") -> bool:
    if checkpoint.architecture in OWN_ARCHITECTURES:
        return True
    return checkpoint.architecture == ARMORM_ARCHITECTURE and "num_quantiles" in checkpoint.config


def _build(config: Mapping[str, Any]) -> Head:
    own_name = config["architectures"][0] in OWN_ARCHITECTURES
    objectives = config.get("num_objectives", len(HELPSTEER) if own_name else len(OBJECTIVES))
    if objectives not in {len(HELPSTEER), len(OBJECTIVES)}:
        raise UnsupportedCheckpoint(
            f"config.json: num_objectives is {objectives}; QRM has 5 or 19 named ones"
        )
    gate = QuantileGate(
        (config["hidden_size"], config.get("gating_hidden_dim", 1024), objectives),
        depth=config.get("gating_n_hidden", 3),
        temperature=float(config.get("gating_temperature", 1 if own_name else 5)),
        dropout=own_name,
    )
    marker = GEMMA_MARKER if config["model_type"] == "gemma2" else LLAMA3_MARKER
    return QuantileHead(
        config["hidden_size"], config.get("num_quantiles", 19), gate, marker, objectives
    )


QRM = Family(
    name="qrm",
    matches=_matches,
    build_head=_build,
    remote_classes=(ARMORM_ARCHITECTURE, *OWN_ARCHITECTURES),
)
