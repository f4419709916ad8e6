"""verl's reward loop; the bodies are exactly those of its version 0.9.1."""

import pytest
from tests.serve.dialects.speaking import cluster, scoring
from tests.serve.fakes import FakeModel, raising

from rewardserve.errors import Busy

ALIAS = {"/models/rm": {"single": "default"}}
"""verl names the model by the path of its checkpoint."""


async def test_with_the_vllm_engine_the_last_probability_is_the_score() -> None:
    body = {"model": "/models/rm", "input": "[user] Hi[assistant] Hello", "use_activation": False}
    async with cluster(scoring(-7.25), routes=ALIAS) as served:
        answer = await served.answer("/classify", body)
    assert answer["data"][-1]["probs"][-1] == -7.25
    assert served.scored == [body["input"]]


async def test_with_the_sglang_engine_the_last_number_of_the_embedding_is_the_score() -> None:
    body = {"model": "/models/rm", "input": "[user] Hi[assistant] Hello"}
    async with cluster(scoring(-7.25), routes=ALIAS) as served:
        answer = await served.answer("/v1/embeddings", body)
    assert answer["data"][-1]["embedding"][-1] == -7.25
    assert answer["data"][0].keys() == {"object", "index", "embedding"}
    assert (answer["object"], answer["model"]) == ("list", "/models/rm")
    assert answer["usage"]["prompt_tokens"] == 1


@pytest.mark.parametrize("path", ["/classify", "/v1/embeddings"])
async def test_busy_is_503_because_verl_gives_up_on_4xx(path: str) -> None:
    busy = FakeModel("default", raising(Busy("full", retry_after_s=2.5)))
    async with cluster(busy) as served:
        response = await served.post(path, {"input": "a"})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "3"
