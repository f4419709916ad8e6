"""The examples of the client run against a served cluster and do what they say."""

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.serve.conftest import Served

from rewardserve_client.sampling import read_samples

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: object, stdin: str = "") -> str:
    """What the example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "TQDM_DISABLE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rejection_sampling_raises_the_share_of_right_answers(served: Served) -> None:
    data = served.zoo / "corpus" / "candidates-heldout.parquet"
    printed = run("rejection_sampling.py", served.url, "--data", data, "--rows", 80)
    first, best = map(float, re.findall(r"of 4 ([\d.]+)%", printed))
    assert best > first + 20
    assert "best of    4" in printed


def test_pairs_are_mined_and_agree_with_the_labels(served: Served, tmp_path: Path) -> None:
    data = served.zoo / "corpus" / "candidates-heldout.parquet"
    printed = run("dpo_pairs.py", data, tmp_path / "pairs.jsonl", "--url", served.url)
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert f"{len(rows)} pairs" in printed
    assert all(row["margin"] > 0 and row["chosen"] != row["rejected"] for row in rows)
    (agreement,) = re.findall(r"agree with ([\d.]+)%", printed)
    assert float(agreement) > 75


class Policy(BaseHTTPRequestHandler):
    """A chat server that knows two answers."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        texts = [f"It is {42 + 10 * (number % 2)}." for number in range(asked["n"])]
        choices = [{"message": {"role": "assistant", "content": text}} for text in texts]
        body = json.dumps({"choices": choices}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing is logged."""


@pytest.fixture
def policy() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Policy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_raft_data_holds_the_best_share_of_each_prompts_responses(
    served: Served, policy: str, tmp_path: Path
) -> None:
    out = tmp_path / "raft.jsonl"
    options = ["--url", served.url, "--policy", policy, "--policy-model", "tiny", "--n", 4]
    run("raft_data.py", out, *options, stdin="What is 17 + 25?\nWhat is 40 + 2?\n")
    samples = read_samples(f"{out}.samples.jsonl")
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert [len(sample.scores) for sample in samples] == [4, 4]
    assert [row["score"] for row in kept] == [max(sample.scores) for sample in samples]


def test_another_ray_job_scores_by_handle(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(EXAMPLES / "score_from_ray_job.py"), run_name="__main__")
    # Ray's own remarks share the example's stdout.
    lines = [line for line in capsys.readouterr().out.splitlines() if "raylet" not in line]
    assert [line.partition("?")[0] for line in lines] == [
        f"What is {n} + {n}" for n in range(20, 28)
    ]
    assert all("It is" in line or "rather not" in line for line in lines)


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")
def test_grpo_trains_on_two_models_rewards(served: Served, tmp_path: Path) -> None:
    from tests.client.test_real_trainers import tiny_policy  # noqa: PLC0415

    tiny_policy(tmp_path / "policy")
    models = "armorm,skywork-llama-8b"
    options = ["--policy", tmp_path / "policy", "--models", models, "--out", tmp_path / "out"]
    printed = run("grpo_trl.py", "--url", served.url, *options)
    assert re.findall(r"step (\d)", printed) == ["1", "2", "3"]
