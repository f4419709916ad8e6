"""The benchmarks measure what they say, and run."""

import asyncio
import json
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import autoscaling, engine, gpu, measure, replica_choice, serving
from benchmarks.checkpoints import TINY, TURNS, Backbone, Written, train_tokenizer, write_checkpoint
from benchmarks.measure import Sample
from benchmarks.peers import PEERS, Peer, worker
from benchmarks.peers.batches import chosen
from benchmarks.peers.process import PeerFailed, PeerProcess
from benchmarks.peers.protocol import Batch, Settings
from benchmarks.peers.servers import Server, started
from benchmarks.workloads import load, texts


class FakeClock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_timed_gives_the_result_and_both_clocks_seconds() -> None:
    wall, cpu = FakeClock(), FakeClock()

    def work() -> str:
        wall.now += 3.0
        cpu.now += 5.0
        return "done"

    assert measure.timed(work, wall=wall, cpu=cpu) == ("done", Sample(wall_s=3.0, cpu_s=5.0))


def contender(log: list[str], name: str, seconds: float) -> Callable[[], Sample]:
    def run() -> Sample:
        log.append(name)
        return Sample(seconds, seconds)

    return run


def test_contenders_take_turns_and_the_order_turns_too() -> None:
    log: list[str] = []
    contenders = {name: contender(log, name, 1.0) for name in "abc"}

    samples = measure.interleave(contenders, repeats=3)

    assert log == [*"abc", *"bca", *"cab"]
    assert {name: len(runs) for name, runs in samples.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_slow_contender_runs_at_least_once_and_stops_at_its_budget() -> None:
    log: list[str] = []
    contenders = {"slow": contender(log, "slow", 60.0), "fast": contender(log, "fast", 4.0)}

    samples = measure.interleave(contenders, repeats=5, budget_s=10.0)

    assert {name: len(runs) for name, runs in samples.items()} == {"slow": 1, "fast": 3}


def test_one_outlier_moves_no_ratio() -> None:
    peer = [Sample(6.0, 12.0), Sample(6.0, 12.0), Sample(600.0, 12.0)]
    ours = [Sample(2.0, 3.0), Sample(0.1, 3.0), Sample(2.0, 3.0)]

    assert measure.ratio_of_medians(peer, ours) == 3.0
    assert measure.ratio_of_medians(peer, ours, "cpu_s") == 4.0
    assert measure.summary(peer) == {
        "runs": 3,
        "wall_s": 6.0,
        "cpu_s": 12.0,
        "fastest_s": 6.0,
        "slowest_s": 600.0,
    }


def test_a_kept_result_says_when_where_and_at_which_commit(tmp_path: Path) -> None:
    path = measure.save("engine", {"rows": [1]}, folder=tmp_path)

    record = json.loads(path.read_text())
    assert path.name.endswith("-engine.json")
    assert path.name.startswith(record["date"][:10])
    assert record["rows"] == [1]
    assert {"commit", "machine", "benchmark"} <= record.keys()
    assert {"processor", "cores", "memory_gib"} <= record["machine"].keys()


def test_tables_have_one_column_for_each_key_and_blanks_where_a_row_has_none() -> None:
    rows: list[dict[str, object]] = [
        {"who": "a", "tokens/s": 1234.5},
        {"who": "b", "difference": 1.5e-6, "runs": 12_000},
    ]

    assert measure.table(rows) == "\n".join(
        [
            "| who | tokens/s | difference | runs   |",
            "|-----|----------|------------|--------|",
            "| a   | 1,234    |            |        |",
            "| b   |          | 1.5e-06    | 12,000 |",
        ]
    )


def test_padded_batches_hold_every_conversation_once() -> None:
    lengths = [5, 3, 9, 1, 7, 2, 8, 6, 4, 10]

    assert list(chosen("one at a time", lengths)) == [[index] for index in range(10)]
    assert list(chosen("in arrival order", lengths)) == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]
    by_length = list(chosen("sorted by length", lengths))
    assert [[lengths[index] for index in batch] for batch in by_length] == [
        [1, 2, 3, 4, 5, 6, 7, 8],
        [9, 10],
    ]


