"""What a client needs of a way to the cluster: HTTP, a Serve handle, or a fake."""

from typing import Protocol

from rewardserve_client._types import RewardsRequest, RewardsResponse, ServedModels


class Transport(Protocol):
    """An open way to the cluster, used by one event loop.

    Each method raises `RewardClientError`, and nothing else, when the cluster gives no answer.
    """

    async def rewards(self, request: RewardsRequest) -> RewardsResponse: ...

    async def models(self) -> ServedModels: ...

    async def alive(self) -> bool:
        """Whether the cluster takes requests; never raises."""
        ...

    async def aclose(self) -> None: ...


class Address(Protocol):
    """Where the cluster is: a small picklable value that opens a `Transport`."""

    def open(self) -> Transport: ...
