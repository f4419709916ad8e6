"""Routes in bulk: the rewards that serving would give, their models found, runs resumed."""

import asyncio
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from bulk_fakes import FakeScorer, expected_score, load_fake, pair, score_here, write_pairs

from rewardserve.batch.job import open_run
from rewardserve.batch.named_routes import resolve_names
from rewardserve.batch.output import open_scored
from rewardserve.batch.score_command import BAD_USAGE, DONE, ScoreOptions, score
from rewardserve.batch.settings import BulkSettings
from rewardserve.batch.summary import summarise
from rewardserve.errors import OutputConflict, SettingsError
from rewardserve.routing.calibration import calibrate, save_calibration
from rewardserve.routing.evaluate import Item, evaluate
from rewardserve.serving.cluster_file import read_cluster_file
from rewardserve.serving.router import plan_of
from rewardserve_client import Reward

MODELS = ("a", "b", "c", "unused")
KNOWN_SCORES = {"a": [-0.2, 0.6], "b": [-0.5, 0.1], "c": [0.0, 1.0], "unused": [0.0, 1.0]}
"""What the calibrations were made on; of two scores the std is half their distance."""
ROUTES: dict[str, Any] = {
    "trio": {"ensemble": {"members": {"a": 1, "b": 1, "c": 2}, "normalize": "zscore"}},
    "ranked": {"ensemble": {"members": {"a": 1, "b": 1}, "normalize": "group_rank"}},
    "nested": {"cascade": {"first": "a", "then": "ranked", "top_k": 2}},
    "own": {"attributes": {"model": "a", "weights": {"helpfulness": 2.0, "verbosity": -0.5}}},
    "by-subset": {"select": {"rules": [{"when": {"subset": "odd"}, "use": "b"}], "default": "c"}},
    "half": {"split": {"weights": {"a": 1.0, "b": 1.0}}},
    "watched": {"shadow": {"answer": "b", "shadows": ["unused"]}},
    "plain": {"single": "c"},
}
ROWS = 21


def write_config(folder: Path, routes: dict[str, Any] = ROUTES, **router: Any) -> Path:
    calibration = folder / "calibration"
    for model, scores in KNOWN_SCORES.items():
        rewards = [Reward(score=score, model=model) for score in scores]
        save_calibration(
            calibrate(model, [rewards], source=model, revision=None, data="known"), calibration
        )
    applications: list[dict[str, Any]] = [
        {
            "name": name,
            "route_prefix": None,
            "import_path": "rewardserve.app:model",
            "args": {"source": f"fake/{name}"},
        }
        for name in MODELS
    ]
    args = {"models": list(MODELS), "routes": routes, "calibration": str(calibration), **router}
    applications.append({"name": "r", "import_path": "rewardserve.app:router", "args": args})
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump({"applications": applications}))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "in.parquet", ROWS)


def settings(names: str, config: Path) -> BulkSettings:
    models, routes = resolve_names(names, config)
    return BulkSettings(models=models, routes=routes, unit_rows=10)


def scored(source: Path, out: Path, names: str, config: Path) -> list[dict[str, Any]]:
    with open_run([str(source)], str(out), settings(names, config)) as run:
        assert not [row["failure"] for row in score_here(run) if row["failure"]]
    rows: list[dict[str, Any]] = pq.read_table(out).to_pylist()
    return rows


def zscore(model: str, score: float) -> float:
    known = KNOWN_SCORES[model]
    return (score - statistics.fmean(known)) / statistics.pstdev(known)


def test_an_ensemble_is_the_weighted_mean_of_its_members_z_scores(
    source: Path, config: Path, tmp_path: Path
) -> None:
    for index, row in enumerate(scored(source, tmp_path / "out", "trio", config)):
        for side in ("chosen", "rejected"):
            raw = {model: expected_score(pair(index)[side], model) for model in "abc"}
            z = [zscore(model, each) for model, each in raw.items()]
            reward = row[f"{side}_reward_trio"]
            assert reward["score"] == pytest.approx((z[0] + z[1] + 2 * z[2]) / 4)
            assert dict(reward["members"]) == raw
            assert dict(reward["uncertainty"]) == {"spread": pytest.approx(statistics.pstdev(z))}
            assert reward["tokens"] == sum(row[f"{side}_reward_{m}"]["tokens"] for m in "abc")
        sides = (row[f"{side}_reward_trio"]["score"] for side in ("chosen", "rejected"))
        assert row["margin_trio"] == pytest.approx(next(sides) - next(sides))


