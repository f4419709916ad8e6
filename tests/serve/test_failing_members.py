"""A member that raises or answers nonsense, a thousand times: an error or a named gap, no score."""

import json
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from tests.serve.fakes import FakeModel, by_length, conversation, gateway, raising

from rewardserve.errors import ModelFailed, NonFiniteScore, RewardServeError
from rewardserve_client._types import RewardsRequest

REQUESTS = 1000


def answering(*scores: float) -> Callable[[Sequence[Any]], Awaitable[list[float]]]:
    async def behave(items: Sequence[Any]) -> list[float]:
        return list(scores)

    return behave


WRONG = {
    "raises": (raising(ModelFailed("out of memory")), ModelFailed),
    "NaN": (answering(math.nan), NonFiniteScore),
    "infinity": (answering(math.inf), NonFiniteScore),
    "minus infinity": (answering(-math.inf), NonFiniteScore),
    "too many": (answering(1.0, 2.0), ModelFailed),
    "none": (answering(), ModelFailed),
}


def service(behave: Any, quorum: int) -> Any:
    ensemble = {"members": {"good": 1, "bad": 1}, "normalize": "none", "quorum": quorum}
    models = [FakeModel("good", by_length), FakeModel("bad", behave)]
    return gateway(*models, routes={"both": {"ensemble": ensemble}})


def request(number: int) -> RewardsRequest:
    messages = conversation("x" * (number % 10 + 1))
    return RewardsRequest.model_validate({"model": "both", "inputs": [{"messages": messages}]})


@pytest.mark.parametrize("wrong", WRONG)
async def test_where_all_must_answer_the_error_names_the_member(wrong: str) -> None:
    behave, kind = WRONG[wrong]
    strict = service(behave, quorum=2)
    for number in range(REQUESTS):
        with pytest.raises(RewardServeError) as failed:
            await strict.rewards(request(number))
        assert type(failed.value) is kind
        assert "`bad`" in failed.value.message


@pytest.mark.parametrize("wrong", WRONG)
async def test_where_one_suffices_its_own_score_is_the_answer(wrong: str) -> None:
    lenient = service(WRONG[wrong][0], quorum=1)
    for number in range(REQUESTS):
        answer = await lenient.rewards(request(number))
        (reward,) = answer.data[0].rewards
        assert (reward.score, reward.failed_members) == (number % 10 + 1, ["bad"])
        assert list(reward.members) == ["good"]
        json.loads(answer.model_dump_json(), parse_constant=pytest.fail)
