"""The report of every corpus shape: whole, self-contained, and safe to open."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_fakes import expected_score, pair, score_here, settings, write_pairs

from rewardserve.batch.job import open_run
from rewardserve.batch.output import open_scored
from rewardserve.batch.report.answers import read_answers
from rewardserve.batch.report.report_command import report
from rewardserve.batch.report.rewardbench import SECTIONS, V2_SUBSETS
from rewardserve.errors import DataError

PNG = b"\x89PNG\r\n\x1a\n"


def scored_rows(folder: Path, rows: list[dict[str, Any]], *models: str) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / "in.parquet")
    with open_run([str(folder / "in.parquet")], str(folder / "out"), settings(*models)) as run:
        score_here(run)
    return folder / "out"


def candidates(count: int) -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"question {index} <script>alert(1)</script>",
            "responses": [f"answer {index}.{n} " + "long " * n for n in range(4)],
            "labels": [n == index % 4 for n in range(4)],
            "subset": "odd" if index % 2 else "even",
        }
        for index in range(count)
    ]


def test_pairs_by_two_models_get_every_figure_and_number(tmp_path: Path) -> None:
    out = scored_rows(tmp_path, [pair(index) for index in range(60)], "a", "b")
    folder = Path(report(str(out)))
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "report.html", "report.json", "score_distributions.png", "accuracy_by_subset.png",
        "margin_calibration.png", "score_against_length.png", "agreement.png",
    }  # fmt: skip
    assert all(path.read_bytes().startswith(PNG) for path in folder.glob("*.png"))
    content = json.loads((folder / "report.json").read_text())
    assert content["summary"]["rows"] == 60
    assert content["agreement"][0][0] == pytest.approx(1)
    assert set(content["models"]) == {"a", "b"}


def test_the_page_is_self_contained_and_escapes_the_corpus(tmp_path: Path) -> None:
    out = scored_rows(tmp_path, candidates(40))
    page = (Path(report(str(out))) / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/png;base64,") == 5
    assert "Most confident mistakes of fake" in page
    assert "Best of n" in page


def test_single_rows_are_reported_without_labels(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{index}", "response": f"a{index}"} for index in range(30)]
    folder = Path(report(str(scored_rows(tmp_path, rows))))
    assert {path.name for path in folder.glob("*.png")} == {
        "score_distributions.png",
        "score_against_length.png",
    }


def test_the_report_does_not_disturb_reading_the_output(tmp_path: Path) -> None:
    out = scored_rows(tmp_path, candidates(10))
    report(str(out))
    assert pq.read_table(out).num_rows == 10
    with open_run([str(tmp_path / "in.parquet")], str(out), settings()) as run:
        assert not run.missing


def test_a_sample_spreads_over_the_corpus_and_keeps_rows_whole(tmp_path: Path) -> None:
    out = scored_rows(tmp_path, candidates(50))
    answers = read_answers(open_scored(str(out)), max_answers=40)
    assert sorted(set(answers.row_numbers.tolist())) == list(range(0, 50, 5))
    assert [row.stop - row.start for row in answers.by_row()] == [4] * 10
    prompt = candidates(50)[45]
    turns = [
        {"role": "user", "content": prompt["prompt"]},
        {"role": "assistant", "content": prompt["responses"][2]},
    ]
    found = (answers.row_numbers == 45) & (answers.positions == 2)
    assert answers.scores[found][0, 0] == expected_score(turns)


def test_rewardbench_scores_appear_when_its_subsets_are_there(tmp_path: Path) -> None:
    subsets = [subset for section in SECTIONS.values() for subset in section]
    rows = [
        {"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}", "subset": subset}
        for i, subset in enumerate(subsets * 2)
    ]
    folder = report(str(scored_rows(tmp_path, rows)))
    scores = json.loads((Path(folder) / "report.json").read_text())["rewardbench"]
    assert set(scores) == {"RewardBench"}
    assert list(scores["RewardBench"]["fake"])[-1] == "Overall"


def test_rewardbench_2_scores_appear_with_its_ties(tmp_path: Path) -> None:
    def row(index: int, subset: str, name: str, right: int) -> dict[str, Any]:
        return {
            "id": name, "prompt": f"q{index}", "subset": subset,
            "chosen": [f"good {index} {n}" for n in range(right)], "rejected": ["x", "y", "z"],
        }  # fmt: skip

    rows = [row(index, subset, str(index), 1) for index, subset in enumerate(V2_SUBSETS)]
    rows += [row(9, "Ties", "ref:1", 1), row(10, "Ties", "tied:1", 4)]
    folder = report(str(scored_rows(tmp_path, rows)))
    content = json.loads((Path(folder) / "report.json").read_text())
    assert set(content["rewardbench"]) == {"RewardBench 2"}
    assert "RewardBench 2" in (Path(folder) / "report.html").read_text()


def test_a_folder_that_is_no_output_is_named(tmp_path: Path) -> None:
    write_pairs(tmp_path / "in.parquet", 3)
    with pytest.raises(DataError, match="no output of"):
        report(str(tmp_path))
