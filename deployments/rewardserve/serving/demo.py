"""The demo's cluster: every model of a zoo on this machine's CPU, and means of their scores.

Knows the zoo's folder layout. Starts nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import yaml

from rewardserve.routing.calibration import calibrate, save_calibration
from rewardserve.serving.cluster_file import MODEL_BUILDER, ROUTER_BUILDER

CALIBRATION_PAIRS = 100
"""Of the zoo's pairs; enough for a mean and a standard deviation, in seconds."""

TRIO: Final = ("armorm", "urm", "skywork-llama-8b")
"""Members of the second route: one of each kind of head with its own outputs, and a plain one."""

CPUS = 0.1
"""Set aside for each process, so that eight of them fit on two cores. Ray gives each one compute
thread for it, which suits models this small."""


def calibrate_zoo(zoo: Path) -> None:
    """Write a calibration of every model of `zoo` beside them, made on the zoo's own pairs."""
    from rewardserve.engine.scorer import load_scorer  # noqa: PLC0415, torch is for this alone

    corpus = pq.read_table(zoo / "corpus" / "pairs.parquet", columns=["chosen", "rejected"])
    every = max(1, corpus.num_rows // CALIBRATION_PAIRS)
    pairs = corpus.to_pylist()[::every]
    conversations = [side for pair in pairs for side in pair.values()]
    for name in _model_names(zoo):
        scorer = load_scorer(str(zoo / name), name=name)
        rewards = scorer.score(conversations)
        calibration = calibrate(
            name, [rewards], source=scorer.source, revision=scorer.revision, data="zoo pairs"
        )
        save_calibration(calibration, _calibration_folder(zoo))


def write_demo_cluster(zoo: Path, *, port: int = 8000) -> Path:
    """Write `cluster.yaml` beside the models of a calibrated `zoo`, and return its path.

    On loopback, without keys. The route `default` averages the z-scores of all models, `trio`
    those of three.
    """
    names = _model_names(zoo)
    models = [
        {
            "name": name,
            "route_prefix": None,
            "import_path": MODEL_BUILDER,
            "args": {"source": str(zoo / name), "cpus": CPUS},
        }
        for name in names
    ]
    router = {
        "models": names,
        "routes": {"default": _mean(names), "trio": _mean(TRIO)},
        "calibration": str(_calibration_folder(zoo)),
        "replicas": 1,
        "cpus": CPUS,
    }
    gateway = {
        "name": "router",
        "route_prefix": "/",
        "import_path": ROUTER_BUILDER,
        "args": router,
    }
    content = {
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [*models, gateway],
    }
    path = zoo / "cluster.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def _mean(members: Sequence[str]) -> dict[str, Any]:
    weights = dict.fromkeys(members, 1.0)
    return {"ensemble": {"members": weights, "normalize": "zscore", "aggregate": "mean"}}


def _model_names(zoo: Path) -> list[str]:
    return sorted(config.parent.name for config in zoo.glob("*/config.json"))


def _calibration_folder(zoo: Path) -> Path:
    return zoo / "calibration"
