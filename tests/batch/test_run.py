"""A run's output, made in this process: values, order, resume, refusals."""

import errno
import os
from pathlib import Path
from typing import Any

import bulk_fakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_fakes import expected_score, pair, score_all_here, score_here, settings, write_pairs

from rewardserve.batch.job import open_run
from rewardserve.batch.output import open_scored
from rewardserve.batch.summary import summarise
from rewardserve.errors import DataError, OutputConflict, OutputFailed, UnknownColumns


def test_every_input_row_stands_in_the_output_in_order_with_its_scores(tmp_path: Path) -> None:
    source, out = write_pairs(tmp_path / "in.parquet", 45), tmp_path / "out"
    score_all_here(source, out)
    table = pq.read_table(out)
    assert table.select(pq.read_schema(source).names).equals(pq.read_table(source))
    for index, row in enumerate(table.to_pylist()):
        chosen, rejected = (expected_score(pair(index)[side]) for side in ("chosen", "rejected"))
        assert row["chosen_reward"]["score"] == chosen
        assert row["rejected_reward"]["score"] == rejected
        assert row["margin"] == chosen - rejected
        assert dict(row["chosen_reward"]["attributes"])["helpfulness"] == chosen / 2


def test_several_models_score_in_one_pass_each_under_its_name(tmp_path: Path) -> None:
    source, out = write_pairs(tmp_path / "in.parquet", 12), tmp_path / "out"
    with open_run([str(source)], str(out), settings("a", "b")) as run:
        score_here(run)
    for index, row in enumerate(pq.read_table(out).to_pylist()):
        for model in ("a", "b"):
            expected = expected_score(pair(index)["chosen"], model)
            assert row[f"chosen_reward_{model}"]["score"] == expected


def test_parts_never_differ_between_runs(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "in.parquet", 45)
    for name in ("one", "two"):
        score_all_here(source, tmp_path / name)
    names = [path.name for path in sorted((tmp_path / "one").glob("part-*"))]
    assert len(names) == 6  # 8-row groups: units of 8, five of them, and the last of 5
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_second_run_scores_only_what_is_missing_or_damaged(tmp_path: Path) -> None:
    source, out = write_pairs(tmp_path / "in.parquet", 45), tmp_path / "out"
    score_all_here(source, out)
    (out / "part-0000001.parquet").unlink()
    torn = out / "part-0000003.parquet"
    torn.write_bytes(torn.read_bytes()[:-9])
    with open_run([str(source)], str(out), settings()) as run:
        assert [unit.index for unit in run.missing] == [1, 3]


@pytest.mark.parametrize("change", [{"truncate": True}, {"unit_rows": 16}, {"names": ("other",)}])
def test_another_run_is_refused_unless_it_may_overwrite(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    source, out = write_pairs(tmp_path / "in.parquet", 20), tmp_path / "out"
    score_all_here(source, out)
    other = settings(*change.pop("names", ()), **change)
    with pytest.raises(OutputConflict, match="--overwrite"):
        open_run([str(source)], str(out), other).__enter__()
    with open_run([str(source)], str(out), other, overwrite=True) as run:
        assert len(run.missing) == len(run.corpus.units)
        score_here(run)
    assert pq.read_table(out).num_rows == 20


def test_a_changed_checkpoint_is_refused(tmp_path: Path) -> None:
    source, out = write_pairs(tmp_path / "in.parquet", 20), tmp_path / "out"
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"one")
    run = settings(str(weights.parent))
    with open_run([str(source)], str(out), run) as first:
        score_here(first)
    weights.write_bytes(b"two")
    with pytest.raises(OutputConflict, match="models"):
        open_run([str(source)], str(out), run).__enter__()


def test_a_changed_input_is_refused(tmp_path: Path) -> None:
    source, out = write_pairs(tmp_path / "in.parquet", 20), tmp_path / "out"
    score_all_here(source, out)
    write_pairs(source, 21)
    with pytest.raises(OutputConflict, match="inputs"):
        open_run([str(source)], str(out), settings()).__enter__()


def test_an_output_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    source, out = write_pairs(tmp_path / "in.parquet", 20), tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(OutputConflict, match="thesis"):
        open_run([str(source)], str(out), settings(), overwrite=True).__enter__()
    assert (out / "thesis.tex").read_text() == "mine"


def test_two_runs_on_one_folder_are_told_apart(tmp_path: Path) -> None:
    source, out = write_pairs(tmp_path / "in.parquet", 20), tmp_path / "out"
    second = open_run([str(source)], str(out), settings())
    with (
        open_run([str(source)], str(out), settings()),
        pytest.raises(OutputConflict, match="another run is at work"),
    ):
        second.__enter__()


def test_the_summary_counts_what_the_parts_hold(tmp_path: Path) -> None:
    source, out = write_pairs(tmp_path / "in.parquet", 45), tmp_path / "out"
    score_all_here(source, out)
    summary = summarise(open_scored(str(out)))
    right = [
        expected_score(pair(i)["chosen"]) > expected_score(pair(i)["rejected"]) for i in range(45)
    ]
    accuracy = summary["models"]["fake"]["accuracy"]
    assert summary["rows"] == accuracy["all"]["rows"] == 45
    assert accuracy["all"]["accuracy"] == pytest.approx(sum(right) / 45)
    assert accuracy["odd"]["accuracy"] == pytest.approx(sum(right[1::2]) / 22)
    assert summary["computed_tokens"] == 90


def test_columns_that_the_output_needs_may_not_be_in_the_input(tmp_path: Path) -> None:
    rows = [pair(0) | {"margin": 0.1}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    with pytest.raises(UnknownColumns, match="margin"):
        open_run([str(tmp_path / "in.parquet")], str(tmp_path / "out"), settings()).__enter__()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize(
    "step",
    [
        "pyarrow.parquet.ParquetWriter.write_table",
        "rewardserve.batch.storage._sync",
        "pathlib.Path.replace",
    ],
)
def test_a_full_or_read_only_disk_leaves_nothing_under_a_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    source, out = write_pairs(tmp_path / "in.parquet", 160), tmp_path / "out"
    with open_run([str(source)], str(out), settings()) as run:
        with monkeypatch.context() as patches:
            patches.setattr(step, refuse)
            rows = score_here(run)
        assert len(rows) == 20
        assert {row["fatal"] for row in rows} == {"output"}
        assert all(os.strerror(number) in row["failure"] for row in rows)
        assert sorted(path.name for path in out.iterdir()) == ["_lock", "_manifest.json"]
        score_here(run)
    assert pq.read_table(out).num_rows == 160


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "in.parquet", 20)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFailed, match="cannot create"):
        open_run([str(source)], str(tmp_path / "file" / "out"), settings()).__enter__()


def test_a_model_failure_fails_its_unit_and_writes_nothing_for_it(tmp_path: Path) -> None:
    source, out = write_pairs(tmp_path / "in.parquet", 45), tmp_path / "out"
    with open_run([str(source)], str(out), settings()) as run:
        rows = score_here(run, bulk_fakes.load_failing)
    assert [row["index"] for row in rows if row["failure"]] == [2]  # question 17 is in rows 16-23
    assert not (out / "part-0000002.parquet").exists()
    assert len(list(out.glob("part-*"))) == 5


def test_no_input_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .*nothing\.parquet"):
        open_run([str(tmp_path / "nothing.parquet")], "out", settings()).__enter__()
