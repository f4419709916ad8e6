"""A hostile file executes nothing, exhausts nothing, and hurts no other file's rows."""

import os
import pickle
import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "batch"))
from bulk_fakes import score_here, settings, write_pairs

from rewardserve.batch import units
from rewardserve.batch.inputs.files import find_files
from rewardserve.batch.inputs.formats import describe_all
from rewardserve.batch.job import open_run
from rewardserve.batch.output import open_scored
from rewardserve.batch.summary import summarise
from rewardserve.errors import DataError, RewardServeError


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def extension(name: bytes, payload: bytes, column: str = "prompt") -> pa.Schema:
    metadata = {b"ARROW:extension:name": name, b"ARROW:extension:metadata": payload}
    return pa.schema(
        [pa.field(column, pa.binary(), metadata=metadata), pa.field("response", pa.string())]
    )


def carrier_file(path: Path, schema: pa.Schema, payload: bytes) -> Path:
    table = pa.table([pa.array([payload]), pa.array(["a"])], names=schema.names)
    with pq.ParquetWriter(path, schema) as writer:
        writer.write_table(pa.Table.from_arrays(table.columns, schema=schema))
    return path


CARRIERS = [
    b"ray.data.arrow_pickled_object",
    b"ray.data.arrow_tensor",
    b"ray.data.arrow_variable_shaped_tensor",
    b"arrow.py_extension_type",
    b"datasets.features.features.Array2DExtensionType",
]


@pytest.mark.parametrize("name", CARRIERS, ids=bytes.decode)
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_pickle_carrier_is_refused_and_never_runs(
    tmp_path: Path, name: bytes, suffix: str
) -> None:
    marker = tmp_path / "executed"
    payload = pickle.dumps(Bomb(marker))
    schema = extension(name, payload)
    path = tmp_path / f"carrier{suffix}"
    if suffix == ".parquet":
        carrier_file(path, schema, payload)
    else:
        with pa.ipc.new_stream(str(path), schema) as writer:
            writer.write_table(pa.table([pa.array([payload]), pa.array(["a"])], schema=schema))
    with pytest.raises(DataError, match=r"carrier.*extension type"):
        open_run([str(path)], str(tmp_path / "out"), settings()).__enter__()
    assert not marker.exists()


def test_pickled_values_in_plain_columns_stay_bytes(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    table = pa.table({"prompt": ["q"], "response": ["a"], "extra": [pickle.dumps(Bomb(marker))]})
    pq.write_table(table, tmp_path / "in.parquet")
    with open_run([str(tmp_path / "in.parquet")], str(tmp_path / "out"), settings()) as run:
        score_here(run)
    assert pq.read_table(tmp_path / "out").select(table.column_names).equals(table)
    assert not marker.exists()


def test_ray_is_not_told_to_load_pickles_by_itself() -> None:
    assert not [name for name in os.environ if name.startswith("RAY_DATA_AUTOLOAD")]


BOMB_RUN = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {fakes!r})
import pyarrow.parquet as pq
from bulk_fakes import score_here, settings
from rewardserve.batch.job import open_run

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open_run([sys.argv[1]], sys.argv[2], settings(unit_rows=1024)) as run:
    failures = [row["failure"] for row in score_here(run) if row["failure"]]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(failures), (after - before) // 1024)
"""


def text_bomb(column: str) -> pa.Table:
    """A thousand rows of one megabyte each, stored once."""
    text = "a" * 1_000_000
    columns: dict[str, list[Any]] = {"prompt": ["q"] * 1000, "response": ["b"] * 1000}
    if column == "messages":
        return pa.table({"messages": [[{"role": "assistant", "content": text}]] * 1000})
    return pa.table(columns | {column: [text] * 1000})


@pytest.mark.parametrize("column", ["response", "messages", "unused"])
def test_a_small_file_that_decodes_to_a_gigabyte_stays_small_in_memory(
    tmp_path: Path, column: str
) -> None:
    path = tmp_path / "bomb.parquet"
    pq.write_table(text_bomb(column), path, compression="zstd", row_group_size=1000)
    assert path.stat().st_size < 100_000
    script = BOMB_RUN.format(fakes=str(Path(__file__).parents[1] / "batch"))
    answer = subprocess.run(
        [sys.executable, "-c", script, str(path), str(tmp_path / "out")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    failures, grown_mb = map(int, answer.stdout.split())
    assert failures == 0
    assert grown_mb <= 500
    summary = summarise(open_scored(str(tmp_path / "out")))
    assert summary["rows"] == 1000
    assert summary["bad_rows"] == (0 if column == "unused" else 1000)


def test_a_footer_of_very_many_row_groups_is_planned_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pairs(tmp_path / "many.parquet", 5000, row_group_size=1)
    with open_run([str(tmp_path / "many.parquet")], str(tmp_path / "out"), settings()) as run:
        assert len(run.corpus.units) == 500
    monkeypatch.setattr(units, "MAX_UNITS", 400)
    with pytest.raises(DataError, match="more than 400 units"):
        open_run([str(tmp_path / "many.parquet")], str(tmp_path / "other"), settings()).__enter__()


def mutated(data: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    changed = bytearray(data)
    for _ in range(rng.choice([1, 4, 32])):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed))] if seed % 10 == 0 else changed)


FUZZ_RUN = """
import sys
from pathlib import Path
sys.path[:0] = [{here!r}, {fakes!r}]
import test_hostile_parquet as hostile
hostile.fuzz(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])))
"""


def fuzz(folder: Path, seeds: range) -> None:
    """Score damaged files; every one is scored, or refused by name."""
    data = (folder / "good.parquet").read_bytes()
    outcomes = {"scored": 0, "refused": 0, "failed": 0}
    for seed in seeds:
        path, out = folder / f"bad-{seed}.parquet", folder / f"out-{seed}"
        path.write_bytes(mutated(data, seed))
        refused = False
        try:
            with open_run([str(path)], str(out), settings(unit_rows=100)) as run:
                failures = [row["failure"] for row in score_here(run) if row["failure"]]
        except RewardServeError as error:
            failures, refused = [error.message], True
        named = (str(path) in failure or "corpus shape" in failure for failure in failures)
        assert all(named), failures
        outcomes["refused" if refused else "failed" if failures else "scored"] += 1
    assert sum(outcomes.values()) == len(seeds)


def test_a_thousand_damaged_files_are_scored_or_refused_by_name(tmp_path: Path) -> None:
    write_pairs(tmp_path / "good.parquet", 40)
    script = FUZZ_RUN.format(
        here=str(Path(__file__).parent), fakes=str(Path(__file__).parents[1] / "batch")
    )
    # A process of its own: damage that crashed the reader would be seen as its exit code.
    answer = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), "0", "1000"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_a_damaged_file_costs_no_other_file_its_rows(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a.parquet", 40)
    damaged = bytearray(write_pairs(tmp_path / "b.parquet", 40).read_bytes())
    damaged[200:260] = bytes(60)
    (tmp_path / "b.parquet").write_bytes(bytes(damaged))
    with open_run([str(tmp_path / "*.parquet")], str(tmp_path / "out"), settings()) as run:
        rows = score_here(run)
    failed = [row for row in rows if row["failure"]]
    assert failed
    assert all(row["path"].endswith("b.parquet") for row in failed)
    assert all("b.parquet" in row["failure"] for row in failed)


def test_describing_does_not_grow_with_what_a_file_decodes_to(tmp_path: Path) -> None:
    pq.write_table(text_bomb("response"), tmp_path / "bomb.parquet", compression="zstd")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    describe_all(find_files([str(tmp_path / "bomb.parquet")]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