@pytest.mark.parametrize("backbone", ["llama", "gemma2"])
def test_every_peer_gets_the_same_tokens_with_one_bos(backbone: Backbone, tmp_path: Path) -> None:
    workload = load("gsm8k_best_of_4", 2, tiny=True)
    turns = TURNS[backbone]
    tokenizer = train_tokenizer(turns, TINY.merges, texts([workload]))
    written = Written(tmp_path, turns, tokenizer, layer_parameters=0)

    batch = engine.tokenised(workload, written)

    assert len(batch.sequences) == len(workload.conversations) == 8
    for ids, (prompt, response) in zip(batch.sequences, batch.pairs, strict=True):
        assert ids.count(tokenizer.bos_token_id) == 1
        # What CrossEncoder does with a pair.
        assert tokenizer(prompt, response)["input_ids"] == ids


def test_layer_parameters_are_those_outside_the_embedding(tmp_path: Path) -> None:
    workload = load("alpaca_pairs", 2, tiny=True)

    written = write_checkpoint(tmp_path / "model", "llama", TINY, texts([workload]))

    attention = 64 * 64 + 2 * 64 * 32 + 64 * 64
    mlp = 3 * 64 * 128
    norms, score = (2 * 2 + 1) * 64, 64
    assert written.layer_parameters == 2 * (attention + mlp) + norms + score


class InThisProcess(PeerProcess):
    """A peer without a process of its own."""

    def __init__(self, peer: Peer, settings: Settings) -> None:
        self.name = peer.name
        self._module = peer.module
        self._settings = settings

    def ready(self) -> dict[str, str]:
        self._peer = import_module(f"benchmarks.peers.{self._module}").load(self._settings)
        return {}

    def score(self, batch: Path) -> dict[str, Any]:
        return worker.run(self._peer, Batch(**json.loads(batch.read_text())))

    def __exit__(self, *_: object) -> None:
        pass


class Unwell(InThisProcess):
    """As above, but one peer fails at work."""

    def score(self, batch: Path) -> dict[str, Any]:
        if self.name == "padded batches of 8":
            raise PeerFailed(self.name, "out of patience")
        return super().score(batch)


def engine_record(folder: Path, start: type[PeerProcess], *names: str) -> dict[str, Any]:
    workload = load("gsm8k_best_of_4", 3, tiny=True)
    written = write_checkpoint(folder / "model", "gemma2", TINY, texts([workload]))
    peers = [peer for peer in PEERS if peer.name in names]
    setup = engine.Setup("gemma2", "float32", threads=torch.get_num_threads())
    return engine.measure(setup, written, [workload], peers, repeats=1, start=start)


def test_the_engine_benchmark_agrees_with_the_cards_loop_and_computes_less(tmp_path: Path) -> None:
    record = engine_record(tmp_path, InThisProcess, "card's loop", "F.linear alone", "rewardserve")

    rows = {row["peer"]: row for row in record["rows"]}
    assert record["absent"] == {}
    assert rows["rewardserve"]["difference"] < 1e-5
    assert rows["rewardserve"]["computed_tokens"] < rows["card's loop"]["computed_tokens"]
    assert rows["card's loop"]["ours_is"] > 0
    assert rows["F.linear alone"]["efficiency"] == {"F.linear alone": 1.0}
    assert "| rewardserve " in engine.report(record)


def test_a_peer_that_fails_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    record = engine_record(tmp_path, Unwell, "card's loop", "padded batches of 8")

    assert [row["peer"] for row in record["rows"]] == ["card's loop"]
    assert record["absent"] == {"padded batches of 8": "failed on gsm8k_best_of_4: out of patience"}
    assert "- padded batches of 8: failed on" in engine.report(record)


@pytest.mark.nightly
def test_the_engine_command_runs_every_peer_that_is_installed(tmp_path: Path) -> None:
    folders = ["--checkpoints", str(tmp_path), "--results", str(tmp_path / "results")]

    assert engine.main(["--tiny", "--shape", "alpaca_pairs", *folders]) == 0

    (result,) = (tmp_path / "results").iterdir()
    record = json.loads(result.read_text())
    measured = {row["peer"] for row in record["rows"]}
    assert measured | record["absent"].keys() == {peer.name for peer in PEERS}
    assert {"card's loop", "rewardserve"} <= measured


