"""vLLM's pooling server; shapes as a live server of version 0.32 answered them."""

import base64
import math
import struct
from typing import Any

import pytest
from tests.serve.dialects.speaking import RENDERED, cluster, scoring, templated

USAGE = {
    "prompt_tokens": 1,
    "total_tokens": 1,
    "completion_tokens": 0,
    "prompt_tokens_details": None,
    "completion_tokens_details": None,
}


async def test_classify_answers_in_vllms_shape() -> None:
    async with cluster(scoring(4.95)) as served:
        answer = await served.answer("/classify", {"model": "default", "input": RENDERED})
    assert answer.pop("id").startswith("classify-")
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "object": "list",
        "model": "default",
        "data": [{"index": 0, "label": "LABEL_0", "probs": [4.95], "num_classes": 1}],
        "usage": USAGE,
    }
    assert served.scored == [RENDERED]


@pytest.mark.parametrize(
    ("sent", "scored"),
    [
        ("abc", ["abc"]),
        (["abc", "d"], ["abc", "d"]),
        ([1, 2, 3], [[1, 2, 3]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
)
async def test_classify_takes_texts_and_token_ids_alone_or_in_lists(sent: Any, scored: Any) -> None:
    async with cluster() as served:
        data = (await served.answer("/classify", {"input": sent}))["data"]
    assert served.scored == scored
    assert [entry["index"] for entry in data] == list(range(len(scored)))
    assert [entry["probs"] for entry in data] == [[len(item)] for item in scored]


async def test_classify_renders_one_conversation() -> None:
    conversation = templated("How are you?", "fine")
    body = {"messages": conversation, "add_special_tokens": False, "add_generation_prompt": False}
    async with cluster() as served:
        await served.answer("/classify", body)
    assert served.scored == [conversation]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, -2.0),
        ({"use_activation": None}, -2.0),
        ({"use_activation": False}, -2.0),
        ({"use_activation": True}, 1 / (1 + math.exp(2))),
    ],
)
async def test_scores_are_raw_unless_the_request_asks_otherwise(
    asked: dict[str, Any], expected: float
) -> None:
    async with cluster(scoring(-2.0, -2.0, -2.0, -2.0)) as served:
        classified = await served.answer("/classify", {"input": "a", **asked})
        pooled = await served.answer("/pooling", {"input": "a", **asked})
        scored = await served.answer("/score", {"text_1": "a", "text_2": "b", **asked})
        ranked = await served.answer("/rerank", {"query": "a", "documents": ["b"], **asked})
    assert classified["data"][0]["probs"] == [pytest.approx(expected)]
    assert pooled["data"][0]["data"] == [pytest.approx(expected)]
    assert scored["data"][0]["score"] == pytest.approx(expected)
    assert ranked["results"][0]["relevance_score"] == pytest.approx(expected)


@pytest.mark.parametrize("score", [-800.0, 800.0])
async def test_the_sigmoid_of_an_extreme_score_is_a_number(score: float) -> None:
    async with cluster(scoring(score)) as served:
        answer = await served.answer("/classify", {"input": "a", "use_activation": True})
    assert answer["data"][0]["probs"] == [float(score > 0)]


async def test_pooling_gives_numbers_or_their_float32_bytes() -> None:
    async with cluster(scoring(4.95, 4.95)) as served:
        plain = await served.answer("/pooling", {"input": "a", "task": "classify"})
        encoded = await served.answer("/pooling", {"input": "a", "encoding_format": "base64"})
    assert plain["data"] == [{"index": 0, "object": "pooling", "data": [4.95]}]
    assert plain["id"].startswith("pooling-")
    assert encoded["data"][0]["data"] == base64.b64encode(struct.pack("<f", 4.95)).decode()


@pytest.mark.parametrize(
    ("first", "second"),
    [("text_1", "text_2"), ("data_1", "data_2"), ("queries", "documents"), ("queries", "items")],
)
@pytest.mark.parametrize("path", ["/score", "/v1/score"])
async def test_score_takes_every_pair_of_names(path: str, first: str, second: str) -> None:
    async with cluster() as served:
        answer = await served.answer(path, {first: "Why?", second: ["So.", "No"]})
    assert answer["data"] == [
        {"index": 0, "object": "score", "score": 3},
        {"index": 1, "object": "score", "score": 2},
    ]
    assert served.scored == [templated("Why?", "So."), templated("Why?", "No")]


