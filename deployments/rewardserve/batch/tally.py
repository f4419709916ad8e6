"""Counts over scored rows: bad rows by kind, tokens, pair and best-of-n accuracy by subset.

Pure: tables of a part's reward columns go in, counts come out, and memory does not grow with rows.
A pair counts as right when the chosen score is above the rejected one; a tie is not right. A
best-of-n row counts what picking at random among its highest-scored responses would get right.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rewardserve.batch.columns import Shape
from rewardserve.batch.reward_columns import reward_schema

ALL: Final = "all"
MAX_SUBSETS: Final = 1000
"""Subsets that are counted apart; the rest go together under OTHERS."""
OTHERS: Final = "(other subsets)"


def tally_columns(shape: Shape, suffix: str) -> Iterator[str]:
    """The leaves of a model's reward columns that `ModelTally.add` reads."""
    for name in _reward_names(shape, suffix):
        inner = f"{name}.list.element" if shape == "candidates" else name
        yield from (f"{inner}.{leaf}" for leaf in ("score", "tokens", "truncated", "error"))
    if shape == "pairs":
        yield f"margin{suffix}"


@dataclass(slots=True)
class Accuracy:
    """Right answers among rows that could be judged."""

    rows: int = 0
    right: float = 0.0
    ties: int = 0
    by_chance: float = 0.0
    """What a random pick would have got right."""

    def add(self, right: float, *, tie: bool, by_chance: float) -> None:
        """Count one row."""
        self.rows += 1
        self.right += right
        self.ties += tie
        self.by_chance += by_chance

    def as_dict(self) -> dict[str, float]:
        """Rates, as the summary shows them."""
        return {
            "rows": self.rows,
            "accuracy": self.right / self.rows,
            "ties": self.ties,
            "by_chance": self.by_chance / self.rows,
        }


