"""What a route's settings allow, and what they refuse with which words."""

from typing import Any

import pytest
from pydantic import ValidationError

from rewardserve.route_settings import RouteSettings

PAIR = {"a": 1.0, "b": 2.0}
EQUAL = {"a": 1.0, "b": 1.0, "c": 1.0}


@pytest.mark.parametrize(
    "route",
    [
        {"single": "a"},
        {"ensemble": {"members": PAIR, "normalize": "zscore"}},
        {"ensemble": {"members": PAIR, "normalize": "none"}},
        {"ensemble": {"members": PAIR, "aggregate": "reciprocal_rank", "rank_constant": 10}},
        {"ensemble": {"members": EQUAL, "normalize": "quantile", "aggregate": "median"}},
        {
            "ensemble": {
                "members": PAIR,
                "normalize": "zscore",
                "aggregate": "lower_confidence_bound",
                "k": 1.0,
            }
        },
        {
            "ensemble": {
                "members": PAIR,
                "normalize": "affine",
                "affine": {"a": {"scale": 2}, "b": {"scale": 1, "offset": -3}},
            }
        },
        {"ensemble": {"members": PAIR, "normalize": "group_zscore", "alone": "calibrated"}},
        {
            "attributes": {
                "model": "armorm",
                "weights": {"code-style": 1.0, "code-complexity": -0.2},
            }
        },
        {"cascade": {"first": "a", "then": "b", "top_k": 4}},
        {"cascade": {"first": "a", "then": "b", "margin": 0.5, "top_k": 4}},
        {"select": {"rules": [{"when": {"domain": ["code", "math"]}, "use": "a"}], "default": "b"}},
        {"split": {"weights": {"a": 0.9, "b": 0.1}}},
        {"shadow": {"answer": "a", "shadows": ["b"]}},
    ],
)
def test_every_kind_of_route_can_be_written(route: dict[str, Any]) -> None:
    assert RouteSettings.model_validate(route).chosen


def ensemble(members: dict[str, float] = PAIR, **settings: Any) -> dict[str, Any]:
    return {"ensemble": {"members": members, "normalize": "none"} | settings}


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        ({}, "exactly one of the keys"),
        ({"single": None}, "exactly one of the keys"),
        ({"single": "a", "split": {"weights": PAIR}}, "exactly one of the keys"),
        ({"ensembel": {}}, "ensembel"),
        ({"ensemble": {"members": PAIR}}, "different scales"),
        ({"ensemble": {"members": EQUAL, "aggregate": "min"}}, "different scales"),
        (ensemble(normalise="zscore"), "normalise"),
        (ensemble(k=1.0), "k is read by lower_confidence_bound"),
        (ensemble(alone="calibrated"), "alone is read by group_rank or group_zscore"),
        (ensemble({"a": 1.0, "b": 0.0}), "above 0"),
        (ensemble({"a": float("nan")}), "finite"),
        (ensemble({}), "at least 1"),
        (ensemble(aggregate="median"), "no use for weights"),
        (ensemble(aggregate="log_sigmoid_sum", references={"z": 0.0}), r"\['z'\] are not members"),
        (ensemble(normalize="affine", affine={"a": {"scale": 1}}), "scale for every member"),
        (ensemble(quorum=3), "above the 2 members"),
        (ensemble(EQUAL, aggregate="min", quorum=2), "takes no quorum below 3"),
        (ensemble(aggregate="log_sigmoid_sum", quorum=1), "takes no quorum below 2"),
        (ensemble(aggregate="uncertainty_weighted", quorum=1), "at least 2 members"),
        (ensemble({"a": 1.0}, aggregate="lower_confidence_bound"), "at least 2 members"),
        (ensemble(EQUAL, aggregate="trimmed_mean", quorum=2), "leaves nothing of 2"),
        ({"cascade": {"first": "a", "then": "b"}}, "top_k, margin or both"),
        ({"cascade": {"first": "a", "then": "a", "top_k": 2}}, "are the same"),
        ({"cascade": {"first": "a", "then": "b", "top_k": 1}}, "greater than or equal to 2"),
        ({"select": {"rules": [{"when": {"x": "y"}, "use": "a"}]}}, "default"),
        ({"split": {"weights": {"a": 1.0, "b": -1.0}}}, "greater than 0"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(route: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        RouteSettings.model_validate(route)
