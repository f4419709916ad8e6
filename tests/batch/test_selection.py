"""Pairs and filtered answers come out of any output folder by the rules that were asked for."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_fakes import expected_score, score_here, settings

from rewardserve.batch.job import open_run
from rewardserve.batch.selection.filter_command import keep_best
from rewardserve.batch.selection.pairs_command import mine
from rewardserve.errors import SettingsError
from rewardserve_client.pairs import PairRules

PROMPTS = 12


def turns(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def answers_to(index: int) -> list[str]:
    return [f"answer {index}.{n}" for n in range(4)]


def ranked(index: int) -> list[tuple[float, str]]:
    """Score and text of a prompt's answers, best first."""
    scored = [(expected_score(turns(f"q{index}", text)), text) for text in answers_to(index)]
    return sorted(scored, reverse=True)


def score_rows(folder: Path, rows: list[dict[str, Any]], *models: str) -> str:
    pq.write_table(pa.Table.from_pylist(rows), folder / "in.parquet")
    with open_run([str(folder / "in.parquet")], str(folder / "out"), settings(*models)) as run:
        score_here(run)
    return str(folder / "out")


def as_candidates(folder: Path) -> str:
    rows = [{"prompt": f"q{i}", "responses": answers_to(i)} for i in range(PROMPTS)]
    return score_rows(folder, rows)


def as_single_rows(folder: Path) -> str:
    rows = [{"prompt": f"q{i}", "response": a} for i in range(PROMPTS) for a in answers_to(i)]
    return score_rows(folder, rows)


@pytest.mark.parametrize("write", [as_candidates, as_single_rows])
def test_the_best_is_set_against_the_worst_of_each_prompt(tmp_path: Path, write: Any) -> None:
    counts = mine(write(tmp_path), str(tmp_path / "pairs.parquet"), PairRules())
    assert counts == {"prompts": PROMPTS, "prompts_without_a_pair": 0, "pairs": PROMPTS}
    for index, row in enumerate(pq.read_table(tmp_path / "pairs.parquet").to_pylist()):
        (best, chosen), *_, (worst, rejected) = ranked(index)
        assert row["prompt"] == [{"role": "user", "content": f"q{index}"}]
        assert row["chosen"] == [{"role": "assistant", "content": chosen}]
        assert row["rejected"] == [{"role": "assistant", "content": rejected}]
        assert row["margin"] == best - worst


def test_pairs_too_close_to_call_are_dropped_and_counted(tmp_path: Path) -> None:
    margins = [ranked(i)[0][0] - ranked(i)[-1][0] for i in range(PROMPTS)]
    least = sorted(margins)[PROMPTS // 2]
    rules = PairRules(min_margin=least)
    counts = mine(as_candidates(tmp_path), str(tmp_path / "pairs.parquet"), rules)
    assert counts["pairs"] == sum(margin >= least for margin in margins)
    assert counts["prompts_without_a_pair"] == PROMPTS - counts["pairs"]


def test_pairs_give_back_trl_rows_from_a_pair_corpus_too(tmp_path: Path) -> None:
    rows = [{"chosen": turns("q", "a"), "rejected": turns("q", "b")}]
    mine(score_rows(tmp_path, rows), str(tmp_path / "pairs.parquet"), PairRules())
    (row,) = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert row["score_chosen"] == max(expected_score(turns("q", text)) for text in "ab")


def test_filter_keeps_the_best_answer_of_the_best_prompts(tmp_path: Path) -> None:
    counts = keep_best(as_candidates(tmp_path), str(tmp_path / "kept.parquet"), fraction=0.25)
    assert counts == {"prompts": PROMPTS, "kept": 3}
    best = sorted((ranked(i)[0][0] for i in range(PROMPTS)), reverse=True)[:3]
    rows = pq.read_table(tmp_path / "kept.parquet").to_pylist()
    assert sorted((row["score"] for row in rows), reverse=True) == best
    assert all(expected_score(row["messages"]) == row["score"] for row in rows)


def test_filter_keeps_nothing_below_the_least_score(tmp_path: Path) -> None:
    counts = keep_best(as_candidates(tmp_path), str(tmp_path / "kept.parquet"), min_score=99.0)
    assert counts == {"prompts": PROMPTS, "kept": 0}
    assert pq.read_table(tmp_path / "kept.parquet").num_rows == 0


def test_answers_without_a_score_are_left_out(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "responses": ["a", "x" * 3000, "b"]}, {"prompt": None, "responses": []}]
    counts = mine(score_rows(tmp_path, rows), str(tmp_path / "pairs.parquet"), PairRules())
    assert counts == {"prompts": 1, "prompts_without_a_pair": 0, "pairs": 1}


def test_with_several_models_one_must_be_named(tmp_path: Path) -> None:
    out = score_rows(tmp_path, [{"prompt": "q", "responses": ["a", "b"]}], "one", "two")
    with pytest.raises(SettingsError, match="one, two"):
        mine(out, str(tmp_path / "pairs.parquet"), PairRules())
    assert mine(out, str(tmp_path / "pairs.parquet"), PairRules(), "two")["pairs"] == 1


@pytest.mark.parametrize("fraction", [0.0, 1.5, -1.0])
def test_a_fraction_out_of_range_is_bad_usage(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(SettingsError, match="fraction"):
        keep_best(str(tmp_path), str(tmp_path / "kept.parquet"), fraction=fraction)
