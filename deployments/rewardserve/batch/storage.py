"""Paths and folders, local or in an object store, through pyarrow's filesystems.

Knows how to name, list and atomically publish files. Knows nothing of corpora or scores.
"""

import json
import os
import uuid
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import fs

from rewardserve.batch.fault_points import reach
from rewardserve.errors import DataError, OutputFailed

TEMPORARY: Final = ".tmp-"
"""First characters of an unfinished file's name; readers of a folder skip names with a dot."""


def open_filesystem(path: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a local path or URI (`s3://`, `gs://`, `hf://` ...) and the path in it.

    Raises DataError for a scheme that pyarrow does not know.
    """
    if "://" not in path:
        return fs.LocalFileSystem(), str(Path(path).expanduser().absolute())
    try:
        filesystem, inner = fs.FileSystem.from_uri(path)
    except (pa.ArrowInvalid, ImportError, ValueError, OSError) as error:
        scheme = path.partition("://")[0]
        raise DataError(f"no filesystem for {scheme}:// ({type(error).__name__})") from error
    return filesystem, inner


def inside(folder: str, name: str) -> str:
    """The path of `name` in a folder; a URI's options (`?region=...`) stay behind it."""
    path, mark, options = folder.partition("?") if "://" in folder else (folder, "", "")
    return f"{path.rstrip('/')}/{name}{mark}{options}"


def split(path: str) -> tuple[str, str]:
    """Folder and name of a file, a URI's options with the folder."""
    inner, mark, options = path.partition("?") if "://" in path else (path, "", "")
    parent, _, name = inner.rpartition("/")
    return (parent or ".") + mark + options, name


class Folder:
    """The output folder of one run: files appear in it whole or not at all."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fs, self._root = open_filesystem(path)
        self.local = Path(self._root) if isinstance(self._fs, fs.LocalFileSystem) else None

    def create(self) -> None:
        """Make the folder; raises OutputFailed where it cannot be written."""
        try:
            self._fs.create_dir(self._root, recursive=True)
        except OSError as error:
            raise self.failure("create", "", error) from error

    def names(self) -> list[str]:
        """Names of the files directly inside, sorted."""
        selector = fs.FileSelector(self._root, allow_not_found=True)
        try:
            found = self._fs.get_file_info(selector)
        except OSError as error:
            raise self.failure("list", "", error) from error
        return sorted(info.base_name for info in found)

    def read_json(self, name: str) -> Any:
        """The content of a JSON file, or None where there is none; raises OutputFailed."""
        try:
            with self._fs.open_input_file(self._inner(name)) as source:
                return json.loads(source.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self.failure("read", name, error) from error

    def write_json(self, name: str, value: Any) -> None:
        """Replace a JSON file atomically; raises OutputFailed."""
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Replace a file atomically; raises OutputFailed."""
        temporary = self.temporary(name)
        try:
            with self._fs.open_output_stream(self._inner(temporary)) as sink:
                sink.write(data)
        except OSError as error:
            self.discard(temporary)
            raise self.failure("write", name, error) from error
        self.publish(temporary, name)

    def temporary(self, name: str) -> str:
        """A name that no other process uses and no reader looks at."""
        return f"{TEMPORARY}{uuid.uuid4().hex}-{name}"

    def open_input(self, name: str) -> pa.NativeFile:
        """A file for reading."""
        return self._fs.open_input_file(self._inner(name))

    def open_output(self, name: str) -> pa.NativeFile:
        """A file for writing; raises OutputFailed where it cannot be made."""
        try:
            return self._fs.open_output_stream(self._inner(name))
        except OSError as error:
            raise self.failure("write", name, error) from error

    def publish(self, temporary: str, name: str) -> None:
        """Give a finished file its final name, in one step, and only once it is on the disk."""
        reach(f"{kind_of(name)}.before_rename")
        try:
            if self.local is None:
                self._fs.move(self._inner(temporary), self._inner(name))
            else:
                _sync(self.local / temporary)
                (self.local / temporary).replace(self.local / name)
                _sync(self.local)
        except OSError as error:
            self.discard(temporary)
            raise self.failure("write", name, error) from error
        reach(f"{kind_of(name)}.after_rename")

    def discard(self, name: str) -> None:
        """Remove a file if it is there."""
        try:
            self._fs.delete_file(self._inner(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self.failure("remove", name, error) from error

    def _inner(self, name: str) -> str:
        return f"{self._root}/{name}"

    def failure(self, act: str, name: str, error: Exception) -> OutputFailed:
        """The error for what could not be done to a file of this folder, with the remedy."""
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error)
        return OutputFailed(
            f"cannot {act} {inside(self.path, name)}: {reason}; parts that are finished are "
            "kept, and the same command goes on from there"
        )


def kind_of(name: str) -> str:
    """`part` for part files, else the bare name: how fault points call a file."""
    return name.strip("_").partition("-")[0].partition(".")[0]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
