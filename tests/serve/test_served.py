"""The whole way through a real Ray cluster: HTTP, router, replicas, engine."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from statistics import mean
from typing import Any

import httpx2
import pytest
from ray import serve
from tests.serve.conftest import MODELS, ROUTES, Served, replica_processes
from tests.serve.fakes import conversation

from rewardserve import load_scorer
from rewardserve.errors import ConversationTooLong, SettingsError
from rewardserve.serving.cluster_file import check_cluster
from rewardserve.serving.up import deploy
from rewardserve_client import RewardClient
from rewardserve_client._types import ErrorBody, RewardsRequest

CONVERSATIONS = [conversation(f"The sum is {n}.", f"What is {n} plus nothing?") for n in range(12)]


def post(served: Served, **body: Any) -> httpx2.Response:
    return httpx2.post(f"{served.url}/v1/rewards", json=body, timeout=60)


@pytest.mark.parametrize("model", MODELS)
def test_served_scores_are_those_of_the_scorer_in_process(served: Served, model: str) -> None:
    expected = load_scorer(str(served.zoo / model)).score(CONVERSATIONS)
    answer = post(served, model=model, inputs=[{"messages": item} for item in CONVERSATIONS])
    rewards = [item["rewards"][0] for item in answer.json()["data"]]
    assert [r["score"] for r in rewards] == pytest.approx([r.score for r in expected], abs=1e-5)
    assert [r["attributes"] for r in rewards] == [
        pytest.approx(r.attributes, abs=1e-5) if r.attributes else None for r in expected
    ]
    assert {r["model"] for r in rewards} == {model}


def test_the_default_route_is_the_mean_of_its_members(served: Served) -> None:
    (item,) = post(served, inputs=[{"messages": CONVERSATIONS[0]}]).json()["data"]
    (reward,) = item["rewards"]
    members = [reward["members"][name]["score"] for name in MODELS]
    assert reward["score"] == pytest.approx(mean(members))


def test_the_client_ranks_responses(served: Served) -> None:
    with RewardClient(served.url) as client:
        ranking = client.best_of_n("What is 2 + 3?", ["It is 5.", "No idea.", "5"], model="armorm")
    assert sorted(ranking.order) == [0, 1, 2]


def test_a_handle_call_needs_no_http(served: Served) -> None:
    gateway: Any = serve.get_deployment_handle("Gateway", app_name="router")
    request = RewardsRequest.model_validate(
        {"model": "armorm", "inputs": [{"messages": CONVERSATIONS[0]}]}
    )
    answer = gateway.rewards.remote(request).result(timeout_s=60)
    by_http = post(served, model="armorm", inputs=[{"messages": CONVERSATIONS[0]}]).json()
    assert answer.data[0].rewards[0].score == pytest.approx(
        by_http["data"][0]["rewards"][0]["score"], abs=1e-5
    )
    assert {entry.id for entry in gateway.served_models.remote().result().data} == {
        *MODELS,
        *ROUTES,
        "default",
        "either",
    }


def test_models_say_what_is_loaded_and_ready_says_so(served: Served) -> None:
    entries = httpx2.get(f"{served.url}/v1/models").json()["data"]
    families = {entry["id"]: entry["family"] for entry in entries}
    assert {name: families[name] for name in MODELS} == {
        "skywork-llama-8b": "linear",
        "armorm": "armorm",
    }
    assert httpx2.get(f"{served.url}/ready").json() == {"status": "ready", "waiting_for": []}


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([], "invalid_conversation"),
        (CONVERSATIONS[0][:1], "invalid_conversation"),
        (conversation("word " * 2000), "conversation_too_long"),
    ],
)
def test_bad_input_is_refused_clearly_and_costs_nobody_anything(
    served: Served, messages: Any, code: str
) -> None:
    inputs = [{"messages": CONVERSATIONS[0]}, {"messages": messages}]
    response = post(served, model="armorm", inputs=inputs)
    assert response.status_code == 422
    error = ErrorBody.model_validate_json(response.content).error
    assert error.code == code
    assert error.param
    assert error.param.startswith("inputs[1]")
    assert post(served, model="armorm", inputs=inputs[:1]).status_code == 200


def test_a_lone_surrogate_is_refused(served: Served) -> None:
    body = rb'{"inputs": [{"prompt": "p", "responses": ["\ud800"]}]}'
    headers = {"content-type": "application/json"}
    response = httpx2.post(f"{served.url}/v1/rewards", content=body, headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]["param"].startswith("inputs[0].responses[0]")


def test_what_is_too_large_is_refused_within_a_second(served: Served) -> None:
    headers = {"content-type": "application/json"}
    for status, sent in {
        431: {"content": b"{}", "headers": {**headers, "x-large": "x" * 200_000}},
        413: {"content": b" " * 20_000_000, "headers": headers},
    }.items():
        response = httpx2.post(f"{served.url}/v1/rewards", timeout=60, **sent)
        assert response.status_code == status
        assert response.elapsed.total_seconds() <= 1


def test_what_is_too_long_is_shortened_when_the_request_says_so(served: Served) -> None:
    response = post(
        served,
        model="armorm",
        truncate=True,
        inputs=[{"messages": conversation("word " * 2000)}],
    )
    reward = response.json()["data"][0]["rewards"][0]
    assert reward["truncated"]
    assert reward["tokens"] == 512


def test_the_replicas_own_error_reaches_handle_callers(served: Served) -> None:
    gateway: Any = serve.get_deployment_handle("Gateway", app_name="router")
    with pytest.raises(ConversationTooLong):
        gateway.score.remote("armorm", [conversation("word " * 2000)]).result(timeout_s=60)


def test_a_misspelt_key_leaves_the_running_applications_alone(served: Served) -> None:
    before = replica_processes("armorm")
    file = copy.deepcopy(served.file)
    file["applications"][1]["args"]["max_token"] = 256
    with pytest.raises(SettingsError, match="max_token"):
        deploy(check_cluster(file), announce=lambda line: None)
    assert replica_processes("armorm") == before
    assert post(served, inputs=[{"messages": CONVERSATIONS[0]}]).status_code == 200


def test_deploying_the_same_file_again_restarts_nothing(served: Served) -> None:
    before = [replica_processes(name) for name in MODELS]
    deploy(check_cluster(served.file), announce=lambda line: None)
    assert [replica_processes(name) for name in MODELS] == before


def test_killing_one_of_two_replicas_under_load_loses_nothing(served: Served) -> None:
    killed = threading.Event()

    def score(number: int) -> int:
        if number == 40:
            replica_processes("armorm")[0].kill()
            killed.set()
        message = conversation(f"The number is {number}.")
        return post(served, model="armorm", inputs=[{"messages": message}]).status_code

    with ThreadPoolExecutor(16) as callers:
        statuses = list(callers.map(score, range(200)))
    assert killed.is_set()
    assert set(statuses) == {200}
