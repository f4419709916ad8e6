"""OpenRLHF's remote reward model; the bodies are what its client sends."""

from typing import Any

import pytest
from tests.serve.dialects.speaking import RENDERED, cluster
from tests.serve.fakes import FakeModel, FakeResponse

from rewardserve.serving.answers import ModelAnswer
from rewardserve_client._types import Reward


def sent(*queries: str) -> dict[str, Any]:
    return {
        "query": list(queries),
        "prompts": ["p"] * len(queries),
        "labels": [None] * len(queries),
    }


async def test_rendered_queries_are_scored_as_they_are() -> None:
    async with cluster() as served:
        answer = await served.answer("/get_reward", sent(RENDERED, "ab"))
    assert answer == {"rewards": [len(RENDERED), 2], "scores": [len(RENDERED), 2], "extra_logs": {}}
    assert served.scored == [RENDERED, "ab"]


async def test_empty_lists_are_answered_with_empty_lists() -> None:
    async with cluster() as served:
        answer = await served.answer("/get_reward", {"query": [], "prompts": [], "labels": []})
    assert answer == {"rewards": [], "scores": [], "extra_logs": {}}
    assert served.model.calls == []


@pytest.mark.parametrize("extra", [{}, {"labels": 5}, {"prompts": None, "images": [[]]}])
async def test_everything_but_the_query_is_optional(extra: dict[str, Any]) -> None:
    async with cluster() as served:
        assert (await served.answer("/get_reward", {"query": ["abc"], **extra}))["rewards"] == [3]


async def test_the_url_names_the_model() -> None:
    async with cluster() as served:
        assert (await served.post("/get_reward?model=other", sent("abc"))).json()["rewards"] == [3]
        assert (await served.post("/get_reward?model=nobody", sent("abc"))).status_code == 404
    assert served.model.calls == []


class DetailedModel(FakeModel):
    """Gives attributes, and an uncertainty of each."""

    def _remote(self, items: Any, *terms: Any) -> FakeResponse:
        async def answer() -> ModelAnswer:
            rewards = [
                Reward(
                    score=1.0,
                    model="default",
                    attributes={"help": 0.5 + place},
                    uncertainty={"help": 0.1},
                )
                for place in range(len(items))
            ]
            return ModelAnswer(rewards, 1, 1, 0.0, 0.0, 0.0)

        return FakeResponse(answer(), lambda: None)


async def test_attributes_and_uncertainty_are_logged_as_lists() -> None:
    async with cluster(DetailedModel("default")) as served:
        answer = await served.answer("/get_reward", sent("a", "b"))
    assert answer["extra_logs"] == {"help": [0.5, 1.5], "uncertainty/help": [0.1, 0.1]}
