"""Planning: what is sent together, and what an answer must be to count as one."""

import math
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.client.conftest import conversation

from rewardserve_client import InvalidRequest, InvalidResponse, Reward
from rewardserve_client._plan import (
    CHARS_PER_REQUEST,
    CONVERSATIONS_PER_REQUEST,
    candidates_inputs,
    conversation_inputs,
    parts,
    rewards_of,
)
from rewardserve_client._types import RewardsItem, RewardsRequest, RewardsResponse, as_conversations


def answer(*groups: list[float], indices: list[int] | None = None) -> RewardsResponse:
    numbered = zip(indices or range(len(groups)), groups, strict=True)
    data = [
        RewardsItem(index=index, rewards=[Reward(score=score, model="m") for score in scores])
        for index, scores in numbered
    ]
    return RewardsResponse(id="rw-1", model="m", created=0, data=data)


def one_request(*responses: str) -> RewardsRequest:
    (part,) = parts(conversation_inputs([conversation(text) for text in responses]), {})
    return part.request


@given(st.lists(st.integers(0, CHARS_PER_REQUEST // 2), max_size=300))
def test_splitting_keeps_every_conversation_in_order_and_requests_small(sizes: list[int]) -> None:
    sent = [conversation("x" * size, prompt=str(index)) for index, size in enumerate(sizes)]
    requests = [part.request for part in parts(conversation_inputs(sent), {})]
    assert [each for r in requests for i in r.inputs for each in as_conversations(i)] == sent
    for request in requests:
        chars = sum(len(m["content"]) for i in request.inputs for m in as_conversations(i)[0])
        assert len(request.inputs) <= CONVERSATIONS_PER_REQUEST
        assert chars <= CHARS_PER_REQUEST or len(request.inputs) == 1


def test_input_of_any_length_is_read_one_request_at_a_time() -> None:
    taken = count()
    endless = (conversation("x", prompt=str(next(taken))) for _ in count())
    next(parts(conversation_inputs(endless), {}))
    assert next(taken) <= CONVERSATIONS_PER_REQUEST + 1


def test_all_candidates_of_a_prompt_stay_in_one_request() -> None:
    groups = [("Why?", [str(n) for n in range(many)]) for many in (1000, 30, 30, 30)]
    planned = list(parts(candidates_inputs(groups), {"model": "borda"}))
    assert [len(part.request.inputs) for part in planned] == [1, 2, 1]
    assert [part.first for part in planned] == [0, 1, 3]
    assert all(part.request.model == "borda" for part in planned)
    assert len(as_conversations(planned[0].request.inputs[0])) == 1000


BROKEN: list[Any] = ["text", [{"role": "user"}], [{"role": "user", "content": 5}], None]


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_not_a_conversation_is_named_by_its_place_and_not_repeated(broken: Any) -> None:
    many = [conversation("fine")] * 70 + [broken]
    with pytest.raises(InvalidRequest, match=r"inputs\[70\]") as caught:
        list(conversation_inputs(many))
    assert caught.value.param is not None
    assert caught.value.param.startswith("inputs[70].messages")


def test_nothing_to_rank_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match=r"inputs\[1\]: there is no response"):
        list(candidates_inputs([("Why?", ["Because."]), ("How?", [])]))


def test_rewards_come_back_flat_in_the_order_sent() -> None:
    assert rewards_of(answer([1.0], [2.0]), one_request("a", "b")).scores == [1.0, 2.0]


@pytest.mark.parametrize(
    "broken",
    [
        answer([1.0]),
        answer([1.0], [2.0], [3.0]),
        answer([1.0], [2.0], indices=[1, 0]),
        answer([1.0], [2.0], indices=[0, 0]),
        answer([1.0], []),
        answer([1.0, 1.5], [2.0]),
        answer([1.0], [math.nan]),
        answer([-math.inf], [2.0]),
    ],
    ids=["short", "long", "swapped", "doubled", "missing", "extra", "nan", "infinite"],
)
def test_an_answer_that_does_not_fit_its_request_gives_no_scores(broken: RewardsResponse) -> None:
    with pytest.raises(InvalidResponse):
        rewards_of(broken, one_request("a", "b"))
