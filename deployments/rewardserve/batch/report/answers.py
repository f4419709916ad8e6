"""A scored corpus as flat arrays, one entry per answer, whatever its shape: for figures.

At most MAX_ANSWERS are kept, from rows spread evenly over the corpus, so that a report of any
corpus fits in memory. Exact counts are the summary's, not these.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rewardserve.batch.output import ScoredCorpus

MAX_ANSWERS: Final = 200_000

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of some rows; the answers of one row are neighbours."""

    models: tuple[str, ...]
    row_numbers: Integers
    """Number of the row in the corpus."""
    positions: Integers
    """Place among the row's answers; of a pair, the chosen one is 0."""
    right: Integers
    """1 for an answer that is labelled right, 0 for a wrong one, -1 where nothing is known."""
    tokens: Integers
    scores: Floats
    """[answers, models]; NaN where an answer has no score."""

    def by_row(self) -> Iterator[slice]:
        """The range of each row's answers."""
        edges = np.flatnonzero(np.diff(self.row_numbers)) + 1
        bounds = [0, *edges.tolist(), len(self.row_numbers)]
        yield from (slice(a, b) for a, b in pairwise(bounds) if b > a)


def read_answers(scored: ScoredCorpus, max_answers: int = MAX_ANSWERS) -> Answers:
    """The answers of every row, or of evenly spread rows; raises DataError."""
    stride = _stride(scored, max_answers)
    pieces: list[Answers] = []
    first = 0
    for table in scored.batches(answer_columns(scored)):
        kept = np.arange(-first % stride, len(table), stride)
        if len(kept):
            pieces.append(_flat(scored, table.take(kept), kept + first))
        first += len(table)
    return _concatenated(tuple(scored.suffixes), pieces)


def answer_columns(scored: ScoredCorpus) -> list[str]:
    """The columns that `read_answers` reads."""
    leaves = ("score", "tokens")
    names = [f"{name}{suffix}" for suffix in scored.suffixes.values() for name in _parts(scored)]
    inner = ".list.element" if scored.shape == "candidates" else ""
    columns = [f"{name}{inner}.{leaf}" for name in names for leaf in leaves]
    roles = ("labels", "chosen", "rejected") if scored.shape == "candidates" else ()
    return columns + [scored.roles[role] for role in roles if role in scored.roles]


def _parts(scored: ScoredCorpus) -> tuple[str, ...]:
    if scored.shape == "pairs":
        return ("chosen_reward", "rejected_reward")
    return ("rewards",) if scored.shape == "candidates" else ("reward",)


def _stride(scored: ScoredCorpus, max_answers: int) -> int:
    rows = scored.manifest["rows"]
    first = next(scored.batches(answer_columns(scored)), None)
    if first is None:
        return 1
    each = len(_flat(scored, first, np.arange(len(first))).row_numbers) / len(first)
    return max(1, int(np.ceil(rows * each / max_answers)))


def _flat(scored: ScoredCorpus, table: pa.Table, numbers: Integers) -> Answers:
    rewards = {
        model: [table[f"{name}{suffix}"].combine_chunks() for name in _parts(scored)]
        for model, suffix in scored.suffixes.items()
    }
    owners, positions = _places(next(iter(rewards.values())))
    flat = {model: _interleaved(columns) for model, columns in rewards.items()}
    first = next(iter(flat.values()))
    return Answers(
        models=tuple(flat),
        row_numbers=numbers[owners],
        positions=positions,
        right=_right(scored, table, owners, positions),
        tokens=pc.fill_null(first.field("tokens"), 0).to_numpy().astype(np.int64),
        scores=np.stack([_scores(column) for column in flat.values()], axis=1),
    )


def _places(columns: Sequence[pa.Array]) -> tuple[Integers, Integers]:
    """Each answer's row in the table, and its place in that row."""
    if pa.types.is_list(columns[0].type):
        owners = pc.list_parent_indices(columns[0]).to_numpy().astype(np.int64)
        starts = columns[0].offsets.to_numpy()[:-1] - columns[0].offsets.to_numpy()[0]
        return owners, np.arange(len(owners)) - starts[owners]
    rows = len(columns[0])
    return np.repeat(np.arange(rows), len(columns)), np.tile(np.arange(len(columns)), rows)


def _interleaved(columns: Sequence[pa.Array]) -> pa.StructArray:
    if pa.types.is_list(columns[0].type):
        return columns[0].flatten()
    order = np.arange(len(columns) * len(columns[0])).reshape(len(columns), -1).T.ravel()
    return pa.concat_arrays(columns).take(order)


def _scores(rewards: pa.StructArray) -> Floats:
    return np.asarray(pc.fill_null(rewards.field("score"), float("nan")), np.float64)


def _right(
    scored: ScoredCorpus, table: pa.Table, owners: Integers, positions: Integers
) -> Integers:
    if scored.shape == "pairs":
        return np.asarray(1 - positions)
    unknown = np.full(len(owners), -1)
    if scored.shape == "single":
        return unknown
    if "chosen" in scored.roles:
        right = pc.list_value_length(table[scored.roles["chosen"]]).fill_null(0).to_numpy()
        return np.asarray(positions < right[owners], np.int64)
    if "labels" not in scored.roles:
        return unknown
    labels: list[list[Any] | None] = table[scored.roles["labels"]].to_pylist()
    places = zip(owners.tolist(), positions.tolist(), strict=True)
    return np.array([_label(labels[owner], place) for owner, place in places], np.int64)


def _label(labels: Sequence[Any] | None, place: int) -> int:
    if labels is None or place >= len(labels) or labels[place] is None:
        return -1
    return int(bool(labels[place]))


def _concatenated(models: tuple[str, ...], pieces: Sequence[Answers]) -> Answers:
    def joined(name: str) -> Any:
        return np.concatenate([getattr(piece, name) for piece in pieces])

    if not pieces:
        none = np.zeros(0, np.int64)
        return Answers(models, none, none, none, none, np.zeros((0, len(models))))
    arrays = {name: joined(name) for name in Answers.__slots__ if name != "models"}
    return Answers(models=models, **arrays)
