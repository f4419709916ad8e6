"""A cluster in which everything that can go wrong does, on a clock that is a number.

One seed decides the routes, the request, every delay and every fault, so that a seed always tells
the same story. `run(seed)` tells it once.
"""

import asyncio
import itertools
import random
import selectors
from collections.abc import Coroutine, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, cast

from fake_models import candidates, plan_of, response_of

from rewardserve.errors import Busy, DeadlineExceeded, ModelFailed, RewardServeError
from rewardserve.routing.evaluate import Group, Item, Shadowed, evaluate
from rewardserve_client._types import Reward

MODELS = ("a", "b", "c", "d")
ATTRIBUTES = ("style", "safety")
TAGS = ("code", "math", "poetry")


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: the time it was to wait has passed at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("every task waits for another one: a deadlock")
        self.now += timeout
        return []


class _NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set, and so its turn to be cancelled, is not its address."""

    def __init__(self, number: int, work: Coroutine[Any, Any, Any], **options: Any) -> None:
        self.number = number
        super().__init__(work, **options)

    def __hash__(self) -> int:
        return self.number


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, first come first served, whose clock jumps to the next timer."""

    def __init__(self) -> None:
        self.clock = _JumpingSelector()
        super().__init__(self.clock)
        numbers = itertools.count()
        self.set_task_factory(
            lambda loop, work, **options: _NumberedTask(
                next(numbers), cast("Coroutine[Any, Any, Any]", work), loop=loop, **options
            )
        )

    def time(self) -> float:
        return self.clock.now


def truth(model: str, text: str) -> float:
    """What a model thinks of a text; several texts share a score."""
    return float(random.Random(f"{model}/{text}").randrange(-20, 20))


def reward(model: str, text: str) -> Reward:
    """The whole answer of a model in good order."""
    parts = {name: truth(f"{model}.{name}", text) for name in ATTRIBUTES}
    return Reward(score=truth(model, text), model=model, tokens=len(text), attributes=parts)


@dataclass
class Cluster:
    """The models' side: delays, faults, and a log of both."""

    chance: random.Random
    health: float
    deadline: float
    log: list[tuple[float, str, str, tuple[str, ...]]] = field(default_factory=list)
    in_flight: int = 0

    async def ask(self, model: str, items: Sequence[Item]) -> list[Reward]:
        texts = tuple(response_of(item) for item in items)
        self._note("asked", model, texts)
        self.in_flight += 1
        try:
            async with asyncio.timeout_at(self.deadline):
                rewards = await self._retried(model, texts)
            self._note("answered", model, texts)
        except TimeoutError:
            self._note("late", model, texts)
            raise DeadlineExceeded("the deadline passed") from None
        except RewardServeError as error:
            self._note(type(error).__name__, model, texts)
            raise
        except asyncio.CancelledError:
            self._note("cancelled", model, texts)
            await asyncio.sleep(0)  # telling the replica takes a turn of the loop
            raise
        finally:
            self.in_flight -= 1
        return rewards

    async def _retried(self, model: str, texts: tuple[str, ...]) -> list[Reward]:
        for _ in range(3):
            await asyncio.sleep(self.chance.expovariate(1.0))
            if self.chance.random() < self.health or self.chance.random() < 0.5:
                return self._answer(model, texts)
            self._note("restarted", model, texts)
        raise ModelFailed("the replica died three times")

    def _answer(self, model: str, texts: tuple[str, ...]) -> list[Reward]:
        rewards = [reward(model, text) for text in texts]
        if self.chance.random() < self.health:
            return rewards
        match self.chance.choice(["nan", "short", "busy", "error", "attribute"]):
            case "nan":
                return self._with_nan(model, texts, rewards)
            case "short":
                self._note("short", model, texts)
                return rewards[1:]
            case "busy":
                raise Busy("the queue is full", None, 2.0)
            case "attribute":
                self._note("attribute", model, texts)
                return [one.model_copy(update={"attributes": None}) for one in rewards]
            case _:
                raise ModelFailed("out of memory")

    def _with_nan(self, model: str, texts: tuple[str, ...], rewards: list[Reward]) -> list[Reward]:
        self._note("nan", model, texts)
        bad = self.chance.randrange(len(rewards))
        rewards[bad] = rewards[bad].model_copy(update={"score": float("nan")})
        return rewards

    def _note(self, what: str, model: str, texts: tuple[str, ...]) -> None:
        self.log.append((asyncio.get_running_loop().time(), what, model, texts))

    @property
    def faults(self) -> list[str]:
        return [what for _, what, _, _ in self.log if what not in {"asked", "answered"}]