def test_a_peer_that_is_not_there_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.peers.ROOT", tmp_path)
    absent = {peer.name: peer.missing() for peer in PEERS if peer.missing()}

    assert absent == {
        "CrossEncoder": "not installed: python -m benchmarks.install sentence-transformers",
        "vLLM": "not installed: python -m benchmarks.install vllm",
    }
    with ExitStack() as stack:
        ways, unserved = serving.peer_ways(stack, tmp_path)
    assert ways == {}
    assert unserved == {
        "LitServe": "not installed: python -m benchmarks.install litserve",
        "vLLM's server": "not installed: python -m benchmarks.install vllm",
    }


def test_a_server_that_does_not_start_says_what_it_printed_last(tmp_path: Path) -> None:
    peer = Peer("broken", "protocol_that_is_not_there")
    server = Server(peer, (), "/", lambda _: {}, float)
    with (
        pytest.raises(PeerFailed, match="No module named"),
        started(server, tmp_path, serving.free_port(), threads=1),
    ):
        pytest.fail("it started")


def test_callers_send_every_conversation_once_and_no_more_at_a_time_than_there_are() -> None:
    sent: list[int] = []
    waiting = most = 0

    async def send(index: int, _: object) -> None:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await asyncio.sleep(0)
        waiting -= 1
        sent.append(index)

    serving.concurrent([[]] * 20, 3, send)
    assert sorted(sent) == list(range(20))
    assert most == 3


def test_the_autoscaling_benchmark_keeps_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert autoscaling.main(["--results", str(tmp_path)]) == 0
    (kept,) = tmp_path.iterdir()
    rows = json.loads(kept.read_text())["rows"]
    assert max(row["replicas"] for row in rows) > 3
    assert rows[-1]["replicas"] == 0
    assert "| at_s" in capsys.readouterr().out


def test_the_gpu_benchmark_runs_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--tiny"]) == 0

    assert "tiny gemma-2" in capsys.readouterr().out


def test_gpu_figures_are_kept_whatever_a_contender_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(gpu.Ours, "__call__", broken)
    assert gpu.main(["--tiny", "--results", str(tmp_path)]) == 0
    (kept,) = tmp_path.iterdir()
    record = json.loads(kept.read_text())
    (ours, *_) = [row for row in record["speed"] if "rewardserve" in row["contender"]]
    assert ours["note"] == "RuntimeError: no kernel"
    assert any("tokens_per_s" in row for row in record["speed"])
    assert any("max difference" in row for row in record["agreement"])


def test_the_gpu_benchmark_starts_nothing_after_its_minutes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert gpu.main(["--tiny", "--minutes", "0"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("out of time") == 4
    assert "card's loop" not in printed


def test_peak_rates_go_by_the_most_specific_name() -> None:
    assert gpu.peak_tflops("NVIDIA H100 PCIe") == 756
    assert gpu.peak_tflops("NVIDIA H100 80GB HBM3") == 989
    assert gpu.peak_tflops("some other device") is None


@pytest.mark.parametrize("policy", replica_choice.POLICIES.values())
def test_every_simulated_call_is_run_once_whoever_chooses(policy: replica_choice.Policy) -> None:
    for calls in replica_choice.cases(500, 3, 0.8).values():
        outcome = replica_choice.simulate(calls, policy, replicas=3)
        assert len(outcome.waits_s) == len(calls)
        assert outcome.waits_s[0] >= 0
        alone = sum(call.tokens - call.prompt_tokens for call in calls)
        shared = sum({call.prompt: call.prompt_tokens for call in calls}.values())
        fewest = (alone + shared) / sum(call.tokens for call in calls)
        assert fewest - 1e-9 <= outcome.computed_share <= 1 + 1e-9


def test_the_simulated_load_is_the_one_that_was_asked_for() -> None:
    calls = replica_choice.arrivals(20_000, replicas=4, load=0.8)
    tokens_per_s = sum(call.tokens for call in calls) / calls[-1].at_s
    assert tokens_per_s == pytest.approx(0.8 * 4 * replica_choice.TOKENS_PER_S, rel=0.03)
