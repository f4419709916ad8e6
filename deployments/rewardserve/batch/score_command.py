"""`rewardserve score`: one bulk run, with progress on stderr and the summary on stdout."""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from rewardserve.batch.columns import parse_overrides
from rewardserve.batch.job import Run, open_run, score_missing
from rewardserve.batch.manifest import SUMMARY
from rewardserve.batch.named_routes import resolve_names
from rewardserve.batch.output import open_scored
from rewardserve.batch.settings import BulkSettings
from rewardserve.batch.stage import Load, load_model_scorer
from rewardserve.batch.summary import summarise
from rewardserve.batch.units import UNIT_ROWS
from rewardserve.errors import RewardServeError, SettingsError

DONE: Final = 0
FAILED: Final = 1
BAD_USAGE: Final = 2
DONE_WITH_BAD_ROWS: Final = 3


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """The options of the command, as they are typed."""

    inputs: Sequence[str]
    out: str
    model: str
    """`a,b,...`: models and routes of `config`, folders or hub ids (`[name=]source[@revision]`)."""
    config: Path | None = None
    """A cluster.yaml, so that bulk and serving score alike."""
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that replace every model's own, as `gpus` or `dtype`."""
    columns: str | None = None
    truncate: bool = False
    unit_rows: int = UNIT_ROWS
    actors: int | None = None
    """At most so many of each model; as many as fit when left out."""
    overwrite: bool = False
    as_json: bool = False

    def bulk_settings(self) -> BulkSettings:
        """What decides the values of the output; raises SettingsError."""
        models, routes = resolve_names(self.model, self.config, self.model_settings)
        return BulkSettings(
            models=models,
            routes=routes,
            columns=parse_overrides(self.columns),
            truncate=self.truncate,
            unit_rows=self.unit_rows,
        )


def score(options: ScoreOptions, load: Load = load_model_scorer) -> int:
    """Score the inputs into the output folder, or go on where an earlier run stopped.

    Returns the exit code: 0 done, 3 done with bad rows, 2 bad usage, 1 failed.
    """
    console = Console(stderr=True)
    try:
        settings = options.bulk_settings()
        with (
            ray_cluster(),
            open_run(options.inputs, options.out, settings, overwrite=options.overwrite) as run,
        ):
            summary = _score(run, console, options.actors, load)
    except RewardServeError as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return BAD_USAGE if isinstance(error, SettingsError) else FAILED
    _show(summary, as_json=options.as_json)
    return DONE_WITH_BAD_ROWS if summary["bad_rows"] else DONE


@contextmanager
def ray_cluster() -> Iterator[None]:
    """The cluster that RAY_ADDRESS names (`ray job submit` sets it), else one of our own."""
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    else:
        # Its core prints an error for each actor of Ray Data's that has constructor arguments.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _score(run: Run, console: Console, actors: int | None, load: Load) -> dict[str, Any]:
    missing = sum(unit.rows for unit in run.missing)
    done = run.corpus.rows - missing
    console.print(f"recognised {run.corpus.layout.describe()}", markup=False, soft_wrap=True)
    already = f", {done:,} of them scored already" if done else ""
    console.print(
        f"{run.corpus.rows:,} rows in {len(run.corpus.inputs)} file(s), "
        f"{len(run.corpus.units):,} units{already}",
        highlight=False,
    )
    started = time.monotonic()
    _follow(run, console, done, actors, load)
    seconds = time.monotonic() - started
    summary = summarise(open_scored(run.folder.path))
    run.folder.write_json(SUMMARY, summary)
    return summary | {
        "out": run.folder.path,
        "scored_now": missing,
        "seconds": round(seconds, 3),
        "rows_per_s": round(missing / seconds, 3),
    }


def _follow(run: Run, console: Console, done: int, actors: int | None, load: Load) -> None:
    columns = (
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("scoring", total=run.corpus.rows, completed=done, rate="")
        started, tokens = time.monotonic(), 0
        for unit in score_missing(run, actors=actors, load=load):
            tokens += unit.tokens
            rate = tokens / (time.monotonic() - started)
            progress.update(bar, advance=unit.rows, rate=f"{rate:,.0f} tokens/s")


def _show(summary: dict[str, Any], *, as_json: bool) -> None:
    console = Console(soft_wrap=True)
    if as_json:
        console.print(json.dumps(summary), markup=False, highlight=False)
        return
    console.print(
        f"{summary['rows']:,} rows ({summary['bad_rows']:,} bad), "
        f"{summary['scored_now']:,} scored now at {summary['rows_per_s']:,.1f} rows/s; "
        f"{summary['tokens']:,} tokens, {summary['computed_tokens']:,} computed",
        highlight=False,
    )
    for name, model in summary["models"].items():
        console.print(f"\n{name}: {_described(model['scores'])}", markup=False, highlight=False)
        for kind, count in model["errors"].items():
            console.print(f"{count:,} without a score: {kind}", markup=False, highlight=False)
        if model["accuracy"]:
            console.print(_accuracy(model["accuracy"]))


def _described(scores: Mapping[str, Any]) -> str:
    if not scores["count"]:
        return "no scores"
    return (
        f"{scores['count']:,} scores, mean {scores['mean']:.3f}, std {scores['std']:.3f}, "
        f"{scores['lowest']:.3f} to {scores['highest']:.3f}"
    )


def _accuracy(subsets: Mapping[str, Any]) -> Table:
    table = Table()
    for heading in ("", "rows", "accuracy", "by chance", "ties"):
        table.add_column(heading, justify="right" if heading else "left")
    for subset, counts in subsets.items():
        rates = (f"{counts[key]:.1%}" for key in ("accuracy", "by_chance"))
        table.add_row(subset, f"{counts['rows']:,}", *rates, f"{counts['ties']:,}")
    return table
