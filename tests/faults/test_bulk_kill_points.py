"""A run that is cut off at any commit step is continued to exactly the same files."""

import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "batch"))
from bulk_fakes import FakeBatch, FakeEncoded, FakeScorer, score_all_here, write_pairs

from rewardserve.batch.fault_points import POINTS, VARIABLE
from rewardserve.batch.manifest import SUMMARY
from rewardserve.batch.output import open_scored
from rewardserve.batch.summary import summarise

ROWS = 45
UNITS = 6


@dataclass
class CountingScorer(FakeScorer):
    """Adds a character to a file for each unit that it is given."""

    log: Path = Path()

    def score_encoded(self, batch: Sequence[FakeEncoded]) -> FakeBatch:
        with self.log.open("a") as log:
            log.write(".")
        return super().score_encoded(batch)


def run_to_the_end(
    source: Path, out: Path, kill_at: str = "", log: Path = Path("/dev/null"), **options: bool
) -> None:
    if kill_at:
        os.environ[VARIABLE] = kill_at
    score_all_here(source, out, lambda model: CountingScorer(model.name, log=log), **options)
    scored = open_scored(str(out))
    scored.folder.write_json(SUMMARY, summarise(scored))


def in_child(*arguments: object, **named: object) -> int:
    """The exit code of `run_to_the_end` in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rewardserve.batch.job", "rewardserve.batch.summary"])
    child = context.Process(target=run_to_the_end, args=arguments, kwargs=named)
    child.start()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != "_lock"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("corpus") / "in.parquet", ROWS)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run_to_the_end(source, out)
    return files(out)


@pytest.fixture
def fuse(tmp_path: Path) -> Path:
    """The file whose removal marks that the kill happened."""
    (tmp_path / "fuse").touch()
    return tmp_path / "fuse"


@pytest.mark.parametrize("point", [point for point in POINTS if not point.startswith("overwrite")])
def test_a_kill_at_each_commit_step_changes_nothing_in_the_end(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path, fuse: Path, point: str
) -> None:
    out = tmp_path / "out"
    assert in_child(source, out, f"{point}:{fuse}") == -signal.SIGKILL
    assert not fuse.exists()
    run_to_the_end(source, out)
    assert files(out) == undisturbed


def test_a_kill_while_an_older_output_is_removed_leaves_a_run_that_can_go_on(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path, fuse: Path
) -> None:
    out = tmp_path / "out"
    run_to_the_end(source, out, truncate=True)
    kill_at = f"overwrite.half_removed:{fuse}"
    assert in_child(source, out, kill_at, overwrite=True) == -signal.SIGKILL
    run_to_the_end(source, out, overwrite=True)
    assert files(out) == undisturbed


def killed_and_continued(source: Path, folder: Path, seed: int) -> dict[str, bytes]:
    """The files of a run that is killed at two random points, and then let go to its end."""
    chance = random.Random(seed)
    points = [point for point in POINTS if point.startswith(("unit", "part"))]
    folder.mkdir()
    scored, fuse, out = folder / "scored", folder / "fuse", folder / "out"
    for point in chance.sample(points, 2):
        fuse.touch()
        assert in_child(source, out, f"{point}:{fuse}", scored) == -signal.SIGKILL
    run_to_the_end(source, out, log=scored)
    assert len(scored.read_text()) <= UNITS + 2, "a kill costs one unit at most"
    return files(out)


@pytest.mark.parametrize(
    "trials", [pytest.param(5, id="5"), pytest.param(50, id="50", marks=pytest.mark.nightly)]
)
def test_kills_at_random_points_cost_a_unit_each_and_change_nothing(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path, trials: int
) -> None:
    for seed in range(trials):
        assert killed_and_continued(source, tmp_path / str(seed), seed) == undisturbed