@dataclass(slots=True)
class ScoreRange:
    """Count, mean, deviation and bounds of scores, accumulated stably."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    lowest: float = float("inf")
    highest: float = float("-inf")

    def add(self, scores: "np.ndarray[Any, np.dtype[np.float64]]") -> None:
        """Take in more scores (Chan's pairwise update)."""
        if not len(scores):
            return
        count, mean = len(scores), float(scores.mean())
        total = self.count + count
        shift = mean - self.mean
        self.squares += float(((scores - mean) ** 2).sum())
        self.squares += shift**2 * self.count * count / total
        self.mean += shift * count / total
        self.count = total
        self.lowest = min(self.lowest, float(scores.min()))
        self.highest = max(self.highest, float(scores.max()))

    def as_dict(self) -> dict[str, float]:
        """What the summary shows."""
        if not self.count:
            return {"count": 0}
        deviation = (self.squares / self.count) ** 0.5
        bounds = {"lowest": self.lowest, "highest": self.highest}
        return {"count": self.count, "mean": self.mean, "std": deviation, **bounds}


@dataclass(slots=True)
class ModelTally:
    """One model's counts."""

    shape: Shape
    suffix: str = ""
    scores: ScoreRange = field(default_factory=ScoreRange)
    tokens: int = 0
    truncated: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    accuracy: dict[str, Accuracy] = field(default_factory=dict)
    _before: tuple[Any, Any, Any] | None = None
    """Prompt, rating and score of the row before: rated answers to one prompt are neighbours."""

    def add(
        self, table: pa.Table, roles: Mapping[str, str]
    ) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """Count a table's rows, in the corpus's order; says which of them are bad."""
        bad = np.zeros(len(table), bool)
        for name in _reward_names(self.shape, self.suffix):
            column = table[name].combine_chunks()
            rewards, owners = column, np.arange(len(table))
            if pa.types.is_list(column.type):
                rewards, owners = column.flatten(), pc.list_parent_indices(column).to_numpy()
            self._count(rewards)
            errors = rewards.field("error")
            bad[owners[pc.is_valid(errors).to_numpy(zero_copy_only=False)]] = True
        for subset, right, tie, by_chance in self._judged(table, roles):
            for group in (ALL, subset) if subset is not None else (ALL,):
                self._group(group).add(right, tie=tie, by_chance=by_chance)
        return bad

    def as_dict(self) -> dict[str, Any]:
        """What the summary shows of this model."""
        return {
            "scores": self.scores.as_dict(),
            "tokens": self.tokens,
            "truncated": self.truncated,
            "errors": dict(self.errors),
            "accuracy": {name: each.as_dict() for name, each in sorted(self.accuracy.items())},
        }

    def _count(self, rewards: pa.StructArray) -> None:
        scores = rewards.field("score").drop_null()
        self.scores.add(scores.to_numpy(zero_copy_only=False))
        self.tokens += pc.sum(rewards.field("tokens")).as_py() or 0
        self.truncated += pc.sum(rewards.field("truncated")).as_py() or 0
        kinds = (
            error.partition(":")[0] for error in rewards.field("error").drop_null().to_pylist()
        )
        self.errors.update(kinds)

    def _group(self, name: str) -> Accuracy:
        if name not in self.accuracy and len(self.accuracy) > MAX_SUBSETS:
            name = OTHERS
        return self.accuracy.setdefault(name, Accuracy())

    def _judged(
        self, table: pa.Table, roles: Mapping[str, str]
    ) -> Iterator[tuple[str | None, float, bool, float]]:
        """Subset, credit, tie and chance of each row that can be judged."""
        if self.shape == "pairs":
            yield from self._judged_pairs(table, roles)
        elif self.shape == "candidates" and {"labels", "chosen"} & roles.keys():
            yield from self._judged_candidates(table, roles)
        elif self.shape == "single" and "rating" in roles:
            yield from self._judged_ratings(table, roles)

    def _judged_pairs(
        self, table: pa.Table, roles: Mapping[str, str]
    ) -> Iterator[tuple[str | None, float, bool, float]]:
        margins = table[f"margin{self.suffix}"].to_pylist()
        for subset, margin in zip(_subsets(table, roles), margins, strict=True):
            if margin is not None:
                yield subset, float(margin > 0), margin == 0, 0.5

    def _judged_candidates(
        self, table: pa.Table, roles: Mapping[str, str]
    ) -> Iterator[tuple[str | None, float, bool, float]]:
        scores = _score_lists(table[f"rewards{self.suffix}"].combine_chunks())
        rows = zip(_subsets(table, roles), _label_lists(table, roles), scores, strict=True)
        for subset, labels, row in rows:
            known = [score for score in row or () if score is not None]
            if not known or labels is None or not len(labels) == len(row) == len(known):
                continue
            pairs = zip(labels, known, strict=True)
            picks = [bool(label) for label, score in pairs if score == max(known)]
            chance = sum(map(bool, labels)) / len(labels)
            yield subset, sum(picks) / len(picks), len(picks) > 1, chance

    def _judged_ratings(
        self, table: pa.Table, roles: Mapping[str, str]
    ) -> Iterator[tuple[str | None, float, bool, float]]:
        """HelpSteer: two rows in a row with one prompt and different ratings are a pair."""
        scores = table[f"reward{self.suffix}"].combine_chunks().field("score").to_pylist()
        prompts, ratings = table[roles["prompt"]].to_pylist(), table[roles["rating"]].to_pylist()
        subsets = _subsets(table, roles)
        for subset, prompt, rating, score in zip(subsets, prompts, ratings, scores, strict=True):
            before, self._before = self._before, (prompt, rating, score)
            if before is None or before[0] != prompt:
                continue
            self._before = None
            if None in (rating, score, before[1], before[2]) or rating == before[1]:
                continue
            margin = (score - before[2]) * (1 if rating > before[1] else -1)
            yield subset, float(margin > 0), margin == 0, 0.5


def _reward_names(shape: Shape, suffix: str) -> list[str]:
    schema = reward_schema(shape, suffix)
    return [field.name for field in schema if not pa.types.is_floating(field.type)]


def _subsets(table: pa.Table, roles: Mapping[str, str]) -> list[str | None]:
    if "subset" not in roles:
        return [None] * len(table)
    return [None if each is None else str(each) for each in table[roles["subset"]].to_pylist()]


def _score_lists(rewards: pa.ListArray) -> list[list[float | None]]:
    scores = pa.ListArray.from_arrays(rewards.offsets, rewards.values.field("score"))
    lists: list[list[float | None]] = scores.to_pylist()
    return lists


def _label_lists(table: pa.Table, roles: Mapping[str, str]) -> list[list[Any] | None]:
    if "labels" in roles:
        labels: list[list[Any] | None] = table[roles["labels"]].to_pylist()
        return labels
    right = pc.list_value_length(table[roles["chosen"]]).to_pylist()
    wrong = pc.list_value_length(table[roles["rejected"]]).to_pylist()
    return [[True] * (r or 0) + [False] * (w or 0) for r, w in zip(right, wrong, strict=True)]
