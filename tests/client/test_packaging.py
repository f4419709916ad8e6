"""The distribution: what it imports, and that torch and Ray stay out of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "client"

_BLOCKED_IMPORT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "ray", "transformers", "pandas", "rewardserve"}:
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Blocked())
"""

_WORK = """
from rewardserve_client import RewardClient
from rewardserve_client.testing import FakeCluster
with FakeCluster().client() as client:
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "four"}]
    assert client.score(turns).score == 4.0
RewardClient.from_handle()
"""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_works_without_torch_ray_and_the_server() -> None:
    run(sys.executable, "-c", _BLOCKED_IMPORT + _WORK)


@pytest.mark.nightly
def test_the_wheel_installs_alone_with_at_most_fifteen_packages(tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(CLIENT))
    (wheel,) = tmp_path.glob("rewardserve_client-*.whl")
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    python = str(tmp_path / "venv" / "bin" / "python")
    run(python, "-m", "pip", "install", "-q", str(wheel))
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json"))
    installed = {each["name"].lower() for each in listed} - {"pip", "setuptools"}
    assert len(installed) <= 15, sorted(installed)
    assert not installed & {"torch", "ray", "rewardserve"}
    run(python, "-c", _WORK)


_FORK = """
import os
from rewardserve_client.testing import FakeCluster
client = FakeCluster().client()
turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "four"}]
assert client.score(turns).score == 4.0
child = os.fork()
if child == 0:
    os._exit(0 if client.score(turns).score == 4.0 else 1)
assert os.waitpid(child, 0)[1] == 0
assert client.score(turns).score == 4.0
client.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_client_in_use_can_be_forked() -> None:
    run(sys.executable, "-c", _FORK)
