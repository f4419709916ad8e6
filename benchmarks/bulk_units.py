"""What a unit costs the driver: many of them through the bulk job, to actors that do nothing.

    python -m benchmarks.bulk_units                   # 100,000 units; about ten minutes
    python -m benchmarks.bulk_units --units 2000

Every unit is one row of a JSON Lines file. Planning, the lock, Ray Data and the loop over what
comes back are those of any run; only the stage's work is left out, so that what remains is what
the job itself costs. The rows of the table are taken as units come back: memory and CPU seconds of
the driver's process alone, and the wall clock of the whole job.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import ray

from benchmarks.measure import save, table, versions
from rewardserve.batch import job
from rewardserve.batch.settings import BulkModel, BulkSettings
from rewardserve.settings import ModelSettings

UNITS: Final = 100_000
MARKS: Final = (0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the units after which the driver is looked at."""


class IdleStage:
    """In place of the stage that reads, scores and writes."""

    def __init__(self, *_: Any) -> None:
        """As if a model were loaded."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """As if the row's unit were scored."""
        return row


@dataclass(frozen=True, slots=True)
class Look:
    """At the driver's process, at some moment."""

    wall_s: float
    cpu_s: float
    memory_mb: float

    @classmethod
    def now(cls) -> "Look":
        """At this process."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        return cls(time.perf_counter(), time.process_time(), memory)


def measure(units: int, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of the table, as they come. Ray must be initialised."""
    source = folder / "corpus.jsonl"
    with source.open("w") as lines:
        for index in range(units):
            row = {"prompt": f"question {index}", "response": f"answer {index}"}
            lines.write(json.dumps(row) + "\n")
    model = BulkModel(name="idle", settings=ModelSettings(source="idle"))
    settings = BulkSettings(models=(model,), unit_rows=1)
    start = Look.now()
    with (
        patch.object(job, "ScoreStage", IdleStage),
        job.open_run([str(source)], str(folder / "out"), settings) as run,
    ):
        planned = Look.now()
        yield _row("planned", start, planned)
        yield from _scored(run, units, planned)


def _scored(run: job.Run, units: int, planned: Look) -> Iterator[dict[str, Any]]:
    marks = [max(1, int(units * mark)) for mark in MARKS]
    for done, _ in enumerate(job.score_missing(run), start=1):
        if done == 1:
            yield _row("first", planned, Look.now())
        if done in marks:
            yield _row(f"{done:,}", planned, Look.now(), done)


def _row(at: str, start: Look, now: Look, units: int | None = None) -> dict[str, Any]:
    wall, cpu = now.wall_s - start.wall_s, now.cpu_s - start.cpu_s
    each = {"ms_a_unit": 1e3 * wall / units, "cpu_ms_a_unit": 1e3 * cpu / units} if units else {}
    growth = now.memory_mb - start.memory_mb
    return {"units": at, "wall_s": wall, "driver_mb": now.memory_mb, "growth_mb": growth, **each}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and, where asked, keep it as a dated file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk_units", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--units", type=int, default=UNITS)
    parser.add_argument("--results", type=Path, help="keep the figures in this folder")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(
        prefix="units-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            _temp_dir=folder,
        )
        rows = []
        for row in measure(options.units, Path(folder)):
            print(f"{row['units']}: {row['wall_s']:.1f} s, {row['driver_mb']:.0f} MB", flush=True)
            rows.append(row)
        ray.shutdown()
    print(f"\n{table(rows)}")
    if options.results:
        record = {"units": options.units, "rows": rows, "versions": versions(["ray", "pyarrow"])}
        print(f"\nkept in {save('bulk-units', record, folder=options.results)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
