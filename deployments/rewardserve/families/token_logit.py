"""Language models whose next-token logit of token 0 is the reward (NVIDIA's Llama Nemotron-Reward).

reward = W_lm[0] . h, with h the last token's hidden state after the final norm. The checkpoints
look like any language model, so this family is chosen only where the registry names it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from rewardserve.families.base import Family, Head, RewardParts, float_lists

if TYPE_CHECKING:
    from rewardserve.families.checkpoint import Checkpoint


class TokenLogitHead(Head):
    """The first row of the language-model head."""

    first_rows = ("lm_head.weight",)

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.lm_head = nn.Linear(hidden_size, 1, bias=False)

    def forward(self, hidden: Tensor) -> list[RewardParts]:
        """Scores alone."""
        return [RewardParts(score) for (score,) in float_lists(self.lm_head(hidden[:, -1]))]


def _matches(checkpoint: "Checkpoint") -> bool:
    return checkpoint.architecture == "LlamaForCausalLM" and "lm_head.weight" in checkpoint.tensors


def _build(config: Mapping[str, Any]) -> Head:
    return TokenLogitHead(config["hidden_size"])


TOKEN_LOGIT = Family(name="token_logit", matches=_matches, build_head=_build, named_only=True)