@dataclass(frozen=True)
class Story:
    """One seed's request and how it ended."""

    routes: dict[str, Any]
    route: str
    tags: dict[str, str]
    texts: list[list[str]]
    cluster: Cluster
    cancelled_at: float | None
    ended_at: float
    end: list[list[Reward]] | RewardServeError | None
    """Rewards, an error, or None for a cancelled request."""
    shadowed: list[Shadowed]
    orphans: int

    def told(self) -> str:
        """Everything that happened, for comparing two tellings."""
        end = self.end
        if isinstance(end, list):
            end = [[reward.model_dump_json() for reward in group] for group in end]
        return repr((self.route, self.texts, self.cluster.log, self.ended_at, end))


def run(seed: int) -> Story:
    """The story of a seed."""
    chance = random.Random(seed)
    routes = _routes(chance)
    name = chance.choice(list(routes))
    words = iter(f"response {number}" for number in range(100))
    texts = [
        [next(words) for _ in range(chance.randint(1, 4))] for _ in range(chance.randint(1, 4))
    ]
    groups = [candidates(*group, prompt=f"question {n}") for n, group in enumerate(texts)]
    tags = {"domain": chance.choice(TAGS)}
    cluster = Cluster(chance, chance.choice([1.0, 0.97, 0.8]), chance.choice([1e6, 1e6, 3.0]))
    cancelled_at = chance.uniform(0, 3) if chance.random() < 0.2 else None
    with closing(VirtualClockLoop()) as loop:
        return loop.run_until_complete(
            _tell(routes, name, tags, texts, groups, cluster, cancelled_at)
        )


async def _tell(
    routes: dict[str, Any],
    name: str,
    tags: dict[str, str],
    texts: list[list[str]],
    groups: list[Group],
    cluster: Cluster,
    cancelled_at: float | None,
) -> Story:
    shadowed: list[Shadowed] = []
    route = plan_of(routes, MODELS).route(name)
    work = evaluate(route, groups, cluster.ask, tags=tags, on_shadow=shadowed.append)
    end = await _ended(work, cancelled_at)
    now = asyncio.get_running_loop().time()
    orphans = len(asyncio.all_tasks()) - 1
    return Story(routes, name, tags, texts, cluster, cancelled_at, now, end, shadowed, orphans)


async def _ended(
    work: Coroutine[Any, Any, list[list[Reward]]], cancelled_at: float | None
) -> list[list[Reward]] | RewardServeError | None:
    task = asyncio.create_task(work)
    if cancelled_at is not None:
        asyncio.get_running_loop().call_at(cancelled_at, task.cancel)
    try:
        return await task
    except RewardServeError as error:
        return error
    except asyncio.CancelledError:
        return None


def _routes(chance: random.Random) -> dict[str, Any]:
    known = [*MODELS, *(f"{model}.{part}" for model in MODELS for part in ATTRIBUTES)]
    routes: dict[str, Any] = {}
    for number in range(chance.randint(1, 4)):
        routes[f"r{number}"] = _route(chance, [*known, *routes, *routes])
    return routes


def _route(chance: random.Random, known: list[str]) -> dict[str, Any]:
    first, second, third = chance.sample(sorted(set(known)), 3)
    match chance.choice(["ensemble"] * 5 + ["cascade", "split", "select", "shadow", "attributes"]):
        case "cascade":
            return {"cascade": {"first": first, "then": second, "top_k": chance.randint(2, 3)}}
        case "split":
            return {"split": {"weights": {first: 1.0, second: 2.0}}}
        case "select":
            rules = [{"when": {"domain": "code"}, "use": first}]
            return {"select": {"rules": rules, "default": second}}
        case "shadow":
            return {"shadow": {"answer": first, "shadows": [second, third]}}
        case "attributes":
            weights = {"style": chance.uniform(-1, 1), "safety": chance.uniform(-1, 1)}
            return {"attributes": {"model": chance.choice(MODELS), "weights": weights}}
        case _:
            return {"ensemble": _ensemble(chance, known)}


def _ensemble(chance: random.Random, known: list[str]) -> dict[str, Any]:
    names = chance.sample(sorted(set(known)), chance.randint(2, 4))
    aggregate = chance.choice(["mean", "median", "min", "lower_confidence_bound"])
    weighted = aggregate in {"mean", "lower_confidence_bound"}
    settings: dict[str, Any] = {
        "members": {name: chance.uniform(0.5, 2) if weighted else 1.0 for name in names},
        "normalize": chance.choice(["none", "none", "group_zscore", "group_rank", "sigmoid"]),
        "aggregate": aggregate,
    }
    if aggregate != "min" and chance.random() < 0.6:
        settings["quorum"] = chance.randint(2, len(names))
    return settings
