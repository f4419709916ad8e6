"""Bulk runs on real Ray clusters: workers, nodes and submitted jobs that die change no value."""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "batch"))
from bulk_fakes import score_all_here, write_pairs

from rewardserve.batch.fault_points import VARIABLE

ROWS = 90

SETUP = """
import os, sys
sys.path.insert(0, {fakes!r})
import bulk_fakes
from ray import cloudpickle
cloudpickle.register_pickle_by_value(bulk_fakes)
import ray
from rewardserve.batch.job import open_run, score_missing
from rewardserve.errors import ModelFailed
"""

ONE_NODE = """
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
         _temp_dir=os.environ["RAY_TMPDIR"], object_store_memory=100 * 2**20)
try:
    with open_run([sys.argv[1]], sys.argv[2], bulk_fakes.settings()) as run:
        done = [unit.rows for unit in score_missing(run, load=getattr(bulk_fakes, sys.argv[3]))]
        print("units", len(done))
except ModelFailed as error:
    print("failed:", error)
"""

TWO_NODES = """
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 0}})
nodes = [cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20) for _ in range(2)]
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False)
with open_run([sys.argv[1]], sys.argv[2], bulk_fakes.settings()) as run:
    done = 0
    for unit in score_missing(run, load=getattr(bulk_fakes, sys.argv[3])):
        done += 1
        if done == 3:
            cluster.remove_node(nodes[0], allow_graceful=False)
    print("units", done)
ray.shutdown()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("corpus") / "in.parquet", ROWS)


@pytest.fixture
def ray_folder() -> Iterator[str]:
    """A short path: Ray's sockets lie under it."""
    with tempfile.TemporaryDirectory(prefix="rf-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield path


def run_script(body: str, ray_folder: str, *arguments: object, **environment: str) -> str:
    script = (SETUP + body).format(fakes=str(Path(__file__).parents[1] / "batch"))
    answer = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"RAY_TMPDIR": ray_folder} | environment,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return answer.stdout


def assert_same_as_undisturbed(source: Path, out: Path, folder: Path) -> None:
    score_all_here(source, folder / "here")
    expected = {part.name: part.read_bytes() for part in (folder / "here").glob("part-*")}
    assert {part.name: part.read_bytes() for part in out.glob("part-*")} == expected
    assert pq.read_table(out)["id"].to_pylist() == list(range(ROWS))


@pytest.mark.parametrize("point", ["part.rows_written", "part.after_rename"])
def test_a_killed_worker_is_replaced_and_its_unit_is_scored_once_more(
    source: Path, tmp_path: Path, ray_folder: str, point: str
) -> None:
    fuse = tmp_path / "fuse"
    fuse.touch()
    kill_at = {VARIABLE: f"{point}:{fuse}"}
    printed = run_script(ONE_NODE, ray_folder, source, tmp_path / "out", "load_fake", **kill_at)
    assert "units 11" in printed
    assert not fuse.exists()
    assert not list((tmp_path / "out").glob(".*"))
    assert_same_as_undisturbed(source, tmp_path / "out", tmp_path)


@pytest.mark.nightly
def test_a_unit_that_kills_every_worker_is_reported_and_all_others_are_done(
    source: Path, tmp_path: Path, ray_folder: str
) -> None:
    printed = run_script(ONE_NODE, ray_folder, source, tmp_path / "out", "load_deadly")
    assert "1 of the units failed 3 times" in printed
    assert "worker" in printed.partition("failed 3 times")[2]
    assert len(list((tmp_path / "out").glob("part-*"))) == 10


@pytest.mark.nightly
def test_a_node_that_dies_half_way_loses_and_doubles_nothing(
    source: Path, tmp_path: Path, ray_folder: str
) -> None:
    printed = run_script(TWO_NODES, ray_folder, source, tmp_path / "out", "load_slow")
    assert "units 11" in printed
    assert_same_as_undisturbed(source, tmp_path / "out", tmp_path)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_submitted_job_that_is_killed_is_continued_by_submitting_it_again(
    zoo: Path, tmp_path: Path, ray_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    source, fuse = write_pairs(tmp_path / "in.parquet", ROWS), tmp_path / "fuse"
    model = zoo / "skywork-llama-8b"
    arguments = [str(source), "--model", str(model), "--unit-rows", "10", "--out"]
    score = [str(Path(sys.executable).with_name("rewardserve")), "score", *arguments]
    subprocess.run([*score, str(tmp_path / "here")], check=True, capture_output=True)
    with submitting_to_a_cluster(ray_folder) as submit:
        for point in ("manifest.after_rename", "part.before_rename", "summary.before_rename"):
            fuse.touch()
            submit([*score, str(tmp_path / "out")], {VARIABLE: f"{point}:{fuse}"})
            assert not fuse.exists()
        assert submit([*score, str(tmp_path / "out")], {}) == "SUCCEEDED"
    for name in [f"part-{index:07d}.parquet" for index in range(11)] + ["_summary.json"]:
        expected = (tmp_path / "here" / name).read_bytes()
        assert (tmp_path / "out" / name).read_bytes() == expected


Submit = Callable[[list[str], dict[str, str]], str]


@contextmanager
def submitting_to_a_cluster(ray_folder: str) -> Iterator[Submit]:
    """A cluster with a job server; gives what submits a command and returns its final state."""
    with subprocess.Popen(
        [sys.executable, "-c", JOB_SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"RAY_TMPDIR": ray_folder, "RAY_AUTH_MODE": "disabled"},
    ) as server:
        assert server.stdin
        assert server.stdout
        url = next(line for line in server.stdout if line.startswith("http")).strip()
        yield lambda command, environment: submitted(url, command, environment)
        server.stdin.close()


JOB_SERVER = """
import sys
from ray.cluster_utils import Cluster
head = {"num_cpus": 2, "include_dashboard": True, "dashboard_port": 0}
cluster = Cluster(initialize_head=True, head_node_args=head)
print("http://" + cluster.head_node.webui_url, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def submitted(url: str, command: list[str], environment: dict[str, str]) -> str:
    """The final state of a job that runs this command."""
    from ray.job_submission import JobSubmissionClient  # noqa: PLC0415

    client = JobSubmissionClient(url)
    job = when_agents_are_up(
        lambda: client.submit_job(
            entrypoint=shlex.join(command),
            runtime_env={"env_vars": {"RAY_AUTH_MODE": "disabled", **environment}},
        )
    )
    while not client.get_job_status(job).is_terminal():
        time.sleep(0.5)
    return str(client.get_job_status(job).value)


def when_agents_are_up(submit: Callable[[], str]) -> str:
    """A node takes jobs some seconds after it is up."""
    for _ in range(120):
        try:
            return submit()
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            time.sleep(1)
    return submit()
