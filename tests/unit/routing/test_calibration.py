"""What a calibration keeps of its corpus, on disk too, and when it is refused."""

import statistics
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardserve.errors import DataError, NonFiniteScore, SettingsError
from rewardserve.routing.calibration import (
    Calibration,
    calibrate,
    load_calibrations,
    save_calibration,
)
from rewardserve_client._types import Reward

score = st.floats(-1e6, 1e6)


def rewards_of(values: list[float]) -> list[Reward]:
    return [
        Reward(score=value, model="m", attributes={"style": 2 * value, "safety": -value})
        for value in values
    ]


def calibration_of(values: list[float], revision: str | None = "r1") -> Calibration:
    return calibrate("m", [rewards_of(values)], source="org/m", revision=revision, data="f00d")


@given(values=st.lists(score, min_size=1, max_size=60), data=st.data())
def test_batches_make_no_difference_to_the_moments(
    values: list[float], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    batches = [rewards_of(values[a:b]) for a, b in pairwise([0, *cuts, len(values)])]
    known = calibrate("m", batches, source="m", revision=None, data="x").score
    assert known.count == len(values)
    assert known.mean == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-6)
    assert known.variance == pytest.approx(statistics.pvariance(values), rel=1e-6, abs=1e-3)


def test_the_sketch_knows_ranks_within_a_half_percent() -> None:
    values = np.random.default_rng(3).gamma(2.0, 5.0, size=30_000)
    digest = calibration_of(values.tolist()).score.digest()
    for value in np.quantile(values, np.linspace(0, 1, 51)):
        assert digest.get_rank(value) == pytest.approx((values < value).mean(), abs=0.005)


def test_attributes_have_distributions_of_their_own() -> None:
    known = calibration_of([1.0, 2.0, 3.0])
    assert known.attributes["style"].mean == pytest.approx(4.0)
    assert known.attributes["safety"].mean == pytest.approx(-2.0)


def test_the_same_scores_make_the_same_file(tmp_path: Path) -> None:
    values = np.random.default_rng(5).normal(size=5_000).tolist()
    first = save_calibration(calibration_of(values), tmp_path / "one").read_bytes()
    second = save_calibration(calibration_of(values), tmp_path / "two").read_bytes()
    assert first == second
    assert len(first) < 32_000


def test_a_calibration_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    known = calibration_of([1.0, 5.0, 2.0])
    save_calibration(known, tmp_path)
    loaded = load_calibrations(tmp_path, ["m", "another"])
    assert loaded == {"m": known}
    assert loaded["m"].score.digest().get_rank(2.0) == known.score.digest().get_rank(2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


@pytest.mark.parametrize("served", ["r2", None])
def test_another_revision_is_refused_by_name(served: str | None) -> None:
    with pytest.raises(SettingsError, match=r"`m` was made for revision r1, and revision"):
        calibration_of([1.0]).check_revision(served)


def test_a_calibration_for_another_revision_is_not_loaded(tmp_path: Path) -> None:
    save_calibration(calibration_of([1.0]), tmp_path)
    assert load_calibrations(tmp_path, ["m"], {"m": "r1"})
    with pytest.raises(SettingsError, match="made for revision r1"):
        load_calibrations(tmp_path, ["m"], {"m": "r2"})


@pytest.mark.parametrize("content", ["", "{}", '{"model": "m"}', "\x00"])
def test_a_file_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(SettingsError, match=r"m\.json is not a calibration"):
        load_calibrations(tmp_path, ["m"])


def test_a_file_that_speaks_of_another_model_is_refused(tmp_path: Path) -> None:
    save_calibration(calibration_of([1.0]), tmp_path).rename(tmp_path / "other.json")
    with pytest.raises(SettingsError, match="calibration of `m`, not of `other`"):
        load_calibrations(tmp_path, ["other"])


def test_a_damaged_sketch_is_refused() -> None:
    known = calibration_of([1.0, 2.0]).score.model_copy(update={"sketch": b"\x01\x02"})
    with pytest.raises(SettingsError, match="damaged"):
        known.digest()


def test_no_scores_are_no_calibration() -> None:
    with pytest.raises(DataError, match="no score of `m`"):
        calibration_of([])


def test_a_score_that_is_none_is_never_taken_in() -> None:
    with pytest.raises(NonFiniteScore):
        calibration_of([1.0, float("nan")])
