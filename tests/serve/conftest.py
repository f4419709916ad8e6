"""One served cluster for all tests that need one: two zoo models behind a router."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from rewardserve.routing.calibration import calibrate, save_calibration
from rewardserve.serving.cluster_file import check_cluster
from rewardserve_client._types import Reward

MODELS = ("skywork-llama-8b", "armorm")
CALIBRATION_SCORES = (-4.0, -1.0, 0.0, 1.5, 6.0)
"""What the cluster takes for the scores of a calibration corpus, whichever the model."""


@dataclass(frozen=True)
class Served:
    """Where the cluster answers, and the file it was deployed from."""

    url: str
    file: dict[str, Any]
    zoo: Path


@pytest.fixture(scope="session")
def served(zoo: Path, ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The Ray cluster of the session ends it, too."""
    from rewardserve.serving.up import deploy  # noqa: PLC0415

    port = free_port()
    file = cluster_of(zoo, port)
    router = file["applications"][-1]["args"]
    router["calibration"] = str(calibrations(tmp_path_factory.mktemp("calibration")))
    router["routes"] |= ROUTES
    deploy(check_cluster(file), announce=lambda line: None)
    return Served(f"http://127.0.0.1:{port}", file, zoo)


ROUTES: dict[str, Any] = {
    "alone": {"single": "armorm"},
    "cascade": {"cascade": {"first": "skywork-llama-8b", "then": "armorm", "top_k": 2}},
    "by-domain": {
        "select": {
            "rules": [{"when": {"domain": ["code", "math"]}, "use": "armorm"}],
            "default": "skywork-llama-8b",
        }
    },
    "halves": {"split": {"weights": {"skywork-llama-8b": 1, "armorm": 1}}},
    "watched": {"shadow": {"answer": "skywork-llama-8b", "shadows": ["armorm"]}},
    "own-weights": {
        "attributes": {
            "model": "armorm",
            "weights": {"helpsteer-helpfulness": 2.0, "helpsteer-verbosity": -0.5},
        }
    },
}
"""One of each kind that a request cannot bring along itself."""


def calibrations(folder: Path) -> Path:
    for model in MODELS:
        rewards = [Reward(score=score, model=model) for score in CALIBRATION_SCORES]
        calibration = calibrate(model, [rewards], source=model, revision=None, data="made up")
        save_calibration(calibration, folder)
    return folder


def cluster_of(zoo: Path, port: int) -> dict[str, Any]:
    models = [
        {
            "name": name,
            "route_prefix": None,
            "import_path": "rewardserve.app:model",
            "args": {
                "source": str(zoo / name),
                "cpus": 0.1,
                "max_tokens": 512,
                "replicas": {"min": 2, "max": 2} if name == "armorm" else {"min": 1, "max": 1},
            },
        }
        for name in MODELS
    ]
    members = dict.fromkeys(MODELS, 1.0)
    router = {
        "name": "router",
        "route_prefix": "/",
        "import_path": "rewardserve.app:router",
        "args": {
            "models": list(MODELS),
            "routes": {
                "default": {"ensemble": {"members": members, "normalize": "none"}},
                "either": {"ensemble": {"members": members, "normalize": "none", "quorum": 1}},
            },
            "replicas": 1,
            "cpus": 0.1,
        },
    }
    return {
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [*models, router],
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def replica_processes(application: str) -> list[psutil.Process]:
    """The replicas of one application, among the processes of this session's own Ray."""
    mine = psutil.Process().children(recursive=True)
    return [p for p in mine if f"{application}:RewardModel" in "".join(p.cmdline())]
