"""The client against a served cluster: over HTTP and over a handle, the same answers."""

import asyncio
from collections.abc import Iterator

import pytest
import ray
from tests.serve.conftest import ROUTES, Served

import rewardserve_client as api
from rewardserve_client import AsyncRewardClient, Conversation, RewardClient

PROMPT = "What is 17 + 25?"
RESPONSES = ["It is 42.", "It is 52.", "I would rather not say.", "It is 42."]


def turns(response: str) -> Conversation:
    return [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": response}]


@pytest.fixture(params=["http", "handle"])
def client(served: Served, request: pytest.FixtureRequest) -> Iterator[RewardClient]:
    over_http = request.param == "http"
    with RewardClient(served.url) if over_http else RewardClient.from_handle() as client:
        yield client


def test_a_reward_carries_everything_the_model_says(client: RewardClient) -> None:
    reward = client.score(turns("It is 42."), model="armorm")
    assert reward.model == "armorm"
    assert reward.tokens > 0
    assert reward.attributes is not None
    assert len(reward.attributes) == 19


def test_many_responses_and_ranking_agree(client: RewardClient) -> None:
    many = client.score_many(map(turns, RESPONSES * 40), model="armorm").scores
    together = client.score_responses(PROMPT, RESPONSES, model="armorm").scores
    assert many == pytest.approx(together * 40, abs=1e-5)
    ranking = client.best_of_n(PROMPT, RESPONSES, model="armorm")
    assert together[ranking.order[0]] == max(together)
    (grouped,) = client.score_groups([(PROMPT, RESPONSES)], model="armorm")
    assert grouped.scores == pytest.approx(together, abs=1e-5)


def test_http_and_handle_give_the_same_scores(served: Served, client: RewardClient) -> None:
    with RewardClient(served.url) as reference:
        expected = reference.score_responses(PROMPT, RESPONSES).scores
    assert client.score_responses(PROMPT, RESPONSES).scores == pytest.approx(expected, abs=1e-5)


def test_models_and_routes_are_listed(client: RewardClient) -> None:
    listed = {model.id: model.kind for model in client.models()}
    assert listed == {
        "skywork-llama-8b": "model",
        "armorm": "model",
        "default": "route",
        "either": "route",
        **dict.fromkeys(ROUTES, "route"),
    }


def test_the_servers_refusals_have_their_type_code_and_place(client: RewardClient) -> None:
    with pytest.raises(api.UnknownModel) as unknown:
        client.score(turns("4"), model="nobody")
    assert unknown.value.code == "unknown_model"
    broken: Conversation = [{"role": "user", "content": PROMPT}]
    with pytest.raises(api.InvalidConversation) as invalid:
        client.score_many([*map(turns, RESPONSES * 20), broken])
    assert str(invalid.value.param).startswith("inputs[80].messages")
    long = turns("word " * 2000)
    with pytest.raises(api.ConversationTooLong):
        client.score(long, model="armorm")
    assert client.score(long, model="armorm", truncate=True).truncated


async def test_the_awaited_client_over_a_handle(served: Served) -> None:
    async with AsyncRewardClient.from_handle() as client:
        one, ranking = await asyncio.gather(
            client.score(turns("It is 42.")), client.best_of_n(PROMPT, RESPONSES)
        )
        assert one.score == pytest.approx(ranking.rewards[0].score, abs=1e-5)


def test_another_ray_job_scores_over_a_handle_it_was_sent(served: Served) -> None:
    @ray.remote(num_cpus=0)
    def work(client: RewardClient) -> list[float]:
        return client.score_responses(PROMPT, RESPONSES).scores

    client = RewardClient.from_handle()
    there = ray.get(work.remote(client), timeout=120)
    with client:
        assert there == pytest.approx(client.score_responses(PROMPT, RESPONSES).scores, abs=1e-5)
