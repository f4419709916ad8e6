"""Results in a notebook: tables, dicts and frames that say what the rewards say."""

import pandas as pd
import pytest

from rewardserve_client import Ranking, Reward, Rewards

ARMORM = Reward(score=0.12, model="armorm", tokens=20, attributes={"helpful": 0.7, "safe": 0.4})
RANKING = Ranking(
    ("so-so", "<b>good</b>\nanswer", "bad " * 40),
    Rewards([Reward(score=score, model="m", tokens=3) for score in (0.5, 2.0, -1.0)]),
)


def test_a_reward_prints_what_it_has() -> None:
    assert repr(Reward(score=1.5, model="m", attributes=None)) == "Reward(score=1.5, model='m')"


def test_a_reward_becomes_a_dict_without_what_it_has_not() -> None:
    assert ARMORM.to_dict() == {
        "score": 0.12,
        "model": "armorm",
        "tokens": 20,
        "truncated": False,
        "attributes": {"helpful": 0.7, "safe": 0.4},
        "failed_members": [],
    }


def test_rewards_become_a_frame_with_a_column_per_attribute() -> None:
    frame = Rewards([ARMORM, ARMORM]).to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["score"]) == [0.12, 0.12]
    assert list(frame["attributes.safe"]) == [0.4, 0.4]


def test_a_ranking_prints_as_a_table_with_bars_from_worst_to_best() -> None:
    lines = str(RANKING).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["1", "2"], ["2", "0.5"], ["3", "-1"]]
    assert [line.count("█") for line in lines[1:]] == [20, 10, 1]
    assert all(len(line) <= 100 for line in lines)


def test_a_notebook_shows_responses_as_text_never_as_markup() -> None:
    html = RANKING._repr_html_()
    assert "&lt;b&gt;good&lt;/b&gt; answer" in html
    assert "<b>" not in html


def test_a_ranking_becomes_a_dict_and_a_frame() -> None:
    assert RANKING.to_dict()["order"] == [1, 0, 2]
    frame = RANKING.to_pandas()
    assert list(frame["rank"]) == [1, 2, 3]
    assert list(frame["score"]) == [2.0, 0.5, -1.0]
    assert frame["response"].iloc[0] == RANKING.best


def test_equal_scores_keep_the_order_given() -> None:
    tied = Ranking(("a", "b"), Rewards([Reward(score=1.0, model="m")] * 2))
    assert tied.order == [0, 1]
    assert [line.count("█") for line in str(tied).splitlines()[1:]] == [20, 20]


def test_results_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        RANKING.responses = ()  # type: ignore[misc] # that is the point
    with pytest.raises(ValueError, match="frozen"):
        ARMORM.score = 1.0  # type: ignore[misc] # that is the point
