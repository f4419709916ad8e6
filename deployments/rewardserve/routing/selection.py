"""Chooses which route answers: by the request's tags, by the prompt's hash, with a shadow beside.

Knows choosing alone: the chosen route's rewards are passed on as they are, under its own name.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rewardserve.errors import RewardServeError
from rewardserve.routing.evaluate import Ask, Group, Item, Outcome, Request, Route, Shadowed


@dataclass(frozen=True, slots=True)
class Rule:
    """Applies when every tag has one of the values given for it."""

    when: Mapping[str, frozenset[str]]
    route: Route

    def applies(self, tags: Mapping[str, str]) -> bool:
        return all(tags.get(tag) in values for tag, values in self.when.items())


@dataclass(frozen=True, slots=True)
class Select:
    """The first rule that applies to the request's tags answers, else the default."""

    name: str
    rules: tuple[Rule, ...]
    default: Route

    async def outcomes(self, groups: Sequence[Group], request: Request) -> list[Outcome]:
        matching = (rule.route for rule in self.rules if rule.applies(request.tags))
        return await next(matching, self.default).outcomes(groups, request)


@dataclass(frozen=True, slots=True)
class Split:
    """Every prompt has one branch, always the same; branches share the prompts by weight."""

    name: str
    branches: tuple[tuple[Route, float], ...]

    async def outcomes(self, groups: Sequence[Group], request: Request) -> list[Outcome]:
        found: dict[int, Outcome] = {}
        chosen = [self.branch(group) for group in groups]
        async with asyncio.TaskGroup() as tasks:
            for branch in sorted(set(chosen)):
                indices = [index for index, own in enumerate(chosen) if own == branch]
                tasks.create_task(self._answer(branch, indices, groups, request, found))
        return [found[index] for index in range(len(groups))]

    async def _answer(
        self,
        branch: int,
        indices: Sequence[int],
        groups: Sequence[Group],
        request: Request,
        found: dict[int, Outcome],
    ) -> None:
        route, _ = self.branches[branch]
        outcomes = await route.outcomes([groups[index] for index in indices], request)
        found.update(zip(indices, outcomes, strict=True))

    def branch(self, group: Group) -> int:
        """The branch of a group, by a hash of the route's name and the group's prompt."""
        total = sum(weight for _, weight in self.branches)
        reach, point = 0.0, _fraction(self.name, group) * total
        for index, (_, weight) in enumerate(self.branches):
            reach += weight
            if point < reach:
                return index
        return len(self.branches) - 1  # rounding of the sum


@dataclass(frozen=True, slots=True)
class Shadow:
    """`answer` answers; what the shadows say of the same groups is for the record alone."""

    name: str
    answer: Route
    shadows: tuple[Route, ...]

    async def outcomes(self, groups: Sequence[Group], request: Request) -> list[Outcome]:
        answer = await self.answer.outcomes(groups, request)
        for shadow in self.shadows:
            request.on_shadow(Shadowed(shadow, groups, request.tags, answer))
        return answer


@dataclass(frozen=True, slots=True)
class ShadowRecord:
    """What a shadow said beside an answer: scores of the groups that both could score."""

    route: str
    answered: list[list[float]]
    shadowed: list[list[float]]
    failures: int
    """Groups the shadow could not score although the answer could."""


async def record_shadow(shadowed: Shadowed, ask: Ask) -> ShadowRecord:
    """Scores the groups with the shadow route. Raises nothing but cancellation and bugs."""
    outcomes = await shadowed.route.outcomes(shadowed.groups, Request(ask, shadowed.tags))
    pairs = [
        (answer, shadow)
        for answer, shadow in zip(shadowed.answer, outcomes, strict=True)
        if not isinstance(answer, RewardServeError)
    ]
    both = [
        (answer, shadow) for answer, shadow in pairs if not isinstance(shadow, RewardServeError)
    ]
    return ShadowRecord(
        route=shadowed.route.name,
        answered=[[reward.score for reward in answer] for answer, _ in both],
        shadowed=[[reward.score for reward in shadow] for _, shadow in both],
        failures=len(pairs) - len(both),
    )


def _fraction(salt: str, group: Group) -> float:
    """A number in [0, 1) that depends on the salt and the group's prompt, whatever the order."""
    digests = [hashlib.blake2b(_key(salt, item), digest_size=8).digest() for item in group]
    return int.from_bytes(min(digests, default=bytes(8)), "big") / 2**64


def _key(salt: str, item: Item) -> bytes:
    """A conversation counts by its prompt; text and token ids, whose prompt is not known, whole."""
    if isinstance(item, str):
        return json.dumps([salt, item]).encode()
    parts = [part if isinstance(part, Mapping) else int(part) for part in item]
    prompt = parts[:-1] if parts and isinstance(parts[0], Mapping) else parts
    return json.dumps([salt, prompt], sort_keys=True).encode()
