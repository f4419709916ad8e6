"""The two clients, against a cluster in this process: order, retries, limits, lives."""

import asyncio
import pickle
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from tests.client.conftest import conversation

import rewardserve_client as api
from rewardserve_client import AsyncRewardClient, RewardClient, Timeout
from rewardserve_client._settings import ClientSettings
from rewardserve_client._types import Conversation, RewardsRequest, RewardsResponse
from rewardserve_client.testing import FakeCluster, FakeTransport


def number(conversation: Conversation) -> float:
    return float(conversation[-1]["content"])


def numbered(many: int) -> list[Conversation]:
    return [conversation(str(index)) for index in range(many)]


class Scripted(FakeCluster):
    """A cluster whose transport can wait: `hold` is awaited before each answer."""

    def __init__(self, hold: Any) -> None:
        super().__init__(score=number)
        self.hold = hold

    def open(self) -> FakeTransport:
        cluster = self

        class Waiting(FakeTransport):
            async def rewards(self, request: RewardsRequest) -> RewardsResponse:
                await cluster.hold(request)
                return await super().rewards(request)

        return Waiting(self)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(score=number, models=["default", "armorm"])


@pytest.fixture
def client(cluster: FakeCluster) -> Iterator[RewardClient]:
    with cluster.client() as client:
        yield client


def test_one_conversation_gives_one_reward(client: RewardClient) -> None:
    reward = client.score(conversation("1.5"), model="armorm")
    assert (reward.score, reward.model) == (1.5, "armorm")


def test_many_conversations_come_back_in_order(client: RewardClient) -> None:
    assert client.score_many(numbered(1000)).scores == [float(n) for n in range(1000)]


def test_many_conversations_go_in_few_requests(client: RewardClient, cluster: FakeCluster) -> None:
    client.score_many(numbered(1000))
    assert len(cluster.requests) == 16


def test_options_reach_the_server(client: RewardClient, cluster: FakeCluster) -> None:
    client.score(conversation("1"), truncate=True, priority="bulk", tags={"domain": "code"})
    sent = cluster.requests[0]
    assert (sent.truncate, sent.priority, sent.tags) == (True, "bulk", {"domain": "code"})


def test_the_server_hears_how_much_time_is_left(client: RewardClient, cluster: FakeCluster) -> None:
    client.score(conversation("1"))
    assert cluster.requests[0].deadline_s == pytest.approx(60, abs=5)


def test_responses_are_ranked(client: RewardClient) -> None:
    ranking = client.best_of_n("Count.", ["2", "7", "5", "7"])
    assert ranking.best == "7"
    assert ranking.order == [1, 3, 2, 0]
    assert ranking.rewards.scores == [2, 7, 5, 7]


def test_many_prompts_come_back_as_one_list_each(client: RewardClient) -> None:
    groups = [(f"Count to {n}.", [str(i) for i in range(n)]) for n in range(1, 40)]
    assert [rewards.scores for rewards in client.score_groups(groups)] == [
        [float(i) for i in range(n)] for n in range(1, 40)
    ]


def test_models_are_listed(client: RewardClient) -> None:
    assert [model.id for model in client.models()] == ["default", "armorm"]


def test_a_failure_that_may_pass_is_retried(
    client: RewardClient, cluster: FakeCluster, no_waiting: None
) -> None:
    cluster.fail_next(api.Busy("full", retry_after_s=1.0), api.ConnectionFailed("reset"))
    assert client.score(conversation("4")).score == 4
    assert len(cluster.requests) == 3


def test_a_failure_that_stays_is_raised(
    client: RewardClient, cluster: FakeCluster, no_waiting: None
) -> None:
    cluster.fail_next(*[api.Busy("full")] * 3)
    with pytest.raises(api.Busy):
        client.score(conversation("4"))
    with pytest.raises(api.UnknownModel):
        client.score(conversation("4"), model="nobody")
    assert len(cluster.requests) == 4


