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

from rewardserve.errors import InvalidConversation, UnsupportedCheckpoint
from rewardserve.families.base import Family, Head, RewardParts, float_lists
from rewardserve.families.tokens import last_occurrence, marker_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rewardserve.families.checkpoint import Checkpoint

ARCHITECTURE = "LlamaForRewardModelWithGating"
GATE_TEXT = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
"""Written by the template between prompt and response; the gate reads at its first token."""
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


class ArmoHead(Head):
    """Regression, gate and the matrix that takes verbosity out of the other objectives."""

    reads = 2

    def __init__(self, hidden_size: int, gate: Gate) -> None:
        super().__init__()
        objectives = len(OBJECTIVES)
        self.regression_layer = nn.Linear(hidden_size, objectives, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.eye(objectives))
        self.gating = gate
        self._marker: tuple[int, ...] = ()

    def bind(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Learn the ids that mark the gate."""
        self._marker = marker_ids(tokenizer, GATE_TEXT)

    def readouts(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        """The `<|eot_id|>` before the last assistant header, and the last token."""
        gate = last_occurrence(token_ids, self._marker)
        if gate is None:
            raise InvalidConversation(
                "ArmoRM reads its gate where the prompt ends and the assistant's turn begins, and "
                "this input has no such place; send messages with a prompt before the response",
                param="messages",
            )
        return gate, len(token_ids) - 1

    def forward(self, hidden: Tensor) -> list[RewardParts]:
        """Scores, the 19 objectives, and the coefficients that make the score of them."""
        rewards = self.regression_layer(hidden[:, 1])
        coefficients = self.gating(hidden[:, 0]) @ self.reward_transform_matrix.T
        scores = (rewards * coefficients).sum(-1, keepdim=True)
        rows = zip(
            float_lists(scores), float_lists(rewards), float_lists(coefficients), strict=True
        )
        return [
            RewardParts(
                score,
                attributes=dict(zip(OBJECTIVES, reward, strict=True)),
                weights=dict(zip(OBJECTIVES, coefficient, strict=True)),
            )
            for (score,), reward, coefficient in rows
        ]


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
