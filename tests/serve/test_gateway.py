"""What `POST /v1/rewards` and its neighbours promise, with fake models behind the real app."""

import asyncio
import json
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from tests.serve.fakes import FakeModel, conversation, gateway, http, never, raising

from rewardserve.errors import (
    Busy,
    ConversationTooLong,
    InvalidRequest,
    ModelFailed,
    NonFiniteScore,
    RewardServeError,
    UnknownModel,
)
from rewardserve.serving import model_client
from rewardserve.serving.metrics import RouterMetrics
from rewardserve_client._types import ErrorBody, RewardsRequest, RewardsResponse

MEAN = {"default": {"ensemble": {"members": {"a": 1.0, "b": 3.0}, "normalize": "none"}}}


def body(*inputs: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "a", "inputs": list(inputs), **fields}


def error_of(response: Any) -> Any:
    assert len(response.content) <= 2048
    return ErrorBody.model_validate_json(response.content).error


async def test_conversations_and_candidates_come_back_in_the_order_they_were_sent() -> None:
    inputs = [
        {"messages": conversation("four")},
        {"prompt": "Hello", "responses": ["a", "bb", "ccc"]},
        {"prompt": conversation("x")[:1], "responses": ["seven77"]},
    ]
    async with http(gateway(FakeModel("a"))) as client:
        response = await client.post("/v1/rewards", json=body(*inputs))
    assert response.status_code == 200, response.text
    answer = RewardsResponse.model_validate_json(response.content)
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert [[r.score for r in item.rewards] for item in answer.data] == [[4], [1, 2, 3], [7]]
    assert answer.usage.tokens == 5
    assert answer.timings_ms.keys() == {"render", "queue", "forward", "total"}
    assert "forward;dur=3.0" in response.headers["server-timing"]


async def test_an_ensemble_answers_with_its_members() -> None:
    async def constant(items: Any) -> list[float]:
        return [10.0 for _ in items]

    async with http(gateway(FakeModel("a"), FakeModel("b", constant), routes=MEAN)) as client:
        response = await client.post(
            "/v1/rewards", json={"inputs": [{"messages": conversation("ab")}]}
        )
    (reward,) = response.json()["data"][0]["rewards"]
    assert reward["score"] == pytest.approx((1 * 2.0 + 3 * 10.0) / 4)
    assert {name: member["score"] for name, member in reward["members"].items()} == {
        "a": 2.0,
        "b": 10.0,
    }


async def test_a_large_request_is_cut_into_chunks_and_put_together_again() -> None:
    model = FakeModel("a")
    responses = ["x" * (n % 7 + 1) for n in range(150)]
    async with http(gateway(model)) as client:
        response = await client.post(
            "/v1/rewards", json=body({"prompt": "p", "responses": responses})
        )
    scores = [reward["score"] for reward in response.json()["data"][0]["rewards"]]
    assert scores == [len(text) for text in responses]
    assert [len(call) for call in model.calls] == [64, 64, 22]


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        (body({"messages": []}), "inputs[0].messages"),
        (body({"messages": conversation()[:1]}), "inputs[0].messages[0].role"),
        (body({"messages": conversation("\ud800")}), "inputs[0].messages[1].content"),
        (body({"prompt": "p", "responses": []}), None),
        (body(), None),
        (body({"messages": [{"role": "wizard", "content": "x"}]}), "inputs[0].messages[0].role"),
    ],
)
async def test_what_is_no_conversation_is_refused_with_its_place(sent: Any, param: str) -> None:
    model = FakeModel("a")
    async with http(gateway(model)) as client:
        response = await client.post(
            "/v1/rewards", content=json.dumps(sent), headers={"content-type": "application/json"}
        )
    assert response.status_code == 422
    assert error_of(response).param == param
    assert model.calls == []


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"inputs": [{"prompt": "p", "responses": ["r"] * 9}]}, "max_conversations"),
        ({"inputs": [{"messages": conversation("x" * 101)}]}, "max_chars"),
        ({"inputs": [{"messages": conversation() * 3}]}, "max_messages"),
        ({"inputs": [{"messages": conversation("x" * 3000)}]}, "max_body_bytes"),
    ],
)
async def test_what_is_over_a_limit_is_refused_before_any_model_sees_it(
    fields: Any, limit: str
) -> None:
    model = FakeModel("a")
    limits = {
        "max_conversations": 8,
        "max_chars": 100,
        "max_messages": 5,
        "max_body_bytes": 2000,
    }
    async with http(gateway(model, limits=limits)) as client:
        response = await client.post("/v1/rewards", json={"model": "a", **fields})
    assert response.status_code == 413
    assert str(limits[limit]) in error_of(response).message
    assert model.calls == []


