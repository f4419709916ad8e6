"""Pair mining: what makes a pair, and what never does."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardserve_client.pairs import Pair, PairRules, Pick, mine_pairs, mine_rows

RESPONSES = ["worst", "middling", "best", "poor"]
SCORES = [-1.0, 0.5, 2.0, 0.0]


def texts(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.chosen, pair.rejected) for pair in pairs]


def test_by_default_the_best_meets_the_worst() -> None:
    (pair,) = mine_pairs("Why?", RESPONSES, SCORES)
    assert (pair.chosen, pair.rejected, pair.margin) == ("best", "worst", 3.0)


def test_further_pairs_of_the_best_go_from_the_worst_up() -> None:
    pairs = mine_pairs("Why?", RESPONSES, SCORES, PairRules(per_prompt=10))
    assert texts(pairs) == [("best", "worst"), ("best", "poor"), ("best", "middling")]


def test_all_pairs_come_with_the_widest_margin_first() -> None:
    pairs = mine_pairs("Why?", RESPONSES, SCORES, PairRules(pick="all", per_prompt=10))
    margins = [high - low for high, low in itertools.product(SCORES, SCORES) if high > low]
    assert [pair.margin for pair in pairs] == sorted(margins, reverse=True)


def test_a_random_rival_depends_on_seed_and_prompt_alone() -> None:
    def rivals(seed: int, prompt: str, responses: list[str]) -> list[str]:
        scores = [float(response) for response in responses]
        rules = PairRules(pick="best_random", per_prompt=99, seed=seed)
        return [pair.rejected for pair in mine_pairs(prompt, responses, scores, rules)]

    numbers = [str(n) for n in range(20)]
    assert rivals(0, "a", numbers) == rivals(0, "a", numbers[::-1])
    assert rivals(0, "a", numbers) != rivals(1, "a", numbers)
    assert rivals(0, "a", numbers) != rivals(0, "b", numbers)
    assert sorted(rivals(0, "a", numbers)) == sorted(numbers[:-1])


def test_a_margin_below_the_smallest_makes_no_pair() -> None:
    rules = PairRules(pick="all", min_margin=2.0, per_prompt=10)
    assert [p.margin for p in mine_pairs("Why?", RESPONSES, SCORES, rules)] == [3.0, 2.0]


def test_equal_scores_make_no_pair() -> None:
    assert mine_pairs("Why?", ["a", "b", "c"], [1.0, 1.0, 1.0]) == []


def test_a_length_match_passes_over_rivals_that_are_too_long_or_too_short() -> None:
    responses = ["x" * 100, "y" * 60, "z" * 10]
    (pair,) = mine_pairs("Why?", responses, [3.0, 2.0, 1.0], PairRules(max_length_ratio=2.0))
    assert pair.rejected == "y" * 60


def test_a_response_without_a_score_is_left_out() -> None:
    assert texts(mine_pairs("Why?", ["a", "b", "c"], [2.0, None, 1.0])) == [("a", "c")]
    assert mine_pairs("Why?", ["a", "b"], [1.0, None]) == []
    assert mine_pairs("Why?", [], []) == []


@given(
    st.lists(st.tuples(st.text(max_size=5), st.floats(-5, 5) | st.none()), max_size=12),
    st.sampled_from(["best_worst", "best_random", "all"]),
    st.floats(0, 3),
    st.integers(1, 5),
)
def test_every_pair_keeps_every_rule(
    scored: list[tuple[str, float | None]], pick: Pick, min_margin: float, per_prompt: int
) -> None:
    rules = PairRules(pick, min_margin, max_length_ratio=3.0, per_prompt=per_prompt)
    pairs = mine_pairs("p", [text for text, _ in scored], [score for _, score in scored], rules)
    assert len(pairs) <= per_prompt
    assert len(set(texts(pairs))) == len(pairs)
    for pair in pairs:
        assert pair.chosen != pair.rejected
        assert pair.margin > 0
        assert pair.margin >= min_margin
        assert (pair.chosen, pair.score_chosen) in scored
        assert (pair.rejected, pair.score_rejected) in scored
        longer, shorter = max(map(len, texts([pair])[0])), min(map(len, texts([pair])[0]))
        assert longer <= 3 * shorter


def test_rows_of_bulk_scoring_become_rows_for_trl() -> None:
    rewards: list[Any] = [{"score": 1.5}, {"score": None, "error": "too long"}, {"score": -1.0}]
    row = {"prompt": "2 + 2?", "responses": ["4", "four!", "5"], "rewards": rewards, "id": 7}
    assert list(mine_rows([row])) == [
        {
            "prompt": [{"role": "user", "content": "2 + 2?"}],
            "chosen": [{"role": "assistant", "content": "4"}],
            "rejected": [{"role": "assistant", "content": "5"}],
            "score_chosen": 1.5,
            "score_rejected": -1.0,
            "margin": 2.5,
        }
    ]


def test_a_prompt_of_several_turns_stays_as_it_is() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    (pair,) = mine_rows([{"prompt": turns, "responses": ["4", "5"], "scores": [1.0, 0.0]}])
    assert pair["prompt"] == turns


@pytest.mark.parametrize(
    "wrong", [{"min_margin": -1}, {"max_length_ratio": 0.5}, {"per_prompt": 0}]
)
def test_rules_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PairRules(**wrong)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        mine_pairs("p", ["a"], [1.0, 2.0])
