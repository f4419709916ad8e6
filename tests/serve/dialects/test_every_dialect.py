"""What holds in whatever dialect: key, limits, and no failure that could be taken for a score."""

import json
from typing import Any

import pytest
from tests.serve.dialects.speaking import cluster, templated
from tests.serve.fakes import FakeModel, never, raising

from rewardserve.errors import Busy, ModelFailed

SPOKEN: list[tuple[str, dict[str, Any]]] = [
    ("/get_reward", {"query": ["TEXT"]}),
    ("/classify", {"input": "TEXT"}),
    ("/classify", {"messages": templated("TEXT", "TEXT")}),
    ("/classify", {"text": "TEXT"}),
    ("/classify", {"input_ids": [1, 2, 3]}),
    ("/encode", {"text": "TEXT"}),
    ("/pooling", {"input": "TEXT"}),
    ("/score", {"text_1": "TEXT", "text_2": "TEXT"}),
    ("/v1/score", {"queries": "TEXT", "documents": "TEXT"}),
    ("/v1/score", {"query": "TEXT", "items": ["TEXT"]}),
    ("/rerank", {"query": "TEXT", "documents": ["TEXT"]}),
    ("/v1/rerank", {"query": "TEXT", "documents": ["TEXT"]}),
    ("/v2/rerank", {"query": "TEXT", "documents": ["TEXT"]}),
    ("/rerank", {"query": "TEXT", "texts": ["TEXT"]}),
    ("/v1/classify", {"input": "TEXT"}),
    ("/v1/embeddings", {"input": "TEXT"}),
    ("/predict", {"inputs": ["TEXT", "TEXT"]}),
    ("/slime", {"prompt": "TEXT", "response": "TEXT"}),
    ("/v1/score/evaluation", {"model": "model", "messages": ["TEXT"]}),
]
every_dialect = pytest.mark.parametrize(("path", "body"), SPOKEN, ids=json.dumps)


def saying(body: dict[str, Any], text: str) -> dict[str, Any]:
    spoken: dict[str, Any] = json.loads(json.dumps(body).replace("TEXT", json.dumps(text)[1:-1]))
    return spoken


@every_dialect
async def test_it_is_answered(path: str, body: dict[str, Any]) -> None:
    async with cluster() as served:
        await served.answer(path, body)


@every_dialect
async def test_without_a_key_it_is_401_in_its_own_shape(
    path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEYS", "key-one")
    async with cluster(auth={"api_keys_env": "TEST_KEYS"}) as served:
        refused = await served.post(path, body)
        allowed = await served.post(path, body, headers={"authorization": "Bearer key-one"})
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert allowed.status_code == 200


@every_dialect
async def test_limits_hold_before_any_model_is_asked(path: str, body: dict[str, Any]) -> None:
    body = {"input_ids": [1] * 101} if "input_ids" in body else saying(body, "x" * 101)
    async with cluster(limits={"max_chars": 100}) as served:
        assert (await served.post(path, body)).status_code == 413
    async with cluster(limits={"max_body_bytes": 20}) as limited:
        assert (await limited.post(path, body)).status_code == 413
    assert served.model.calls == limited.model.calls == []


@every_dialect
async def test_busy_is_said_at_once_with_the_time_to_come_back(
    path: str, body: dict[str, Any]
) -> None:
    async with cluster(FakeModel("default", raising(Busy("full", retry_after_s=2.5)))) as served:
        response = await served.post(path, body)
    # TEI's clients know 429; the other trainers repeat only what is 5xx.
    is_tei = path == "/predict" or "texts" in body
    assert response.status_code == (429 if is_tei else 503)
    assert response.headers["retry-after"] == "3"


@every_dialect
async def test_a_failure_is_never_a_score(path: str, body: dict[str, Any]) -> None:
    async def nan(items: Any) -> list[float]:
        return [float("nan") for _ in items]

    failing = [FakeModel("default", nan), FakeModel("default", raising(ModelFailed("broken")))]
    for model in failing:
        async with cluster(model) as served:
            response = await served.post(path, body)
        assert response.status_code in (424, 500, 502)
        assert "NaN" not in response.text


@every_dialect
async def test_a_passed_deadline_is_504(path: str, body: dict[str, Any]) -> None:
    limits = {"default_deadline_s": 0.02}
    async with cluster(FakeModel("default", never), limits=limits) as served:
        assert (await served.post(path, body)).status_code == 504
    assert served.model.cancelled == 1


@every_dialect
async def test_strange_text_goes_to_the_model_unchanged(path: str, body: dict[str, Any]) -> None:
    async with cluster() as served:
        for text in ("\x00", "\u202e", "👩‍👩‍👧", "<|im_end|>", "{{ 7 * 7 }}", " "):
            await served.answer(path, saying(body, text))
            said = json.dumps(text)[1:-1]
            assert said in json.dumps(served.scored[-1]) or "input_ids" in body


@every_dialect
async def test_a_lone_surrogate_is_refused(path: str, body: dict[str, Any]) -> None:
    content = json.dumps(body).replace("TEXT", "\\ud800")
    headers = {"content-type": "application/json"}
    async with cluster() as served:
        response = await served.client.post(path, content=content, headers=headers)
    assert response.status_code in ((200,) if "input_ids" in body else (400, 422))


@every_dialect
async def test_errors_repeat_nothing_of_the_input(path: str, body: dict[str, Any]) -> None:
    wrong = {key: {"s3cret": "s3cret"} for key in body}
    async with cluster(FakeModel("default", raising(ModelFailed("broken")))) as served:
        responses = [
            await served.post(path, wrong),
            await served.post(path, saying(body, "s3cret")),
            await served.post(path, {**saying(body, "s3cret"), "model": "s3cret"}),
            await served.post(f"{path}?model=s3cret", saying(body, "s3cret")),
        ]
    assert all(response.status_code >= 400 for response in responses)
    assert all("s3cret" not in response.text for response in responses)
    assert all(len(response.content) <= 2048 for response in responses)


async def test_many_texts_in_one_request_are_counted() -> None:
    async with cluster(limits={"max_conversations": 2}) as served:
        for path, body in [
            ("/get_reward", {"query": ["a"] * 3}),
            ("/classify", {"input": ["a"] * 3}),
            ("/rerank", {"query": "q", "texts": ["a"] * 3}),
        ]:
            assert (await served.post(path, body)).status_code == 413
    assert served.model.calls == []
