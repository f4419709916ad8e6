"""What a model's scores look like on a corpus: count, mean, variance and a quantile sketch.

A calibration belongs to one model at one revision and to one corpus, and says so. It is one JSON
file per model, `<folder>/<model>.json`. Knows nothing of how the scores were computed.

The sketch is Apache DataSketches' t-digest: mergeable, 4 kB, the same bytes for the same scores in
the same order, and within about 0.1% of the true rank on continuous scores.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import datasketches
import numpy as np
from pydantic import Base64Bytes, Field, FiniteFloat, ValidationError

from rewardserve.errors import DataError, NonFiniteScore, SettingsError
from rewardserve.settings import Settings
from rewardserve_client._types import Reward

SKETCH_CENTROIDS = 200


class Distribution(Settings):
    """The scores of one model, or of one attribute, on a corpus."""

    count: Annotated[int, Field(ge=1)]
    mean: FiniteFloat
    variance: Annotated[FiniteFloat, Field(ge=0)]
    """Squared deviations divided by `count`."""
    sketch: Base64Bytes

    def digest(self) -> datasketches.tdigest_double:
        """The sketch, ready for `get_rank`. Raises SettingsError when its bytes are damaged."""
        try:
            return datasketches.tdigest_double.deserialize(self.sketch)
        except (IndexError, RuntimeError, ValueError) as error:
            raise SettingsError(
                "a calibration's quantile sketch is damaged; run rewardserve calibrate again"
            ) from error


class Calibration(Settings):
    """What is known of one model's scores, and of where that knowledge comes from."""

    format: Literal[1] = 1
    model: str
    """The name the model is served under."""
    source: str
    revision: str | None = None
    data: str
    """Fingerprint of the corpus."""
    score: Distribution
    attributes: dict[str, Distribution] = Field(default_factory=dict)

    def check_revision(self, revision: str | None) -> None:
        """Raises SettingsError when the calibration was made for another revision."""
        if revision != self.revision:
            raise SettingsError(
                f"the calibration of `{self.model}` was made for revision {self.revision}, and "
                f"revision {revision} is served; run rewardserve calibrate again"
            )


class _Scores:
    """A running distribution; merges batches by Chan, Golub and LeVeque's update."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0
        self.digest = datasketches.tdigest_double(SKETCH_CENTROIDS)

    def add(self, values: Sequence[float]) -> None:
        batch = np.asarray(values, np.float64)
        if not np.isfinite(batch).all():
            raise NonFiniteScore("a score to calibrate on is not finite; score the corpus again")
        total = self.count + len(batch)
        shift = float(batch.mean()) - self.mean
        self.squares += float(np.square(batch - batch.mean()).sum())
        self.squares += shift**2 * self.count * len(batch) / total
        self.mean += shift * len(batch) / total
        self.count = total
        self.digest.update(batch)

    def distribution(self) -> Distribution:
        return Distribution.model_construct(
            count=self.count,
            mean=self.mean,
            variance=self.squares / self.count,
            sketch=self.digest.serialize(),
        )


class Calibrator:
    """Takes in one model's rewards, batch after batch, and gives its calibration."""

    def __init__(self) -> None:
        self._score = _Scores()
        self._attributes: dict[str, _Scores] = {}

    def add(self, rewards: Sequence[Reward]) -> None:
        """Raises NonFiniteScore for a score that is none."""
        if not rewards:
            return
        self._score.add([reward.score for reward in rewards])
        for name in rewards[0].attributes or {}:
            values = [(reward.attributes or {})[name] for reward in rewards]
            self._attributes.setdefault(name, _Scores()).add(values)

    def calibration(
        self, model: str, *, source: str, revision: str | None, data: str
    ) -> Calibration:
        """Raises DataError when no reward was added."""
        if self._score.count == 0:
            raise DataError(f"the corpus gave no score of `{model}` to calibrate on")
        return Calibration(
            model=model,
            source=source,
            revision=revision,
            data=data,
            score=self._score.distribution(),
            attributes={name: part.distribution() for name, part in self._attributes.items()},
        )


def calibrate(
    model: str,
    batches: Iterable[Sequence[Reward]],
    *,
    source: str,
    revision: str | None,
    data: str,
) -> Calibration:
    """The calibration of `model` on all rewards of `batches`, which are read once."""
    calibrator = Calibrator()
    for rewards in batches:
        calibrator.add(rewards)
    return calibrator.calibration(model, source=source, revision=revision, data=data)


def save_calibration(calibration: Calibration, folder: Path) -> Path:
    """Writes `<folder>/<model>.json`, replacing it whole, and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{calibration.model}.json"
    unfinished = path.with_suffix(".json.tmp")
    unfinished.write_text(calibration.model_dump_json(indent=2) + "\n")
    unfinished.replace(path)
    return path


def load_calibrations(
    folder: Path, models: Iterable[str], revisions: Mapping[str, str | None] | None = None
) -> dict[str, Calibration]:
    """Calibrations of the models that the folder holds, by model name.

    Raises SettingsError when a file is not a calibration of its model, or was made for another
    revision than `revisions` pins for it. Rewards are checked against it once more when they come.
    """
    paths = {model: folder / f"{model}.json" for model in models}
    found = {model: _load(model, path) for model, path in paths.items() if path.is_file()}
    for model in found.keys() & (revisions or {}).keys():
        found[model].check_revision((revisions or {})[model])
    return found


def _load(model: str, path: Path) -> Calibration:
    try:
        calibration = Calibration.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise SettingsError(
            f"{path} is not a calibration: {error.error_count()} fields are wrong; "
            "run rewardserve calibrate again"
        ) from error
    if calibration.model != model:
        raise SettingsError(
            f"{path} is the calibration of `{calibration.model}`, not of `{model}`; a file bears "
            "the name of its model"
        )
    return calibration
