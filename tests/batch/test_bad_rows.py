"""One row in a hundred is poison: the others are scored, and each bad one says why."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_fakes import MAX_TOKENS, expected_score, score_all_here

from rewardserve.batch.conversations import MAX_CHARS
from rewardserve.batch.output import open_scored
from rewardserve.batch.summary import summarise

ROWS = 20_000
EVERY = 100

POISON: list[tuple[list[Any] | None, str]] = [
    (None, "invalid_conversation: the response is null"),
    ([], "invalid_conversation: the last message"),
    ([None], "invalid_conversation: a message is null"),
    ([{"role": "user", "content": "no answer"}], "invalid_conversation: the last message"),
    ([{"role": None, "content": "x"}], "invalid_conversation: a message has no role"),
    ([{"role": "assistant", "content": None}], "invalid_conversation: a message has no role"),
    (
        [{"role": "assistant", "content": "x" * (MAX_TOKENS + 1)}],
        "conversation_too_long: 2012 tokens",
    ),
    ([{"role": "assistant", "content": "x" * (MAX_CHARS + 1)}], "conversation_too_long: 400,001"),
    ([{"role": "assistant", "content": "ß" * 5_000_000}], "10,000,009 bytes of text"),
]


def row(index: int) -> dict[str, Any]:
    if index % EVERY == EVERY - 1:
        poison = index // EVERY
        # The ten megabytes stand in one row alone: they are to be survived, not to fill the disk.
        kind = len(POISON) - 1 if poison == 7 else poison % (len(POISON) - 1)
        return {"id": index, "messages": POISON[kind][0]}
    return {"id": index, "messages": [{"role": "assistant", "content": f"answer {index}"}]}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poison")
    table = pa.Table.from_pylist([row(index) for index in range(ROWS)])
    pq.write_table(table, folder / "in.parquet", row_group_size=1000)
    score_all_here(folder / "in.parquet", folder / "out", unit_rows=1024)
    return folder / "out"


def test_good_rows_are_all_scored_and_bad_rows_all_explained(scored: Path) -> None:
    table = pq.read_table(scored)
    assert table["id"].to_pylist() == list(range(ROWS))
    rewards = table["reward"].to_pylist()
    for index, reward in enumerate(rewards):
        if index % EVERY == EVERY - 1:
            assert reward["score"] is None
            assert any(reason in reward["error"] for _, reason in POISON), reward["error"]
        else:
            assert reward["score"] == expected_score(row(index)["messages"])
            assert reward["error"] is None


def test_the_counts_by_kind_add_up(scored: Path) -> None:
    summary = summarise(open_scored(str(scored)))
    assert summary["rows"] == ROWS
    assert summary["bad_rows"] == ROWS // EVERY
    assert sum(summary["models"]["fake"]["errors"].values()) == ROWS // EVERY
    assert summary["models"]["fake"]["scores"]["count"] == ROWS - ROWS // EVERY
    assert set(summary["models"]["fake"]["errors"]) == {
        "invalid_conversation",
        "conversation_too_long",
    }


def test_a_poison_row_is_still_in_the_output_as_it_was(scored: Path) -> None:
    messages = pq.read_table(scored)["messages"]
    assert messages[799].as_py() == POISON[-1][0]


def test_one_bad_side_costs_a_pair_its_margin_and_nothing_else(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "chosen": "good", "rejected": None},
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    score_all_here(tmp_path / "in.parquet", tmp_path / "out")
    first, second = pq.read_table(tmp_path / "out").to_pylist()
    assert first["chosen_reward"]["score"] == second["chosen_reward"]["score"]
    assert first["rejected_reward"]["score"] is None
    assert first["margin"] is None
    assert second["margin"] is not None
    assert summarise(open_scored(str(tmp_path / "out")))["bad_rows"] == 1


def test_bad_lines_of_json_are_bad_rows(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": "q", "responses": ["a", "b"]})] * 3
    lines[1] = '{"prompt": "q", "responses": [broken'
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    score_all_here(tmp_path / "in.jsonl", tmp_path / "out")
    rewards = pq.read_table(tmp_path / "out")["rewards"].to_pylist()
    assert [len(each) for each in rewards] == [2, 1, 2]
    assert rewards[1][0]["error"] == "invalid_conversation: the line is not JSON"


def test_text_that_is_not_utf8_is_a_bad_row(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"\xff\xfe", b"fine too"], pa.binary()).view(pa.string())
    table = pa.table({"prompt": ["q"] * 3, "response": raw})
    pq.write_table(table, tmp_path / "in.parquet")
    score_all_here(tmp_path / "in.parquet", tmp_path / "out")
    rewards = pq.read_table(tmp_path / "out", columns=["reward"])["reward"].to_pylist()
    assert [reward["error"] for reward in rewards] == [
        None,
        "invalid_conversation: a text is not valid UTF-8",
        None,
    ]
