"""The demo's cluster: every model of a zoo on this machine's CPU, and their mean as default route.

Knows the zoo's folder layout. Starts nothing.
"""

from pathlib import Path

import pyarrow.parquet as pq

from rewardserve.routing.calibration import calibrate, save_calibration
from rewardserve.serving.cluster_file import (
    MODEL_BUILDER,
    ROUTER_BUILDER,
    ClusterFile,
    check_cluster,
)

CALIBRATION_PAIRS = 100
"""Of the zoo's pairs; enough for a mean and a standard deviation, in seconds."""

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


def demo_cluster(zoo: Path, *, port: int = 8000) -> ClusterFile:
    """The models in a calibrated `zoo`, and a `default` route that averages their z-scores.

    On loopback, without keys.
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
    mean = {"members": dict.fromkeys(names, 1.0), "normalize": "zscore", "aggregate": "mean"}
    router = {
        "models": names,
        "routes": {"default": {"ensemble": mean}},
        "calibration": str(_calibration_folder(zoo)),
        "replicas": 1,
        "cpus": CPUS,
    }
    return check_cluster(
        {
            "http_options": {"host": "127.0.0.1", "port": port},
            "applications": [
                *models,
                {
                    "name": "router",
                    "route_prefix": "/",
                    "import_path": ROUTER_BUILDER,
                    "args": router,
                },
            ],
        }
    )


def _model_names(zoo: Path) -> list[str]:
    return sorted(config.parent.name for config in zoo.glob("*/config.json"))


def _calibration_folder(zoo: Path) -> Path:
    return zoo / "calibration"
