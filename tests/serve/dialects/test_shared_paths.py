"""Paths of two protocols: the body tells them apart, and one that could be either is refused."""

from typing import Any

import pytest
from tests.serve.dialects.speaking import cluster


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        ("/classify", {"input": "a", "text": "a"}, ["input", "messages", "text", "input_ids"]),
        ("/classify", {"model": "default"}, ["input", "messages", "text", "input_ids"]),
        ("/rerank", {"query": "a", "texts": ["a"], "documents": ["a"]}, ["documents", "texts"]),
        ("/v1/score", {"query": "a", "queries": "a", "items": ["a"]}, ["queries", "query"]),
        ("/pooling", {"input": "a", "messages": []}, ["input", "messages"]),
        ("/classify", ["input"], ["input", "messages", "text", "input_ids"]),
    ],
)
async def test_a_body_of_both_or_of_neither_is_refused(
    path: str, body: Any, names: list[str]
) -> None:
    async with cluster() as served:
        response = await served.post(path, body)
    assert response.status_code in (400, 422)
    assert all(name in response.text for name in names)
    assert served.model.calls == []


async def test_errors_come_in_the_shape_of_the_protocol_that_was_spoken() -> None:
    async with cluster() as served:
        of_tei = await served.post("/rerank", {"texts": 5})
        of_vllm = await served.post("/rerank", {"documents": 5})
        of_sglang = await served.post("/v1/score", {"query": 5})
        of_nobody = await served.client.post(
            "/rerank", content=b"[" * 100_000, headers={"content-type": "application/json"}
        )
    assert of_tei.json().keys() == {"error", "error_type"}
    assert of_vllm.json().keys() == {"error"}
    assert of_sglang.json().keys() == {"object", "message", "type", "param", "code"}
    assert of_nobody.status_code == 400


async def test_an_error_names_the_field_as_the_caller_wrote_it() -> None:
    async with cluster() as served:
        response = await served.post("/classify", {"messages": [{"role": "user", "content": 1}]})
    assert response.json()["error"]["param"] == "messages[0].content"
