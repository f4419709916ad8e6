"""Handle: what a Serve handle answers and raises, as the client's own types.

The handle here is a double; `tests/serve/test_client_on_cluster.py` uses a real one.
"""

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from tests.client.conftest import conversation

import rewardserve_client as api
from rewardserve import errors as server
from rewardserve_client._errors import TWINS
from rewardserve_client._handle import HandleTransport, client_error
from rewardserve_client._plan import conversation_inputs, request_for
from rewardserve_client._types import RewardsRequest
from rewardserve_client.testing import FakeCluster


class Response:
    """Like Serve's: awaited for the answer, cancelled when nobody wants it."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer
        self.cancelled = False

    def __await__(self) -> Generator[Any, None, Any]:
        yield from asyncio.sleep(0).__await__()
        return self.answer()

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    def __init__(self, **answers: Callable[..., Any]) -> None:
        self.responses: list[Response] = []
        for method, answer in answers.items():
            setattr(self, method, self._method(answer))

    def _method(self, answer: Callable[..., Any]) -> Any:
        handle = self

        class Method:
            def remote(self, *args: Any) -> Response:
                handle.responses.append(Response(lambda: answer(*args)))
                return handle.responses[-1]

        return Method()


def request() -> RewardsRequest:
    return request_for(conversation_inputs([conversation("four")]), {})


def as_task_error(cause: Exception) -> Exception:
    """What Ray raises in the caller for what a replica raised."""
    make: Any = RayTaskError
    error: Exception = make("rewards", "traceback text", cause)
    return error


async def test_requests_and_answers_pass_as_they_are() -> None:
    cluster = FakeCluster()
    transport = HandleTransport(
        lambda: Handle(rewards=cluster.answer, served_models=cluster.served)
    )
    sent = request()
    response = await transport.rewards(sent)
    assert response.data[0].rewards[0].score == 4.0
    assert cluster.requests[0] is sent
    assert (await transport.models()).data[0].id == "default"


@pytest.mark.parametrize(
    "kind", [k for k in server.HTTP_ERRORS if k is not server.RewardServeError]
)
def test_the_servers_errors_become_their_twins(kind: type[server.RewardServeError]) -> None:
    raised = as_task_error(kind("said the server", "inputs[0]"))
    twin = client_error(raised)
    _, code = server.http_error(kind("x"))
    assert type(twin) is TWINS[code]
    assert (str(twin), twin.param, twin.code) == ("said the server", "inputs[0]", code)


def test_errors_below_the_listed_ones_become_the_nearest_twin() -> None:
    class OddConversation(server.InvalidConversation):
        """A kind that this client does not know."""

    assert type(client_error(OddConversation("odd"))) is api.InvalidConversation


def test_a_busy_cluster_says_when_to_come_back() -> None:
    assert client_error(as_task_error(server.Busy("full", retry_after_s=2.5))).retry_after_s == 2.5
    refused = client_error(BackPressureError(5, 5, 429, 3.0))
    assert (type(refused), refused.retry_after_s) == (api.Busy, 3.0)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ActorDiedError(), api.ConnectionFailed),
        (ActorUnavailableError("gone", None), api.ConnectionFailed),
        (RayServeException("Application 'router' does not exist."), api.ConnectionFailed),
        (as_task_error(ZeroDivisionError("a bug")), api.ServerFailed),
    ],
)
def test_what_ray_raises_becomes_one_of_ours(raised: Exception, kind: type[Exception]) -> None:
    assert type(client_error(raised)) is kind


async def test_a_handle_that_cannot_be_had_is_a_failed_connection() -> None:
    def missing() -> Any:
        raise RayServeException("Application 'router' does not exist.")

    with pytest.raises(api.ConnectionFailed):
        await HandleTransport(missing).rewards(request())


async def test_cancelling_the_caller_cancels_the_replicas_work() -> None:
    def never() -> None:
        raise asyncio.CancelledError

    handle = Handle(served_models=never)
    with pytest.raises(asyncio.CancelledError):
        await HandleTransport(lambda: handle).models()
    assert handle.responses[0].cancelled
