"""`rewardserve calibrate`: what models' scores look like on a corpus, one file per model."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rewardserve.batch.lab.scored_rows import ScoredBatch, scored_batches
from rewardserve.batch.lab.scoring import Scored, pinned_revision, score_corpus
from rewardserve.batch.score_command import ray_cluster
from rewardserve.batch.settings import BulkSettings
from rewardserve.batch.stage import Load, load_model_scorer
from rewardserve.routing.calibration import Calibration, Calibrator, save_calibration
from rewardserve_client import Reward


def calibrate_models(
    inputs: Sequence[str], out: Path, settings: BulkSettings, load: Load = load_model_scorer
) -> dict[str, Calibration]:
    """Score the corpus with every model, and write `<out>/<model>.json` for each.

    The scores stay in `<out>/scores`, so that a run that was ended goes on where it was. Rows that
    cannot be scored are left out. Raises RewardServeError's kinds.
    """
    revisions = {model.name: pinned_revision(model) for model in settings.models}
    with ray_cluster():
        scored = score_corpus(inputs, out / "scores", settings, load)
    sources = {model.name: model.settings.source for model in settings.models}
    calibrations = calibrations_of(scored, sources, revisions)
    for calibration in calibrations.values():
        save_calibration(calibration, out)
    return calibrations


def calibrations_of(
    scored: Scored, sources: Mapping[str, str], revisions: Mapping[str, str | None]
) -> dict[str, Calibration]:
    """The calibration of each model of a scored corpus, read once; raises DataError."""
    calibrators = {model: Calibrator() for model in sources}
    for batch in scored_batches(scored.corpus, revisions):
        for model, calibrator in calibrators.items():
            calibrator.add(list(_rewards(batch, model)))
    return {
        model: calibrator.calibration(
            model, source=sources[model], revision=revisions[model], data=scored.data
        )
        for model, calibrator in calibrators.items()
    }


def _rewards(batch: ScoredBatch, model: str) -> Iterator[Reward]:
    for row in batch.rows:
        yield from (outcome for outcome in row.said[model] if isinstance(outcome, Reward))
