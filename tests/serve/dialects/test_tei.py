"""Text Embeddings Inference's predict and rerank."""

import math
from typing import Any

import pytest
from tests.serve.dialects.speaking import cluster, scoring, templated
from tests.serve.fakes import FakeModel, raising

from rewardserve.errors import Busy, ConversationTooLong, ModelFailed


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


@pytest.mark.parametrize(
    ("inputs", "scored"),
    [
        ("abc", ["abc"]),
        (["abc"], ["abc"]),
        (["Why?", "So."], [templated("Why?", "So.")]),
        ([["abc"], ["Why?", "So."]], ["abc", templated("Why?", "So.")]),
    ],
)
async def test_two_flat_strings_are_a_pair_and_lists_in_a_list_a_batch(
    inputs: Any, scored: list[Any]
) -> None:
    async with cluster() as served:
        answer = await served.answer("/predict", {"inputs": inputs, "raw_scores": True})
    assert served.scored == scored
    is_batch = isinstance(inputs, list) and isinstance(inputs[0], list)
    assert len(answer) == (len(inputs) if is_batch else 1)
    assert isinstance(answer[0], list) == is_batch


async def test_three_flat_strings_are_an_error() -> None:
    async with cluster() as served:
        response = await served.post("/predict", {"inputs": ["a", "b", "c"]})
    assert response.status_code == 422
    assert response.json()["error_type"] == "Validation"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [({}, sigmoid(-2)), ({"raw_scores": False}, sigmoid(-2)), ({"raw_scores": True}, -2.0)],
)
async def test_raw_scores_is_taken_literally(asked: dict[str, Any], expected: float) -> None:
    async with cluster(scoring(-2.0, -2.0)) as served:
        single = await served.answer("/predict", {"inputs": "abc", **asked})
        ranked = await served.answer("/rerank", {"query": "p", "texts": ["r"], **asked})
    assert single == [{"score": pytest.approx(expected), "label": "LABEL_0"}]
    assert ranked[0]["score"] == pytest.approx(expected)


async def test_rerank_puts_the_best_first_and_gives_texts_when_asked() -> None:
    body = {"query": "Why?", "texts": ["a", "ccc", "bb"], "raw_scores": True}
    async with cluster() as served:
        plain = await served.answer("/rerank", body)
        with_text = await served.answer("/rerank", {**body, "return_text": True})
    assert plain == [{"index": 1, "score": 3}, {"index": 2, "score": 2}, {"index": 0, "score": 1}]
    assert [rank["text"] for rank in with_text] == ["ccc", "bb", "a"]
    assert served.scored[0] == templated("Why?", "a")


@pytest.mark.parametrize("truncate", [None, False, True])
async def test_truncate_is_passed_on(truncate: bool | None) -> None:
    async with cluster() as served:
        await served.answer("/predict", {"inputs": "abc", "truncate": truncate})
    assert served.model.truncated == [bool(truncate)]


async def test_a_text_that_fits_is_scored_whichever_side_it_would_have_been_cut_on() -> None:
    body = {"truncate": True, "truncation_direction": "Right"}
    async with cluster() as served:
        await served.answer("/predict", {"inputs": "abc", **body})
        await served.answer("/rerank", {"query": "p", "texts": ["r"], **body})
    # One that does not is refused: each model's text is cut on the side that its card names.
    assert served.model.truncated == [False, False]


@pytest.mark.parametrize(
    ("raised", "status", "kind"),
    [
        (Busy("full"), 429, "Overloaded"),
        (ModelFailed("broken"), 424, "Backend"),
        (ConversationTooLong("9000 tokens", param="0"), 422, "Validation"),
    ],
)
async def test_errors_have_teis_shape_and_status(raised: Exception, status: int, kind: str) -> None:
    async with cluster(FakeModel("default", raising(raised))) as served:
        predicted = await served.post("/predict", {"inputs": "abc"})
        ranked = await served.post("/rerank", {"query": "p", "texts": ["r"]})
    for response in (predicted, ranked):
        assert response.status_code == status
        assert response.json().keys() == {"error", "error_type"}
        assert response.json()["error_type"] == kind
    assert ("retry-after" in predicted.headers) == (status == 429)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"inputs": []}),
        ("/predict", {"inputs": ""}),
        ("/predict", {"inputs": [["a"], [""]]}),
        ("/rerank", {"query": "p", "texts": []}),
    ],
)
async def test_nothing_to_score_is_400(path: str, body: Any) -> None:
    async with cluster() as served:
        response = await served.post(path, body)
    assert (response.status_code, response.json()["error_type"]) == (400, "Empty")


async def test_what_is_no_json_is_answered_in_teis_shape() -> None:
    headers = {"content-type": "application/json"}
    async with cluster() as served:
        for content in (b"{", b"\xff", b"[" * 100_000):
            response = await served.client.post("/predict", content=content, headers=headers)
            assert (response.status_code, response.json()["error_type"]) == (422, "Validation")


async def test_info_says_what_is_asked_and_how_much_at_once() -> None:
    members = {"default": 1.0, "other": 1.0}
    routes = {"both": {"ensemble": {"members": members, "normalize": "none"}}}
    async with cluster(limits={"max_conversations": 7}, routes=routes) as served:
        model = (await served.client.get("/info")).json()
        route = (await served.client.get("/info?model=both")).json()
        unknown = await served.client.get("/info?model=s3cret")
    assert (model["model_id"], route["model_id"]) == ("hub/fake", "both")
    assert model["max_input_length"] == route["max_input_length"] == 4096
    assert model["max_client_batch_size"] == 7
    assert model["model_type"]["classifier"]["id2label"] == {"0": "LABEL_0"}
    assert (unknown.status_code, unknown.json()["error_type"]) == (404, "Validation")
