"""What the blocking and the awaited client share: how they are set up, printed and pickled."""

from typing import Self

from rewardserve_client._cluster import Cluster
from rewardserve_client._handle import HandleAddress
from rewardserve_client._settings import ClientSettings, Timeout, http_address


class BaseClient:
    """A client is its settings; connections are opened when they are needed."""

    _cluster: Cluster

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: Timeout = Timeout(),  # noqa: B008 - frozen
        max_retries: int = 2,
        max_concurrency: int = 32,
    ) -> None:
        """A client over HTTP.

        Args:
            base_url: the cluster; else `REWARDSERVE_URL`, else port 8000 of this machine.
            api_key: sent as a bearer token; else `REWARDSERVE_API_KEY`, else none.
            timeout: limits of one call.
            max_retries: further attempts at a request that found the server busy, away or broken.
            max_concurrency: most requests in flight; a busy server gets fewer.
        """
        address = http_address(base_url, api_key, timeout, max_concurrency)
        self.__setstate__(ClientSettings(address, timeout, max_retries, max_concurrency))

    @classmethod
    def from_handle(
        cls,
        app_name: str = "router",
        *,
        timeout: Timeout = Timeout(),  # noqa: B008 - frozen
        max_retries: int = 2,
        max_concurrency: int = 32,
    ) -> Self:
        """A client for code inside the Ray cluster: no HTTP, no JSON.

        `app_name` is the router's Serve application. Ray must be connected at the first call.
        """
        address = HandleAddress(app_name)
        return cls.from_settings(ClientSettings(address, timeout, max_retries, max_concurrency))

    @classmethod
    def from_settings(cls, settings: ClientSettings) -> Self:
        """A client for any kind of address."""
        client = cls.__new__(cls)
        client.__setstate__(settings)
        return client

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._cluster.settings.address!r})"

    def __getstate__(self) -> ClientSettings:
        return self._cluster.settings

    def __setstate__(self, settings: ClientSettings) -> None:
        self._cluster = Cluster(settings)
