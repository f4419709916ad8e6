"""Which models run, which should and do not, and what they have loaded.

Reads Serve's own status, which wakes nobody, and asks only models that have a replica: a model
scaled to zero is fine and stays asleep. Knows nothing of requests.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from ray import serve
from ray.serve.schema import ServeStatus

from rewardserve.errors import RewardServeError
from rewardserve.serving.answers import ModelDescription
from rewardserve.serving.model_client import ModelClient
from rewardserve_client._types import ServedModel

DEPLOYMENT = "RewardModel"
UP = ("ready", "asleep", "waking")
PROBE_S = 2.0
"""A model that does not describe itself within so long is not ready."""
SCALED_TO_ZERO = {"HEALTHY": "asleep", "DOWNSCALING": "asleep", "UPSCALING": "waking"}
"""Status of a deployment without replicas -> state of its model, where that is as it should be."""
FRESH_S = 1.0
"""Serve is asked for its status at most this often: /ready is open to everybody."""


def running_model(name: str) -> Any:
    """The handle of the model that the application `name` serves."""
    return serve.get_deployment_handle(DEPLOYMENT, app_name=name).options(_by_reference=False)


class ModelStates:
    """The state of a router's models."""

    def __init__(
        self, models: Mapping[str, ModelClient], read_status: Callable[[], ServeStatus]
    ) -> None:
        self._models = models
        self._read_status = read_status
        self._states: dict[str, str] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def unready(self) -> list[str]:
        """Models that should answer and do not, by name."""
        states = await self._current()
        return [name for name, state in states.items() if state not in UP]

    async def described(self) -> list[ServedModel]:
        """Every model with its state, and what is loaded where one answers."""
        states = await self._current()
        entries = [self._described(name, state) for name, state in states.items()]
        return list(await asyncio.gather(*entries))

    async def _current(self) -> dict[str, str]:
        loop = asyncio.get_running_loop()
        async with self._reading:
            if loop.time() - self._read_at > FRESH_S:
                self._states = await self._read()
                self._read_at = loop.time()
        return self._states

    async def _read(self) -> dict[str, str]:
        status = await asyncio.to_thread(self._read_status)
        states = {name: state_of(name, status) for name in self._models}
        running = [name for name, state in states.items() if state == "ready"]
        answers = await asyncio.gather(*(self._describe(name) for name in running))
        silent = [name for name, answer in zip(running, answers, strict=True) if answer is None]
        return states | dict.fromkeys(silent, "silent")

    async def _described(self, name: str, state: str) -> ServedModel:
        description = await self._describe(name) if state == "ready" else None
        if description is None:
            return ServedModel(id=name, kind="model", state=state)
        return ServedModel(
            id=name,
            kind="model",
            family=description.family,
            source=description.source,
            revision=description.revision,
            max_tokens=description.max_tokens,
            attention=description.attention,
            pack_tokens=description.pack_tokens,
            state=state,
        )

    async def _describe(self, name: str) -> ModelDescription | None:
        try:
            return await self._models[name].describe(asyncio.get_running_loop().time() + PROBE_S)
        except RewardServeError:
            return None


def state_of(name: str, status: ServeStatus) -> str:
    """`ready` with a running replica, `asleep` or `waking` when scaled to zero, else Serve's word.

    Serve says UPSCALING of autoscaling alone; replicas that should be there and are not make a
    deployment UPDATING or UNHEALTHY.
    """
    application = status.applications.get(name)
    if application is None:
        return "missing"
    deployment = application.deployments.get(DEPLOYMENT)
    if deployment is None or application.status == "DEPLOY_FAILED":
        return application.status.lower()
    if any(state == "RUNNING" and count for state, count in deployment.replica_states.items()):
        return "ready"
    return SCALED_TO_ZERO.get(deployment.status, "starting")
