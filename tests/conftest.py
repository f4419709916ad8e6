"""What tests share: one written zoo, one Ray cluster, and the real corpora where they are."""

import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before torch or Ray is imported: two cores are shared by everything a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from hypothesis import settings

# The same examples every time, and no clock decides.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seven tiny checkpoints and their corpus, written once."""
    from rewardserve.zoo import write_zoo  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("zoo")
    write_zoo(folder)
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray cluster of this test session alone."""
    import tempfile  # noqa: PLC0415

    import ray  # noqa: PLC0415

    # Ray puts sockets under this folder, whose paths may not exceed 107 characters.
    with tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp", ignore_cleanup_errors=True) as short:
        ray.init(
            address="local",
            num_cpus=4,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=256 * 1024 * 1024,
            _temp_dir=short,
            log_to_driver=False,
        )
        yield
        ray.shutdown()


@pytest.fixture
def shared_data() -> Path:
    """The folder of real corpora; the test is skipped where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real corpora at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def openrlhf_agent(monkeypatch: pytest.MonkeyPatch) -> Any:
    """OpenRLHF's rollout module, without the package's own imports of CUDA libraries."""
    found = importlib.util.find_spec("openrlhf")
    if found is None or not found.submodule_search_locations:
        pytest.skip("OpenRLHF is not installed")
    (folder,) = found.submodule_search_locations
    for name in ("openrlhf", "openrlhf.utils"):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(folder, *name.split(".")[1:]))]
        monkeypatch.setitem(sys.modules, name, package)
    return importlib.import_module("openrlhf.utils.agent")
