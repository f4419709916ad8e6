"""Rejection sampling: what is drawn, scored, kept and written, and what a second run leaves out."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq
import pytest
from tests.client.test_real_trainers import tiny_policy

from rewardserve_client import Busy, ConnectionFailed, InvalidResponse, Prompt
from rewardserve_client._types import Conversation
from rewardserve_client.pairs import mine_rows
from rewardserve_client.sampling import (
    OpenAIGenerator,
    RejectionSampler,
    SamplesConflict,
    above,
    best,
    read_samples,
    transformers_generator,
)
from rewardserve_client.testing import FakeCluster

PROMPTS = [f"prompt {index}" for index in range(20)]


def last_number(conversation: Conversation) -> float:
    return float(conversation[-1]["content"].split()[-1])


class Counting:
    """Draws "answer 0", "answer 1" and so on for each prompt, and counts."""

    def __init__(self) -> None:
        self.drawn: dict[str, int] = {}

    def __call__(self, prompt: Prompt, n: int) -> list[str]:
        start = self.drawn.get(str(prompt), 0)
        self.drawn[str(prompt)] = start + n
        return [f"answer {number}" for number in range(start, start + n)]


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(score=last_number)


def sampler(cluster: FakeCluster, draw: Callable[..., object], n: int = 4) -> RejectionSampler:
    return RejectionSampler(draw, cluster.client(), n)  # type: ignore[arg-type] # plain test double


def test_every_prompt_gets_n_responses_and_keeps_its_best(cluster: FakeCluster) -> None:
    report = sampler(cluster, Counting()).run(PROMPTS, progress=False)
    assert [sample.prompt for sample in report.samples] == PROMPTS
    assert all(sample.scores == (0.0, 1.0, 2.0, 3.0) for sample in report.samples)
    assert all(sample.kept == (3,) for sample in report.samples)
    assert report.curve == pytest.approx({1: 1.5, 2: 2.0 + 1 / 3, 4: 3.0})
    assert str(report).startswith("20 prompts, 80 responses drawn, 20 kept\n")


def test_drawing_stops_at_a_response_that_is_good_enough(cluster: FakeCluster) -> None:
    draw = Counting()
    stopping = RejectionSampler(draw, cluster.client(), 10, keep=above(2.0), stop_at=2.0)
    report = stopping.run(PROMPTS, progress=False)
    assert set(draw.drawn.values()) == {3}
    assert all(sample.kept == (2,) for sample in report.samples)


def test_drawing_in_steps_never_goes_over_n(cluster: FakeCluster) -> None:
    draw = Counting()
    RejectionSampler(draw, cluster.client(), 10, stop_at=99, step=4).run(PROMPTS, progress=False)
    assert set(draw.drawn.values()) == {10}


def test_plain_functions_are_called_one_at_a_time_outside_the_event_loop(
    cluster: FakeCluster,
) -> None:
    inside = threading.Lock()
    callers = set()

    def draw(prompt: Prompt, n: int) -> list[str]:
        assert inside.acquire(blocking=False)
        callers.add(threading.current_thread().name)
        inside.release()
        return ["answer 1"] * n

    sampler(cluster, draw).run(PROMPTS, progress=False)
    assert callers == {"generate_0"}


async def test_scoring_overlaps_with_generation(cluster: FakeCluster) -> None:
    """The first prompt's generation ends only when another prompt has been scored."""
    scored = asyncio.Event()

    async def draw(prompt: Prompt, n: int) -> list[str]:
        if prompt == PROMPTS[0]:
            await scored.wait()
        elif len(cluster.requests) > 0:
            scored.set()
        return ["answer 1"] * n

    report = await asyncio.wait_for(
        sampler(cluster, draw).run_async(PROMPTS, progress=False), timeout=10
    )
    assert len(report.samples) == 20


async def test_no_more_prompts_are_under_way_than_allowed(cluster: FakeCluster) -> None:
    under_way, most = 0, 0

    async def draw(prompt: Prompt, n: int) -> list[str]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return ["answer 1"] * n

    three = RejectionSampler(draw, cluster.async_client(), 4, concurrency=3)
    assert len([sample async for sample in three.stream(PROMPTS)]) == 20
    assert most == 3


def test_a_generator_that_gives_another_number_is_an_error(cluster: FakeCluster) -> None:
    with pytest.raises(ValueError, match="asked for 4 responses and gave 1"):
        sampler(cluster, lambda prompt, n: ["answer 1"]).run(PROMPTS, progress=False)


def test_a_scoring_failure_ends_the_run_and_is_no_score(
    cluster: FakeCluster, no_waiting: None, tmp_path: Path
) -> None:
    cluster.fail_next(*[Busy("full")] * 3)
    out = tmp_path / "samples.jsonl"
    one_by_one = RejectionSampler(Counting(), cluster.client(), 4, concurrency=1)
    with pytest.raises(Busy):
        one_by_one.run(PROMPTS, out, progress=False)
    assert read_samples(out) == []


