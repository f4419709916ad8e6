"""One cluster of fake models, spoken to in any dialect."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from tests.serve.fakes import FakeModel, gateway, http

RENDERED = "<s>[user] How are you?[assistant] fine"
"""What a client that renders by itself sends."""


@dataclass
class Cluster:
    """The default model of a cluster, and a client of it."""

    client: httpx2.AsyncClient
    model: FakeModel

    async def post(self, path: str, body: Any, **options: Any) -> httpx2.Response:
        return await self.client.post(path, json=body, **options)

    async def answer(self, path: str, body: Any) -> Any:
        """What is answered with 200."""
        response = await self.post(path, body)
        assert response.status_code == 200, response.text
        return response.json()

    @property
    def scored(self) -> list[Any]:
        """Every item that the model was asked about."""
        return [item for call in self.model.calls for item in call]


@asynccontextmanager
async def cluster(model: FakeModel | None = None, **settings: Any) -> AsyncIterator[Cluster]:
    """Serves `default`, which scores by length, and `other`."""
    default = model or FakeModel("default")
    async with http(gateway(default, FakeModel("other"), **settings)) as client:
        yield Cluster(client, default)


def scoring(*scores: float) -> FakeModel:
    """A default model that gives these scores, one after the other."""
    remaining = iter(scores)

    async def behave(items: Sequence[Any]) -> list[float]:
        return [next(remaining) for _ in items]

    return FakeModel("default", behave)


def templated(prompt: str, response: str) -> list[dict[str, str]]:
    """The conversation that a pair of texts stands for."""
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
