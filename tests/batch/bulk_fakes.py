"""A scorer without a model: its score is a hash of the text, so every value can be checked."""

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rewardserve.batch.job import Run, open_run, stages_of
from rewardserve.batch.settings import BulkModel, BulkSettings
from rewardserve.batch.stage import ScoreStage, first_row
from rewardserve.errors import ConversationTooLong, InvalidConversation, NonFiniteScore
from rewardserve.settings import ModelSettings
from rewardserve_client import Reward

MAX_TOKENS = 2000


@dataclass
class FakeEncoded:
    token_ids: bytes
    readouts: tuple[int, ...] = (0,)
    truncated: bool = False


@dataclass
class FakeBatch:
    rewards: list[Reward]
    tokens: int = 0
    computed_tokens: int = 0


def text_of(conversation: Sequence[Any]) -> str:
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in conversation)


def expected_score(conversation: Sequence[Any], model: str = "fake") -> float:
    digest = hashlib.sha256(f"{model}\n{text_of(conversation)}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48 - 0.5


@dataclass
class FakeScorer:
    name: str
    fail_on: str = ""
    calls: list[int] = field(default_factory=list)

    def encode(self, item: Sequence[Any], *, truncate: bool = False) -> FakeEncoded:
        if not item or item[-1]["role"] != "assistant":
            raise InvalidConversation("the last message must be the assistant's")
        text = text_of(item).encode()
        if len(text) > MAX_TOKENS and not truncate:
            raise ConversationTooLong(f"{len(text)} tokens; this model takes {MAX_TOKENS}")
        return FakeEncoded(text, truncated=len(text) > MAX_TOKENS)

    def score_encoded(self, batch: Sequence[FakeEncoded]) -> FakeBatch:
        self.calls.append(len(batch))
        texts = [item.token_ids.decode() for item in batch]
        if self.fail_on and any(self.fail_on in text for text in texts):
            raise NonFiniteScore(f"model {self.name} computed NaN")
        return FakeBatch([self._reward(text) for text in texts], computed_tokens=len(texts))

    def _reward(self, text: str) -> Reward:
        digest = hashlib.sha256(f"{self.name}\n{text}".encode()).digest()
        score = int.from_bytes(digest[:6], "big") / 2**48 - 0.5
        attributes = {"helpfulness": score / 2, "verbosity": -score}
        return Reward(score=score, model=self.name, tokens=len(text), attributes=attributes)


def load_fake(model: BulkModel) -> Any:
    return FakeScorer(model.name)


def load_broken(_: BulkModel) -> Any:
    raise ValueError("no such weights")


def load_failing(model: BulkModel) -> Any:
    """A scorer that fails on the unit that holds this text, every time."""
    return FakeScorer(model.name, fail_on="question 17?")


class DeadlyScorer(FakeScorer):
    """Takes its process down, as a crash in a kernel would."""

    def score_encoded(self, batch: Sequence[FakeEncoded]) -> FakeBatch:
        if any(b"question 17?" in item.token_ids for item in batch):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score_encoded(batch)


def load_deadly(model: BulkModel) -> Any:
    return DeadlyScorer(model.name)


class SlowScorer(FakeScorer):
    """Slow enough that several units are in flight when a node dies."""

    def score_encoded(self, batch: Sequence[FakeEncoded]) -> FakeBatch:
        time.sleep(1)
        return super().score_encoded(batch)


def load_slow(model: BulkModel) -> Any:
    return SlowScorer(model.name)


def settings(*names: str, **more: Any) -> BulkSettings:
    models = [BulkModel(name=n, settings=ModelSettings(source=n)) for n in names or ("fake",)]
    return BulkSettings(models=tuple(models), **{"unit_rows": 10} | more)


def pair(index: int) -> dict[str, Any]:
    question = {"role": "user", "content": f"question {index}?"}
    return {
        "id": index,
        "chosen": [question, {"role": "assistant", "content": f"good answer {index}"}],
        "rejected": [question, {"role": "assistant", "content": f"bad answer {index}"}],
        "subset": "odd" if index % 2 else "even",
    }


def write_pairs(path: Path, rows: int, row_group_size: int = 8) -> Path:
    table = pa.Table.from_pylist([pair(index) for index in range(rows)])
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def score_here(run: Run, load: Any = load_fake) -> list[dict[str, Any]]:
    """Every missing unit through the run's stages, in this process."""
    stages = [ScoreStage(stage, load) for stage in stages_of(run)]
    rows = []
    for unit in run.missing:
        row = first_row(unit)
        for stage in stages:
            row = stage(row)
        rows.append(row)
    return rows


def score_all_here(
    source: Path, out: Path, load: Any = load_fake, *, overwrite: bool = False, **more: Any
) -> None:
    """A whole run in this process, without Ray."""
    with open_run([str(source)], str(out), settings(**more), overwrite=overwrite) as run:
        assert not [row["failure"] for row in score_here(run, load) if row["failure"]]


def finish(command: Sequence[str]) -> int:
    """Run a driver to its end; how many units it found missing."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return int(answer.stdout.split()[1])


DRIVER = """
import sys
sys.path.insert(0, {fakes!r})
import bulk_fakes
from ray import cloudpickle
cloudpickle.register_pickle_by_value(bulk_fakes)
import ray
from rewardserve.batch.job import open_run, score_missing
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
         _temp_dir={temp!r}, object_store_memory=100 * 2**20)
with open_run([sys.argv[1]], sys.argv[2], bulk_fakes.settings()) as run:
    print("missing", len(run.missing), flush=True)
    for unit in score_missing(run, load=bulk_fakes.load_fake):
        print("unit", unit.rows, flush=True)
"""
"""A process that runs a bulk job from its first argument to its second, to be killed."""
