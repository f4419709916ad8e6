"""SGLang's native and OpenAI-like routes for reward models."""

from typing import Any

import pytest
from tests.serve.dialects.speaking import cluster, scoring, templated
from tests.serve.fakes import FakeModel, http, status_of

from rewardserve.serving.gateway import Gateway
from rewardserve.serving.router_settings import RouterSettings


@pytest.mark.parametrize("path", ["/classify", "/encode"])
@pytest.mark.parametrize(
    ("body", "scored"),
    [
        ({"text": "abc"}, ["abc"]),
        ({"text": ["abc", "d"]}, ["abc", "d"]),
        ({"text": [["Why?", "So."], ["p", "r"]]}, [templated("Why?", "So."), templated("p", "r")]),
        ({"input_ids": [1, 2]}, [[1, 2]]),
        ({"input_ids": [[1, 2], [3]]}, [[1, 2], [3]]),
    ],
)
async def test_classify_takes_text_pairs_and_token_ids(
    path: str, body: dict[str, Any], scored: list[Any]
) -> None:
    async with cluster() as served:
        await served.answer(path, body)
    assert served.scored == scored


async def test_one_text_is_answered_with_one_object_and_a_list_with_a_list() -> None:
    async with cluster(scoring(-3.5, -3.5, 1.0)) as served:
        one = await served.answer("/classify", {"text": "a", "rid": "mine"})
        several = await served.answer("/classify", {"text": ["a", "b"]})
    assert one["embedding"] == [-3.5]
    assert one["meta_info"].keys() >= {"id", "finish_reason", "prompt_tokens", "cached_tokens"}
    assert one["meta_info"]["prompt_tokens"] == 1
    assert one["meta_info"]["e2e_latency"] > 0
    assert [answer["embedding"] for answer in several] == [[-3.5], [1.0]]


@pytest.mark.parametrize("path", ["/classify", "/encode"])
async def test_put_is_answered_like_post(path: str) -> None:
    async with cluster(scoring(-3.5)) as served:
        response = await served.client.put(path, json={"text": "a"})
    assert (response.status_code, response.json()["embedding"]) == (200, [-3.5])


async def test_health_generate_waits_for_the_models() -> None:
    async with cluster() as served:
        assert (await served.client.get("/health_generate")).status_code == 200
    down = status_of(default={"running": 0, "deployment": "UPDATING"}, other={})
    handles = {"default": FakeModel("default").handle, "other": FakeModel("other").handle}
    settings = RouterSettings(models=list(handles))
    async with http(Gateway(settings, handles.__getitem__, lambda: down)) as client:
        assert (await client.get("/health_generate")).status_code == 503


async def test_v1_classify_gives_raw_values_in_vllms_shape() -> None:
    async with cluster(scoring(-3.5)) as served:
        answer = await served.answer("/v1/classify", {"model": "default", "input": "a"})
    assert answer["data"] == [{"index": 0, "label": "LABEL_0", "probs": [-3.5], "num_classes": 1}]


@pytest.mark.parametrize(
    ("body", "scored"),
    [
        ({"query": "<s>Why? ", "items": ["So", "No"]}, ["<s>Why? So", "<s>Why? No"]),
        ({"query": "<s>Why? ", "items": "So"}, ["<s>Why? So"]),
        ({"query": "So", "items": ["<s>Why? "], "item_first": True}, ["<s>Why? So"]),
        ({"query": [1, 2], "items": [[3], [4, 5]]}, [[1, 2, 3], [1, 2, 4, 5]]),
    ],
)
async def test_v1_score_appends_items_to_the_query(body: Any, scored: list[Any]) -> None:
    sent = {**body, "label_token_ids": None, "apply_softmax": False, "temperature": 1.0}
    async with cluster() as served:
        answer = await served.answer("/v1/score", sent)
    assert served.scored == scored
    assert answer["scores"] == [[len(item)] for item in scored]
    assert (answer["object"], answer["token_logprobs"]) == ("scoring", None)


async def test_no_items_are_answered_with_no_scores() -> None:
    async with cluster() as served:
        assert (await served.answer("/v1/score", {"query": "a", "items": []}))["scores"] == []
    assert served.model.calls == []


@pytest.mark.parametrize(
    "body",
    [{"query": "a", "items": [[1]]}, {"query": [1], "items": "a"}, {"query": "", "items": ""}],
)
async def test_what_cannot_be_joined_is_refused_in_sglangs_flat_shape(body: Any) -> None:
    async with cluster() as served:
        response = await served.post("/v1/score", body)
    assert response.status_code == 400
    assert response.json().keys() == {"object", "message", "type", "param", "code"}
    assert response.json()["object"] == "error"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/score", {"query": "a", "items": ["b"], "apply_softmax": True}),
        ("/v1/score", {"query": "a", "items": ["b"], "label_token_ids": [1]}),
        ("/classify", {"text": "a", "image_data": "..."}),
        ("/classify", {"text": "a", "return_pooled_hidden_states": True}),
    ],
)
async def test_what_would_change_the_score_is_refused(path: str, body: Any) -> None:
    async with cluster() as served:
        assert (await served.post(path, body)).status_code == 422
    assert served.model.calls == []
