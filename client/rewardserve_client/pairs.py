"""Preference pairs out of scored candidates, for DPO and its kin: pure, over plain Python rows.

    rules = PairRules(min_margin=0.5, max_length_ratio=1.5)
    pairs = mine_pairs("What is 2 + 2?", ["4", "5"], [1.3, -0.2], rules)
    pairs[0].to_trl()
    # {"prompt": [{"role": "user", ...}], "chosen": [{"role": "assistant", ...}], "rejected": [...],
    #  "score_chosen": 1.3, "score_rejected": -0.2, "margin": 1.5}

Knows nothing of files, models or clients.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rewardserve_client._types import Message, Prompt

Pick = Literal["best_worst", "best_random", "all"]


@dataclass(frozen=True)
class PairRules:
    """Which two responses to a prompt make a pair worth learning from."""

    pick: Pick = "best_worst"
    """The best against the worst, the best against random others, or everything against
    everything with the widest margins first."""
    min_margin: float = 0.0
    """Smallest difference of the scores; equal scores never make a pair."""
    max_length_ratio: float | None = None
    """The longer may have this many times the characters of the shorter, so that a model does not
    learn length instead of quality."""
    per_prompt: int = 1
    """Most pairs of one prompt."""
    seed: int = 0
    """Of `best_random`; the draw depends on the seed and the prompt alone."""

    def __post_init__(self) -> None:
        if self.min_margin < 0:
            raise ValueError(f"min_margin is {self.min_margin}; it must be 0 or more")
        if self.max_length_ratio is not None and self.max_length_ratio < 1:
            raise ValueError(f"max_length_ratio is {self.max_length_ratio}; it must be 1 or more")
        if self.per_prompt < 1:
            raise ValueError(f"per_prompt is {self.per_prompt}; it must be 1 or more")


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt, the first with the higher score."""

    prompt: Prompt
    chosen: str
    rejected: str
    score_chosen: float
    score_rejected: float

    @property
    def margin(self) -> float:
        """How much higher the chosen response was scored; above 0."""
        return self.score_chosen - self.score_rejected

    def to_trl(self) -> dict[str, Any]:
        """A row of TRL's conversational preference format, with the scores as further columns."""
        return {
            "prompt": _turns(self.prompt),
            "chosen": [Message(role="assistant", content=self.chosen)],
            "rejected": [Message(role="assistant", content=self.rejected)],
            "score_chosen": self.score_chosen,
            "score_rejected": self.score_rejected,
            "margin": self.margin,
        }


def mine_pairs(
    prompt: Prompt,
    responses: Sequence[str],
    scores: Sequence[float | None],
    rules: PairRules = PairRules(),
) -> list[Pair]:
    """The pairs of one prompt, at most `rules.per_prompt`; the same text never twice.

    A response without a score is left out. Raises `ValueError` if `responses` and `scores` differ
    in length.
    """
    scored = {
        response: score
        for response, score in zip(responses, scores, strict=True)
        if score is not None
    }
    ranked = sorted(scored.items(), key=lambda each: -each[1])
    pairs = (
        Pair(prompt, chosen, rejected, score_chosen, score_rejected)
        for (chosen, score_chosen), (rejected, score_rejected) in _candidates(ranked, prompt, rules)
    )
    return [pair for pair in pairs if _worth_learning(pair, rules)][: rules.per_prompt]


def mine_rows(
    rows: Iterable[Mapping[str, Any]],
    rules: PairRules = PairRules(),
) -> Iterator[dict[str, Any]]:
    """TRL rows out of rows with `prompt`, `responses`, and `rewards` or `scores`.

    `rewards` holds structs with a `score`, as bulk scoring writes them; `scores` plain numbers.
    A null reward or score leaves that response out. Raises `KeyError` if a column is missing.
    """
    for row in rows:
        for pair in mine_pairs(row["prompt"], row["responses"], _scores(row), rules):
            yield pair.to_trl()


Scored = tuple[str, float]


def _candidates(
    ranked: Sequence[Scored], prompt: Prompt, rules: PairRules
) -> Iterable[tuple[Scored, Scored]]:
    """Possible pairs, the most wanted first; `ranked` has the best response first."""
    if not ranked:
        return []
    best, others = ranked[0], list(ranked[1:])
    if rules.pick == "all":
        every = [(high, low) for i, high in enumerate(ranked) for low in ranked[i + 1 :]]
        return sorted(every, key=lambda pair: pair[1][1] - pair[0][1])
    if rules.pick == "best_worst":
        others.reverse()
    else:
        random.Random(f"{rules.seed} {prompt!r}").shuffle(others)  # noqa: S311 - not a secret
    return [(best, other) for other in others]


def _worth_learning(pair: Pair, rules: PairRules) -> bool:
    if pair.margin <= 0 or pair.margin < rules.min_margin:
        return False
    if rules.max_length_ratio is None:
        return True
    shorter, longer = sorted((len(pair.chosen), len(pair.rejected)))
    return longer <= rules.max_length_ratio * shorter


def _scores(row: Mapping[str, Any]) -> list[float | None]:
    if "rewards" in row:
        return [reward and reward["score"] for reward in row["rewards"]]
    return list(row["scores"])


def _turns(prompt: Prompt) -> list[Message]:
    return [Message(role="user", content=prompt)] if isinstance(prompt, str) else list(prompt)