async def test_one_query_with_its_documents_is_one_group() -> None:
    routes = {"ranked": {"ensemble": {"members": {"default": 1}, "normalize": "group_rank"}}}
    body = {"model": "ranked", "queries": "Why?", "documents": ["a", "bb", "ccc"]}
    async with cluster(routes=routes) as served:
        answer = await served.answer("/score", body)
    # A rank exists only among the responses of one prompt.
    assert [entry["score"] for entry in answer["data"]] == [0, 0.5, 1]


async def test_as_many_queries_as_documents_are_paired() -> None:
    async with cluster() as served:
        await served.answer("/score", {"queries": ["p", "q"], "documents": ["a", "b"]})
        refused = await served.post("/score", {"queries": ["p", "q"], "documents": ["a"]})
    assert served.scored == [templated("p", "a"), templated("q", "b")]
    assert refused.status_code == 400


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_rerank_puts_the_best_response_first(path: str) -> None:
    documents = ["aa", "cccc", "bbb", "dddd"]
    async with cluster() as served:
        whole = await served.answer(path, {"query": "Why?", "documents": documents})
        top = await served.answer(path, {"query": "Why?", "documents": documents, "top_n": 1})
    assert [result["index"] for result in whole["results"]] == [1, 3, 2, 0]
    assert whole.keys() == {"id", "model", "usage", "results"}
    assert whole["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert top["results"] == [
        {"index": 1, "document": {"text": "cccc", "multi_modal": None}, "relevance_score": 4}
    ]
    assert served.scored[0] == templated("Why?", "aa")


async def test_truncation_is_asked_for_with_minus_one() -> None:
    async with cluster() as served:
        await served.answer("/classify", {"input": "a", "truncate_prompt_tokens": -1})
        other = await served.post("/classify", {"input": "a", "truncate_prompt_tokens": 512})
    assert other.status_code == 400
    assert served.model.truncated == [True]


@pytest.mark.parametrize(
    "field",
    [
        {"chat_template": "{{ messages }}"},
        {"chat_template_kwargs": {"x": 1}},
        {"add_generation_prompt": True},
        {"continue_final_message": True},
        {"softmax": True},
        {"truncation_side": "right"},
        {"mm_processor_kwargs": {"x": 1}},
    ],
)
async def test_what_would_change_the_score_is_refused(field: dict[str, Any]) -> None:
    body = {"messages": templated("p", "r"), **field}
    async with cluster() as served:
        for path in ("/classify", "/pooling"):
            response = await served.post(path, body)
            assert response.status_code == 422
            assert response.json()["error"]["param"] == next(iter(field))
    assert served.model.calls == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/pooling", {"input": "a", "dimensions": 8}),
        ("/score", {"text_1": "a", "text_2": "b", "instruction": "Be kind"}),
        ("/rerank", {"query": "a", "documents": ["b"], "max_tokens_per_doc": 5}),
    ],
)
async def test_what_one_path_cannot_do_is_refused(path: str, field: dict[str, Any]) -> None:
    async with cluster() as served:
        assert (await served.post(path, field)).status_code == 422


async def test_fields_that_change_nothing_are_ignored() -> None:
    body = {"input": "a", "user": "me", "priority": 3, "cache_salt": "x", "chat_template": None}
    async with cluster() as served:
        await served.answer("/classify", body)


async def test_errors_have_vllms_shape() -> None:
    async with cluster() as served:
        empty = await served.post("/classify", {"input": []})
        unknown = await served.post("/classify", {"input": "a", "model": "hub/unknown"})
    assert empty.status_code == 400
    assert empty.json()["error"]["type"] == "BadRequestError"
    assert unknown.status_code == 404
    error = unknown.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("NotFoundError", "model", 404)


async def test_probes_are_answered() -> None:
    async with cluster() as served:
        assert (await served.client.get("/ping")).status_code == 200
        assert (await served.client.get("/version")).json()["version"]
