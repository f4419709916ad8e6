"""HTTP: what is sent, and how statuses, headers and bodies become types and errors."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest
from tests.client.conftest import conversation

import rewardserve_client as api
from rewardserve_client._http import HttpAddress, HttpTransport
from rewardserve_client._plan import conversation_inputs, request_for
from rewardserve_client._types import RewardsRequest
from rewardserve_client.testing import FakeCluster

Handler = Callable[[httpx2.Request], httpx2.Response]
ADDRESS = HttpAddress("http://cluster", api_key="secret")


def transport(handler: Handler) -> HttpTransport:
    return HttpTransport(ADDRESS, httpx2.MockTransport(handler))


def request() -> RewardsRequest:
    return request_for(conversation_inputs([conversation("Hello.")]), {"model": "armorm"})


def answering(status: int, headers: dict[str, str] | None = None, **body: Any) -> Handler:
    return lambda _: httpx2.Response(status, headers=headers, **body)


def error_body(code: str, **detail: str) -> dict[str, Any]:
    return {"error": {"message": "said the server", "type": "Kind", "code": code, **detail}}


async def failure(handler: Handler) -> api.RewardClientError:
    with pytest.raises(api.RewardClientError) as caught:
        await transport(handler).rewards(request())
    return caught.value


async def test_a_request_carries_the_key_and_only_what_was_chosen() -> None:
    seen: list[httpx2.Request] = []

    def handler(sent: httpx2.Request) -> httpx2.Response:
        seen.append(sent)
        asked = RewardsRequest.model_validate_json(sent.content)
        body = FakeCluster(models=["armorm"]).answer(asked).model_dump_json()
        return httpx2.Response(200, content=body)

    response = await transport(handler).rewards(request())
    assert [item.rewards[0].score for item in response.data] == [6.0]
    assert (seen[0].method, seen[0].url.path) == ("POST", "/v1/rewards")
    assert seen[0].headers["authorization"] == "Bearer secret"
    assert set(httpx2.Response(200, content=seen[0].content).json()) == {"model", "inputs"}


async def test_the_servers_own_words_become_the_twin_of_its_code() -> None:
    body = error_body("conversation_too_long", param="inputs.0")
    error = await failure(answering(422, {"x-request-id": "r-1"}, json=body))
    assert type(error) is api.ConversationTooLong
    assert (error.message, error.param) == ("said the server", "inputs.0")
    assert (error.code, error.request_id) == ("conversation_too_long", "r-1")


async def test_a_busy_answer_says_when_to_come_back() -> None:
    headers = {"retry-after": "7"}
    assert (await failure(answering(429, headers, json=error_body("busy")))).retry_after_s == 7.0
    assert (await failure(answering(503, headers, text="overloaded"))).retry_after_s == 7.0


async def test_retry_after_may_be_a_date() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    error = await failure(answering(503, {"retry-after": at}))
    assert error.retry_after_s == pytest.approx(60, abs=5)
    assert (await failure(answering(503, {"retry-after": "soon"}))).retry_after_s is None


async def test_an_answer_of_a_proxy_is_judged_by_its_status() -> None:
    assert type(await failure(answering(502, html="<h1>Bad gateway</h1>"))) is api.ServerFailed
    assert type(await failure(answering(404, text="no such path"))) is api.ConnectionFailed
    not_ours = {"error": {"message": "Not Found", "type": "HTTPError", "code": 404}}
    assert type(await failure(answering(404, json=not_ours))) is api.ConnectionFailed


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff", b'{"id": "x"}'])
async def test_a_success_that_is_no_answer_is_never_a_score(body: bytes) -> None:
    assert type(await failure(answering(200, content=body))) is api.InvalidResponse


def _subclasses(kind: type[Exception]) -> Sequence[type[Exception]]:
    below = kind.__subclasses__()
    return [*below, *(deeper for each in below for deeper in _subclasses(each))]


@pytest.mark.parametrize("kind", _subclasses(httpx2.RequestError))
async def test_every_transport_error_of_the_http_library_becomes_one_of_ours(
    kind: type[httpx2.RequestError],
) -> None:
    def handler(_: httpx2.Request) -> httpx2.Response:
        raise kind("broken")

    error = await failure(handler)
    lost = issubclass(kind, httpx2.TransportError)
    assert type(error) is (api.ConnectionFailed if lost else api.InvalidResponse)


async def test_text_that_is_not_unicode_is_refused_before_it_is_sent() -> None:
    broken = request_for(conversation_inputs([conversation("\ud800")]), {})
    with pytest.raises(api.InvalidRequest, match="lone surrogate"):
        await transport(answering(500)).rewards(broken)


async def test_the_health_probe_never_raises() -> None:
    def unreachable(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    assert not await transport(unreachable).alive()
    assert not await transport(answering(503)).alive()
    assert await transport(answering(200)).alive()


async def test_models_are_read() -> None:
    served = FakeCluster(models=["armorm", "default"]).served()
    models = await transport(answering(200, content=served.model_dump_json())).models()
    assert [model.id for model in models.data] == ["armorm", "default"]


def test_the_key_is_never_printed() -> None:
    assert "secret" not in repr(ADDRESS)
    assert "secret" not in repr(api.RewardClient("http://cluster", api_key="secret"))
