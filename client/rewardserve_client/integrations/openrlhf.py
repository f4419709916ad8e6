"""A reward function file for OpenRLHF, and the parsing of the text it hands out.

    --reward.remote_url <this file>                     scores through this client
    --reward.remote_url http://<cluster>/get_reward     scores without it

OpenRLHF hands out text rendered by the policy's chat template. Through this file the text is taken
apart into messages, so that every model renders them by its own template; the cluster's
`/get_reward` takes the text as it is, which is right where both templates are the same. The
cluster and the model are those of `REWARDSERVE_URL` and `REWARDSERVE_MODEL`.
"""

import os
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from rewardserve_client._client import RewardClient
from rewardserve_client._errors import InvalidConversation
from rewardserve_client._types import Conversation, Message


class Markup(NamedTuple):
    """How a chat template marks turns."""

    turn: str
    """Regular expression of what stands before a turn's text; its group is the role."""
    end: str
    """What ends a turn."""


MARKUPS: Final = {
    "chatml": Markup(r"<\|im_start\|>(\w+)\n", "<|im_end|>"),
    "llama3": Markup(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n", "<|eot_id|>"),
    "gemma": Markup(r"<start_of_turn>(\w+)\n", "<end_of_turn>"),
}
"""The templates that are understood, by the family that made them common."""

_ROLES: Final = {"model": "assistant"}


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: object
) -> dict[str, Any]:
    """The scores of rendered prompt-and-response texts, as tensors, with attributes to log.

    `scores`, which OpenRLHF filters by, are the same raw scores. Raises `RewardClientError`;
    OpenRLHF then leaves the sample without a reward.
    """
    import torch  # noqa: PLC0415 - OpenRLHF has it

    model = os.environ.get("REWARDSERVE_MODEL", "default")
    rewards = _client().score_many([parse_conversation(query) for query in queries], model=model)
    scores = torch.tensor(rewards.scores)
    names = (rewards[0].attributes or {}) if rewards else {}
    logs = {name: torch.tensor([(r.attributes or {})[name] for r in rewards]) for name in names}
    return {"rewards": scores, "scores": scores.clone(), "extra_logs": logs}


def parse_conversation(text: str) -> Conversation:
    """The messages of a text rendered by one of the templates of `MARKUPS`.

    Raises `InvalidConversation` if none of their marks is in it.
    """
    for markup in MARKUPS.values():
        _, *marked = re.split(markup.turn, text)  # role, text, role, text ...
        if marked:
            turns = zip(marked[::2], marked[1::2], strict=True)
            return [_message(role, content, markup.end) for role, content in turns]
    raise InvalidConversation(
        f"the text has no turns marked as {', '.join(MARKUPS)} do: train with "
        "--data.apply_chat_template, or send it to the cluster's /get_reward"
    )


def _message(role: str, text: str, end: str) -> Message:
    return Message(role=_ROLES.get(role, role), content=text.partition(end)[0])


@cache
def _client() -> RewardClient:
    return RewardClient()
