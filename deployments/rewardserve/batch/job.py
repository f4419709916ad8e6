"""The bulk job: plan, lock, score what is missing through Ray Data, check, sum up.

Ray Data only carries units to actors. What is done is what stands in the output folder, so a run
that is ended at any point is continued by the same command.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import ray

from rewardserve.batch.crashes import CrashCounter
from rewardserve.batch.lock import locked
from rewardserve.batch.manifest import (
    SUMMARY,
    describe_run,
    fingerprint,
    missing_units,
    open_output,
    remove_temporary,
)
from rewardserve.batch.plan import Corpus, plan_corpus
from rewardserve.batch.reward_columns import suffixes
from rewardserve.batch.settings import BulkModel, BulkSettings
from rewardserve.batch.shares import Share, share
from rewardserve.batch.stage import (
    UNITS_AT_ONCE,
    Load,
    ScoreStage,
    StageSettings,
    load_model_scorer,
)
from rewardserve.batch.storage import Folder
from rewardserve.batch.unit_scoring import CorpusReading
from rewardserve.batch.units import Unit
from rewardserve.errors import ModelFailed, OutputFailed, SettingsError

ATTEMPTS: Final = 3
"""How often a unit is tried before its failure is reported."""

WAVE_UNITS: Final = 20_000
"""Ray Data is given so many at once: what it keeps of each, until all are done, is the driver's
memory. Between waves the models are loaded again."""

FATAL: Final = {"output": OutputFailed, "model": ModelFailed, "settings": SettingsError}
"""What a stage's `fatal` becomes here."""

# A driver that was killed keeps its share of the cluster for this long; read when ray.data loads.
os.environ.setdefault("RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S", "30")


@dataclass(frozen=True, slots=True)
class UnitDone:
    """A unit whose part is in place."""

    rows: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run that may start: everything is checked, and its folder is held."""

    corpus: Corpus
    settings: BulkSettings
    folder: Folder
    fingerprint: str
    missing: list[Unit]


@contextmanager
def open_run(
    inputs: Sequence[str], out: str, settings: BulkSettings, *, overwrite: bool = False
) -> Iterator[Run]:
    """Plan a run and hold its output folder. Ray must be initialised.

    Raises DataError and its kinds: nothing to read, unknown columns, an output of another run.
    """
    corpus = plan_corpus(inputs, settings)
    manifest = describe_run(corpus, settings)
    run = fingerprint(manifest)
    folder = Folder(out)
    folder.create()
    with locked(folder):
        open_output(folder, manifest, overwrite=overwrite)
        missing = missing_units(folder, corpus.units, run)
        if missing:
            folder.discard(SUMMARY)
        yield Run(corpus, settings, folder, run, missing)
        remove_temporary(folder)  # of workers that were killed


def score_missing(
    run: Run, *, actors: int | None = None, load: Load = load_model_scorer
) -> Iterator[UnitDone]:
    """Score the run's missing units; yields as their parts appear, in any order.

    A unit that fails is tried again. Raises ModelFailed when some units failed every time (all
    others are done then), OutputFailed at once when the output cannot be written, SettingsError
    when a route cannot be evaluated with these models.
    """
    todo = {unit.index: unit for unit in run.missing}
    if not todo:
        return
    failures: dict[int, str] = {}
    # Taken once: actors of one attempt may still be leaving when the next one starts.
    shares = _shares(run.settings.models, actors)
    crashes = CrashCounter.remote()  # type: ignore[attr-defined]
    for _ in range(ATTEMPTS):
        if not todo:
            return
        for row in _results(run, list(todo.values()), shares, load, crashes):
            if row["fatal"]:
                raise FATAL[row["fatal"]](row["failure"])
            if row["failure"]:
                failures[row["index"]] = row["failure"]
                continue
            del todo[row["index"]]
            yield UnitDone(row["rows"], row["tokens"])
    if todo:
        raise _failed(list(todo.values()), failures)


def _failed(units: Sequence[Unit], failures: dict[int, str]) -> ModelFailed:
    first = units[0]
    reason = failures.get(first.index, "its worker died")
    return ModelFailed(
        f"{len(units)} of the units failed {ATTEMPTS} times, the first one at row {first.skip} of "
        f"{first.path}: {reason}; all others are finished, and the same command tries these again"
    )


def _results(
    run: Run, units: Sequence[Unit], shares: Sequence[Share], load: Load, crashes: Any
) -> Iterator[dict[str, Any]]:
    for start in range(0, len(units), WAVE_UNITS):
        wave = units[start : start + WAVE_UNITS]
        yield from _results_of_wave(run, wave, shares, load, crashes)


def _results_of_wave(
    run: Run, units: Sequence[Unit], shares: Sequence[Share], load: Load, crashes: Any
) -> Iterator[dict[str, Any]]:
    # The environment variable above must be set first.
    import ray.data  # noqa: PLC0415

    from rewardserve.batch.unit_source import UnitSource  # noqa: PLC0415

    _set_up(ray.data.DataContext.get_current())
    source = UnitSource(units)
    dataset: ray.data.Dataset = ray.data.read_datasource(
        source,
        # A share of no CPU: actors may hold them all, and the source is not to become part of one.
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(size=1),
        override_num_blocks=source.tasks,
    )
    for stage, part in zip(stages_of(run), shares, strict=True):
        dataset = dataset.map(
            ScoreStage,  # type: ignore[arg-type]
            fn_constructor_args=(stage, load, crashes),
            compute=ray.data.ActorPoolStrategy(
                min_size=min(part.actors, len(units)),
                max_size=min(part.most, len(units)),
                max_tasks_in_flight_per_actor=UNITS_AT_ONCE,
                max_concurrent_calls_per_actor=UNITS_AT_ONCE,
                enable_true_multi_threading=True,
            ),
            num_cpus=part.cpus,
            num_gpus=stage.model.settings.gpus,
            accelerator_type=stage.model.settings.accelerator_type,
        )
    yield from dataset.iter_rows()


def stages_of(run: Run) -> list[StageSettings]:
    """The stages that each unit of the run passes, in order."""
    corpus = run.corpus
    reading = CorpusReading(corpus.format, corpus.schema, corpus.layout, run.settings.truncate)
    ends = suffixes(run.settings.names)
    return [
        StageSettings(
            model=model,
            suffix=ends[model.name],
            corpus=reading,
            bulk=run.settings,
            out=run.folder.path,
            run=run.fingerprint,
            last=model is run.settings.models[-1],
        )
        for model in run.settings.models
    ]


def _shares(models: Sequence[BulkModel], actors: int | None) -> list[Share]:
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = free.get("CPU", 0.0), free.get("GPU", 0.0)
    return [share(model, cpus / len(models), gpus / len(models), actors) for model in models]


def _set_up(context: Any) -> None:
    """The command shows its own progress; lost blocks come back as failed units."""
    context.target_max_block_size = 1  # in bytes: rows are never joined, and one row is one unit
    # An actor is given no more units than it works on: the pool grows when each has all of them.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.ERROR)
