"""What the HTTP layer and the dialects may ask of the cluster: scores, and what is served.

Knows no Ray and no HTTP, so that either side can be tested without the other.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from rewardserve.routing.evaluate import Group, Item
from rewardserve_client._types import (
    Priority,
    Reward,
    RewardsRequest,
    RewardsResponse,
    ServedModels,
)


class Service(Protocol):
    """The scoring cluster, as its HTTP routes see it. Every failure is a RewardServeError.

    `deadline_s` counts from the call; left out, the configured default holds. `tags` are what
    `select` routes read.
    """

    @property
    def max_conversations(self) -> int:
        """In one request."""

    async def rewards(self, request: RewardsRequest) -> RewardsResponse:
        """The answer to `POST /v1/rewards`."""

    async def score(
        self,
        model: str,
        items: Sequence[Item],
        *,
        truncate: bool = False,
        deadline_s: float | None = None,
        priority: Priority = "interactive",
        tags: Mapping[str, str] | None = None,
    ) -> list[Reward]:
        """One reward per item, in order; the items have nothing to do with each other.

        An item is a conversation, text rendered by the model's own template, or token ids.
        """

    async def score_groups(
        self,
        model: str,
        groups: Sequence[Group],
        *,
        truncate: bool = False,
        deadline_s: float | None = None,
        priority: Priority = "interactive",
        tags: Mapping[str, str] | None = None,
    ) -> list[list[Reward]]:
        """The same for items that belong together: a group is the responses to one prompt."""

    async def served_models(self) -> ServedModels:
        """Everything a request may name."""

    async def unready_models(self) -> list[str]:
        """The models that should answer and do not."""