def test_one_failed_request_fails_the_whole_call_and_ends_the_rest(no_waiting: None) -> None:
    async def fail_third(request: RewardsRequest) -> None:
        if "128" in str(request.inputs[0]):
            raise api.ConversationTooLong("too long", "inputs.0", "conversation_too_long")

    with Scripted(fail_third).client() as client, pytest.raises(api.ConversationTooLong):
        client.score_many(numbered(1000))


def test_a_refused_conversation_is_named_by_its_place_in_the_whole_input() -> None:
    async def refuse(request: RewardsRequest) -> None:
        if "'130'" in str(request.inputs):
            raise api.InvalidConversation("inputs[2].messages is empty", "inputs[2].messages")

    with Scripted(refuse).client() as client, pytest.raises(api.InvalidConversation) as caught:
        client.score_many(numbered(200))
    assert caught.value.param == "inputs[130].messages"
    assert str(caught.value) == "inputs[130].messages is empty"


def test_what_is_too_large_for_the_server_is_sent_in_halves() -> None:
    async def at_most_ten(request: RewardsRequest) -> None:
        if len(request.inputs) > 10:
            raise api.TooLarge("the limit is 10")

    cluster = Scripted(at_most_ten)
    with cluster.client() as client:
        assert client.score_many(numbered(200)).scores == [float(n) for n in range(200)]
    assert {len(request.inputs) for request in cluster.requests} == {8}


def test_one_conversation_that_is_too_large_is_named() -> None:
    async def refuse(request: RewardsRequest) -> None:
        if "'130'" in str(request.inputs):
            raise api.TooLarge("5 characters over the limit", "inputs[0]")

    with Scripted(refuse).client() as client, pytest.raises(api.TooLarge) as caught:
        client.score_many(numbered(200))
    assert caught.value.param == "inputs[130]"


def test_a_stream_is_read_only_a_little_ahead(client: RewardClient) -> None:
    taken = count()
    endless = (conversation(str(next(taken))) for _ in count())
    stream = client.score_stream(endless)
    assert [next(stream).score for _ in range(100)] == [float(n) for n in range(100)]
    stream.close()  # type: ignore[attr-defined] # it is a generator
    assert next(taken) <= (2 * 32 + 2) * 64 + 2


def test_the_input_of_a_stream_is_read_in_the_callers_thread(client: RewardClient) -> None:
    readers = set()

    def reading() -> Iterator[Conversation]:
        for each in numbered(200):
            readers.add(threading.current_thread())
            yield each

    client.score_many(reading())
    assert readers == {threading.current_thread()}


def test_a_stream_over_the_clients_own_answers_does_not_lock_up(client: RewardClient) -> None:
    chained = (conversation(str(r.score + 1)) for r in client.score_stream(numbered(100)))
    assert client.score_many(chained).scores == [n + 1.0 for n in range(100)]


def test_a_call_ends_when_its_time_is_up() -> None:
    async def never(_: RewardsRequest) -> None:
        await asyncio.Event().wait()

    settings = ClientSettings(Scripted(never), Timeout(total=0.05))
    with (
        RewardClient.from_settings(settings) as client,
        pytest.raises(api.DeadlineExceeded, match=r"within 0\.05 s"),
    ):
        client.score(conversation("1"))


def test_a_large_call_ends_when_nothing_moves_any_more() -> None:
    async def stuck_after_four(request: RewardsRequest) -> None:
        if len(stuck.requests) >= 4:
            await asyncio.Event().wait()

    stuck = Scripted(stuck_after_four)
    with stuck.client() as client, pytest.raises(api.Stalled, match=r"0\.1 s"):
        client.score_many(numbered(1000), stall_s=0.1)


