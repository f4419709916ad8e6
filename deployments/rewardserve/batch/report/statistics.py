"""What scores say, as numbers: intervals, calibration, length bias, agreement, best-of-n. Pure."""

from dataclasses import dataclass
from math import comb, sqrt

import numpy as np
import numpy.typing as npt

from rewardserve.batch.report.answers import Answers, Floats, Integers

Z_95 = 1.959964
"""Two-sided 95% of the normal distribution."""


def wilson_interval(right: float, rows: int) -> tuple[float, float]:
    """95% interval of a share (Wilson's score interval); (0, 1) for no rows."""
    if rows == 0:
        return 0.0, 1.0
    share, z2 = right / rows, Z_95**2
    centre = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    reach = Z_95 * sqrt(share * (1 - share) / rows + z2 / (4 * rows**2)) / (1 + z2 / rows)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def margins(answers: Answers, model: int) -> Floats:
    """Score of a right answer less that of a wrong one to the same prompt, for all such couples."""
    found: list[Floats] = []
    for row in answers.by_row():
        scores, right = answers.scores[row, model], answers.right[row]
        gaps = scores[right == 1][:, None] - scores[right == 0][None, :]
        found.append(gaps[np.isfinite(gaps)])
    return np.concatenate(found) if found else np.zeros(0)


@dataclass(frozen=True, slots=True)
class CalibrationPoint:
    """How often the higher score was right, among couples about this far apart."""

    distance: float
    right: float
    low: float
    high: float
    couples: int


def calibration(gaps: Floats, bins: int = 10) -> list[CalibrationPoint]:
    """Accuracy against the absolute margin, in bins of equally many couples; ties are not right."""
    order = np.argsort(np.abs(gaps), kind="stable")
    points = []
    for part in np.array_split(gaps[order], min(bins, len(gaps) // 10 or 1)):
        if len(part):
            right = int((part > 0).sum())
            low, high = wilson_interval(right, len(part))
            distance = float(np.abs(part).mean())
            points.append(CalibrationPoint(distance, right / len(part), low, high, len(part)))
    return points


def ranks(values: Floats) -> Floats:
    """Ranks from 0, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: Floats = (last - counts + last - 1) / 2
    return means[inverse]


def spearman(first: Floats | Integers, second: Floats | Integers) -> float | None:
    """Rank correlation over entries where both are finite; None where it is not defined."""
    both = np.isfinite(first) & np.isfinite(second)
    a, b = ranks(np.asarray(first[both], float)), ranks(np.asarray(second[both], float))
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def agreement(answers: Answers) -> list[list[float | None]]:
    """Rank correlation of every two models' scores."""
    models = range(len(answers.models))
    scores = answers.scores
    return [[spearman(scores[:, a], scores[:, b]) for b in models] for a in models]


@dataclass(frozen=True, slots=True)
class LengthBias:
    """How scores go with length."""

    overall: float | None
    """Rank correlation of score and tokens over all answers."""
    within_prompt: float | None
    """The same after each prompt's mean is taken off both: prompts' own lengths play no part."""


def length_bias(answers: Answers, model: int) -> LengthBias:
    """Rank correlation of a model's scores with their answers' tokens."""
    scores = answers.scores[:, model]
    tokens = answers.tokens.astype(float)
    scored = np.isfinite(scores)
    inner_scores, inner_tokens = (
        _less_row_means(values[scored], answers.row_numbers[scored]) for values in (scores, tokens)
    )
    several = len(np.unique(answers.row_numbers)) < len(answers.row_numbers)
    within = spearman(inner_scores, inner_tokens) if several else None
    return LengthBias(spearman(scores, tokens), within)


def _less_row_means(values: Floats, rows: Integers) -> Floats:
    _, inverse, counts = np.unique(rows, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, values) / counts if len(values) else values
    less: Floats = values - means[inverse] if len(values) else values
    return less


@dataclass(frozen=True, slots=True)
class BestOfN:
    """What keeping the best of n random answers gives, for n from 1."""

    values: Floats
    """Share of right answers, or the mean score where nothing is labelled."""
    labelled: bool
    rows: int


def best_of_n(answers: Answers, model: int) -> BestOfN | None:
    """Expected value of the best-scored of n answers drawn without replacement, exactly.

    Over rows with as many scored answers as the commonest row; None where that is fewer than two.
    """
    scored = [row for row in answers.by_row() if np.isfinite(answers.scores[row, model]).all()]
    sizes = np.array([row.stop - row.start for row in scored], np.int64)
    size = int(np.bincount(sizes).argmax()) if len(sizes) else 0
    if size < 2:
        return None
    kept = [row for row in scored if row.stop - row.start == size]
    labelled = all((answers.right[row] >= 0).all() for row in kept)
    scores = np.stack([answers.scores[row, model] for row in kept])
    values = np.stack([answers.right[row] for row in kept]).astype(float) if labelled else scores
    curve = best_of_n_weights(size) @ _value_by_rank(scores, values).mean(axis=0)
    return BestOfN(curve, labelled, len(kept))


def best_of_n_weights(size: int) -> Floats:
    """[n - 1, r]: how likely the answer of rank r (0 lowest) is the best of n drawn of `size`."""
    return np.array(
        [[comb(rank, n - 1) / comb(size, n) for rank in range(size)] for n in range(1, size + 1)]
    )


def _value_by_rank(scores: Floats, values: Floats) -> Floats:
    """Values in the order of their scores; equally scored answers share their mean value."""
    ordered = np.empty_like(values)
    for index, (row_scores, row_values) in enumerate(zip(scores, values, strict=True)):
        order = np.argsort(row_scores, kind="stable")
        _, inverse, counts = np.unique(row_scores[order], return_inverse=True, return_counts=True)
        ordered[index] = (np.bincount(inverse, row_values[order]) / counts)[inverse]
    return ordered


def most_confident_mistakes(answers: Answers, model: int, count: int) -> list[tuple[int, int, int]]:
    """(row, right answer, wrong answer) where a wrong answer is furthest above the best right one.

    Answers are named by their place in the row.
    """
    found: list[tuple[float, int, int, int]] = []
    for row in answers.by_row():
        scores = np.where(np.isnan(answers.scores[row, model]), -np.inf, answers.scores[row, model])
        right = np.flatnonzero(answers.right[row] == 1)
        wrong = np.flatnonzero(answers.right[row] == 0)
        if not len(right) or not len(wrong):
            continue
        best = int(right[scores[right].argmax()])
        worst = int(wrong[scores[wrong].argmax()])
        gap = float(scores[worst] - scores[best])
        if np.isfinite(gap) and gap > 0:
            found.append((gap, int(answers.row_numbers[row.start]), best, worst))
    return [each[1:] for each in sorted(found, reverse=True)[:count]]


def widest_disagreements(answers: Answers, count: int) -> list[tuple[int, int]]:
    """(row, answer) where the models' standardised scores lie furthest apart."""
    complete = np.isfinite(answers.scores).all(axis=1)
    scores = answers.scores[complete]
    if scores.shape[1] < 2 or not len(scores):
        return []
    deviations: npt.NDArray[np.float64] = scores.std(axis=0)
    standard = (scores - scores.mean(axis=0)) / np.where(deviations > 0, deviations, 1)
    spread = standard.max(axis=1) - standard.min(axis=1)
    widest = np.argsort(-spread, kind="stable")[:count]
    rows, places = answers.row_numbers[complete][widest], answers.positions[complete][widest]
    return list(zip(rows.tolist(), places.tolist(), strict=True))
