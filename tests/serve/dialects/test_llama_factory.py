"""LLaMA-Factory's score evaluation, and what its PPO trainer makes of the answer."""

from tests.serve.dialects.speaking import RENDERED, cluster, scoring

SENT = {"model": "model", "messages": [RENDERED, "other text"]}
"""What the PPO trainer posts; it always names the model `model`."""


async def test_every_message_is_one_whole_text() -> None:
    async with cluster(scoring(0.5, -2.0)) as served:
        answer = await served.answer("/v1/score/evaluation", SENT)
    assert answer.pop("id").startswith("scoreval-")
    assert answer == {"object": "score.evaluation", "model": "model", "scores": [0.5, -2.0]}
    assert served.scored == SENT["messages"]


async def test_a_served_name_is_asked_and_an_unknown_one_is_404() -> None:
    async with cluster() as served:
        await served.answer("/v1/score/evaluation", {**SENT, "model": "other"})
        unknown = await served.post("/v1/score/evaluation", {**SENT, "model": "gpt-3"})
    assert served.model.calls == []
    assert unknown.status_code == 404
    assert unknown.json().keys() == {"detail"}


async def test_no_messages_are_400() -> None:
    async with cluster() as served:
        response = await served.post("/v1/score/evaluation", {"model": "model", "messages": []})
    assert response.status_code == 400


async def test_a_length_limit_is_refused_instead_of_cutting() -> None:
    async with cluster() as served:
        response = await served.post("/v1/score/evaluation", {**SENT, "max_length": 128})
    assert response.status_code == 422
