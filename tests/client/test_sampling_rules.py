"""Rules for keeping responses, and the best-of-n curve: against their definitions."""

import math
from itertools import combinations
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardserve_client.sampling import (
    above,
    best,
    best_of_n_curve,
    expected_best,
    tempered,
    top_fraction,
)

SCORES = [0.5, 2.0, -1.0, 1.0]


def test_best_keeps_the_highest_first() -> None:
    assert best()(SCORES, 0) == [1]
    assert best(3)(SCORES, 0) == [1, 3, 0]
    assert best(9)(SCORES, 0) == [1, 3, 0, 2]


def test_above_keeps_what_reaches_the_threshold() -> None:
    assert above(1.0)(SCORES, 0) == [1, 3]
    assert above(5.0)(SCORES, 0) == []


def test_top_fraction_rounds_up() -> None:
    assert top_fraction(0.5)(SCORES, 0) == [1, 3]
    assert top_fraction(0.01)(SCORES, 0) == [1]
    assert top_fraction(1.0)(SCORES, 0) == [1, 3, 0, 2]


def test_tempered_draws_by_the_exponential_of_the_score() -> None:
    """The lower of two is kept if it is offered first and accepted: 1/2 exp(-difference/beta)."""
    for beta in (0.5, 1.0, 4.0):
        keep = tempered(beta)
        low = fmean(keep([0.0, 1.0], number) == [0] for number in range(4000))
        assert low == pytest.approx(0.5 * math.exp(-1.0 / beta), abs=0.02)


def test_tempered_keeps_the_best_when_cold_and_any_when_hot() -> None:
    assert all(tempered(1e-6, 2)(SCORES, n) == [1, 3] for n in range(100))
    hot = [tempered(1e6)(SCORES, n)[0] for n in range(4000)]
    assert all(hot.count(index) == pytest.approx(1000, abs=120) for index in range(4))


def test_tempered_depends_on_seed_and_prompt_alone() -> None:
    wide = [n / 10 for n in range(20)]
    draws = [tempered(0.3, 5, seed=1)(wide, number) for number in range(20)]
    assert draws == [tempered(0.3, 5, seed=1)(wide, number) for number in range(20)]
    assert draws != [tempered(0.3, 5, seed=2)(wide, number) for number in range(20)]
    assert len({tuple(draw) for draw in draws}) > 1


@given(st.lists(st.floats(-100, 100), max_size=10), st.integers(1, 12))
def test_every_rule_keeps_some_of_what_there_is_best_first(scores: list[float], k: int) -> None:
    for keep in (best(k), above(0.0), top_fraction(0.3), tempered(0.5, k)):
        kept = keep(scores, 0)
        assert len(set(kept)) == len(kept)
        assert set(kept) <= set(range(len(scores)))
        assert [scores[i] for i in kept] == sorted((scores[i] for i in kept), reverse=True)


WRONG: list[Any] = [
    lambda: best(0),
    lambda: top_fraction(0),
    lambda: top_fraction(1.5),
    lambda: tempered(0),
    lambda: tempered(1, 0),
]


@pytest.mark.parametrize("make", WRONG)
def test_rules_that_cannot_work_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=7))
def test_the_expected_best_is_the_mean_over_all_draws(scores: list[float]) -> None:
    for n in range(1, len(scores) + 1):
        draws = fmean(max(draw) for draw in combinations(scores, n))
        assert expected_best(scores, n) == pytest.approx(draws)


def test_the_curve_doubles_n_and_ends_with_all() -> None:
    curve = best_of_n_curve([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0, 1.0]])
    assert list(curve) == [1, 2, 4, 6]
    assert curve[1] == pytest.approx((3.5 + 0.5) / 2)
    assert curve[6] == 6.0
    assert best_of_n_curve([]) == {}
