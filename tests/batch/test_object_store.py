"""Corpora and outputs in an object store are read, written, killed, continued and locked alike."""

import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_fakes import DRIVER, finish, score_all_here, score_here, settings, write_pairs
from pyarrow import fs

from rewardserve.batch.inputs.files import find_files
from rewardserve.batch.job import open_run
from rewardserve.batch.output import open_scored
from rewardserve.batch.storage import TEMPORARY
from rewardserve.batch.summary import summarise
from rewardserve.errors import OutputConflict

moto_server = pytest.importorskip("moto.server", reason="moto, which stands for S3, is missing")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROWS = 45
BUCKET = "corpora"


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """`host:port` of an S3 server with one empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    filesystem(f"{host}:{port}").create_dir(BUCKET)
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def filesystem(store: str) -> fs.S3FileSystem:
    return fs.S3FileSystem(
        access_key="test",
        secret_key="test",
        region="us-east-1",
        scheme="http",
        endpoint_override=store,
        allow_bucket_creation=True,
    )


def uri(store: str, key: str) -> str:
    return f"s3://{BUCKET}/{key}?scheme=http&endpoint_override={store}&region=us-east-1"


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> str:
    """A prefix of this test alone."""
    return str(request.node.name)


@pytest.fixture
def source(store: str, folder: str, tmp_path: Path) -> str:
    """A corpus of two files in the store; their rows stand in `tmp_path` too."""
    remote = filesystem(store)
    for name in ("a", "b"):
        path = write_pairs(tmp_path / "in" / f"{name}.parquet", ROWS)
        with remote.open_output_stream(f"{BUCKET}/{folder}/in/{name}.parquet") as sink:
            sink.write(path.read_bytes())
    return uri(store, f"{folder}/in/*.parquet")


@pytest.fixture(autouse=True)
def _local_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()


def parts(store: str, key: str) -> dict[str, bytes]:
    remote = filesystem(store)
    found = remote.get_file_info(fs.FileSelector(f"{BUCKET}/{key}"))
    contents = {}
    for info in found:
        with remote.open_input_file(info.path) as file:
            contents[info.base_name] = file.read()
    assert not [name for name in contents if name.startswith(TEMPORARY)]
    return {name: data for name, data in contents.items() if name.startswith("part-")}


def undisturbed(store: str, folder: str, source: str) -> dict[str, bytes]:
    """The parts of a run of the same corpus that nothing ends early."""
    with open_run([source], uri(store, f"{folder}/undisturbed"), settings()) as run:
        assert not [row for row in score_here(run) if row["failure"]]
    return parts(store, f"{folder}/undisturbed")


@pytest.mark.usefixtures("source")
def test_globs_and_folders_of_a_bucket_are_found_with_the_uris_options(
    store: str, folder: str
) -> None:
    expected = [uri(store, f"{folder}/in/{name}.parquet") for name in ("a", "b")]
    for name in ("in/*.parquet", "in", "**/*.parquet"):
        assert [file.path for file in find_files([uri(store, f"{folder}/{name}")])] == expected


@pytest.mark.usefixtures("ray_cluster")
def test_a_bucket_is_read_and_written_like_a_folder_and_continued_where_parts_are_missing(
    store: str, folder: str, source: str, tmp_path: Path
) -> None:
    out = uri(store, f"{folder}/out")
    with open_run([source], out, settings()) as run:
        assert not [row for row in score_here(run) if row["failure"]]
    expected = parts(store, f"{folder}/out")
    score_all_here(tmp_path / "in", tmp_path / "here")
    here = pq.read_table(tmp_path / "here")
    assert (
        pa.concat_tables(pq.read_table(io.BytesIO(expected[n])) for n in sorted(expected)) == here
    )
    assert summarise(open_scored(out))["rows"] == 2 * ROWS

    filesystem(store).delete_file(f"{BUCKET}/{folder}/out/part-0000003.parquet")
    torn = f"{BUCKET}/{folder}/out/part-0000005.parquet"
    with filesystem(store).open_output_stream(torn) as sink:
        sink.write(expected["part-0000005.parquet"][:-9])
    with open_run([source], out, settings()) as run:
        assert [unit.index for unit in run.missing] == [3, 5]
        score_here(run)
    assert parts(store, f"{folder}/out") == expected


@pytest.mark.usefixtures("ray_cluster")
def test_two_runs_on_one_prefix_of_a_bucket_are_told_apart(
    store: str, folder: str, source: str
) -> None:
    out = uri(store, f"{folder}/out")
    with (
        open_run([source], out, settings()),
        pytest.raises(OutputConflict, match="another run is at work"),
    ):
        open_run([source], out, settings()).__enter__()
    with open_run([source], out, settings()) as run:
        assert run.missing


@pytest.mark.usefixtures("ray_cluster")
def test_a_driver_killed_half_way_through_a_bucket_is_continued_by_the_same_command(
    store: str, folder: str, source: str
) -> None:
    out = uri(store, f"{folder}/out")
    with tempfile.TemporaryDirectory(prefix="rk-", dir="/tmp", ignore_cleanup_errors=True) as temp:
        script = textwrap.dedent(DRIVER).format(fakes=str(Path(__file__).parent), temp=temp)
        command = [sys.executable, "-c", script, source, out]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout
            next(line for line in driver.stdout if line.startswith("unit"))
            os.kill(driver.pid, signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL
        missing = finish(command)
    assert missing < 12
    assert parts(store, f"{folder}/out") == undisturbed(store, folder, source)
