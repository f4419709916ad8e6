"""Every kind of route over HTTP gives what the pure function gives on the members' own scores."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.serve.fakes import FakeModel, gateway, http, raising

from rewardserve.errors import ModelFailed
from rewardserve.route_settings import RouteSettings
from rewardserve.routing.evaluate import Item, evaluate
from rewardserve.routing.plan import resolve
from rewardserve_client._types import Reward, RewardsResponse, join_turns

MODELS = ("a", "b", "c")


def opinion(model: str, item: Any) -> float:
    """A model's score of a conversation, on a scale of its own."""
    text = item[-1]["content"]
    scale = {"a": 20.0, "b": 0.1, "c": 1.0}[model]
    return scale * ((len(text) * (1 + MODELS.index(model)) + text.count("e")) % 7 - 3)


def model_of(name: str) -> FakeModel:
    async def behave(items: Sequence[Any]) -> list[float]:
        return [opinion(name, item) for item in items]

    return FakeModel(name, behave)


async def offline(model: str, items: Sequence[Item]) -> list[Reward]:
    return [Reward(score=opinion(model, item), model=model, tokens=1) for item in items]


def ensemble(**settings: Any) -> dict[str, Any]:
    return {"ensemble": {"members": dict.fromkeys(MODELS, 1.0)} | settings}


ROUTES: dict[str, Any] = {
    "single": {"single": "b"},
    "mean": ensemble(normalize="group_zscore"),
    "median": ensemble(normalize="group_rank", aggregate="median"),
    "worst": ensemble(normalize="sigmoid", aggregate="min"),
    "cautious": ensemble(normalize="group_zscore", aggregate="lower_confidence_bound", k=0.5),
    "soft": ensemble(normalize="none", aggregate="soft_min", temperature=2.0),
    "and": ensemble(normalize="sigmoid", aggregate="log_sigmoid_sum", references={"a": 0.5}),
    "ranks": ensemble(aggregate="reciprocal_rank"),
    "votes": ensemble(aggregate="majority_vote"),
    "cascade": {"cascade": {"first": "b", "then": "mean", "top_k": 2}},
    "split": {"split": {"weights": {"a": 1, "b": 1}}},
    "select": {
        "select": {"rules": [{"when": {"domain": "code"}, "use": "c"}], "default": "median"}
    },
}
INPUTS = [
    {
        "prompt": f"Question {number}",
        "responses": ["Yes.", "Nine, or so they say.", "I cannot tell.", "The sea"][
            : 2 + number % 3
        ],
    }
    for number in range(8)
]
TAGS = {"domain": "code"}


@pytest.mark.parametrize("name", [*MODELS, *ROUTES])
async def test_a_served_route_equals_the_pure_one(name: str) -> None:
    settings = {route: RouteSettings.model_validate(spec) for route, spec in ROUTES.items()}
    groups = [
        [join_turns(str(entry["prompt"]), text) for text in entry["responses"]] for entry in INPUTS
    ]
    plan = resolve(settings, MODELS)
    expected = await evaluate(plan.route(name), groups, offline, tags=TAGS)
    async with http(gateway(*map(model_of, MODELS), routes=ROUTES)) as client:
        body = {"model": name, "inputs": INPUTS, "tags": TAGS}
        response = await client.post("/v1/rewards", json=body)
    answer = RewardsResponse.model_validate_json(response.content)
    assert [item.rewards for item in answer.data] == expected


async def test_an_ensemble_may_come_with_the_request() -> None:
    async with http(gateway(*map(model_of, MODELS), routes=ROUTES)) as client:
        named = await client.post("/v1/rewards", json={"model": "mean", "inputs": INPUTS})
        spec = ROUTES["mean"]["ensemble"]
        inline = await client.post("/v1/rewards", json={"inputs": INPUTS, "ensemble": spec})
    scores = [
        [[reward["score"] for reward in item["rewards"]] for item in answer.json()["data"]]
        for answer in (named, inline)
    ]
    assert scores[0] == scores[1]
    assert inline.json()["model"] == "inline"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"members": {"a": 1, "b": 1}}, "different scales"),
        ({"members": {"nobody": 1}, "normalize": "none"}, "names `nobody`"),
    ],
)
async def test_an_inline_ensemble_that_cannot_be_is_refused(
    spec: dict[str, Any], reason: str
) -> None:
    async with http(gateway(*map(model_of, MODELS))) as client:
        response = await client.post("/v1/rewards", json={"inputs": INPUTS, "ensemble": spec})
    assert response.status_code == 422
    error = response.json()["error"]
    assert reason in error["message"]
    assert error["param"] == "ensemble"


async def test_a_quorum_answers_over_http_and_names_who_is_missing() -> None:
    models = [model_of("a"), FakeModel("b", raising(ModelFailed("out of memory"))), model_of("c")]
    routes = {"robust": ensemble(normalize="group_zscore", quorum=2)}
    async with http(gateway(*models, routes=routes)) as client:
        response = await client.post("/v1/rewards", json={"model": "robust", "inputs": INPUTS})
    rewards = [reward for item in response.json()["data"] for reward in item["rewards"]]
    assert {tuple(reward["failed_members"]) for reward in rewards} == {("b",)}
    assert {tuple(reward["members"]) for reward in rewards} == {("a", "c")}


async def test_a_shadow_is_logged_after_the_answer_and_changes_nothing_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    routes = {"live": {"shadow": {"answer": "a", "shadows": ["b"]}}}
    models = [model_of("a"), model_of("b")]
    served = gateway(*models, routes=routes)
    async with http(served) as client:
        body = {"model": "live", "inputs": INPUTS[:2]}
        response = await client.post("/v1/rewards", json=body)
    await served._router.shadows.finish()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    rewards = [item["rewards"] for item in response.json()["data"]]
    assert {reward["model"] for group in rewards for reward in group} == {"a"}
    assert response.json()["usage"]["tokens"] == sum(len(e["responses"]) for e in INPUTS[:2])
    (line,) = [line for line in lines if line["event"] == "shadow"]
    assert line["route"] == "b"
    assert line["answered"] == [[reward["score"] for reward in group] for group in rewards]
    assert "Question" not in str(line)
