"""Which route answers which request."""

from collections import Counter

import numpy as np
import pytest
from fake_models import FakeModels, candidates, down, plan_of, tabled

from rewardserve.errors import ModelFailed
from rewardserve.routing.evaluate import Group, Shadowed, evaluate
from rewardserve.routing.selection import Split, record_shadow

A, B, C = tabled(x=1.0, y=2.0), tabled(x=10.0, y=5.0), tabled(x=4.0, y=4.0)


@pytest.mark.parametrize(
    ("tags", "chosen"),
    [
        ({"domain": "code", "language": "en"}, "a"),
        ({"domain": "code"}, "b"),
        ({"domain": "math"}, "b"),
        ({"domain": "poetry"}, "c"),
        ({}, "c"),
    ],
)
async def test_the_first_rule_that_applies_wins(tags: dict[str, str], chosen: str) -> None:
    rules = [
        {"when": {"domain": "code", "language": "en"}, "use": "a"},
        {"when": {"domain": ["code", "math"]}, "use": "b"},
        {"when": {"domain": "code"}, "use": "c"},
    ]
    plan = plan_of({"route": {"select": {"rules": rules, "default": "c"}}})
    models = FakeModels({"a": A, "b": B, "c": C})
    ((reward,),) = await evaluate(plan.route("route"), [candidates("x")], models, tags=tags)
    assert reward.model == chosen
    assert [model for model, _ in models.asked] == [chosen]


def split_of(**weights: float) -> Split:
    route = plan_of({"route": {"split": {"weights": weights}}}, list(weights)).route("route")
    assert isinstance(route, Split)
    return route


def test_branches_share_the_prompts_by_weight() -> None:
    split = split_of(a=0.75, b=0.25)
    taken = Counter(split.branch(candidates("x", prompt=f"question {n}")) for n in range(4000))
    assert taken[0] / 4000 == pytest.approx(0.75, abs=0.03)


def test_a_prompt_keeps_its_branch_whatever_its_responses() -> None:
    split = split_of(a=1, b=1, c=1)
    for number in range(50):
        prompt = f"question {number}"
        branches = {
            split.branch(group)
            for group in (
                candidates("x", "y", prompt=prompt),
                candidates("y", "x", prompt=prompt),
                candidates("another", prompt=prompt),
            )
        }
        assert len(branches) == 1


def test_a_group_without_known_prompts_is_not_torn_apart_by_its_order() -> None:
    split = split_of(a=1, b=1)
    texts = [f"<user>question<model>{word}" for word in "abcdef"]
    token_ids = [np.array([1, 2, number], np.int32) for number in range(6)]
    groups: list[Group] = [texts, texts[::-1]]
    assert len({split.branch(group) for group in groups}) == 1
    lists = [ids.tolist() for ids in token_ids]
    assert split.branch(token_ids[::-1]) == split.branch(lists)  # type: ignore[arg-type]


def test_two_splits_share_the_prompts_independently() -> None:
    routes = {name: {"split": {"weights": {"a": 1, "b": 1}}} for name in ("one", "two")}
    plan = plan_of(routes, ["a", "b"])
    one, two = plan.route("one"), plan.route("two")
    assert isinstance(one, Split)
    assert isinstance(two, Split)
    groups = [candidates("x", prompt=f"question {number}") for number in range(400)]
    same = sum(one.branch(group) == two.branch(group) for group in groups)
    assert 140 < same < 260


async def test_a_split_answers_in_the_order_of_the_request() -> None:
    models = FakeModels({"a": tabled(x=1.0), "b": tabled(x=2.0)})
    plan = plan_of({"route": {"split": {"weights": {"a": 1, "b": 1}}}}, ["a", "b"])
    split = plan.route("route")
    assert isinstance(split, Split)
    groups = [candidates("x", prompt=f"question {number}") for number in range(20)]
    rewards = await evaluate(split, groups, models)
    expected = [float(split.branch(group) + 1) for group in groups]
    assert [group[0].score for group in rewards] == expected
    assert len(models.asked) == 2


async def test_a_shadow_is_recorded_and_never_answers() -> None:
    models = FakeModels({"a": A, "b": B})
    plan = plan_of({"route": {"shadow": {"answer": "a", "shadows": ["b"]}}}, ["a", "b"])
    shadowed: list[Shadowed] = []
    groups = [candidates("x", "y")]
    rewards = await evaluate(plan.route("route"), groups, models, on_shadow=shadowed.append)
    assert [reward.score for reward in rewards[0]] == [1.0, 2.0]
    assert models.asked == [("a", ["x", "y"])]
    record = await record_shadow(shadowed[0], models)
    assert (record.route, record.answered, record.shadowed) == ("b", [[1.0, 2.0]], [[10.0, 5.0]])
    assert record.failures == 0


async def test_a_broken_shadow_is_a_record_too() -> None:
    models = FakeModels({"a": A, "b": down()})
    plan = plan_of({"route": {"shadow": {"answer": "a", "shadows": ["b"]}}}, ["a", "b"])
    shadowed: list[Shadowed] = []
    await evaluate(plan.route("route"), [candidates("x")], models, on_shadow=shadowed.append)
    record = await record_shadow(shadowed[0], models)
    assert (record.answered, record.failures) == ([], 1)


async def test_a_split_whose_branch_is_down_fails() -> None:
    models = FakeModels({"a": down(), "b": down()})
    plan = plan_of({"route": {"split": {"weights": {"a": 1, "b": 1}}}}, ["a", "b"])
    with pytest.raises(ModelFailed):
        await evaluate(plan.route("route"), [candidates("x")], models)
