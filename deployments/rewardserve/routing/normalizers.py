"""Brings one member's scores to a scale that other members share.

A normalizer maps one member's scores of one group, float64 [responses], to as many float64.
Knows formulas alone: nothing of rewards, models or failures.

| name | formula for score r | comparable |
|---|---|---|
| none | r | as far as the raw scores are |
| affine | scale * r + offset | as far as the caller's scales are |
| zscore | (r - mean) / std, both of the calibration | across prompts |
| quantile | share of the calibration's scores below r, equal ones half | across prompts |
| sigmoid | 1 / (1 + exp(-r)): the Bradley-Terry chance to beat a score of 0 | across prompts |
| group_zscore | (r - mean) / std, both of the group, ddof 0; 0 when all are equal | in a group |
| group_rank | share of the group's other responses below r, equal ones half | in a group |

Group statistics are GDPO's (arXiv:2601.05242) and classical rank aggregation's. One response alone
has no group to be compared with: `InvalidRequest`, or, where the route says `alone: calibrated`,
its place in the calibration: zscore for group_zscore, quantile for group_rank.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rewardserve.errors import InvalidRequest, SettingsError
from rewardserve.route_settings import EnsembleSettings, Normalize
from rewardserve.routing.calibration import Distribution

Array = NDArray[np.float64]
Normalizer = Callable[[Array], Array]


def make_normalizer(
    settings: EnsembleSettings, member: str, distribution: Distribution | None
) -> Normalizer:
    """The normalizer of one member of an ensemble.

    `distribution` is the member's calibration where `settings.calibrated`, else None. Raises
    SettingsError when the calibration is of no use.
    """
    # Left out only where the aggregate reads ranks alone, which these do not change.
    return _NORMALIZERS[settings.normalize or "group_rank"](settings, member, distribution)


def identity(scores: Array) -> Array:
    """Raw scores."""
    return scores


def affine(scale: float, offset: float) -> Normalizer:
    """scale * r + offset."""
    return lambda scores: scale * scores + offset


def calibrated_zscore(distribution: Distribution) -> Normalizer:
    """(r - mean) / std of the calibration.

    Raises SettingsError when the calibration's scores are all the same.
    """
    mean, deviation = distribution.mean, distribution.variance**0.5
    if deviation == 0:
        raise SettingsError(
            f"the calibration's {distribution.count} scores have no spread, so no z-score exists; "
            "calibrate on more varied data"
        )
    return lambda scores: (scores - mean) / deviation


def calibrated_quantile(distribution: Distribution) -> Normalizer:
    """The calibration's empirical distribution function."""
    digest = distribution.digest()
    return lambda scores: np.array([digest.get_rank(score) for score in scores], np.float64)


def sigmoid(scores: Array) -> Array:
    """1 / (1 + exp(-r)), without overflow at either end."""
    return 0.5 * (1 + np.tanh(scores / 2))


def group_zscore(scores: Array) -> Array:
    """(r - mean) / std of the group, ddof 0; zeros when all scores are equal."""
    if scores.max() == scores.min():  # the mean's rounding would make a spread of them
        return np.zeros_like(scores)
    result: Array = (scores - scores.mean()) / scores.std()
    return result


def group_rank(scores: Array) -> Array:
    """Share of the group's other responses that score lower; equal ones count half."""
    result: Array = (wins(scores).sum(axis=1) - 0.5) / (len(scores) - 1)
    return result


def wins(scores: Array) -> Array:
    """[responses, responses]: 1 where the row scores above the column, 0.5 where equal, else 0."""
    return 0.5 * (1 + np.sign(scores[:, None] - scores[None, :]))


def grouped(compare: Normalizer, alone: Normalizer | None) -> Normalizer:
    """`compare` within a group of two or more; `alone`, or a refusal, for a single response."""

    def normalize(scores: Array) -> Array:
        if len(scores) > 1:
            return compare(scores)
        if alone is None:
            raise lone_response()
        return alone(scores)

    return normalize


def lone_response() -> InvalidRequest:
    """The refusal of a single response by whatever compares responses."""
    return InvalidRequest(
        "this route compares the responses of one prompt and was given 1; send 2 or more responses "
        "of the prompt together, or ask for a route with a calibrated normalizer"
    )


def _affine(settings: EnsembleSettings, member: str, _: Distribution | None) -> Normalizer:
    line = (settings.affine or {})[member]
    return affine(line.scale, line.offset)


def _required(distribution: Distribution | None) -> Distribution:
    if distribution is None:
        raise SettingsError(
            "a calibrated normalizer needs a calibration; run rewardserve calibrate"
        )
    return distribution


_NORMALIZERS: Final[
    dict[Normalize, Callable[[EnsembleSettings, str, Distribution | None], Normalizer]]
] = {
    "none": lambda _, __, ___: identity,
    "affine": _affine,
    "zscore": lambda _, __, distribution: calibrated_zscore(_required(distribution)),
    "quantile": lambda _, __, distribution: calibrated_quantile(_required(distribution)),
    "sigmoid": lambda _, __, ___: sigmoid,
    "group_zscore": lambda _, __, distribution: grouped(
        group_zscore, calibrated_zscore(distribution) if distribution else None
    ),
    "group_rank": lambda _, __, distribution: grouped(
        group_rank, calibrated_quantile(distribution) if distribution else None
    ),
}
