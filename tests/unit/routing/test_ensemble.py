"""Who is asked, what failing members do, and what a combined reward says of itself."""

import asyncio
import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from fake_models import FakeModels, candidates, down, ensemble, plan_of, tabled

from rewardserve.errors import (
    Busy,
    ConversationTooLong,
    InvalidRequest,
    ModelFailed,
    NonFiniteScore,
    SettingsError,
)
from rewardserve.routing.calibration import calibrate
from rewardserve.routing.evaluate import Item, evaluate
from rewardserve_client._types import Reward

A, B, C = tabled(x=1.0, y=2.0), tabled(x=10.0, y=0.0), tabled(x=4.0, y=4.0)


async def answer(route: dict[str, Any], models: FakeModels, *responses: str) -> list[Reward]:
    plan = plan_of({"route": route}, list(models.scores))
    return (await evaluate(plan.route("route"), [candidates(*responses)], models))[0]


async def test_a_mean_says_what_it_is_the_mean_of() -> None:
    models = FakeModels({"a": A, "b": B}, tokens=7)
    route = ensemble("a", "b")
    route["ensemble"]["members"] = {"a": 3.0, "b": 1.0}
    first, second = await answer(route, models, "x", "y")
    assert first.score == pytest.approx((3 * 1 + 10) / 4)
    assert second.score == pytest.approx((3 * 2 + 0) / 4)
    assert first.model == "route"
    assert first.weights == {"a": 0.75, "b": 0.25}
    assert first.attributes == {"a": 1.0, "b": 10.0}
    assert first.uncertainty == {"spread": statistics.pstdev([1.0, 10.0])}
    assert first.members is not None
    assert {name: member.score for name, member in first.members.items()} == {"a": 1.0, "b": 10.0}
    assert first.tokens == 14
    assert first.failed_members == []


async def test_members_are_asked_at_once_and_once_for_all_groups() -> None:
    models = FakeModels({"a": A, "b": B})
    plan = plan_of({"route": ensemble("a", "b")}, ["a", "b"])
    groups = [candidates("x", "y"), candidates("y")]
    rewards = await evaluate(plan.route("route"), groups, models)
    assert models.asked == [("a", ["x", "y", "y"]), ("b", ["x", "y", "y"])]
    assert [len(group) for group in rewards] == [2, 1]


async def test_a_group_normalizer_compares_within_each_group_alone() -> None:
    models = FakeModels({"a": tabled(x=1.0, y=2.0, p=100.0, q=200.0)})
    plan = plan_of({"route": ensemble("a", normalize="group_rank")}, ["a"])
    groups = [candidates("x", "y"), candidates("q", "p")]
    rewards = await evaluate(plan.route("route"), groups, models)
    assert [[reward.score for reward in group] for group in rewards] == [[0, 1], [1, 0]]


async def test_strict_is_the_default_and_names_the_member() -> None:
    with pytest.raises(ModelFailed, match="member `b` of route `route`: the replica died"):
        await answer(ensemble("a", "b"), FakeModels({"a": A, "b": down()}), "x")


@pytest.mark.parametrize(
    "error", [Busy("full", None, 7.5), ConversationTooLong("9 tokens over 8", "inputs[0]")]
)
async def test_a_members_error_keeps_its_kind_and_its_particulars(error: Any) -> None:
    with pytest.raises(type(error), match="member `b`") as caught:
        await answer(ensemble("a", "b"), FakeModels({"a": A, "b": error}), "x")
    assert caught.value.args[1:] == error.args[1:]


async def test_a_quorum_answers_without_the_failed_and_names_them() -> None:
    models = FakeModels({"a": A, "b": down(), "c": C})
    route = ensemble("a", "b", "c", quorum=2)
    route["ensemble"]["members"] = {"a": 1.0, "b": 5.0, "c": 3.0}
    (reward,) = await answer(route, models, "x")
    assert reward.failed_members == ["b"]
    assert reward.weights == {"a": 0.25, "c": 0.75}
    assert reward.score == pytest.approx(0.25 * 1 + 0.75 * 4)
    assert set(reward.members or {}) == {"a", "c"}


async def test_a_quorum_that_is_not_met_is_an_error() -> None:
    models = FakeModels({"a": A, "b": down(), "c": down()})
    with pytest.raises(ModelFailed, match="member `b`"):
        await answer(ensemble("a", "b", "c", quorum=2), models, "x")


async def test_nan_fails_a_member_for_its_whole_group_and_for_no_other() -> None:
    models = FakeModels({"a": A, "b": tabled(x=float("nan"), y=3.0)})
    plan = plan_of({"route": ensemble("a", "b", quorum=1)}, ["a", "b"])
    groups = [candidates("x", "y"), candidates("y", "y")]
    first, second = await evaluate(plan.route("route"), groups, models)
    assert [reward.failed_members for reward in first] == [["b"], ["b"]]
    assert [reward.score for reward in first] == [1.0, 2.0]
    assert [reward.score for reward in second] == [2.5, 2.5]


async def test_nan_is_an_error_where_every_member_must_answer() -> None:
    models = FakeModels({"a": A, "b": tabled(x=float("inf"))})
    with pytest.raises(NonFiniteScore, match="member `b`"):
        await answer(ensemble("a", "b"), models, "x")


async def test_scores_too_large_to_combine_are_an_error_and_no_infinity() -> None:
    models = FakeModels({"a": tabled(x=1.7e308), "b": tabled(x=-1.7e308)})
    with pytest.raises(NonFiniteScore, match="too large"):
        await answer(ensemble("a", "b", aggregate="lower_confidence_bound"), models, "x")


