"""Which names a plan knows, and what it refuses before anything is served."""

from typing import Any

import pytest
from fake_models import FakeModels, candidates, ensemble, plan_of, tabled

from rewardserve.errors import InvalidRequest, SettingsError, UnknownModel
from rewardserve.routing.calibration import Calibration, calibrate
from rewardserve.routing.evaluate import evaluate
from rewardserve_client._types import Reward


def calibration_of(model: str) -> Calibration:
    rewards = [Reward(score=v, model=model, attributes={"style": v}) for v in (1.0, 2.0, 3.0)]
    return calibrate(model, [rewards], source=model, revision=None, data="x")


def test_models_routes_and_attributes_are_found_by_name() -> None:
    plan = plan_of({"default": {"single": "a"}}, ["a", "llama-3", "llama-3.1"])
    assert plan.route("default") is plan.route("a")
    assert plan.route("a.style").name == "a.style"
    assert plan.find("llama-3.1") is plan.models["llama-3.1"]
    assert plan.find("llama-3.1.style") is not None
    assert plan.find("a.") is None
    with pytest.raises(UnknownModel, match=r"there are: a, llama-3, llama-3\.1, default"):
        plan.route("nobody")


def test_routes_may_stand_in_any_order() -> None:
    plan = plan_of({"top": {"single": "middle"}, "middle": {"single": "a"}})
    assert plan.route("top") is plan.route("a")


@pytest.mark.parametrize(
    ("routes", "circle"),
    [
        ({"p": {"single": "p"}}, "p -> p"),
        ({"p": {"single": "q"}, "q": ensemble("a", "p")}, "p -> q -> p"),
        (
            {
                "p": {"single": "q"},
                "q": {"cascade": {"first": "a", "then": "r", "top_k": 2}},
                "r": {"shadow": {"answer": "a", "shadows": ["q"]}},
            },
            "q -> r -> q",
        ),
    ],
)
def test_circles_are_refused_and_drawn(routes: dict[str, Any], circle: str) -> None:
    with pytest.raises(SettingsError, match=f"routes go in a circle: {circle}"):
        plan_of(routes)


@pytest.mark.parametrize(
    "route",
    [
        {"single": "d"},
        ensemble("a", "d"),
        {"cascade": {"first": "a", "then": "d", "top_k": 2}},
        {"select": {"rules": [{"when": {"k": "v"}, "use": "d"}], "default": "a"}},
        {"split": {"weights": {"a": 1, "d": 1}}},
        {"shadow": {"answer": "a", "shadows": ["d"]}},
    ],
)
def test_an_unknown_name_is_refused_in_every_kind_of_route(route: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="route `r` names `d`, which is no model"):
        plan_of({"r": route})


def test_own_weights_are_for_models_alone() -> None:
    routes = {"r": ensemble("a", "b"), "s": {"attributes": {"model": "r", "weights": {"x": 1}}}}
    with pytest.raises(SettingsError, match="route `s` weighs the attributes of `r`"):
        plan_of(routes)


def test_one_name_for_two_things_is_refused() -> None:
    with pytest.raises(SettingsError, match="`a` is both a model and a route"):
        plan_of({"a": {"single": "b"}})


@pytest.mark.parametrize(
    "settings",
    [
        {"normalize": "zscore"},
        {"normalize": "quantile"},
        {"normalize": "group_zscore", "alone": "calibrated"},
    ],
)
def test_a_missing_calibration_is_refused_with_the_remedy(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"`b` of route `r`.*rewardserve calibrate --models b"):
        plan_of({"r": ensemble("a", "b", **settings)}, ["a", "b"], {"a": calibration_of("a")})


def test_a_calibration_covers_the_models_attributes() -> None:
    known = {"a": calibration_of("a")}
    plan = plan_of({"r": ensemble("a.style", normalize="zscore")}, ["a"], known)
    assert plan.route("r").name == "r"
    with pytest.raises(SettingsError, match="no attribute `tone`; it has: style"):
        plan_of({"r": ensemble("a.tone", normalize="zscore")}, ["a"], known)


@pytest.mark.parametrize(
    "inner", [ensemble("a", "b"), {"attributes": {"model": "a", "weights": {"style": 1.0}}}]
)
def test_what_cannot_be_calibrated_is_said(inner: dict[str, Any]) -> None:
    routes = {"inner": inner, "r": ensemble("inner", "b", normalize="zscore")}
    with pytest.raises(SettingsError, match="only models and their attributes have calibrations"):
        plan_of(routes, ["a", "b"], {"b": calibration_of("b")})


async def test_an_inline_ensemble_is_an_ensemble() -> None:
    plan = plan_of({}, ["a", "b"])
    route = plan.inline({"members": {"a": 1, "b": 1}, "normalize": "none", "aggregate": "min"})
    models = FakeModels({"a": tabled(x=1.0), "b": tabled(x=2.0)})
    ((reward,),) = await evaluate(route, [candidates("x")], models)
    assert (reward.score, reward.model) == (1.0, "inline")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"members": {"a": 1}}, "different scales"),
        ({"members": {"a": 1}, "normalize": "zscore"}, "no calibration"),
        ({"members": {"nobody": 1}, "normalize": "none"}, "names `nobody`"),
        ({"members": {"a": 1}, "normalize": "none", "sort": 1}, "sort"),
        ({}, "members"),
    ],
)
def test_an_inline_ensemble_that_cannot_be_is_the_callers_mistake(
    spec: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        plan_of({}, ["a"]).inline(spec)
    assert caught.value.param == "ensemble"


def test_an_inline_ensemble_is_refused_without_echoing_its_input() -> None:
    secret = "hunter2" * 1000
    with pytest.raises(InvalidRequest) as caught:
        plan_of({}, ["a"]).inline({"members": {"a": secret}, "normalize": secret})
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 1000
