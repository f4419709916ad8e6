"""Paths of both kinds are put together and taken apart, and files appear whole or not at all."""

from pathlib import Path

import pytest

from rewardserve.batch.storage import TEMPORARY, Folder, inside, split
from rewardserve.errors import OutputFailed

OPTIONS = "?region=eu-west-1&endpoint_override=127.0.0.1:9000/x"


@pytest.mark.parametrize(
    ("folder", "path"),
    [
        ("/a/b", "/a/b/c"),
        ("/a?b/", "/a?b/c"),
        (f"s3://bucket/b{OPTIONS}", f"s3://bucket/b/c{OPTIONS}"),
        ("s3://bucket/b", "s3://bucket/b/c"),
    ],
)
def test_a_name_goes_before_a_uris_options(folder: str, path: str) -> None:
    assert inside(folder, "c") == path
    assert split(path) == (folder.rstrip("/"), "c")


def test_a_bare_name_is_in_the_working_folder() -> None:
    assert split("pairs.parquet") == (".", "pairs.parquet")


def test_a_replaced_file_is_never_half_written(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write_bytes("x", b"old")
    temporary = folder.temporary("x")
    with folder.open_output(temporary) as sink:
        sink.write(b"ne")
    assert (tmp_path / "x").read_bytes() == b"old"
    folder.publish(temporary, "x")
    assert (tmp_path / "x").read_bytes() == b"ne"
    assert not [name for name in folder.names() if name.startswith(TEMPORARY)]


def test_what_cannot_be_written_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    folder = Folder(str(tmp_path))
    with pytest.raises(OutputFailed, match=r"cannot write .*/taken: Is a directory"):
        folder.write_bytes("taken", b"x")
    assert folder.names() == ["taken"]


def test_a_missing_json_file_is_none_and_a_broken_one_is_named(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    assert folder.read_json("_manifest.json") is None
    (tmp_path / "_manifest.json").write_text("{")
    with pytest.raises(OutputFailed, match=r"cannot read .*_manifest\.json"):
        folder.read_json("_manifest.json")
