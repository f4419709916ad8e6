"""The report's numbers, against formulas written out here and against plain enumeration."""

from itertools import combinations
from math import tanh

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardserve.batch.report import statistics
from rewardserve.batch.report.answers import Answers
from rewardserve.batch.report.rewardbench import (
    HEP,
    SECTIONS,
    V2_SUBSETS,
    TiesRow,
    ties_score,
    version_1,
    version_2,
)


def answers(rows: list[list[tuple[float, int]]], tokens: int = 10) -> Answers:
    """One model's answers from (score, label) lists, one list a row."""
    flat = [
        (number, place, *each) for number, row in enumerate(rows) for place, each in enumerate(row)
    ]
    numbers, places, scores, right = (np.array(column) for column in zip(*flat, strict=True))
    return Answers(("m",), numbers, places, right, np.full(len(flat), tokens), scores[:, None])


def test_wilson_interval_agrees_with_published_values() -> None:
    low, high = statistics.wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert statistics.wilson_interval(0, 20)[0] == 0.0
    assert statistics.wilson_interval(0, 0) == (0.0, 1.0)


SCORES = st.lists(st.integers(-3, 3).map(float), min_size=4, max_size=4)


@given(st.lists(SCORES, min_size=1, max_size=4), st.integers(0, 15))
def test_best_of_n_is_the_mean_over_all_draws(rows: list[list[float]], mask: int) -> None:
    labels = [mask >> place & 1 for place in range(4)]
    made = answers([list(zip(row, labels, strict=True)) for row in rows])
    curve = statistics.best_of_n(made, 0)
    assert curve is not None
    for n in range(1, 5):
        values = []
        for row in rows:
            for draw in combinations(range(4), n):
                best = [i for i in draw if row[i] == max(row[j] for j in draw)]
                values.append((row, best))
        # Among equal scores the pick is random over all answers of that score.
        expected = []
        for row, best in values:
            equal = [i for i in range(4) if row[i] == row[best[0]]]
            expected.append(sum(labels[i] for i in equal) / len(equal))
        assert curve.values[n - 1] == pytest.approx(np.mean(expected))


def test_best_of_n_without_labels_is_the_expected_score() -> None:
    curve = statistics.best_of_n(answers([[(1.0, -1), (5.0, -1), (3.0, -1)]]), 0)
    assert curve is not None
    assert not curve.labelled
    assert curve.values.tolist() == pytest.approx([3.0, (5 + 5 + 3) / 3, 5.0])


def test_margins_set_every_right_answer_against_every_wrong_one() -> None:
    made = answers([[(3.0, 1), (1.0, 0), (2.5, 0)], [(float("nan"), 1), (0.0, 0)]])
    assert sorted(statistics.margins(made, 0)) == [0.5, 2.0]


def test_calibration_counts_a_tie_as_not_right() -> None:
    (point,) = statistics.calibration(np.array([0.0, 1.0, -1.0, 1.0]))
    assert (point.right, point.couples, point.distance) == (0.5, 4, 0.75)


def test_spearman_shares_ranks_among_equal_values() -> None:
    assert statistics.ranks(np.array([5.0, 1.0, 5.0])).tolist() == [1.5, 0.0, 1.5]
    assert statistics.spearman(np.arange(9.0), np.exp(np.arange(9.0))) == pytest.approx(1)
    assert statistics.spearman(np.arange(9.0), np.ones(9)) is None


def test_length_bias_within_a_prompt_ignores_the_prompts_own_length() -> None:
    made = answers([[(1.0, -1), (2.0, -1)], [(11.0, -1), (12.0, -1)]] * 5)
    tokens = np.array([200, 100, 2000, 1900] * 5)
    biased = Answers(made.models, made.row_numbers, made.positions, made.right, tokens, made.scores)
    bias = statistics.length_bias(biased, 0)
    assert bias.overall is not None
    assert bias.overall > 0
    assert bias.within_prompt == pytest.approx(-1)


def test_the_most_confident_mistake_is_the_widest_wrong_lead() -> None:
    made = answers([[(1.0, 1), (2.0, 0)], [(3.0, 1), (1.0, 0)], [(0.0, 1), (9.0, 0), (-1.0, 1)]])
    assert statistics.most_confident_mistakes(made, 0, 5) == [(2, 0, 1), (0, 0, 1)]


def test_rewardbench_sections_weigh_their_subsets_by_examples() -> None:
    accuracy = {subset: 0.5 for section in SECTIONS.values() for subset in section}
    accuracy |= {"alpacaeval-easy": 1.0, "math-prm": 1.0}
    scores = version_1(accuracy)
    assert scores is not None
    assert scores["Chat"] == pytest.approx((100 * 1.0 + (95 + 95 + 28 + 40) * 0.5) / 358)
    # 984 is six times 164: mathematics weighs as much as all six languages together.
    assert scores["Reasoning"] == pytest.approx((1.0 + 0.5) / 2)
    assert scores["Overall"] == pytest.approx(
        (scores["Chat"] + 0.5 + 0.5 + scores["Reasoning"]) / 4
    )
    assert version_1(dict.fromkeys(HEP, 1.0)) is None


def test_rewardbench_2_is_the_plain_mean_of_six() -> None:
    scores = version_2(dict.fromkeys(V2_SUBSETS, 0.5), ties=0.8)
    assert scores is not None
    assert scores["Overall"] == pytest.approx((5 * 0.5 + 0.8) / 6)
    assert version_2(dict.fromkeys(V2_SUBSETS, 0.5), ties=None) is None


def test_the_ties_score_follows_its_formula() -> None:
    rows = [
        TiesRow("ref:1", [5.0], [1.0, 2.0]),
        TiesRow("tied:1", [4.0, 3.5], [1.0, 2.0]),
        TiesRow("ref:2", [1.0], [1.5]),
        TiesRow("tied:2", [3.0, 1.0], [0.0]),
        TiesRow("ref:3", [2.0], [0.0]),
        TiesRow("tied:3", [2.0, 2.0], [0.0]),
    ]
    # gaps (tied, ref) and spreads of the tied right answers: (1.5, 3, .5), (1, -.5, 2), (2, 2, 0)
    accuracy_tied, accuracy_ref = 3 / 3, 2 / 3
    preferred, preferred_hard = 2 / 3, 2 / 3
    margin = (tanh(1.5 / 0.5 - 1) + tanh(-0.5 / 2 - 1) + tanh(float("inf"))) / 3
    expected = 0.3 * accuracy_tied + 0.3 * accuracy_ref + 0.2 * preferred + 0.2 * preferred_hard
    assert ties_score(rows) == pytest.approx(expected + 0.01 * margin)
    assert ties_score(rows[:1]) is None


def test_a_tie_of_everything_scores_nothing_for_its_margin() -> None:
    rows = [TiesRow("ref:1", [1.0], [1.0]), TiesRow("tied:1", [1.0, 1.0], [1.0])]
    assert ties_score(rows) == 0.0
