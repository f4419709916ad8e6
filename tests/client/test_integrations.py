"""What each trainer calls and gets, against a cluster in this process.

The trainers' own code calls the same functions in `test_real_trainers.py`, where it is installed.
"""

from typing import Any

import numpy as np
import pytest
import torch

from rewardserve_client import Conversation, InvalidConversation, Reward, Unauthorized
from rewardserve_client.integrations import openrlhf, trl, verl
from rewardserve_client.testing import FakeCluster


def reward_of(conversation: Conversation) -> Reward:
    length = float(len(conversation[-1]["content"]))
    return Reward(
        score=length,
        model="armorm",
        attributes={"long": length, "turns": float(len(conversation))},
        uncertainty={"long": 0.5},
    )


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(score=reward_of, models=["default", "armorm"])


def text_of(cluster: FakeCluster) -> list[Any]:
    return [item.model_dump() for request in cluster.requests for item in request.inputs]


async def test_trl_texts_are_scored_in_order_with_each_prompts_completions_together(
    cluster: FakeCluster,
) -> None:
    function = trl.reward_function(cluster.async_client(), model="armorm")
    scores = await function(prompts=["a", "a", "b"], completions=["1", "22", "333"], other=[1])
    assert scores == [1.0, 2.0, 3.0]
    assert function.__name__ == "armorm"
    assert text_of(cluster) == [
        {"prompt": "a", "responses": ["1", "22"]},
        {"prompt": "b", "responses": ["333"]},
    ]


async def test_trl_messages_may_have_several_turns(cluster: FakeCluster) -> None:
    function = trl.reward_function(cluster.client())
    prompt = [{"role": "user", "content": "Hi."}]
    extra = [{"role": "assistant", "content": "Hello?"}, {"role": "user", "content": "Well?"}]
    answer = [{"role": "assistant", "content": "Well."}]
    assert await function(prompts=[prompt, prompt], completions=[answer, [*extra, *answer]]) == [
        5,
        5,
    ]
    assert [len(item["prompt"]) for item in text_of(cluster)] == [1, 3]


async def test_trl_logs_the_means_of_attributes(cluster: FakeCluster) -> None:
    logged: dict[str, float] = {}
    function = trl.reward_function(cluster.client(), model="armorm")
    await function(prompts=["a", "b"], completions=["1", "222"], log_metric=logged.__setitem__)
    assert logged == {"armorm/long": 2.0, "armorm/turns": 2.0, "armorm/uncertainty/long": 0.5}


async def test_trl_never_gets_a_reward_for_a_failure(cluster: FakeCluster) -> None:
    cluster.fail_next(Unauthorized("no key"))
    with pytest.raises(Unauthorized):
        await trl.reward_function(cluster.client())(prompts=["a"], completions=["1"])
    call: list[dict[str, Any]] = [{"role": "assistant", "content": None, "tool_calls": []}]
    with pytest.raises(InvalidConversation, match="tool call"):
        await trl.reward_function(cluster.client())(prompts=["a"], completions=[call])


@pytest.fixture
def environment(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """The modules' own clients, which the environment would name, are the fake cluster's."""
    monkeypatch.setattr(verl, "_awaited", lambda url: cluster.async_client())
    monkeypatch.setattr(verl, "_blocking", lambda url: cluster.client())
    monkeypatch.setattr(openrlhf, "_client", cluster.client)
    return cluster


async def test_verl_gets_score_and_attributes_of_one_sample(environment: FakeCluster) -> None:
    info = {"prompt": np.array([{"role": "user", "content": "2 + 2?"}])}
    result = await verl.compute_score("gsm8k", "four", "4", info, model="armorm")
    assert result == {"score": 4.0, "long": 4.0, "turns": 2.0}


def test_verl_gets_a_batch_in_order(environment: FakeCluster) -> None:
    infos = [{"question": "2 + 2?"}, {"question": "1 + 2?"}]
    results = verl.compute_score_batch(
        ["x"] * 2, ["four", "3"], ["4", "3"], infos, prompt_key="question"
    )
    assert [result["score"] for result in results] == [4.0, 1.0]


async def test_verl_data_without_the_prompt_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidConversation, match="put the prompt there"):
        await verl.compute_score("gsm8k", "four", "4", {"index": 3})


TURNS: Conversation = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2 + 2?\n\nPlease."},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And 3 + 3?"},
    {"role": "assistant", "content": " 6\n"},
]
RENDERED = {
    "chatml": "".join(f"<|im_start|>{t['role']}\n{t['content']}<|im_end|>\n" for t in TURNS),
    "llama3": "<|begin_of_text|>"
    + "".join(
        f"<|start_header_id|>{t['role']}<|end_header_id|>\n\n{t['content']}<|eot_id|>"
        for t in TURNS
    ),
    "gemma": "<bos>"
    + "".join(
        f"<start_of_turn>{t['role'].replace('assistant', 'model')}\n{t['content']}<end_of_turn>\n"
        for t in TURNS
    ),
}


@pytest.mark.parametrize("template", RENDERED)
def test_openrlhf_texts_are_taken_apart_into_messages(template: str) -> None:
    assert openrlhf.parse_conversation(RENDERED[template]) == TURNS


@pytest.mark.parametrize("template", RENDERED)
def test_a_response_that_was_cut_off_has_no_end_mark(template: str) -> None:
    text = RENDERED[template].rstrip("\n")
    cut = text[: text.rfind(" 6") + 2]
    assert openrlhf.parse_conversation(cut)[-1] == {"role": "assistant", "content": " 6"}


def test_openrlhf_text_without_marks_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidConversation, match="apply_chat_template"):
        openrlhf.parse_conversation("2 + 2? 4")


def test_openrlhf_gets_tensors(environment: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARDSERVE_MODEL", "armorm")
    result = openrlhf.reward_func([RENDERED["chatml"]] * 2, ["", ""], [None, None])
    assert torch.equal(result["rewards"], torch.tensor([3.0, 3.0]))
    assert torch.equal(result["scores"], result["rewards"])
    assert torch.equal(result["extra_logs"]["turns"], torch.tensor([5.0, 5.0]))
