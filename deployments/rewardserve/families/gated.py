"""Heads that weigh several objectives by a gate: ArmoRM and QRM.

The objectives are read from the last token, the gate from the place where the prompt ends and the
assistant's turn begins: the first token of the text that the template writes there.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from rewardserve.errors import InvalidConversation
from rewardserve.families.base import Head, RewardParts, TokenIds, float_lists
from rewardserve.families.tokens import last_occurrence, marker_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LLAMA3_MARKER = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
GEMMA_MARKER = "<end_of_turn>\n<start_of_turn>model\n"


class GatedHead(Head):
    """Reads prompt and response; score = sum(coefficient x objective)."""

    reads = 2

    def __init__(self, objectives: Sequence[str], marker: str) -> None:
        super().__init__()
        self.objectives = tuple(objectives)
        self._marker = marker
        self._marker_ids: tuple[int, ...] = ()

    def bind(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Learn the ids that mark the gate."""
        self._marker_ids = marker_ids(tokenizer, self._marker)

    def readouts(self, token_ids: TokenIds) -> tuple[int, ...]:
        """The start of the last marker, and the last token."""
        gate = last_occurrence(token_ids, self._marker_ids)
        if gate is None:
            raise InvalidConversation(
                "this model reads its gate where the prompt ends and the assistant's turn begins, "
                "and the input has no such place; send messages with a prompt before the response",
                param="messages",
            )
        return gate, len(token_ids) - 1

    @abstractmethod
    def rewards(self, last: Tensor) -> Tensor:
        """[conversations, objectives] from the last tokens' hidden states."""

    @abstractmethod
    def coefficients(self, prompt: Tensor) -> Tensor:
        """[conversations, objectives] from the prompts' hidden states."""

    def forward(self, hidden: Tensor) -> list[RewardParts]:
        """Scores, objectives, and the coefficients that make the score of them."""
        rewards = self.rewards(hidden[:, 1])
        coefficients = self.coefficients(hidden[:, 0])
        scores = (rewards * coefficients).sum(-1, keepdim=True)
        rows = zip(*map(float_lists, (scores, rewards, coefficients)), strict=True)
        return [
            RewardParts(
                score,
                attributes=dict(zip(self.objectives, reward, strict=True)),
                weights=dict(zip(self.objectives, coefficient, strict=True)),
            )
            for (score,), reward, coefficient in rows
        ]
