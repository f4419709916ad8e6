"""The doctor finds what a start would stumble over, and starts nothing."""

import socket
from pathlib import Path
from typing import Any

import pytest

from rewardserve.serving.cluster_file import check_cluster
from rewardserve.serving.doctor import Finding, examine


def cluster(source: str, *, host: str = "127.0.0.1", port: int = 0, **router: Any) -> Any:
    return check_cluster(
        {
            "http_options": {"host": host, "port": port},
            "applications": [
                {
                    "name": "m",
                    "route_prefix": None,
                    "import_path": "rewardserve.app:model",
                    "args": {"source": source},
                },
                {
                    "name": "router",
                    "import_path": "rewardserve.app:router",
                    "args": {"models": ["m"], **router},
                },
            ],
        }
    )


def finding(findings: list[Finding], subject: str) -> Finding:
    return next(entry for entry in findings if entry.subject == subject)


def test_a_healthy_cluster_has_nothing_bad(zoo: Path) -> None:
    findings = examine(cluster(str(zoo / "armorm")))
    assert not [entry for entry in findings if entry.verdict == "bad"]
    assert "armorm" in finding(findings, "weights of m").detail


@pytest.mark.parametrize(
    ("source", "named"),
    [("/nowhere/at/all", "revision"), ("owner/unknown-model", "revision")],
)
def test_weights_that_cannot_be_found_are_bad(source: str, named: str) -> None:
    found = finding(examine(cluster(source)), "weights of m")
    assert found.verdict == "bad"
    assert named in found.detail


def test_a_folder_that_is_no_checkpoint_is_bad(tmp_path: Path) -> None:
    assert finding(examine(cluster(str(tmp_path))), "weights of m").verdict == "bad"


def test_missing_keys_are_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEYS_HERE", raising=False)
    findings = examine(cluster(str(tmp_path), auth={"api_keys_env": "NO_KEYS_HERE"}))
    assert finding(findings, "API keys").verdict == "bad"
    assert "NO_KEYS_HERE" in finding(findings, "API keys").detail


def test_a_public_port_without_keys_is_bad(tmp_path: Path) -> None:
    findings = examine(cluster(str(tmp_path), host="0.0.0.0"))
    assert finding(findings, "API keys").verdict == "bad"


def test_a_port_in_use_is_bad(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        found = finding(examine(cluster(str(tmp_path), port=port)), "port")
    assert found.verdict == "bad"
    assert str(port) in found.detail
