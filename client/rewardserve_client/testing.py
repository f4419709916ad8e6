"""A cluster in this process, so that a loop can be tested without a server.

cluster = FakeCluster(score=lambda conversation: float(len(conversation[-1]["content"])))
client = cluster.client()          # a real RewardClient: splitting, retries, order and all
cluster.fail_next(Busy("full"))    # the next request fails once
assert client.best_of_n("Why?", ["Because.", "Yes."]).best == "Because."
assert len(cluster.requests) == 2
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from rewardserve_client._async_client import AsyncRewardClient
from rewardserve_client._client import RewardClient
from rewardserve_client._errors import RewardClientError, UnknownModel
from rewardserve_client._settings import ClientSettings
from rewardserve_client._types import (
    Conversation,
    Reward,
    RewardsItem,
    RewardsRequest,
    RewardsResponse,
    ServedModel,
    ServedModels,
    Usage,
    as_conversations,
)

_CREATED: Final = 1_790_000_000


def response_length(conversation: Conversation) -> float:
    """The score a `FakeCluster` gives when it is not told otherwise: longer is better."""
    return float(len(conversation[-1]["content"]))


class FakeCluster:
    """Scores with a function, counts what it is asked, and fails when told to."""

    def __init__(
        self,
        score: Callable[[Conversation], float | Reward] = response_length,
        models: Sequence[str] = ("default",),
    ) -> None:
        self.requests: list[RewardsRequest] = []
        """Every request that arrived, failed ones too."""
        self._score = score
        self._models = tuple(models)
        self._failures: deque[RewardClientError] = deque()

    def client(self, *, max_retries: int = 2) -> RewardClient:
        """A blocking client of this cluster."""
        return RewardClient.from_settings(ClientSettings(self, max_retries=max_retries))

    def async_client(self, *, max_retries: int = 2) -> AsyncRewardClient:
        """An awaited client of this cluster."""
        return AsyncRewardClient.from_settings(ClientSettings(self, max_retries=max_retries))

    def fail_next(self, *errors: RewardClientError) -> None:
        """Each of the next requests fails with one of `errors`, in their order."""
        self._failures.extend(errors)

    def answer(self, request: RewardsRequest) -> RewardsResponse:
        """What the cluster says to `request`; raises what it was told to raise."""
        self.requests.append(request)
        if self._failures:
            raise self._failures.popleft()
        if request.model not in self._models:
            raise UnknownModel("no such model is served", "model", "unknown_model")
        data = [
            RewardsItem(
                index=index,
                rewards=[self._reward(request, each) for each in as_conversations(item)],
            )
            for index, item in enumerate(request.inputs)
        ]
        tokens = sum(reward.tokens for item in data for reward in item.rewards)
        return RewardsResponse(
            id=f"rw-{len(self.requests)}",
            model=request.model,
            created=_CREATED,
            data=data,
            usage=Usage(tokens=tokens, computed_tokens=tokens),
        )

    def served(self) -> ServedModels:
        """The models that the cluster says it has."""
        return ServedModels(data=[ServedModel(id=name, kind="model") for name in self._models])

    def open(self) -> "FakeTransport":
        return FakeTransport(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(models={list(self._models)})"

    def _reward(self, request: RewardsRequest, conversation: Conversation) -> Reward:
        scored = self._score(conversation)
        if isinstance(scored, Reward):
            return scored
        words = sum(len(message["content"].split()) for message in conversation)
        return Reward(score=scored, model=request.model, tokens=words)


class FakeTransport:
    """The way to a `FakeCluster`."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    async def rewards(self, request: RewardsRequest) -> RewardsResponse:
        return self._cluster.answer(request)

    async def models(self) -> ServedModels:
        return self._cluster.served()

    async def alive(self) -> bool:
        return True

    async def aclose(self) -> None:
        """There is nothing to close."""
