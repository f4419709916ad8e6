"""How the cluster is shared among models, in figures."""

import pytest

from rewardserve.batch.settings import BulkModel
from rewardserve.batch.shares import Share, share
from rewardserve.errors import SettingsError
from rewardserve.settings import ModelSettings


def model(**settings: float) -> BulkModel:
    return BulkModel(name="m", settings=ModelSettings.model_validate({"source": "m", **settings}))


@pytest.mark.parametrize(
    ("settings", "cpus", "gpus", "expected"),
    [
        ({}, 4, 0, Share(4, 4, 1)),
        ({"cpus": 2}, 5, 0, Share(2, 2, 2)),
        ({}, 2 / 3, 0, Share(1, 1, 0.66)),
        # what an idle replica sets aside is no measure of a busy actor
        ({"cpus": 0.1}, 4, 0, Share(4, 4, 1)),
        ({"cpus": 0.1}, 2 / 3, 0, Share(1, 1, 0.66)),
        ({"gpus": 1, "cpus": 0.5}, 16, 4, Share(4, 4, 0.5)),
    ],
)
def test_a_model_has_as_many_actors_as_fit(
    settings: dict[str, float], cpus: float, gpus: float, expected: Share
) -> None:
    assert share(model(**settings), cpus, gpus, None) == expected


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match="asks for 1 GPUs and 0 are free"):
        share(model(gpus=1), 4, 0, None)
