"""Which of the responses to one prompt to keep, by their scores: pure.

A rule takes the scores and the prompt's number, and gives the indices of what is kept, best first.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

Keep: TypeAlias = Callable[[Sequence[float], int], list[int]]


def best(k: int = 1) -> Keep:
    """The `k` responses with the highest scores."""
    _at_least_one("k", k)
    return lambda scores, _: _ranked(scores)[:k]


def above(threshold: float) -> Keep:
    """Every response with a score of `threshold` or more; there may be none."""
    return lambda scores, _: [index for index in _ranked(scores) if scores[index] >= threshold]


def top_fraction(fraction: float) -> Keep:
    """The best `fraction` of the responses to each prompt, rounded up, as in RAFT."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}; it must be above 0 and at most 1")
    return lambda scores, _: _ranked(scores)[: math.ceil(fraction * len(scores))]


def tempered(beta: float, k: int = 1, *, seed: int = 0) -> Keep:
    """`k` responses by statistical rejection sampling.

    Responses are offered in random order and accepted with probability
    exp((score - highest) / beta), where `highest` is over those not accepted in earlier rounds,
    until there are `k`. So `beta` near 0 keeps the best and a large one keeps any.
    (Liu et al. 2023, arXiv 2309.06657.)
    """
    if beta <= 0:
        raise ValueError(f"beta is {beta}; it must be above 0")
    _at_least_one("k", k)

    def keep(scores: Sequence[float], number: int) -> list[int]:
        draw = random.Random(f"{seed} {number}")  # noqa: S311 - not a secret
        return _accepted(scores, beta, min(k, len(scores)), draw)

    return keep


def _accepted(scores: Sequence[float], beta: float, k: int, draw: random.Random) -> list[int]:
    accepted: list[int] = []
    waiting = list(range(len(scores)))
    draw.shuffle(waiting)  # in the order of the scores the best would always come first
    while len(accepted) < k:
        highest = max(scores[index] for index in waiting)
        for index in tuple(waiting):
            if len(accepted) < k and draw.random() < math.exp((scores[index] - highest) / beta):
                accepted.append(index)
                waiting.remove(index)
    return sorted(accepted, key=lambda index: -scores[index])


def _ranked(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def _at_least_one(name: str, number: int) -> None:
    if number < 1:
        raise ValueError(f"{name} is {number}; it must be 1 or more")
