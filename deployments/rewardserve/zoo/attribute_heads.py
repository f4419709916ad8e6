"""Fitting the attribute heads, ArmoRM's and URM's, on the states of a trained backbone.

Attributes are ridge regressions on known qualities; gates are then trained to rank with those
attributes as they are. Knows hidden states and targets, not texts or files.
"""

from collections.abc import Callable
from typing import Final, cast

import torch
from torch import Tensor, nn

from rewardserve.families.armorm import OBJECTIVES, ArmoHead
from rewardserve.families.urm import UrmHead
from rewardserve.zoo.training import descend, ranking_loss

RIDGE: Final = 1.0
GATE_STEPS: Final = 150
GATE_LEARNING_RATE: Final = 1e-2

VERBOSITY: Final = OBJECTIVES.index("helpsteer-verbosity")
SHARPNESS: Final = 20.0
"""ArmoRM's scores differ by small fractions of 1; the ranking loss sees them this much wider."""
EVENNESS: Final = 0.05
"""What the entropy of ArmoRM's gate counts for beside the ranking loss."""

HELPSTEER_TOP: Final = 4.0
"""URM's attributes are on HelpSteer's scale, 0 to 4."""
SMALLEST_ERROR: Final = 0.02
"""Keeps the logarithm of a regression error finite."""
USUAL_GATE: Final = (0.3, 0.74, 0.46, 0.47, -0.33)
"""The fixed weights of URM's Llama-3 sibling, from which the gate starts."""
CLOSENESS: Final = 1.0
"""What the gate's squared distance from them counts for beside the ranking loss."""


def fit_armorm(head: ArmoHead, states: Tensor, targets: Tensor) -> None:
    """Objectives, the matrix that takes verbosity out of them, and the gate of the prompt.

    `states` are [tasks, answers, 2 reads (prompt's end, last token), hidden], `targets`
    [tasks, answers, objectives].
    """
    prompts, last = states[:, 0, 0], states[:, :, 1]
    with torch.no_grad():
        head.regression_layer.weight.copy_(_ridge(last, targets))
        rewards = head.regression_layer(last)
        head.reward_transform_matrix.copy_(_without_verbosity(rewards.flatten(0, 1)))
        adjusted = rewards @ head.reward_transform_matrix

    def loss(_: int) -> Tensor:
        gate: Tensor = head.gating(prompts)
        shares = gate / gate.sum(-1, keepdim=True)
        entropy = -(shares * shares.log()).sum(-1).mean()
        return _ranking(SHARPNESS * adjusted, gate[:, None]) - EVENNESS * entropy

    _train_gate(head.gating, loss)


def fit_urm(head: UrmHead, states: Tensor, targets: Tensor, dtype: torch.dtype) -> None:
    """Attribute means, their uncertainty parameters (the log of the error to expect) and the gate.

    `states` are [tasks, answers, 1 read, hidden], `targets` [tasks, answers, attributes] from 0 to
    1. The regression is rounded to `dtype` before the gate learns to use it.
    """
    last = states[:, :, -1]
    with torch.no_grad():
        head.score.weight.copy_(_means_and_spreads(last, HELPSTEER_TOP * targets).to(dtype))
        means = head.score(last)[..., ::2]
    gate = cast("nn.Sequential", head.weights["fc"])
    usual = torch.tensor(USUAL_GATE)
    _start_constant(cast("nn.Linear", gate[-1]), usual)

    def loss(_: int) -> Tensor:
        weights: Tensor = gate(last)
        return _ranking(means, weights) + CLOSENESS * (weights - usual).square().mean()

    _train_gate(gate, loss)


def _means_and_spreads(last: Tensor, targets: Tensor) -> Tensor:
    """Rows of URM's `score`: mean and log error of each attribute in turn."""
    means = _ridge(last, targets)
    errors = (last @ means.T - targets).abs()
    spreads = _ridge(last, (errors + SMALLEST_ERROR).log())
    return torch.stack([means, spreads], dim=1).flatten(0, 1)


@torch.no_grad()
def _start_constant(layer: nn.Linear, values: Tensor) -> None:
    layer.weight.zero_()
    layer.bias.copy_(values)


def _train_gate(gate: nn.Module, loss: Callable[[int], Tensor]) -> None:
    descend(list(gate.parameters()), loss, steps=GATE_STEPS, learning_rate=GATE_LEARNING_RATE)


def _ranking(attributes: Tensor, weights: Tensor) -> Tensor:
    return ranking_loss((attributes * weights).sum(-1))


def _ridge(states: Tensor, targets: Tensor) -> Tensor:
    """Weights [targets, hidden] of the least-squares fit without intercept."""
    x, y = states.flatten(0, 1).double(), targets.flatten(0, 1).double()
    gram = x.T @ x + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    weights: Tensor = torch.linalg.solve(gram, x.T @ y).T
    return weights.float()


def _without_verbosity(rewards: Tensor) -> Tensor:
    """The matrix M for which no column of R M is correlated with verbosity, itself dropped.

    The identity, save for verbosity's row: minus each objective's regression on verbosity.
    """
    centred = rewards - rewards.mean(0)
    verbosity = centred[:, VERBOSITY]
    matrix = torch.eye(rewards.shape[1])
    matrix[VERBOSITY] -= verbosity @ centred / (verbosity @ verbosity)
    return matrix