async def test_a_model_that_loses_a_reward_has_failed() -> None:
    async def forgetful(model: str, items: Sequence[Item]) -> list[Reward]:
        return [Reward(score=1.0, model=model)] * (len(items) - 1)

    plan = plan_of({}, ["a"])
    with pytest.raises(ModelFailed, match="1 rewards for 2 conversations"):
        await evaluate(plan.route("a"), [candidates("x", "y")], forgetful)


async def test_the_others_are_cancelled_once_nothing_can_be_answered() -> None:
    cancelled, started = [], asyncio.Event()

    async def ask(model: str, items: Sequence[Item]) -> list[Reward]:
        if model == "b":
            await started.wait()
            raise down()
        if model == "c":
            started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(model)
            raise
        raise AssertionError

    plan = plan_of({"route": ensemble("a", "b", "c")})
    with pytest.raises(ModelFailed):
        await evaluate(plan.route("route"), [candidates("x")], ask)
    assert sorted(cancelled) == ["a", "c"]


async def test_a_cancelled_request_cancels_every_member() -> None:
    cancelled, started = [], asyncio.Event()

    async def ask(model: str, items: Sequence[Item]) -> list[Reward]:
        if model == "c":
            started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(model)
            raise
        raise AssertionError

    plan = plan_of({"route": ensemble("a", "b", "c", quorum=1)})
    task = asyncio.create_task(evaluate(plan.route("route"), [candidates("x")], ask))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(cancelled) == ["a", "b", "c"]


async def test_attributes_are_members_and_share_one_call() -> None:
    parts = {"style": 0.5, "safety": 0.25}
    models = FakeModels({"armorm": tabled(x=0.1)}, attributes=parts, tokens=9)
    route = ensemble("armorm", "armorm.style", "armorm.safety", aggregate="min")
    (reward,) = await answer(route, models, "x")
    assert models.asked == [("armorm", ["x"])]
    assert reward.attributes == {"armorm": 0.1, "armorm.style": 0.5, "armorm.safety": 0.25}
    assert reward.tokens == 9
    assert reward.members is not None
    assert reward.members["armorm.style"].attributes == {"style": 0.5}


async def test_an_attribute_keeps_its_own_uncertainty() -> None:
    models = FakeModels(
        {"urm": tabled(x=1.0)},
        attributes={"correctness": 3.0, "verbosity": 1.0},
        uncertainty={"correctness": 0.7, "verbosity": 0.1},
    )
    (reward,) = await answer(ensemble("urm.correctness"), models, "x")
    assert reward.uncertainty == {"spread": 0.0}
    assert reward.members is not None
    assert reward.members["urm.correctness"].uncertainty == {"correctness": 0.7}


async def test_a_callers_own_weights_replace_the_gate() -> None:
    models = FakeModels(
        {"armorm": tabled(x=0.1)},
        attributes={"style": 0.5, "safety": 0.25, "verbosity": 1.0},
        weights={"style": 9.0, "safety": 9.0, "verbosity": 9.0},
    )
    route = {"attributes": {"model": "armorm", "weights": {"style": 2.0, "verbosity": -0.5}}}
    (reward,) = await answer(route, models, "x")
    assert reward.score == 2 * 0.5 - 0.5 * 1.0
    assert reward.weights == {"style": 2.0, "verbosity": -0.5}
    assert set(reward.attributes or {}) == {"style", "safety", "verbosity"}


async def test_an_attribute_that_a_model_does_not_have_is_named_with_those_it_has() -> None:
    models = FakeModels({"urm": tabled(x=1.0)}, attributes={"coherence": 1.0})
    with pytest.raises(ModelFailed, match="no attribute `style`; it has: coherence"):
        await answer({"single": "urm.style"}, models, "x")


async def test_a_calibration_of_another_revision_is_refused_when_it_would_be_used() -> None:
    corpus = [Reward(score=value, model="a") for value in (1.0, 2.0)]
    known = {"a": calibrate("a", [corpus], source="a", revision="old", data="x")}
    plan = plan_of({"route": ensemble("a", normalize="zscore")}, ["a"], known)
    route, groups = plan.route("route"), [candidates("x")]
    (rewards,) = await evaluate(route, groups, FakeModels({"a": A}, revision="old"))
    assert rewards[0].score == pytest.approx((1 - 1.5) / 0.5)
    with pytest.raises(SettingsError, match="route `route`: the calibration of `a`"):
        await evaluate(route, groups, FakeModels({"a": A}, revision="new"))


async def test_what_compares_responses_refuses_a_lone_one() -> None:
    models = FakeModels({"a": A, "b": B})
    for settings in ({"normalize": "group_zscore"}, {"aggregate": "majority_vote"}):
        with pytest.raises(InvalidRequest, match="2 or more responses"):
            await answer(ensemble("a", "b", **settings), models, "x")


async def test_an_ensemble_of_ensembles_carries_the_whole_tree() -> None:
    models = FakeModels({"a": A, "b": B, "c": C}, tokens=5)
    plan = plan_of({"inner": ensemble("a", "b"), "outer": ensemble("inner", "c", aggregate="min")})
    ((reward,),) = await evaluate(plan.route("outer"), [candidates("x")], models)
    assert reward.score == 4.0
    assert reward.members is not None
    assert set(reward.members["inner"].members or {}) == {"a", "b"}
    assert reward.tokens == 15


async def test_nothing_asked_is_nothing_answered() -> None:
    models = FakeModels({"a": A, "b": B})
    plan = plan_of({"route": ensemble("a", "b", normalize="group_rank")}, ["a", "b"])
    assert await evaluate(plan.route("route"), [], models) == []
    assert await evaluate(plan.route("route"), [[]], models) == [[]]
    assert models.asked == []


async def test_truncation_of_one_member_is_said() -> None:
    models = FakeModels({"a": A}, truncated=True)
    (reward,) = await answer(ensemble("a"), models, "x")
    assert reward.truncated