async def test_a_body_without_a_length_is_counted_on_the_stream() -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1000
            yield b" " * 1000

    async with http(gateway(FakeModel("a"), limits={"max_body_bytes": 5000})) as client:
        response = await client.post("/v1/rewards", content=endless())
    assert response.status_code == 413
    assert sent <= 7000


@pytest.mark.parametrize(
    "content", [b"{", b"\xff\xfe", b"[" * 100_000, b"", b'{"model": ' + b"9" * 5000 + b"}"]
)
async def test_what_cannot_be_read_is_400_or_422_and_never_500(content: bytes) -> None:
    async with http(gateway(FakeModel("a"))) as client:
        response = await client.post(
            "/v1/rewards", content=content, headers={"content-type": "application/json"}
        )
    assert response.status_code in (400, 422)
    error_of(response)


async def test_an_unknown_key_is_named_and_its_value_is_not() -> None:
    async with http(gateway(FakeModel("a"))) as client:
        response = await client.post(
            "/v1/rewards", json=body({"messages": conversation()}, trunkate="a secret")
        )
    assert response.status_code == 422
    assert "trunkate" in error_of(response).message
    assert "secret" not in response.text


async def test_an_error_never_repeats_what_was_sent() -> None:
    secret = "s3cret " * 1000
    sent = body(
        {"messages": secret}, {"prompt": 5, "responses": secret}, priority=secret, tags={secret: 1}
    )
    async with http(gateway(FakeModel("a"))) as client:
        response = await client.post("/v1/rewards", json=sent)
    assert response.status_code == 422
    assert "s3cret" not in response.text
    error_of(response)


async def test_a_name_that_is_not_served_is_404() -> None:
    async with http(gateway(FakeModel("a"))) as client:
        response = await client.post(
            "/v1/rewards", json=body({"messages": conversation()}, model="../../etc/passwd")
        )
    assert response.status_code == 404
    assert error_of(response).code == "unknown_model"
    assert "passwd" not in response.text


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (Busy("full", retry_after_s=2.5), 429),
        (NonFiniteScore("NaN"), 500),
        (ModelFailed("broken"), 502),
        (ActorDiedError(), 502),
    ],
)
async def test_a_failing_model_is_an_error_and_never_a_score(
    raised: Exception, status: int
) -> None:
    async with http(gateway(FakeModel("a", raising(raised)))) as client:
        response = await client.post("/v1/rewards", json=body({"messages": conversation()}))
    assert response.status_code == status
    error_of(response)
    assert response.headers.get("retry-after") == ("3" if status == 429 else None)


async def test_a_model_that_answers_nan_is_an_error() -> None:
    async def nan(items: Any) -> list[float]:
        return [float("nan") for _ in items]

    async with http(gateway(FakeModel("a", nan))) as client:
        response = await client.post("/v1/rewards", json=body({"messages": conversation()}))
    assert response.status_code == 500
    assert error_of(response).code == "non_finite_score"


async def test_a_bug_is_500_and_keeps_its_text_to_itself() -> None:
    service = gateway(FakeModel("a"))
    service.rewards = raising(ZeroDivisionError("a secret"))  # type: ignore[method-assign]
    async with http(service) as client:
        response = await client.post("/v1/rewards", json=body({"messages": conversation()}))
    assert response.status_code == 500
    assert error_of(response).code == "internal_error"
    assert "secret" not in response.text


async def test_the_error_of_a_conversation_names_its_place_in_the_request() -> None:
    async def too_long(items: Any) -> list[float]:
        for index, item in enumerate(items):
            if item[-1]["content"] == "long":
                raise ConversationTooLong("9000 tokens; this model takes 4096", param=str(index))
        return [0.0 for _ in items]

    responses = ["short"] * 70 + ["long"]
    async with http(gateway(FakeModel("a", too_long))) as client:
        response = await client.post(
            "/v1/rewards",
            json=body({"messages": conversation()}, {"prompt": "p", "responses": responses}),
        )
    assert response.status_code == 422
    assert error_of(response).param == "inputs[1].responses[70]"


async def test_a_passed_deadline_is_504_and_cancels_the_call_on_the_replica() -> None:
    model = FakeModel("a", never)
    async with http(gateway(model)) as client:
        response = await client.post(
            "/v1/rewards", json=body({"messages": conversation()}, deadline_s=0.05)
        )
    assert response.status_code == 504
    assert model.cancelled == 1


