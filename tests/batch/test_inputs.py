"""Every input format gives the same rows, whatever range of them is asked for."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardserve.batch.inputs.files import find_files
from rewardserve.batch.inputs.formats import describe_all, open_reader
from rewardserve.batch.inputs.rows import decoded_bytes, slices_of
from rewardserve.batch.units import cut
from rewardserve.errors import DataError

ROWS: list[dict[str, Any]] = [
    {
        "id": index,
        "prompt": None if index % 7 == 3 else f"question {index} über ☃",
        "responses": [f"answer {index}.{n}" for n in range(index % 4)],
        "turns": [{"role": "user", "content": f"hi {index}"}] * (index % 3),
    }
    for index in range(57)
]
TABLE = pa.Table.from_pylist(ROWS)


def write_parquet(path: Path) -> None:
    pq.write_table(TABLE, path.with_suffix(".parquet"), row_group_size=13)


def write_jsonl(path: Path) -> None:
    path.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, ROWS)))


def write_gzip(path: Path) -> None:
    text = "".join(json.dumps(row) + "\r\n" for row in ROWS)
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(text.encode()))


def write_stream(path: Path) -> None:
    with pa.ipc.new_stream(str(path.with_suffix(".arrow")), TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=13)


def write_file(path: Path) -> None:
    with pa.ipc.new_file(str(path.with_suffix(".feather")), TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=13)


WRITERS = [write_parquet, write_jsonl, write_gzip, write_stream, write_file]


@pytest.mark.parametrize("unit_rows", [1, 5, 13, 100])
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_units_of_every_format_hold_every_row_once(
    tmp_path: Path, write: Callable[[Path], None], unit_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewardserve.batch.inputs.jsonl.BLOCK_BYTES", 700)
    write(tmp_path / "data")
    files = find_files([str(tmp_path)])
    (description,) = describe_all(files)
    reader = open_reader(files[0].format, description.schema)
    rows = [
        row
        for unit in cut([(files[0].path, description.blocks)], unit_rows)
        for batch in reader.read(unit.path, unit)
        for piece in batch.decoded(description.schema)
        for row in piece.to_pylist()
    ]
    assert rows == ROWS


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_units_may_be_read_in_any_order(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "data")
    files = find_files([str(tmp_path)])
    (description,) = describe_all(files)
    reader = open_reader(files[0].format, description.schema)
    units = list(cut([(files[0].path, description.blocks)], 4))
    for unit in [units[9], units[2], units[2], units[3]]:
        ids = [i for b in reader.read(unit.path, unit) for i in b.batch["id"].to_pylist()]
        first = sum(u.rows for u in units[: unit.index])
        assert ids == list(range(first, first + unit.rows))


def test_a_bad_json_line_costs_its_row_alone(tmp_path: Path) -> None:
    lines = [
        '{"prompt": "a", "n": 1}',
        "{not json",
        '["a list"]',
        '{"prompt": 5, "n": 2}',
        '{"prompt": "\\ud800", "n": 3}',
        '{"prompt": "b", "n": 1e400}',
        b'{"prompt": "\xff"}'.decode("latin-1"),
        '{"prompt": "c", "n": 4}',
    ]
    path = tmp_path / "bad.jsonl"
    path.write_bytes("\n".join(lines).encode("latin-1"))
    files = find_files([str(path)])
    (description,) = describe_all(files)
    (unit,) = cut([(files[0].path, description.blocks)])
    (rows,) = open_reader("jsonl", description.schema).read(str(path), unit)
    assert rows.batch["prompt"].to_pylist() == ["a", None, None, None, None, "b", None, "c"]
    assert sorted(rows.problems) == [1, 2, 3, 4, 6]
    assert rows.problems[3] == "column prompt is not string"
    assert description.schema.field("prompt").type == pa.string()


def test_the_digest_changes_with_the_content(tmp_path: Path) -> None:
    for write in WRITERS:
        write(tmp_path / "data")
    before = {d.digest for d in describe_all([find_files([str(p)])[0] for p in tmp_path.iterdir()])}
    assert len(before) == len(WRITERS)
    path = tmp_path / "data.jsonl"
    path.write_text(path.read_text().replace("question 55", "question XX"))
    assert describe_all(find_files([str(path)]))[0].digest not in before


def test_names_folders_and_globs_give_files_in_order(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet", "deep/c.parquet", "_hidden.parquet", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(TABLE, path) if name.endswith("parquet") else path.write_text("x")

    def names(*given: str) -> list[str]:
        found = find_files([str(tmp_path / each) for each in given])
        return [str(Path(file.path).relative_to(tmp_path)) for file in found]

    assert names("") == ["a.parquet", "b.parquet", "deep/c.parquet"]
    assert names("*.parquet") == ["_hidden.parquet", "a.parquet", "b.parquet"]
    assert names("**/?.parquet") == ["a.parquet", "b.parquet", "deep/c.parquet"]
    assert names("deep/*", "a.parquet") == ["deep/c.parquet", "a.parquet"]
    with pytest.raises(DataError, match="named twice"):
        names("a.parquet", "*.parquet")
    with pytest.raises(DataError, match="no input files"):
        names("*.jsonl")
    with pytest.raises(DataError, match="known suffixes"):
        names("notes.txt")


def test_a_folder_of_the_datasets_library_is_read_by_its_state(tmp_path: Path) -> None:
    for name in ("data-00001-of-00002", "data-00000-of-00002", "cache-1"):
        write_stream(tmp_path / name)
    shards = [{"filename": f"data-0000{n}-of-00002.arrow"} for n in (0, 1)]
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": shards}))
    names = [Path(file.path).name for file in find_files([str(tmp_path)])]
    assert names == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]


def test_a_dataset_with_splits_asks_for_one(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match=r"/train, .*/test"):
        find_files([str(tmp_path)])


def test_a_folder_of_mixed_formats_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a")
    write_jsonl(tmp_path / "b")
    with pytest.raises(DataError, match="mixes jsonl and parquet"):
        find_files([str(tmp_path)])


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(DataError, match="no filesystem for nosuch://"):
        find_files(["nosuch://bucket/file.parquet"])


TEXTS = st.lists(st.none() | st.text(max_size=8), min_size=1, max_size=20)


@given(TEXTS, st.booleans())
def test_decoded_bytes_are_what_decoding_would_give(
    texts: list[str | None], as_dictionary: bool
) -> None:
    flat = pa.array(texts, pa.string())
    flat = flat.dictionary_encode() if as_dictionary else flat
    structs = pa.StructArray.from_arrays([flat, flat], ["role", "content"])
    lists = pa.ListArray.from_arrays(pa.array([0, *range(1, len(texts) + 1)], pa.int32()), structs)
    batch = pa.record_batch([flat, lists], names=["a", "b"])
    expected = [3 * len((text or "").encode()) for text in texts]
    assert decoded_bytes(batch).tolist() == expected
    assert decoded_bytes(batch.slice(1)).tolist() == expected[1:]


@given(st.lists(st.integers(0, 30)), st.integers(1, 40))
def test_slices_cover_everything_within_the_limit(sizes: list[int], limit: int) -> None:
    ranges = list(slices_of(np.array(sizes, np.int64), limit))
    assert [i for start, stop in ranges for i in range(start, stop)] == list(range(len(sizes)))
    assert all(sum(sizes[a:b]) <= limit or b - a == 1 for a, b in ranges)