def test_a_slow_request_is_waited_for_while_others_come_back() -> None:
    """The first answer takes longer than `stall_s`; three others keep the call alive meanwhile."""

    async def slow_first(request: RewardsRequest) -> None:
        if "'0'" in str(request.inputs[0]):
            await others_done.wait()
        else:
            await asyncio.sleep(0.4)
            if len(cluster.requests) == 2:
                others_done.set()

    others_done = asyncio.Event()
    cluster = Scripted(slow_first)
    settings = ClientSettings(cluster, max_concurrency=2)
    with RewardClient.from_settings(settings) as client:
        scores = client.score_many(numbered(4 * 64), stall_s=0.8).scores
    assert scores == [float(n) for n in range(4 * 64)]


def test_threads_share_a_client(client: RewardClient) -> None:
    results: dict[int, list[float]] = {}

    def work(offset: int) -> None:
        sent = [conversation(str(offset + n)) for n in range(200)]
        results[offset] = client.score_many(sent).scores

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(got == [offset + n for n in range(200)] for offset, got in results.items())
    assert len(results) == 8


def test_a_client_can_be_used_after_it_was_closed(client: RewardClient) -> None:
    client.score(conversation("1"))
    client.close()
    client.close()
    assert client.score(conversation("2")).score == 2


def test_clients_can_be_pickled() -> None:
    client = RewardClient("http://cluster:8000", api_key="k", timeout=Timeout(5, connect=1))
    copy = pickle.loads(pickle.dumps(client))
    assert type(copy) is RewardClient
    assert copy.__getstate__() == client.__getstate__()
    used = FakeCluster().client()
    used.score(conversation("1"))
    with pickle.loads(pickle.dumps(used)) as again:
        assert again.score(conversation("12")).score == 2
    used.close()
    assert isinstance(pickle.loads(pickle.dumps(AsyncRewardClient("http://x"))), AsyncRewardClient)


def test_handle_clients_can_be_pickled_and_need_no_ray_for_it() -> None:
    copy = pickle.loads(pickle.dumps(RewardClient.from_handle("router")))
    assert repr(copy) == "RewardClient(HandleAddress(app_name='router'))"


def test_the_environment_names_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARDSERVE_URL", "https://scores.example/")
    monkeypatch.setenv("REWARDSERVE_API_KEY", "from-the-environment")
    address: Any = RewardClient().__getstate__().address
    assert (address.base_url, address.api_key) == ("https://scores.example", "from-the-environment")
    address = RewardClient("http://other", api_key="given").__getstate__().address
    assert (address.base_url, address.api_key) == ("http://other", "given")


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="http://"):
        RewardClient("localhost:8000")
    with pytest.raises(ValueError, match="max_retries"):
        RewardClient(max_retries=-1)
    with pytest.raises(ValueError, match="max_concurrency"):
        RewardClient(max_concurrency=0)


async def test_the_awaited_client_does_the_same(cluster: FakeCluster) -> None:
    async with cluster.async_client() as client:
        assert (await client.score(conversation("3"))).score == 3
        assert (await client.score_many(numbered(300))).scores == [float(n) for n in range(300)]
        assert (await client.score_responses("Count.", ["1", "2"])).scores == [1, 2]
        groups = [("Count.", ["1"]), ("On.", ["2", "3"])]
        assert [r.scores for r in await client.score_groups(groups)] == [[1], [2, 3]]
        assert (await client.best_of_n("Count.", ["1", "2"])).best == "2"
        assert len(await client.models()) == 2
        streamed = [reward.score async for reward in client.score_stream(numbered(130))]
        assert streamed == [float(n) for n in range(130)]


def test_an_awaited_client_may_be_used_in_one_event_loop_after_another(
    cluster: FakeCluster,
) -> None:
    client = cluster.async_client()
    for index in range(3):
        assert asyncio.run(client.score(conversation(str(index)))).score == index


async def test_a_blocking_client_works_inside_a_running_event_loop(client: RewardClient) -> None:
    assert client.score(conversation("5")).score == 5


async def test_cancelling_a_call_cancels_its_requests() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def hold(_: RewardsRequest) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with Scripted(hold).async_client() as client:
        call = asyncio.create_task(client.score_many(numbered(10)))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(ended.wait(), timeout=5)
