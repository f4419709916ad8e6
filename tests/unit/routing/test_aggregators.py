"""The algebra of each aggregator, against formulas written out in plain Python."""

import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rewardserve.errors import InvalidRequest
from rewardserve.routing import aggregators
from rewardserve.routing.aggregators import Aggregator
from rewardserve.routing.normalizers import Array

score = st.floats(-50, 50).map(lambda value: round(value, 6))
weight = st.floats(0.1, 10)


@st.composite
def votes(draw: st.DrawFn, members: int = 1, responses: int = 2) -> tuple[Array, Array]:
    """Scores of at least so many members for at least so many responses, and weights."""
    width = draw(st.integers(responses, 5))
    row = st.lists(score, min_size=width, max_size=width)
    rows = draw(st.lists(row, min_size=members, max_size=6))
    weights = draw(st.lists(weight, min_size=len(rows), max_size=len(rows)))
    return np.array(rows), np.array(weights)


WEIGHTED: dict[str, Aggregator] = {
    "mean": aggregators.mean,
    "lower_confidence_bound": aggregators.lower_confidence_bound(1.5, 0),
    "uncertainty_weighted": aggregators.uncertainty_weighted(0.5, 0),
    "soft_min": aggregators.soft_min(2.0),
    "reciprocal_rank": aggregators.reciprocal_rank(60.0),
    "majority_vote": aggregators.majority_vote,
}
UNWEIGHTED: dict[str, Aggregator] = {"median": aggregators.median, "min": aggregators.minimum}
ALL = WEIGHTED | UNWEIGHTED | {"log_sigmoid_sum": aggregators.log_sigmoid_sum([0.0])}
ON_THE_SCORES_SCALE = ["mean", "lower_confidence_bound", "uncertainty_weighted", "soft_min"]


