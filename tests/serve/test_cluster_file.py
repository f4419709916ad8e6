"""A mistake in cluster.yaml is an error that names the key, before anything is started."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rewardserve.errors import SettingsError
from rewardserve.serving.cluster_file import check_cluster, read_cluster_file

ROOT = Path(__file__).parents[2]


def cluster() -> Any:
    return {
        "http_options": {"port": 8123},
        "applications": [
            {
                "name": "armorm",
                "route_prefix": None,
                "import_path": "rewardserve.app:model",
                "args": {"source": "hub/armorm", "replicas": {"min": 0, "max": 8}},
                "deployments": [{"name": "RewardModel", "max_ongoing_requests": 100}],
            },
            {
                "name": "router",
                "route_prefix": "/",
                "import_path": "rewardserve.app:router",
                "args": {
                    "models": ["armorm"],
                    "routes": {"default": {"single": "armorm"}},
                    "limits": {"max_chars": 1000},
                },
            },
        ],
    }


def changed(path: str, value: Any) -> Any:
    """The cluster with one value set, or added, at a dotted path."""
    content = place = cluster()
    *above, last = path.split(".")
    for step in above:
        place = place[int(step) if step.isdigit() else step]
    place[int(last) if last.isdigit() else last] = value
    return content


def test_a_good_file_gives_its_models_and_routers() -> None:
    checked = check_cluster(cluster())
    assert checked.models["armorm"].replicas.max == 8
    assert checked.routers["router"].limits.max_chars == 1000
    assert checked.address == ("127.0.0.1", 8123)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("aplications", "aplications"),
        ("http_options.prot", "http_options.prot"),
        ("applications.0.nmae", "applications[0].nmae"),
        ("applications.0.deployments.0.max_ongoing_request", "max_ongoing_request"),
        ("applications.0.deployments.0.ray_actor_options", "ray_actor_options"),
        ("applications.0.args.sorce", "applications[0].args.sorce"),
        ("applications.0.args.replicas.mni", "applications[0].args.replicas.mni"),
        ("applications.1.args.limits.max_char", "applications[1].args.limits.max_char"),
        ("applications.1.args.routes.default.singel", "applications[1].args.routes.default.singel"),
        ("applications.1.args.auth", "applications[1].args.auth"),
    ],
)
def test_a_misspelt_or_misplaced_key_is_named(path: str, named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_cluster(changed(path, {"nonsense": 1}))
    assert named in refused.value.message


def test_a_misspelt_key_comes_with_the_likely_one() -> None:
    with pytest.raises(SettingsError, match="did you mean `source`"):
        check_cluster(changed("applications.0.args.sorce", "x"))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("applications.0.args.replicas", {"min": 3, "max": 1}, "applications[0].args.replicas"),
        ("applications.0.args.dtype", "float8", "applications[0].args.dtype"),
        ("applications.0.args.gpus", -1, "applications[0].args.gpus"),
        ("applications.0.deployments.0.name", "Model", "applications[0].deployments[0].name"),
        ("applications.1.args.models", ["armorm", "urm"], "applications[1].args.models[1]"),
        ("applications.1.args.models", [], "applications[1].args.models"),
        ("applications.1.args.routes", {"x": {"single": "urm"}}, "urm"),
        ("applications.1.name", "armorm", "armorm"),
        ("http_options.port", "many", "http_options.port"),
        ("applications", "none", "applications"),
    ],
)
def test_a_value_that_cannot_be_is_named(path: str, value: Any, named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_cluster(changed(path, value))
    assert named in refused.value.message


@pytest.mark.parametrize("content", ["", "- a", "a: b: c", "applications: {"])
def test_what_is_no_cluster_file_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"cluster\.yaml"):
        read_cluster_file(path)
    with pytest.raises(SettingsError, match="missing"):
        read_cluster_file(tmp_path / "missing.yaml")


def test_applications_of_others_are_left_as_they_are() -> None:
    content = cluster()
    content["applications"].append(
        {"name": "x", "route_prefix": "/x", "import_path": "y:z", "args": {"free": 1}}
    )
    assert check_cluster(content).models.keys() == {"armorm"}


def test_the_cluster_file_of_the_repository_is_good() -> None:
    checked = read_cluster_file(ROOT / "cluster.yaml")
    assert len(checked.models) == 5
    assert all(model.revision and model.gpus for model in checked.models.values())
    assert checked.routers["router"].auth is not None
    assert (
        yaml.safe_load((ROOT / "cluster.yaml").read_text())["http_options"]["host"] == "127.0.0.1"
    )
