"""Models without Ray or weights, called like Serve handles."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np

from rewardserve.errors import ConversationTooLong
from rewardserve.serving.answers import ModelAnswer, ModelDescription
from rewardserve.serving.gateway import Gateway
from rewardserve.serving.router_settings import RouterSettings
from rewardserve_client._types import Reward


class FakeResponse:
    """What a Serve handle's `remote` gives: awaitable once, and cancellable."""

    def __init__(self, answer: Awaitable[Any], on_cancel: Callable[[], None]) -> None:
        self._answer = answer
        self._on_cancel = on_cancel

    def __await__(self) -> Any:
        return self._answer.__await__()

    def cancel(self) -> None:
        self._on_cancel()


@dataclass
class FakeModel:
    """Scores a conversation by the length of its last message, unless the test says otherwise."""

    name: str
    behave: Callable[[Sequence[Any]], Awaitable[list[float]]] | None = None
    calls: list[Sequence[Any]] = field(default_factory=list)
    cancelled: int = 0
    describes: Callable[[Sequence[Any]], Awaitable[list[float]]] | None = None
    """What happens before it says what it is, if anything."""
    alone: list[bool] = field(default_factory=list)
    """Whether each call was to share no forward."""
    truncated: list[bool] = field(default_factory=list)
    """Whether each call was to shorten what is too long."""

    @property
    def handle(self) -> Any:
        return SimpleNamespace(
            score=SimpleNamespace(remote=self._remote),
            describe=SimpleNamespace(remote=self._describe),
        )

    def _remote(self, items: Sequence[Any], *terms: Any) -> FakeResponse:
        self.calls.append(items)
        self.alone.append(terms[-1])
        self.truncated.append(terms[0])
        return FakeResponse(self._score(items), self._count_cancel)

    def _describe(self) -> FakeResponse:
        return FakeResponse(self._description(), self._count_cancel)

    def _count_cancel(self) -> None:
        self.cancelled += 1

    async def _description(self) -> ModelDescription:
        if self.describes:
            await self.describes([])
        return ModelDescription("linear", "hub/fake", None, 4096, "sdpa", 4096)

    async def _score(self, items: Sequence[Any]) -> ModelAnswer:
        scores = await (self.behave or by_length)(items)
        rewards = [Reward(score=score, model=self.name, tokens=1) for score in scores]
        return ModelAnswer(rewards, len(items), len(items), 0.001, 0.002, 0.003)


@dataclass
class FakeScorer:
    """One token a character or message; the test may hold the device or break it."""

    family: str = "fake"
    source: str = "hub/fake"
    revision: str | None = "abc"
    max_tokens: int = 10
    attention: str = "sdpa"
    pack_tokens: int = 4096
    gate: threading.Event = field(default_factory=threading.Event)
    broken: bool = False
    scored: int = 0
    """Conversations that reached the device."""

    def encode(self, item: Any, *, truncate: bool = False) -> Any:
        if len(item) > self.max_tokens and not truncate:
            raise ConversationTooLong("too long", param="messages")
        return SimpleNamespace(token_ids=np.arange(len(item[: self.max_tokens])))

    def score(self, conversations: Any) -> list[Reward]:
        return []

    def score_encoded(self, batch: Sequence[Any]) -> Any:
        self.scored += len(batch)
        assert self.gate.wait(timeout=30)
        if self.broken:
            raise RuntimeError
        tokens = sum(len(item.token_ids) for item in batch)
        rewards = [Reward(score=len(item.token_ids), model="fake") for item in batch]
        return SimpleNamespace(rewards=rewards, tokens=tokens, computed_tokens=tokens)


async def by_length(items: Sequence[Any]) -> list[float]:
    return [float(_length(item)) for item in items]


def _length(item: Any) -> int:
    """Characters of rendered text, token ids, or characters of a conversation's last message."""
    last = item[-1]
    return len(last["content"] if isinstance(last, dict) else item)


def raising(error: Exception) -> Callable[[Sequence[Any]], Awaitable[list[float]]]:
    async def behave(items: Sequence[Any]) -> list[float]:
        raise error

    return behave


async def never(items: Sequence[Any]) -> list[float]:
    await asyncio.Event().wait()
    return []


def gateway(*models: FakeModel, **settings: Any) -> Gateway:
    """A gateway in front of fake models."""
    handles = {model.name: model.handle for model in models}
    names = list(handles) or ["absent"]
    router = RouterSettings(models=names, **settings)
    return Gateway(router, handles.__getitem__, lambda: status_of(**{name: {} for name in names}))


def status_of(**applications: dict[str, Any]) -> Any:
    """What Serve says of applications: of each `status`, `deployment` status and `running`."""
    return SimpleNamespace(
        applications={
            name: SimpleNamespace(
                status=said.get("status", "RUNNING"),
                deployments={
                    "RewardModel": SimpleNamespace(
                        status=said.get("deployment", "HEALTHY"),
                        replica_states={"RUNNING": said.get("running", 1)},
                    )
                },
            )
            for name, said in applications.items()
        }
    )


@asynccontextmanager
async def http(gateway: Gateway, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the gateway's HTTP app, without a network between."""
    transport = httpx2.ASGITransport(
        app=gateway.__serve_build_asgi_app__(), raise_app_exceptions=False
    )
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://cluster", **options
    ) as client:
        yield client


def conversation(response: str = "fine", prompt: str = "How are you?") -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
