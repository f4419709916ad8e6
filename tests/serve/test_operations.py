"""What is shipped for operators fits what the code does: names of metrics, limits, files."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rewardserve.app import COMMON
from rewardserve.serving import metrics
from rewardserve.serving.cluster_file import check_cluster
from rewardserve.serving.router_settings import Limits

ROOT = Path(__file__).parents[2]
DECLARED = set(re.findall(r'"(rewardserve_\w+)"', inspect.getsource(metrics)))


def metric_names(text: str) -> set[str]:
    names = re.findall(r"ray_(rewardserve_\w+)", text)
    return {re.sub(r"(?<!score)_bucket$|_total$", "", name) for name in names}


def test_the_board_shows_every_metric_and_none_that_does_not_exist() -> None:
    board = json.loads((ROOT / "ops" / "grafana.json").read_text())
    shown = metric_names(json.dumps(board["panels"]))
    assert shown == DECLARED - {"rewardserve_conversations", "rewardserve_packs"}


def test_the_documented_metrics_exist() -> None:
    text = (ROOT / "docs" / "serving.md").read_text()
    table = text[text.index("## Look") : text.index("`ops/grafana.json`")]
    named = {
        f"rewardserve_{name}" for name in re.findall(r"`(\w+?)(?:_total)?(?:\{.*?\})?`", table)
    }
    assert named - {"rewardserve_ray_rewardserve_"} == DECLARED


def test_the_kubernetes_cluster_is_a_good_cluster_file() -> None:
    service = yaml.safe_load((ROOT / "ops" / "rayservice.yaml").read_text())
    checked = check_cluster(yaml.safe_load(service["spec"]["serveConfigV2"]))
    assert checked.routers["router"].auth is not None
    (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    pod: Any = group["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > COMMON["graceful_shutdown_timeout_s"]


def test_the_proxy_in_front_caps_bodies_where_the_gateway_does() -> None:
    text = (ROOT / "ops" / "front-proxy.cfg").read_text()
    assert f"req.body_size gt {Limits().max_body_bytes}" in text
    assert re.search(r"timeout http-request\s+10s", text)


@pytest.mark.parametrize("name", ["SECURITY.md", "docs/serving.md"])
def test_files_named_in_the_documents_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    for path in re.findall(r"`((?:ops|serving|engine)/[\w./-]+\.\w+)`", text):
        assert any(
            (base / path).exists() for base in (ROOT, ROOT / "deployments" / "rewardserve")
        ), path
