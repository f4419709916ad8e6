"""slime's remote reward model: `{"prompt", "response", "label"}`, one sample a call."""

from typing import Any

import pytest
from tests.serve.dialects.speaking import cluster, scoring, templated

SAMPLE = {"prompt": "Why?", "response": "So.", "label": {"answer": 4}}


async def test_the_answer_is_a_bare_number() -> None:
    async with cluster(scoring(-1.5)) as served:
        assert await served.answer("/slime", SAMPLE) == -1.5
    assert served.scored == [templated("Why?", "So.")]


async def test_messages_are_the_prompt_of_a_conversation() -> None:
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]
    async with cluster() as served:
        await served.answer("/slime", {**SAMPLE, "prompt": turns})
    assert served.scored == [[*turns, {"role": "assistant", "content": "So."}]]


async def test_the_url_says_that_prompts_are_rendered_already() -> None:
    async with cluster() as served:
        await served.answer("/slime?prompt=rendered", {**SAMPLE, "prompt": "<s>[user] Why?"})
        refused = await served.post("/slime?prompt=rendered", {**SAMPLE, "prompt": []})
    assert served.scored == ["<s>[user] Why?So."]
    assert refused.status_code == 422


async def test_the_url_asks_for_an_object_and_names_the_model() -> None:
    async with cluster() as served:
        answer = await served.answer("/slime?model=other&answer=object", SAMPLE)
    assert answer == {"score": 3, "attributes": None, "uncertainty": None}
    assert served.model.calls == []


@pytest.mark.parametrize("body", [{}, {"prompt": "Why?"}, {"prompt": 1, "response": "So."}])
async def test_half_a_sample_is_refused(body: Any) -> None:
    async with cluster() as served:
        assert (await served.post("/slime", body)).status_code == 400
