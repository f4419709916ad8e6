"""Calibrating and comparing routes on real output of the bulk job, with the zoo's models."""

import io
import statistics
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from rewardserve.batch.lab.calibrate_command import calibrate_models
from rewardserve.batch.lab.routes_command import show_routes, try_routes
from rewardserve.batch.lab.scoring import lab_settings, pinned_revision
from rewardserve.batch.settings import BulkModel
from rewardserve.engine.scorer import load_scorer
from rewardserve.errors import SettingsError
from rewardserve.route_settings import RouteSettings
from rewardserve.routing.calibration import load_calibrations
from rewardserve.settings import ModelSettings

# Ray Data sets its own deprecated settings.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning:ray")

MODELS = ("skywork-llama-8b", "urm")
ROWS = 24


@pytest.fixture(scope="module")
def pairs(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = pq.read_table(zoo / "corpus" / "pairs-heldout.parquet")
    path = tmp_path_factory.mktemp("corpus") / "pairs.parquet"
    pq.write_table(corpus.slice(0, ROWS), path)
    return path


@pytest.fixture
def models(zoo: Path) -> list[str]:
    return [f"{name}={zoo / name}" for name in MODELS]


def test_calibrations_hold_the_scores_of_the_corpus(
    ray_cluster: None, zoo: Path, pairs: Path, models: list[str], tmp_path: Path
) -> None:
    studied = lab_settings(",".join(models))
    made = calibrate_models([str(pairs)], tmp_path, studied)
    assert load_calibrations(tmp_path, MODELS, dict.fromkeys(MODELS)) == made
    table: pa.Table = pq.read_table(pairs)
    conversations = table["chosen"].to_pylist() + table["rejected"].to_pylist()
    for name in MODELS:
        scores = [r.score for r in load_scorer(str(zoo / name)).score(conversations)]
        known = made[name].score
        assert known.count == 2 * ROWS
        assert known.mean == pytest.approx(statistics.fmean(scores), abs=1e-4)
        assert known.variance == pytest.approx(statistics.pvariance(scores), rel=1e-3)
    assert made["urm"].attributes.keys() == {
        "helpfulness", "correctness", "coherence", "complexity", "verbosity",
    }  # fmt: skip
    assert calibrate_models([str(pairs)], tmp_path, studied) == made


def test_routes_are_tried_on_scores_made_once(
    ray_cluster: None, pairs: Path, models: list[str], tmp_path: Path
) -> None:
    routes = {
        "mean": {"ensemble": {"members": dict.fromkeys(MODELS, 1.0), "normalize": "group_rank"}},
        "cheap": {"cascade": {"first": MODELS[0], "then": MODELS[1], "margin": 0.5}},
    }
    settings = {name: RouteSettings.model_validate(route) for name, route in routes.items()}
    report = try_routes([str(pairs)], tmp_path, lab_settings(",".join(models)), settings)
    assert report["rows"] == ROWS
    assert set(report["names"]) == {*MODELS, "mean", "cheap"}
    for shown in report["names"].values():
        assert shown["accuracy"]["all"]["rows"] == ROWS
        assert shown["errors"] == {}
    spent = {name: shown["computed_tokens"] for name, shown in report["names"].items()}
    assert spent["mean"] == spent[MODELS[0]] + spent[MODELS[1]]
    assert spent[MODELS[0]] <= spent["cheap"] <= spent["mean"]
    assert -1 <= report["kendall_tau"][MODELS[0]][MODELS[1]] <= 1
    shown_text = io.StringIO()
    show_routes(report, Console(file=shown_text, width=200))
    assert "cheap: same best response as urm alone" in shown_text.getvalue()


@pytest.mark.parametrize("revision", [None, "main"])
def test_a_model_that_may_change_unseen_is_not_studied(revision: str | None) -> None:
    model = BulkModel(name="m", settings=ModelSettings(source="org/m", revision=revision))
    with pytest.raises(SettingsError, match="`m` has no pinned commit"):
        pinned_revision(model)
