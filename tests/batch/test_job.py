"""The job on a real Ray: the same values, failures reported, a killed driver continued."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bulk_fakes import (
    DRIVER,
    finish,
    load_broken,
    load_failing,
    load_fake,
    score_all_here,
    score_here,
    settings,
    write_pairs,
)

from rewardserve.batch.job import open_run, score_missing
from rewardserve.batch.score_command import (
    DONE,
    DONE_WITH_BAD_ROWS,
    FAILED,
    ScoreOptions,
    score,
)
from rewardserve.errors import ModelFailed

# Ray Data sets its own deprecated options while it starts.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")

ROWS = 90


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("corpus") / "in.parquet", ROWS)


@pytest.mark.usefixtures("ray_cluster")
def test_ray_and_its_waves_change_nothing_in_the_output(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewardserve.batch.job.WAVE_UNITS", 7)
    monkeypatch.setattr("rewardserve.batch.unit_source.UNITS_A_TASK", 3)
    with open_run([str(source)], str(tmp_path / "ray"), settings("a", "b")) as run:
        done = list(score_missing(run, load=load_fake))
    assert sum(unit.rows for unit in done) == ROWS
    with open_run([str(source)], str(tmp_path / "here"), settings("a", "b")) as run:
        score_here(run)
    for part in sorted((tmp_path / "here").glob("part-*")):
        assert (tmp_path / "ray" / part.name).read_bytes() == part.read_bytes()


@pytest.mark.usefixtures("ray_cluster")
def test_a_unit_that_keeps_failing_is_reported_and_all_others_are_done(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with open_run([str(source)], str(out), settings()) as run:
        with pytest.raises(ModelFailed, match=r"1 of the units failed 3 times.*computed NaN"):
            list(score_missing(run, load=load_failing))
        units = len(run.corpus.units)
    assert len(list(out.glob("part-*"))) == units - 1


@pytest.mark.usefixtures("ray_cluster")
def test_a_model_that_cannot_be_loaded_ends_the_run_with_its_reason(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ScoreOptions([str(source)], str(tmp_path / "out"), "fake")
    assert score(options, load_broken) == FAILED
    assert "cannot be loaded: ValueError: no such weights" in capsys.readouterr().err


@pytest.mark.usefixtures("ray_cluster")
def test_the_command_prints_json_and_tells_bad_rows_by_its_exit_code(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ScoreOptions([str(source)], str(tmp_path / "out"), "fake", as_json=True)
    assert score(options, load_fake) == DONE
    assert json.loads(capsys.readouterr().out)["rows"] == ROWS
    bad = pq.read_table(source).to_pylist()
    bad[3]["chosen"] = []
    pq.write_table(type(pq.read_table(source)).from_pylist(bad), tmp_path / "bad.parquet")
    options = ScoreOptions(
        [str(tmp_path / "bad.parquet")], str(tmp_path / "bad"), "fake", as_json=True
    )
    assert score(options, load_fake) == DONE_WITH_BAD_ROWS
    summary = json.loads(capsys.readouterr().out)
    assert summary["bad_rows"] == 1
    assert summary["models"]["fake"]["errors"] == {"invalid_conversation": 1}


def test_a_driver_killed_half_way_is_continued_without_a_row_lost_or_doubled(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with tempfile.TemporaryDirectory(prefix="rk-", dir="/tmp", ignore_cleanup_errors=True) as temp:
        script = textwrap.dedent(DRIVER).format(fakes=str(Path(__file__).parent), temp=temp)
        command = [sys.executable, "-c", script, str(source), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout
            seen = 0
            for line in driver.stdout:
                seen += line.startswith("unit")
                if seen == 3:
                    os.kill(driver.pid, signal.SIGKILL)
                    break
        assert driver.wait() == -signal.SIGKILL
        missing = finish(command)
    assert missing < 12 - 2  # three were seen, others may have been finished
    score_all_here(source, tmp_path / "here")
    for part in sorted((tmp_path / "here").glob("part-*")):
        assert (out / part.name).read_bytes() == part.read_bytes()
    assert pq.read_table(out)["id"].to_pylist() == list(range(ROWS))
