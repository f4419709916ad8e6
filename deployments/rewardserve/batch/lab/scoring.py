"""Has a corpus scored by several models, in a folder that the same experiment finds again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from rewardserve.batch.columns import parse_overrides
from rewardserve.batch.job import open_run, score_missing
from rewardserve.batch.manifest import describe_run, fingerprint
from rewardserve.batch.models import resolve_models, revision_of
from rewardserve.batch.output import ScoredCorpus, open_scored
from rewardserve.batch.plan import plan_corpus
from rewardserve.batch.settings import BulkModel, BulkSettings
from rewardserve.batch.stage import Load, load_model_scorer
from rewardserve.errors import SettingsError

COMMIT_DIGITS = 40


@dataclass(frozen=True, slots=True)
class Scored:
    """A corpus with every model's rewards."""

    corpus: ScoredCorpus
    data: str
    """Fingerprint of the input files and of how their rows were read."""


def lab_settings(
    models: str,
    config: Path | None = None,
    model_settings: Mapping[str, Any] = {},
    *,
    columns: str | None = None,
    truncate: bool = False,
) -> BulkSettings:
    """Of an experiment's options: models alone, as `resolve_models`; raises SettingsError."""
    return BulkSettings(
        models=resolve_models(models, config, model_settings),
        columns=parse_overrides(columns),
        truncate=truncate,
    )


def score_corpus(
    inputs: Sequence[str], folder: Path, settings: BulkSettings, load: Load = load_model_scorer
) -> Scored:
    """Scores what is missing under `folder` and opens it all. Ray must be initialised.

    Every corpus and set of models has a folder of its own inside, named by its fingerprint. Raises
    DataError and its kinds, and ModelFailed.
    """
    manifest = describe_run(plan_corpus(inputs, settings), settings)
    read = {key: manifest[key] for key in ("shape", "roles", "prompt_source", "inputs", "truncate")}
    out = str(folder / fingerprint(manifest)[:16])
    console = Console(stderr=True)
    with (
        open_run(inputs, out, settings) as run,
        Progress(console=console, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task("scoring", total=sum(unit.rows for unit in run.missing))
        for unit in score_missing(run, load=load):
            progress.advance(bar, unit.rows)
    return Scored(open_scored(out), fingerprint(read))


def pinned_revision(model: BulkModel) -> str | None:
    """The commit that the model's rewards will name; None for a local folder.

    Raises SettingsError for a hub id that follows a branch.
    """
    revision = revision_of(model)
    if Path(model.settings.source).is_dir() or len(revision or "") == COMMIT_DIGITS:
        return revision
    raise SettingsError(
        f"`{model.name}` has no pinned commit, so that what is learnt of it could be used for "
        "another revision; write source@<commit>, or pin it in cluster.yaml",
        "revision",
    )
