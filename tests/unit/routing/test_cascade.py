"""Who goes on in a cascade, and how the stages' scores are put into one order."""

import pytest
from fake_models import FakeModels, candidates, down, plan_of, tabled
from hypothesis import given
from hypothesis import strategies as st

from rewardserve.errors import ModelFailed, NonFiniteScore
from rewardserve.routing.cascade import joined_scores, promoted
from rewardserve.routing.evaluate import evaluate

scores = st.lists(st.floats(-100, 100), min_size=1, max_size=8)


@given(cheap=scores, top_k=st.integers(2, 10))
def test_the_best_go_on(cheap: list[float], top_k: int) -> None:
    chosen = promoted(cheap, top_k, None)
    assert len(chosen) == min(top_k, len(cheap))
    left = set(range(len(cheap))) - set(chosen)
    assert all(cheap[index] >= cheap[other] for index in chosen for other in left)


@given(first=st.floats(-9, 9), second=st.floats(-9, 9), margin=st.floats(0.1, 5))
def test_a_pair_goes_on_when_it_is_close(first: float, second: float, margin: float) -> None:
    close = abs(first - second) <= margin
    assert sorted(promoted([first, second], None, margin)) == ([0, 1] if close else [])


@pytest.mark.parametrize(
    ("cheap", "top_k", "margin", "expected"),
    [
        ([5.0], None, 1.0, []),
        ([5.0], 2, None, [0]),
        ([1.0, 5.0, 4.5, 4.4], None, 0.5, [1, 2]),
        ([1.0, 5.0, 4.5, 4.4], 2, 1.0, [1, 2]),
        ([3.0, 3.0, 3.0], 2, None, [0, 1]),
        ([], 2, None, []),
        ([], None, 1.0, []),
    ],
)
def test_promotion(
    cheap: list[float], top_k: int | None, margin: float | None, expected: list[int]
) -> None:
    assert promoted(cheap, top_k, margin) == expected


@given(cheap=scores, top_k=st.integers(2, 10), data=st.data())
def test_nobody_left_behind_is_above_anybody_promoted(
    cheap: list[float], top_k: int, data: st.DataObject
) -> None:
    strong = {index: data.draw(st.floats(-100, 100)) for index in promoted(cheap, top_k, None)}
    joined = joined_scores(cheap, strong)
    left = [index for index in range(len(cheap)) if index not in strong]
    assert {index: joined[index] for index in strong} == strong
    assert all(joined[index] <= min(strong.values()) for index in left)
    for one in left:
        for other in left:
            assert (cheap[one] <= cheap[other]) <= (joined[one] <= joined[other])


def test_those_left_behind_keep_their_distances() -> None:
    assert joined_scores([1.0, 3.0, 2.0, 0.5], {1: -20.0, 2: 7.0}) == [-21.0, -20.0, 7.0, -21.5]


CHEAP, STRONG = tabled(w=0.1, x=0.2, y=0.3, z=0.4), tabled(x=9.0, y=8.0, z=7.0)


async def test_only_the_promoted_are_sent_to_the_strong_model() -> None:
    models = FakeModels({"a": CHEAP, "b": STRONG}, tokens=10)
    plan = plan_of({"route": {"cascade": {"first": "a", "then": "b", "top_k": 2}}}, ["a", "b"])
    groups = [candidates("w", "x", "y", "z"), candidates("x", "y")]
    rewards = await evaluate(plan.route("route"), groups, models)
    assert models.asked == [("a", ["w", "x", "y", "z", "x", "y"]), ("b", ["z", "y", "y", "x"])]
    assert [reward.stage for reward in rewards[0]] == ["a", "a", "b", "b"]
    assert [reward.score for reward in rewards[0][2:]] == [8.0, 7.0]
    assert [reward.tokens for reward in rewards[0]] == [10, 10, 20, 20]
    assert [reward.score for reward in rewards[1]] == [9.0, 8.0]
    assert rewards[0][3].members is not None
    assert rewards[0][3].members["a"].score == 0.4


async def test_a_clear_pair_never_reaches_the_strong_model() -> None:
    models = FakeModels({"a": CHEAP, "b": down()})
    plan = plan_of({"route": {"cascade": {"first": "a", "then": "b", "margin": 0.2}}}, ["a", "b"])
    (rewards,) = await evaluate(plan.route("route"), [candidates("w", "z")], models)
    assert [reward.score for reward in rewards] == [0.1, 0.4]
    assert [reward.stage for reward in rewards] == ["a", "a"]


async def test_a_failed_stage_is_an_error_and_never_the_other_stages_score() -> None:
    plan = plan_of({"route": {"cascade": {"first": "a", "then": "b", "top_k": 2}}}, ["a", "b"])
    for stage, scores in {
        "a": {"a": down(), "b": STRONG},
        "b": {"a": CHEAP, "b": down()},
    }.items():
        with pytest.raises(ModelFailed, match=f"stage `{stage}` of route `route`"):
            await evaluate(plan.route("route"), [candidates("x", "y")], FakeModels(scores))


async def test_scores_too_far_apart_to_join_are_an_error() -> None:
    models = FakeModels({"a": tabled(w=-1.7e308, x=1.0, y=2.0), "b": tabled(x=-1.7e308, y=0.0)})
    plan = plan_of({"route": {"cascade": {"first": "a", "then": "b", "top_k": 2}}}, ["a", "b"])
    with pytest.raises(NonFiniteScore, match="too large to join"):
        await evaluate(plan.route("route"), [candidates("w", "x", "y")], models)
