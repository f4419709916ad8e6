"""Combines members' normalized scores into one score per response.

An aggregator maps scores, float64 [members, responses], and the members' weights, [members] and all
above 0, to float64 [responses]. Knows formulas alone: nothing of rewards, models or failures.
Below, v is a weight divided by the sum of the weights, and sums run over members.

| name | formula | source |
|---|---|---|
| mean | sum v r | Coste et al., arXiv:2310.02743; Eisenstein et al., arXiv:2312.09244 |
| median | the middle member; of an even number the mean of the middle two | arXiv:2312.09244 |
| trimmed_mean | mean without the `trim` lowest and `trim` highest members | classical |
| min | the lowest member (worst-case optimization) | arXiv:2310.02743 |
| lower_confidence_bound | mean - k * std | pessimistic best-of-n, arXiv:2503.21878 |
| uncertainty_weighted | mean - penalty * variance (UWO) | arXiv:2310.02743 |
| soft_min | -t log(sum v exp(-r / t)), t the temperature | arXiv:2606.09073 |
| log_sigmoid_sum | sum w log(sigmoid(r - reference)), a logical and | arXiv:2402.00742 |
| reciprocal_rank | sum v / (rank_constant + rank), rank 1 the best | Cormack et al., SIGIR 2009 |
| majority_vote | share of the other responses beaten by weighted majority | Copeland's rule |

Variance is the weighted mean of squared deviations (`ddof` 0), divided by 1 - sum v^2 for `ddof` 1,
which for equal weights is the usual n - 1. soft_min tends to the mean as t grows, to the minimum as
t falls, and to second order is uncertainty_weighted with penalty 1 / (2t).

A missing member is left out and the remaining weights are divided by their own sum. That keeps its
meaning for all but min and log_sigmoid_sum, which speak of every member; `route_settings` refuses a
quorum for those.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from rewardserve.route_settings import Aggregate, EnsembleSettings
from rewardserve.routing.normalizers import Array, lone_response, wins

Aggregator = Callable[[Array, Array], Array]


def make_aggregator(settings: EnsembleSettings, members: Sequence[str]) -> Aggregator:
    """The aggregator of an ensemble for `members`, those of its members that answered, in order."""
    return _AGGREGATORS[settings.aggregate](settings, members)


def mean(scores: Array, weights: Array) -> Array:
    """sum v r."""
    result: Array = shares(weights) @ scores
    return result


def median(scores: Array, _: Array) -> Array:
    """The middle member's score of each response."""
    result: Array = np.median(scores, axis=0)
    return result


def trimmed_mean(trim: int) -> Aggregator:
    """Mean of each response's scores without the `trim` lowest and highest; needs 2 trim + 1."""

    def aggregate(scores: Array, _: Array) -> Array:
        result: Array = np.sort(scores, axis=0)[trim : len(scores) - trim].mean(axis=0)
        return result

    return aggregate


def minimum(scores: Array, _: Array) -> Array:
    """The lowest member's score of each response."""
    result: Array = scores.min(axis=0)
    return result


def lower_confidence_bound(k: float, ddof: int) -> Aggregator:
    """mean - k * std."""
    return lambda scores, weights: (
        mean(scores, weights) - k * np.sqrt(variance(scores, weights, ddof))
    )


def uncertainty_weighted(penalty: float, ddof: int) -> Aggregator:
    """mean - penalty * variance."""
    return lambda scores, weights: mean(scores, weights) - penalty * variance(scores, weights, ddof)


def soft_min(temperature: float) -> Aggregator:
    """-t log(sum v exp(-r / t))."""

    def aggregate(scores: Array, weights: Array) -> Array:
        lowest = scores.min(axis=0)  # taken out, so that the largest exponent is 0
        terms = np.exp((lowest - scores) / temperature)
        result: Array = lowest - temperature * np.log(shares(weights) @ terms)
        return result

    return aggregate


def log_sigmoid_sum(references: Sequence[float]) -> Aggregator:
    """sum w log(sigmoid(r - reference)), `references` in the members' order."""
    centres = np.array(references, np.float64)[:, None]
    return lambda scores, weights: weights @ -np.logaddexp(0.0, centres - scores)


def reciprocal_rank(rank_constant: float) -> Aggregator:
    """sum v / (rank_constant + rank); equal scores share the mean of their ranks."""

    def aggregate(scores: Array, weights: Array) -> Array:
        ranks = len(scores[0]) + 0.5 - _contests(scores).sum(axis=2)
        result: Array = shares(weights) @ (1 / (rank_constant + ranks))
        return result

    return aggregate


def majority_vote(scores: Array, weights: Array) -> Array:
    """Share of the other responses that each one beats by weighted majority; a tie is half."""
    balance = np.tensordot(shares(weights), _contests(scores) - 0.5, axes=1)
    # Weights are shares of 1: what rounding leaves of an exact tie is no majority.
    beaten = 0.5 * (1 + np.sign(np.where(np.abs(balance) < 1e-12, 0.0, balance)))
    result: Array = (beaten.sum(axis=1) - 0.5) / (len(scores[0]) - 1)
    return result


def variance(scores: Array, weights: Array, ddof: int) -> Array:
    """Weighted variance over members of each response."""
    portion = shares(weights)
    squares = portion @ np.square(scores - portion @ scores)
    result: Array = squares / (1 - ddof * np.square(portion).sum())
    return result


def spread(scores: Array) -> Array:
    """Unweighted standard deviation over members of each response, ddof 0."""
    result: Array = scores.std(axis=0)
    return result


def shares(weights: Array) -> Array:
    """Weights divided by their sum."""
    result: Array = weights / weights.sum()
    return result


def _contests(scores: Array) -> Array:
    """[members, responses, responses]: who beats whom, for each member."""
    if scores.shape[1] < 2:
        raise lone_response()
    return np.stack([wins(row) for row in scores])


def _centred(settings: EnsembleSettings, members: Sequence[str]) -> Aggregator:
    references = settings.references or {}
    return log_sigmoid_sum([references.get(member, 0.0) for member in members])


_AGGREGATORS: Final[dict[Aggregate, Callable[[EnsembleSettings, Sequence[str]], Aggregator]]] = {
    "mean": lambda _, __: mean,
    "median": lambda _, __: median,
    "trimmed_mean": lambda settings, _: trimmed_mean(settings.trim),
    "min": lambda _, __: minimum,
    "lower_confidence_bound": lambda settings, _: lower_confidence_bound(settings.k, settings.ddof),
    "uncertainty_weighted": lambda settings, _: uncertainty_weighted(
        settings.penalty, settings.ddof
    ),
    "soft_min": lambda settings, _: soft_min(settings.temperature),
    "log_sigmoid_sum": _centred,
    "reciprocal_rank": lambda settings, _: reciprocal_rank(settings.rank_constant),
    "majority_vote": lambda _, __: majority_vote,
}