async def test_a_caller_that_goes_away_cancels_the_call_on_the_replica() -> None:
    model = FakeModel("a", never)
    service = gateway(model)
    request = RewardsRequest.model_validate(body({"messages": conversation()}))
    call = asyncio.create_task(service.rewards(request))
    while not model.calls:  # noqa: ASYNC110, nobody tells of the call
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert model.cancelled == 1


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_client, "PAUSE_S", 0.0)


@pytest.mark.usefixtures("no_pause")
async def test_a_call_whose_replica_died_is_sent_again_at_most_twice() -> None:
    async def dies_twice(items: Any) -> list[float]:
        if len(model.calls) <= 2:
            raise ActorDiedError
        return [1.0 for _ in items]

    model = FakeModel("a", dies_twice)
    async with http(gateway(model)) as client:
        response = await client.post("/v1/rewards", json=body({"messages": conversation()}))
    assert response.status_code == 200
    assert len(model.calls) == 3


@pytest.mark.usefixtures("no_pause")
async def test_a_request_that_kills_every_replica_is_sent_alone_at_last_and_then_no_more() -> None:
    async def deadly(items: Any) -> list[float]:
        if any(item[-1]["content"] == "deadly" for item in items):
            raise ActorDiedError
        return [1.0 for _ in items]

    model = FakeModel("a", deadly)
    async with http(gateway(model)) as client:
        for _ in range(2):
            response = await client.post(
                "/v1/rewards", json=body({"messages": conversation("deadly")})
            )
            assert response.status_code == 502
        response = await client.post("/v1/rewards", json=body({"messages": conversation("good")}))
    assert response.status_code == 200
    assert model.alone == [False, False, True, False]


async def test_logs_have_the_request_id_and_no_word_of_a_conversation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    request = body({"messages": conversation("s3cret", "s3cret too")}, tags={"s3cret": "s3cret"})
    async with http(gateway(FakeModel("a"))) as client:
        for sent_id, model in (("id-1", "a"), ("bad id\u2028", "a"), ("id-3", "s3cret")):
            await client.post(
                "/v1/rewards",
                json={**request, "model": model},
                headers={"x-request-id": sent_id.encode()},
            )
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["answered", "answered", "refused"]
    assert [line["route"] for line in lines] == ["a", "a", "unknown"]
    ids = [line["request_id"] for line in lines]
    assert (ids[0], ids[2]) == ("id-1", "id-3")
    assert ids[1].isalnum()
    assert "s3cret" not in str(lines)


async def test_a_dead_member_does_not_hold_up_the_others_beyond_the_deadline() -> None:
    routes = {
        "default": {"ensemble": {"members": {"a": 1, "b": 1}, "normalize": "none", "quorum": 1}}
    }
    async with http(gateway(FakeModel("a"), FakeModel("b", never), routes=routes)) as client:
        response = await client.post(
            "/v1/rewards",
            json={"inputs": [{"messages": conversation("abc")}], "deadline_s": 0.1},
        )
    (reward,) = response.json()["data"][0]["rewards"]
    assert reward["score"] == 3.0
    assert reward["failed_members"] == ["b"]


async def test_handle_calls_raise_the_error_itself() -> None:
    service = gateway(FakeModel("a"))
    with pytest.raises(UnknownModel):
        await service.score("nobody", [conversation()])
    with pytest.raises(InvalidRequest):
        await service.score("a", [])


async def test_rendered_text_and_token_ids_are_scored_as_they_are() -> None:
    model = FakeModel("a")
    service = gateway(model)
    assert [r.score for r in await service.score("a", ["<s>text", "<s>"])] == [7, 3]
    groups = await service.score_groups("a", [["1", "22"], ["333"]])
    assert [[reward.score for reward in group] for group in groups] == [[1, 2], [3]]


async def test_health_needs_no_model_and_no_key() -> None:
    async with http(gateway()) as client:
        assert (await client.get("/health")).json() == {"status": "ok"}


def test_every_error_of_ours_survives_the_way_through_a_replica() -> None:
    import pickle  # noqa: PLC0415

    for kind in [Busy, *RewardServeError.__subclasses__()]:
        error = pickle.loads(pickle.dumps(kind("message", "param")))
        assert (type(error), error.message, error.param) == (kind, "message", "param")


async def test_invented_attributes_reach_neither_metrics_nor_logs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: set[str] = set()
    monkeypatch.setattr(RouterMetrics, "refused", lambda _, route, code: labels.add(route))
    async with http(gateway(FakeModel("a"))) as client:
        for name in ("a.s3cret", "a.s3cret-too", "s3cret", "as3cret"):
            asked = body({"messages": conversation()}, model=name)
            assert (await client.post("/v1/rewards", json=asked)).status_code >= 400
    assert labels == {"a.*", "unknown"}
    assert "s3cret" not in "".join(capsys.readouterr())
