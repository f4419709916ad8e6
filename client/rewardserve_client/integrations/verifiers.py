"""A reward for tasks of prime's `verifiers` (0.4 and later, `verifiers.v1`).

    import verifiers.v1 as vf
    from rewardserve_client.integrations.verifiers import reward

    class Helpful(vf.Task[vf.TaskData, vf.State, vf.TaskConfig]):
        quality = reward(model="armorm", weight=0.5)

The trace's last branch is scored; its attributes are recorded as metrics.
"""

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, Unpack

from rewardserve_client._async_client import AsyncRewardClient
from rewardserve_client._client import RewardClient
from rewardserve_client._errors import InvalidConversation
from rewardserve_client._plan import ScoreOptions
from rewardserve_client._types import Conversation, Message


def reward(
    client: RewardClient | AsyncRewardClient | None = None,
    *,
    weight: float = 1.0,
    **options: Unpack[ScoreOptions],
) -> Callable[..., Awaitable[float]]:
    """A method for a task class: a weighted reward with the name of the model.

    Without `client` it is the cluster that the environment names. A failure is a
    `RewardClientError`, which verifiers records as the task's error; it is never a reward.
    """
    mark = import_module("verifiers.v1").reward
    awaited = client.awaited() if isinstance(client, RewardClient) else client
    cluster = awaited or AsyncRewardClient()
    name = options.get("model", "default")

    async def score(task: object, trace: Any) -> float:
        scored = await cluster.score(conversation_of(trace), **options)
        for attribute, value in (scored.attributes or {}).items():
            trace.record_metric(f"{name}/{attribute}", value)
        return scored.score

    score.__name__ = name
    marked: Callable[..., Awaitable[float]] = mark(score, weight=weight)
    return marked


def conversation_of(trace: Any) -> Conversation:
    """The messages of a trace's last branch.

    Raises `InvalidConversation` for what a reward model cannot read: tool calls and pictures.
    """
    if not trace.branches:
        raise InvalidConversation("the trace is empty; there is no response to score")
    return [_message(message) for message in trace.branches[-1].messages]


def _message(message: Any) -> Message:
    content = message.content
    if isinstance(content, list):
        content = "".join(_text(part) for part in content)
    if content is None or message.role == "tool":
        raise InvalidConversation("a trace with tool calls cannot be scored by a reward model")
    return Message(role=message.role, content=content)


def _text(part: Any) -> str:
    if part.type != "text":
        raise InvalidConversation(f"a part of type {part.type!r} cannot be scored; send text alone")
    text: str = part.text
    return text
