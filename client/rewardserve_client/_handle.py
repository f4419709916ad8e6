"""The way to the cluster from inside it: a Serve handle, no HTTP, no JSON.

Ray is imported when the first call is made. The server's own error classes are recognised by
name, since this distribution does not import the server.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from rewardserve_client._errors import (
    TWINS,
    Busy,
    ConnectionFailed,
    RewardClientError,
    ServerFailed,
)
from rewardserve_client._types import RewardsRequest, RewardsResponse, ServedModels

_TWINS_BY_NAME: Final = {twin.__name__: (code, twin) for code, twin in TWINS.items()}


@dataclass(frozen=True)
class HandleAddress:
    """The router application of the Ray cluster that this process belongs to."""

    app_name: str

    def open(self) -> "HandleTransport":
        return HandleTransport(lambda: _app_handle(self.app_name))


class HandleTransport:
    """Calls the router's ingress deployment; `connect` gives its handle, at first use."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._handle: Any = None

    async def rewards(self, request: RewardsRequest) -> RewardsResponse:
        response: RewardsResponse = await self._call("rewards", request)
        return response

    async def models(self) -> ServedModels:
        models: ServedModels = await self._call("served_models")
        return models

    async def alive(self) -> bool:
        """A handle waits for replicas by itself."""
        return True

    async def aclose(self) -> None:
        self._handle = None

    async def _call(self, method: str, *args: object) -> Any:
        try:
            if self._handle is None:
                self._handle = await asyncio.to_thread(self._connect)
            return await _answer(getattr(self._handle, method).remote(*args))
        except Exception as error:
            raise client_error(error) from error


async def _answer(response: Any) -> Any:
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()  # else the replica goes on computing for nobody
        raise


def _app_handle(app_name: str) -> Any:
    from ray import serve  # noqa: PLC0415 - the client works without Ray

    return serve.get_app_handle(app_name).options(_by_reference=False)


def client_error(error: Exception) -> RewardClientError:
    """What a handle call raised, as one of ours: the server's own error, Serve's, or Ray's."""
    from ray.exceptions import RayActorError  # noqa: PLC0415
    from ray.serve.exceptions import BackPressureError, RayServeException  # noqa: PLC0415

    cause = getattr(error, "cause", None) or error
    if isinstance(cause, BackPressureError):
        return Busy("the cluster's queue is full", retry_after_s=cause.retry_after_s)
    for kind in type(cause).__mro__:
        if kind.__name__ in _TWINS_BY_NAME:
            return _twin(kind.__name__, cause)
    if isinstance(error, RayActorError | RayServeException):
        return ConnectionFailed(f"no answer from the handle: {type(error).__name__}")
    return ServerFailed(f"the handle call failed: {type(cause).__name__}")


def _twin(name: str, error: BaseException) -> RewardClientError:
    code, twin = _TWINS_BY_NAME[name]
    retry_after_s = getattr(error, "retry_after_s", None)
    return twin(str(error), getattr(error, "param", None), code, retry_after_s=retry_after_s)
