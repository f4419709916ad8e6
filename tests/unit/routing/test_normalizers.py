"""Each normalizer against its formula, and what calibrated ones share with the corpus."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rewardserve.errors import InvalidRequest, SettingsError
from rewardserve.routing import normalizers
from rewardserve.routing.calibration import Distribution, calibrate
from rewardserve_client._types import Reward

score = st.floats(-50, 50).map(lambda value: round(value, 6))
group = st.lists(score, min_size=2, max_size=6).map(np.array)


def distribution_of(values: list[float]) -> Distribution:
    rewards = [Reward(score=value, model="m") for value in values]
    return calibrate("m", [rewards], source="m", revision=None, data="x").score


@given(scores=group)
def test_sigmoid(scores: normalizers.Array) -> None:
    expected = [1 / (1 + math.exp(-value)) for value in scores]
    assert_allclose(normalizers.sigmoid(scores), expected, atol=1e-12)


def test_sigmoid_stays_within_its_limits_at_any_score() -> None:
    assert normalizers.sigmoid(np.array([-1e308, 0, 1e308])).tolist() == [0, 0.5, 1]


@given(scores=group, scale=st.floats(-3, 3), offset=score)
def test_affine(scores: normalizers.Array, scale: float, offset: float) -> None:
    expected = [scale * value + offset for value in scores]
    assert_allclose(normalizers.affine(scale, offset)(scores), expected)


@given(scores=group)
def test_group_zscore_has_mean_0_and_deviation_1(scores: normalizers.Array) -> None:
    normalized = normalizers.group_zscore(scores)
    if len(set(scores.tolist())) == 1:
        assert normalized.tolist() == [0.0] * len(scores)
    else:
        assert math.isclose(normalized.mean(), 0, abs_tol=1e-7)
        assert math.isclose(normalized.std(), 1, rel_tol=1e-6)


def test_equal_scores_stay_equal_whatever_rounding_makes_of_their_mean() -> None:
    assert normalizers.group_zscore(np.array([0.1, 0.1, 0.1])).tolist() == [0, 0, 0]


@given(scores=group)
def test_group_rank_is_the_share_of_the_others_beaten(scores: normalizers.Array) -> None:
    values = scores.tolist()
    expected = [
        (sum(other < value for other in values) + (values.count(value) - 1) / 2) / (len(values) - 1)
        for value in values
    ]
    assert_allclose(normalizers.group_rank(scores), expected, atol=1e-12)


@given(scores=group, scale=st.floats(0.1, 10), offset=score)
def test_group_normalizers_do_not_see_a_members_scale(
    scores: normalizers.Array, scale: float, offset: float
) -> None:
    spaced = np.round(scores)  # so that rounding neither makes nor breaks an equality
    moved = scale * spaced + offset
    if len(set(moved.tolist())) != len(set(spaced.tolist())):
        return
    assert_allclose(normalizers.group_rank(moved), normalizers.group_rank(spaced))
    assert_allclose(
        normalizers.group_zscore(moved), normalizers.group_zscore(spaced), rtol=1e-6, atol=1e-6
    )


@given(corpus=st.lists(score, min_size=2, max_size=50, unique=True), scores=group)
def test_zscore_is_taken_against_the_corpus(corpus: list[float], scores: normalizers.Array) -> None:
    expected = [(v - statistics.fmean(corpus)) / statistics.pstdev(corpus) for v in scores]
    normalized = normalizers.calibrated_zscore(distribution_of(corpus))(scores)
    assert_allclose(normalized, expected, rtol=1e-6, atol=1e-6)


def test_zscore_needs_a_spread() -> None:
    with pytest.raises(SettingsError, match="no spread"):
        normalizers.calibrated_zscore(distribution_of([1.0, 1.0]))


def test_quantile_is_the_share_of_the_corpus_below() -> None:
    corpus = np.random.default_rng(7).normal(3, 20, size=20_000)
    normalize = normalizers.calibrated_quantile(distribution_of(corpus.tolist()))
    scores = np.linspace(-60, 60, 101)
    assert_allclose(normalize(scores), [(corpus < s).mean() for s in scores], atol=0.005)


@given(corpus=st.lists(score, min_size=1, max_size=300), scores=group)
def test_quantile_never_turns_an_order_round(
    corpus: list[float], scores: normalizers.Array
) -> None:
    ordered = np.sort(scores)
    quantiles = normalizers.calibrated_quantile(distribution_of(corpus))(ordered)
    assert (np.diff(quantiles) >= 0).all()
    assert ((quantiles >= 0) & (quantiles <= 1)).all()


def test_a_lone_response_is_refused_or_measured_against_the_corpus() -> None:
    with pytest.raises(InvalidRequest, match="was given 1"):
        normalizers.grouped(normalizers.group_zscore, None)(np.array([3.0]))
    fallback = normalizers.calibrated_zscore(distribution_of([1.0, 3.0]))
    normalize = normalizers.grouped(normalizers.group_zscore, fallback)
    assert normalize(np.array([3.0])).tolist() == [1.0]
    assert normalize(np.array([5.0, 7.0])).tolist() == [-1.0, 1.0]