def test_candidates_of_a_row_are_compared_with_each_other(tmp_path: Path) -> None:
    routes = {"best": {"ensemble": {"members": {"a": 1, "b": 3}, "normalize": "group_zscore"}}}
    responses = [f"answer {index}" for index in range(5)]
    table = pa.table({"prompt": ["q?"], "responses": [responses]})
    pq.write_table(table, tmp_path / "in.parquet")
    config = write_config(tmp_path, routes)
    (row,) = scored(tmp_path / "in.parquet", tmp_path / "out", "best", config)
    turns = [
        [{"role": "user", "content": "q?"}, {"role": "assistant", "content": response}]
        for response in responses
    ]
    raw = {model: [expected_score(each, model) for each in turns] for model in "ab"}
    z = {
        model: [(each - statistics.fmean(of)) / statistics.pstdev(of) for each in of]
        for model, of in raw.items()
    }
    expected = [0.25 * one + 0.75 * other for one, other in zip(z["a"], z["b"], strict=True)]
    assert [each["score"] for each in row["rewards_best"]] == pytest.approx(expected)


async def ask_fakes(model: str, items: Sequence[Item]) -> list[Reward]:
    """What the router asks of running models, of fakes."""
    scorer = FakeScorer(model)
    return scorer.score_encoded([scorer.encode(item) for item in items]).rewards


@pytest.mark.parametrize("name", ROUTES)
def test_every_kind_of_route_scores_as_it_is_served(
    name: str, source: Path, config: Path, tmp_path: Path
) -> None:
    (router,) = read_cluster_file(config).routers.values()
    route = plan_of(router).route(name)
    for index, row in enumerate(scored(source, tmp_path / "out", name, config)):
        group = [pair(index)["chosen"], pair(index)["rejected"]]
        tags = {"subset": row["subset"]}
        (served,) = asyncio.run(evaluate(route, [group], ask_fakes, tags=tags))
        for side, reward in zip(("chosen", "rejected"), served, strict=True):
            bulk = row[f"{side}_reward_{name}"]
            assert bulk["score"] == reward.score
            assert bulk["tokens"] == reward.tokens
            assert dict(bulk["attributes"] or {}) == (reward.attributes or {})
            assert dict(bulk["uncertainty"] or {}) == (reward.uncertainty or {})
            members = {each: part.score for each, part in (reward.members or {}).items()}
            assert dict(bulk["members"] or {}) == members


@pytest.mark.parametrize(
    ("names", "models"),
    [
        ("trio", ["a", "b", "c"]),
        ("c,trio", ["c", "a", "b"]),
        ("nested", ["a", "b"]),
        ("own,plain", ["a", "c"]),
        ("by-subset", ["b", "c"]),
        ("half", ["a", "b"]),
        ("watched", ["b"]),
    ],
)
def test_a_route_brings_the_models_that_it_asks_and_no_others(
    names: str, models: list[str], config: Path
) -> None:
    found = settings(names, config)
    assert [model.name for model in found.models] == models
    assert {model.settings.source for model in found.models} == {f"fake/{name}" for name in models}
    assert found.names == [*models, *(name for name in names.split(",") if name in ROUTES)]


def test_settings_of_the_command_reach_the_models_behind_a_route(config: Path) -> None:
    models, _ = resolve_names("plain", config, {"dtype": "bfloat16"})
    assert [model.settings.dtype for model in models] == ["bfloat16"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "trioo",
            r"`trioo` is no name, no folder and no hub id.*models: a, b.*routes: by-subset, ",
        ),
        ("trio,trio", "the same name"),
        ("trio=org/model,trio", "the same name"),
        ("a=org/model,trio", "`a` is asked by a route"),
    ],
)
def test_names_that_do_not_tell_what_is_meant_are_refused(
    names: str, message: str, config: Path
) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve_names(names, config)