@pytest.mark.parametrize("name", ALL)
@given(cast=votes(), data=st.data())
def test_the_order_of_members_does_not_matter(
    name: str, cast: tuple[Array, Array], data: st.DataObject
) -> None:
    scores, weights = cast
    order = data.draw(st.permutations(range(len(scores))))
    shuffled = ALL[name](scores[order], weights[order])
    assert_allclose(shuffled, ALL[name](scores, weights), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
@given(cast=votes(), data=st.data())
def test_the_order_of_responses_does_not_matter(
    name: str, cast: tuple[Array, Array], data: st.DataObject
) -> None:
    scores, weights = cast
    order = data.draw(st.permutations(range(scores.shape[1])))
    shuffled = ALL[name](scores[:, order], weights)
    assert_allclose(shuffled, ALL[name](scores, weights)[order], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", WEIGHTED)
@given(cast=votes(), factor=st.floats(0.5, 4))
def test_only_the_proportions_of_weights_matter(
    name: str, cast: tuple[Array, Array], factor: float
) -> None:
    scores, weights = cast
    scaled = WEIGHTED[name](scores, factor * weights)
    assert_allclose(scaled, WEIGHTED[name](scores, weights), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*ON_THE_SCORES_SCALE, *UNWEIGHTED])
@given(cast=votes(), shift=score)
def test_a_shift_of_all_scores_shifts_the_result(
    name: str, cast: tuple[Array, Array], shift: float
) -> None:
    scores, weights = cast
    shifted = ALL[name](scores + shift, weights)
    assert_allclose(shifted, ALL[name](scores, weights) + shift, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("name", ["mean", "lower_confidence_bound", *UNWEIGHTED])
@given(cast=votes(), factor=st.floats(0.1, 10))
def test_a_scale_of_all_scores_scales_the_result(
    name: str, cast: tuple[Array, Array], factor: float
) -> None:
    scores, weights = cast
    scaled = ALL[name](factor * scores, weights)
    assert_allclose(scaled, factor * ALL[name](scores, weights), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["reciprocal_rank", "majority_vote"])
@given(cast=votes())
def test_rank_aggregates_read_the_order_alone(name: str, cast: tuple[Array, Array]) -> None:
    scores, weights = cast
    warped = np.sign(scores) * np.abs(scores) ** 3
    own_scale = warped * np.arange(1, len(scores) + 1)[:, None]
    assert_allclose(ALL[name](own_scale, weights), ALL[name](scores, weights))


@pytest.mark.parametrize("name", [*ON_THE_SCORES_SCALE, *UNWEIGHTED])
@given(row=st.lists(score, min_size=1, max_size=5), members=st.integers(1, 5))
def test_members_of_one_mind_are_believed(name: str, row: list[float], members: int) -> None:
    scores = np.array([row] * members)
    assert_allclose(ALL[name](scores, np.ones(members)), row, rtol=1e-9, atol=1e-9)


@given(cast=votes())
def test_pessimists_lie_between_the_minimum_and_the_mean(cast: tuple[Array, Array]) -> None:
    scores, weights = cast
    mean = aggregators.mean(scores, weights)
    soft = aggregators.soft_min(3.0)(scores, weights)
    assert (soft <= mean + 1e-9).all()
    assert (soft >= aggregators.minimum(scores, weights) - 1e-9).all()
    assert (aggregators.lower_confidence_bound(1.0, 0)(scores, weights) <= mean).all()


@given(cast=votes())
def test_soft_min_tends_to_the_minimum_and_to_the_mean(cast: tuple[Array, Array]) -> None:
    scores, weights = cast
    cold = aggregators.soft_min(1e-4)(scores, weights)
    assert_allclose(cold, scores.min(axis=0), atol=1e-3)
    hot = aggregators.soft_min(1e7)(scores, weights)
    assert_allclose(hot, aggregators.mean(scores, weights), atol=1e-3)


@given(cast=votes())
def test_soft_min_is_to_second_order_uncertainty_weighted(cast: tuple[Array, Array]) -> None:
    scores, weights = cast
    temperature = 1e4
    soft = aggregators.soft_min(temperature)(scores, weights)
    second_order = aggregators.uncertainty_weighted(1 / (2 * temperature), 0)(scores, weights)
    assert_allclose(soft, second_order, atol=1e-3)


@given(cast=votes())
def test_no_caution_is_the_mean(cast: tuple[Array, Array]) -> None:
    scores, weights = cast
    mean = aggregators.mean(scores, weights)
    assert_allclose(aggregators.lower_confidence_bound(0.0, 0)(scores, weights), mean)
    assert_allclose(aggregators.uncertainty_weighted(0.0, 0)(scores, weights), mean)


@given(cast=votes(members=2))
def test_equal_weights_have_the_textbook_variance(cast: tuple[Array, Array]) -> None:
    scores, _ = cast
    ones = np.ones(len(scores))
    assert_allclose(aggregators.variance(scores, ones, 0), np.var(scores, axis=0), atol=1e-9)
    assert_allclose(
        aggregators.variance(scores, ones, 1), np.var(scores, axis=0, ddof=1), atol=1e-9
    )


@given(cast=votes(members=3))
def test_median_and_trimmed_mean_withstand_one_broken_member(cast: tuple[Array, Array]) -> None:
    scores, weights = cast
    broken = scores.copy()
    broken[0] = 1e9
    sound = scores[1:]
    for aggregate in (aggregators.median, aggregators.trimmed_mean(1)):
        result = aggregate(broken, weights)
        assert (result <= sound.max(axis=0) + 1e-6).all()
        assert (result >= sound.min(axis=0) - 1e-6).all()


@given(cast=votes(members=3))
def test_trimming_the_most_there_is_gives_the_median(cast: tuple[Array, Array]) -> None:
    scores, weights = cast
    trimmed = aggregators.trimmed_mean((len(scores) - 1) // 2)(scores, weights)
    assert_allclose(trimmed, [statistics.median(column) for column in scores.T], atol=1e-9)


@given(cast=votes())
def test_log_sigmoid_sum_is_the_sum_of_logs(cast: tuple[Array, Array]) -> None:
    scores, weights = cast
    references = [0.5 * index for index in range(len(scores))]
    expected = [
        sum(
            w * math.log(1 / (1 + math.exp(reference - value)))
            for w, reference, value in zip(weights, references, column, strict=True)
        )
        for column in scores.T
    ]
    assert_allclose(aggregators.log_sigmoid_sum(references)(scores, weights), expected, atol=1e-9)


@given(cast=votes())
def test_log_sigmoid_sum_is_at_most_what_its_worst_member_allows(
    cast: tuple[Array, Array],
) -> None:
    scores, _ = cast
    ones = np.ones(len(scores))
    result = aggregators.log_sigmoid_sum([0.0] * len(scores))(scores, ones)
    assert (result <= -np.logaddexp(0, -scores.min(axis=0)) + 1e-9).all()


@given(cast=votes())
def test_votes_on_every_pair_add_up(cast: tuple[Array, Array]) -> None:
    scores, weights = cast
    share = aggregators.majority_vote(scores, weights)
    assert ((share >= 0) & (share <= 1)).all()
    assert math.isclose(share.mean(), 0.5)


@pytest.mark.parametrize(
    ("rows", "weights", "expected"),
    [
        ([[2, 1], [2, 1], [1, 9]], [1, 1, 1], [1, 0]),
        ([[2, 1], [2, 1], [1, 9]], [1, 1, 3], [0, 1]),
        ([[2, 1], [1, 2]], [0.1, 0.1], [0.5, 0.5]),
        ([[1, 1], [1, 1]], [1, 2], [0.5, 0.5]),
    ],
)
def test_majority_vote_on_a_pair(
    rows: list[list[float]], weights: list[float], expected: list[float]
) -> None:
    result = aggregators.majority_vote(np.array(rows, float), np.array(weights, float))
    assert result.tolist() == expected


def test_reciprocal_rank_shares_the_ranks_of_equals() -> None:
    scores = np.array([[3.0, 1.0, 1.0], [0.0, 5.0, 2.0]])
    expected = [
        (1 / 11 + 1 / 13) / 2,
        (1 / 12.5 + 1 / 11) / 2,
        (1 / 12.5 + 1 / 12) / 2,
    ]
    assert_allclose(aggregators.reciprocal_rank(10)(scores, np.ones(2)), expected)


@pytest.mark.parametrize("name", ["reciprocal_rank", "majority_vote"])
def test_a_lone_response_has_no_rank(name: str) -> None:
    with pytest.raises(InvalidRequest, match="2 or more responses"):
        ALL[name](np.array([[1.0]]), np.ones(1))


def plain_soft_min(column: Sequence[float], weights: Sequence[float], t: float) -> float:
    portions = [w / sum(weights) for w in weights]
    return -t * math.log(sum(v * math.exp(-r / t) for v, r in zip(portions, column, strict=True)))


def plain_lower_bound(column: Sequence[float], weights: Sequence[float], k: float) -> float:
    total = sum(weights)
    mean = sum(w * r for w, r in zip(weights, column, strict=True)) / total
    spread = sum(w * (r - mean) ** 2 for w, r in zip(weights, column, strict=True)) / total
    return mean - k * math.sqrt(spread)


@pytest.mark.parametrize(
    ("aggregate", "plain", "parameter"),
    [
        (aggregators.soft_min(2.0), plain_soft_min, 2.0),
        (aggregators.lower_confidence_bound(0.7, 0), plain_lower_bound, 0.7),
    ],
)
@given(cast=votes())
def test_the_formula_written_out(
    aggregate: Aggregator,
    plain: Callable[[Sequence[float], Sequence[float], float], float],
    parameter: float,
    cast: tuple[Array, Array],
) -> None:
    scores, weights = cast
    expected = [plain(column.tolist(), weights.tolist(), parameter) for column in scores.T]
    assert_allclose(aggregate(scores, weights), expected, rtol=1e-7, atol=1e-7)


def test_soft_min_survives_scores_far_apart() -> None:
    result = aggregators.soft_min(0.01)(np.array([[-1e5], [1e5]]), np.ones(2))
    assert_allclose(result, [-1e5], atol=0.01)
