"""What Prometheus gets from a cluster that was used, and what the board asks it for."""

import json
import re
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
import ray
from tests.serve.conftest import Served
from tests.serve.fakes import conversation

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]

BOARD = Path(__file__).parents[2] / "ops" / "grafana.json"
ONLY_IN_TROUBLE = {"ray_rewardserve_dropped_total", "ray_rewardserve_replica_deaths_total"}
"""Exported once something goes wrong that these tests do not bring about."""


@pytest.fixture(scope="module")
def scraped(served: Served) -> Mapping[str, set[str]]:
    """Metric -> its labels, as the node exports them after good and bad requests."""
    use(served)
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    for _ in range(60):
        text = httpx2.get(url, timeout=30).text
        # Replicas report every few seconds, each at its own time.
        if all(f"ray_rewardserve_{last}" in text for last in ("member_failures", "tokens")):
            return labels_by_metric(text)
        time.sleep(1)
    raise AssertionError("no replica has reported")


def use(served: Served) -> None:
    good = {"inputs": [{"messages": conversation()}]}
    too_long = {"inputs": [{"messages": conversation("word " * 2000)}]}
    for body in (good, {**good, "model": "nobody"}, too_long):
        httpx2.post(f"{served.url}/v1/rewards", json=body, timeout=60)


def labels_by_metric(text: str) -> dict[str, set[str]]:
    labels: dict[str, set[str]] = defaultdict(set)
    for name, inside in re.findall(r"^(\w+)\{(.*?)\} ", text, re.MULTILINE):
        labels[name] |= set(re.findall(r'(\w+)="', inside))
    return labels


def queries() -> list[str]:
    """Every query on the board, with values in place of Grafana's variables."""
    board: Any = json.loads(BOARD.read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [query.replace("$model", ".*").replace("$__rate_interval", "1m") for query in found]


def labels_used(query: str) -> dict[str, set[str]]:
    """Metric -> the labels that the query groups or filters it by."""
    grouped = {label for by in re.findall(r"by \((.*?)\)", query) for label in by.split(", ")}
    return {
        name: grouped | set(re.findall(r"(\w+)=~", filters))
        for name, filters in re.findall(r"(ray_\w+)(?:\{(.*?)\})?", query)
    }


@pytest.mark.parametrize("query", queries())
def test_what_the_board_asks_for_is_exported(scraped: Mapping[str, set[str]], query: str) -> None:
    for metric, labels in labels_used(query).items():
        if metric not in ONLY_IN_TROUBLE:
            assert labels <= scraped[metric], metric


def test_the_boards_variable_lists_the_models(scraped: Mapping[str, set[str]]) -> None:
    (variable,) = re.findall(r"label_values\((\w+), (\w+)\)", BOARD.read_text())
    assert variable[1] in scraped[variable[0]]


@pytest.mark.skipif(not shutil.which("promtool"), reason="Prometheus is not installed")
def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(queries())]
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