def test_hub_ids_and_folders_stand_beside_routes(config: Path, tmp_path: Path) -> None:
    models, _ = resolve_names(f"org/other@main,mine={tmp_path},plain", config)
    assert [model.name for model in models] == ["other", "mine", "c"]


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ({"r": {"single": "nobody"}}, "`r` names `nobody`"),
        ({"r": {"single": "s"}, "s": {"single": "r"}}, "circle"),
        ({"r": {"ensemble": {"members": {"a": 1}}}}, r"router setting routes\.r\.ensemble"),
        ({"r": {"single": "a"}, "a": {"single": "b"}}, "both a model and a route"),
    ],
)
def test_what_keeps_the_router_from_starting_keeps_bulk_too(
    routes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve_names("r", write_config(tmp_path, routes))


def test_a_calibration_of_another_revision_is_refused_before_anything_is_scored(
    config: Path, tmp_path: Path
) -> None:
    rewards = [Reward(score=each, model="a") for each in (0.0, 1.0)]
    other = calibrate("a", [rewards], source="a", revision="0" * 40, data="known")
    save_calibration(other, tmp_path / "calibration")
    with pytest.raises(SettingsError, match="calibration of `a` was made for revision 000"):
        resolve_names("trio", config)


def test_only_calibrations_that_routes_read_travel_to_the_workers(tmp_path: Path) -> None:
    member = {"members": {"a.style": 1, "b": 1}, "normalize": "zscore"}
    config = write_config(tmp_path, {"styled": {"ensemble": member}})
    for model in ("a", "b"):
        rewards = [
            Reward(score=each, model=model, attributes={"style": each, "tone": each})
            for each in (0.0, 1.0)
        ]
        made = calibrate(model, [rewards], source=model, revision=None, data="known")
        save_calibration(made, tmp_path / "calibration")
    _, routes = resolve_names("styled", config)
    kept = {model: list(each.attributes) for model, each in routes.calibrations.items()}
    assert kept == {"a": ["style"], "b": [], "c": [], "unused": []}
    routes.plan()


def test_a_run_with_routes_is_resumed_to_the_same_bytes(
    source: Path, config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    scored(source, out, "trio,nested", config)
    before = {path.name: path.read_bytes() for path in out.glob("part-*")}
    (out / "part-0000002.parquet").unlink()
    with open_run([str(source)], str(out), settings("trio,nested", config)) as run:
        assert [unit.index for unit in run.missing] == [2]
        score_here(run)
    assert {path.name: path.read_bytes() for path in out.glob("part-*")} == before


def recalibrate(folder: Path, model: str) -> None:
    rewards = [Reward(score=each, model=model) for each in (0.0, 1.5)]
    made = calibrate(model, [rewards], source=model, revision=None, data="other")
    save_calibration(made, folder / "calibration")


def test_a_changed_calibration_is_another_run(source: Path, config: Path, tmp_path: Path) -> None:
    scored(source, tmp_path / "out", "trio", config)
    recalibrate(tmp_path, "b")
    with pytest.raises(OutputConflict, match=r"different: calibrations\)"):
        open_run([str(source)], str(tmp_path / "out"), settings("trio", config)).__enter__()


def test_changed_settings_below_a_route_are_another_run(
    source: Path, config: Path, tmp_path: Path
) -> None:
    scored(source, tmp_path / "out", "nested", config)
    changed = write_config(tmp_path, ROUTES | {"ranked": ROUTES["half"]})
    with pytest.raises(OutputConflict, match=r"different: route_settings\)"):
        open_run([str(source)], str(tmp_path / "out"), settings("nested", changed)).__enter__()


def test_what_a_route_does_not_use_may_change(source: Path, config: Path, tmp_path: Path) -> None:
    scored(source, tmp_path / "out", "trio", config)
    recalibrate(tmp_path, "unused")
    changed = write_config(tmp_path, ROUTES | {"plain": {"single": "a"}}, cpus=0.1)
    with open_run([str(source)], str(tmp_path / "out"), settings("trio", changed)) as run:
        assert run.missing == []


def test_a_row_that_a_member_refuses_has_that_error_and_no_score(
    config: Path, tmp_path: Path
) -> None:
    rows = [pair(index) for index in range(3)]
    rows[1]["rejected"][-1]["content"] = "long " * 1000
    rows[2]["chosen"] = []
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    found = scored(tmp_path / "in.parquet", tmp_path / "out", "trio", config)
    assert found[0]["margin_trio"] is not None
    for row, error in ((1, "conversation_too_long: member `a` of route `trio`"), (2, "invalid_")):
        for side in ("chosen", "rejected"):
            reward = found[row][f"{side}_reward_trio"]
            assert reward["score"] is None
            assert reward["error"].startswith(error)
        assert found[row]["margin_trio"] is None
    assert found[1]["chosen_reward_a"]["score"] is not None
    errors = summarise(open_scored(str(tmp_path / "out")))["models"]["trio"]["errors"]
    assert errors == {"conversation_too_long": 2, "invalid_conversation": 2}


def test_the_summary_shows_routes_like_models_and_counts_tokens_once(
    source: Path, config: Path, tmp_path: Path
) -> None:
    rows = scored(source, tmp_path / "out", "trio", config)
    summary = summarise(open_scored(str(tmp_path / "out")))
    assert list(summary["models"]) == ["a", "b", "c", "trio"]
    right = sum(row["margin_trio"] > 0 for row in rows)
    assert summary["models"]["trio"]["accuracy"]["all"]["accuracy"] == right / ROWS
    assert summary["tokens"] == sum(summary["models"][model]["tokens"] for model in "abc")
    assert summary["computed_tokens"] == 3 * 2 * ROWS
    assert math.isfinite(summary["models"]["trio"]["scores"]["mean"])


def test_an_attribute_that_no_model_has_ends_the_run_at_once(source: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, {"styled": {"single": "a.style"}})
    out = tmp_path / "out"
    with open_run([str(source)], str(out), settings("styled", config)) as run:
        row = score_here(run)[0]
    assert row["fatal"] == "settings"
    assert "no attribute `style`" in row["failure"]
    assert not list(out.glob("part-*"))


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_the_command_scores_routes_on_ray(
    source: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "ray")
    options = ScoreOptions([str(source)], out, "trio", config, unit_rows=10, as_json=True)
    assert score(options, load_fake) == DONE
    assert list(json.loads(capsys.readouterr().out)["models"]) == ["a", "b", "c", "trio"]
    scored(source, tmp_path / "here", "trio", config)
    for part in (tmp_path / "here").glob("part-*"):
        assert (tmp_path / "ray" / part.name).read_bytes() == part.read_bytes()
    assert score(ScoreOptions([str(source)], out, "trioo", config), load_fake) == BAD_USAGE
