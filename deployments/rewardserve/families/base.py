"""What a reward model is: a backbone, a head that reads a few hidden states, and a text policy.

Knows nothing of packing, Ray or HTTP, and loads nothing itself (`loading` does).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rewardserve.errors import NonFiniteScore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rewardserve.families.checkpoint import Checkpoint


TokenIds: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class RewardParts:
    """What a head says about one conversation; every number is a finite Python float."""

    score: float
    attributes: dict[str, float] | None = None
    weights: dict[str, float] | None = None
    uncertainty: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """One conversation as the backbone takes it."""

    token_ids: TokenIds
    """Whole conversation, special tokens included."""
    readouts: tuple[int, ...]
    """Positions whose final hidden states the head reads, as many as the head's `reads`."""
    truncated: bool = False


class Head(nn.Module, ABC):
    """A family's head. Its `state_dict` keys are exactly the checkpoint's keys beside the backbone.

    Parameters are float32 whatever the backbone's dtype.
    """

    reads: int = 1
    """Hidden states read per conversation."""
    first_rows: tuple[str, ...] = ()
    """Keys of which the checkpoint stores more rows than the head has; it takes the first."""

    def bind(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Learn what the head needs of the tokenizer (ArmoRM: the ids that mark its gate).

        Raises UnsupportedCheckpoint when the tokenizer lacks it.
        """

    def readouts(self, token_ids: TokenIds) -> tuple[int, ...]:
        """Positions to read, `reads` of them; the last token's is the default.

        Raises InvalidConversation when the head finds no place to read.
        """
        return (len(token_ids) - 1,)

    @abstractmethod
    def forward(self, hidden: Tensor) -> list[RewardParts]:
        """Rewards from float32 hidden states of shape [conversations, reads, hidden size].

        Raises NonFiniteScore.
        """


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of head, and how to recognise and build it."""

    name: str
    matches: Callable[["Checkpoint"], bool]
    """Decides from `architectures`, config keys and tensor names; at most one family matches."""
    build_head: Callable[[Mapping[str, Any]], Head]
    """The head, with any weights, from the checkpoint's config.json as it is written."""
    ignored_weights: tuple[str, ...] = ()
    """Checkpoint keys that belong to neither backbone nor head (an LM head), as exact names."""
    backbone_prefix: str = "model."
    """What stands before the backbone's keys in the checkpoint."""
    remote_classes: tuple[str, ...] = ()
    """Class names of published remote code that this family computes natively."""
    named_only: bool = False
    """Whether only the registry can choose it, because its checkpoints look like something else."""


def float_lists(values: Tensor) -> list[list[float]]:
    """Rows of a [rows, columns] tensor as Python floats; raises NonFiniteScore."""
    if not bool(torch.isfinite(values).all()):
        raise NonFiniteScore("the model computed NaN or infinity; try another dtype")
    rows: list[list[float]] = values.to(torch.float32).tolist()
    return rows