@pytest.mark.parametrize("name", ["samples.jsonl", "samples.parquet"])
def test_a_run_that_ended_early_is_continued(
    cluster: FakeCluster, tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    journal = out if name.endswith("jsonl") else tmp_path / "samples.parquet.jsonl"
    draw = Counting()

    def tiring(prompt: Prompt, n: int) -> list[str]:
        if len(draw.drawn) == 12:
            raise KeyError("out of tokens")
        return draw(prompt, n)

    with pytest.raises(KeyError):
        RejectionSampler(tiring, cluster.client(), 4, concurrency=2).run(PROMPTS, out)
    done = [sample.prompt for sample in read_samples(journal)]
    assert 8 <= len(done) <= 12
    with journal.open("a") as file:
        file.write('{"index": 19, "prompt": "cut o')  # as a killed process leaves it

    again = Counting()
    report = RejectionSampler(again, cluster.client(), 4).run(PROMPTS, out, progress=False)
    assert sorted(again.drawn) == sorted(set(PROMPTS) - {str(prompt) for prompt in done})
    assert [sample.prompt for sample in report.samples] == PROMPTS
    assert [sample.index for sample in read_samples(journal)] == list(range(20))
    if name.endswith("parquet"):
        assert pq.read_table(out)["prompt"].to_pylist() == PROMPTS


def test_a_file_of_other_prompts_is_left_alone(cluster: FakeCluster, tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    sampler(cluster, Counting()).run(PROMPTS, out, progress=False)
    before = out.read_bytes()
    with pytest.raises(SamplesConflict, match="another prompt at place 0"):
        sampler(cluster, Counting()).run(["something else"], out, progress=False)
    assert out.read_bytes() == before


def test_an_unknown_kind_of_file_is_refused(cluster: FakeCluster, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.jsonl or \.parquet"):
        sampler(cluster, Counting()).run(PROMPTS, tmp_path / "samples.csv", progress=False)


def test_samples_become_rows_for_fine_tuning_and_for_pairs(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    out = tmp_path / "samples.jsonl"
    two_best = RejectionSampler(Counting(), cluster.client(), 4, keep=best(2))
    (sample,) = two_best.run(["Why?"], out, progress=False).samples
    assert sample.to_sft() == [
        {
            "prompt": [{"role": "user", "content": "Why?"}],
            "completion": [{"role": "assistant", "content": f"answer {number}"}],
            "score": float(number),
        }
        for number in (3, 2)
    ]
    (pair,) = mine_rows(json.loads(line) for line in out.read_text().splitlines())
    assert (pair["score_chosen"], pair["score_rejected"]) == (3.0, 0.0)


def chat_server(answer: httpx2.Response, seen: list[httpx2.Request]) -> type[httpx2.AsyncClient]:
    class Client(httpx2.AsyncClient):
        def __init__(self, **settings: object) -> None:
            def handler(request: httpx2.Request) -> httpx2.Response:
                seen.append(request)
                return answer

            super().__init__(transport=httpx2.MockTransport(handler), **settings)  # type: ignore[arg-type] # passed on as given

    return Client


async def test_a_server_that_speaks_openais_protocol_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choices = [{"message": {"role": "assistant", "content": text}} for text in ("a", "b")]
    seen: list[httpx2.Request] = []
    answer = httpx2.Response(200, json={"choices": choices})
    monkeypatch.setattr(httpx2, "AsyncClient", chat_server(answer, seen))
    draw = OpenAIGenerator("http://policy/v1/", "tiny", api_key="k", temperature=0.7)
    assert await draw("Why?", 2) == ["a", "b"]
    assert str(seen[0].url) == "http://policy/v1/chat/completions"
    assert seen[0].headers["authorization"] == "Bearer k"
    assert json.loads(seen[0].content) == {
        "model": "tiny",
        "temperature": 0.7,
        "messages": [{"role": "user", "content": "Why?"}],
        "n": 2,
    }


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx2.Response(200, json={"oops": 1}), InvalidResponse),
        (httpx2.Response(404, text="no such path"), ConnectionFailed),
    ],
)
async def test_a_policy_server_that_fails_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
    no_waiting: None,
    answer: httpx2.Response,
    error: type[Exception],
) -> None:
    monkeypatch.setattr(httpx2, "AsyncClient", chat_server(answer, []))
    with pytest.raises(error):
        await OpenAIGenerator("http://policy/v1", "tiny")("Why?", 2)


def test_a_transformers_model_draws_in_this_process(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    tokenizer = tiny_policy(tmp_path)
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    torch.manual_seed(0)
    draw: Any = transformers_generator(model, tokenizer, max_new_tokens=6)
    drawn = draw("Why?", 3)
    assert len(drawn) == 3
    assert len(set(drawn)) > 1
    assert not any("Why?" in response for response in drawn), "the prompt is not repeated"
