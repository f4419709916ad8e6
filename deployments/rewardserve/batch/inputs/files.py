"""From what the user names to the files that are read, in order.

A name is a file, a folder, a glob or a dataset folder of the `datasets` library, local or a URI.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from pyarrow import fs

from rewardserve.batch.storage import open_filesystem
from rewardserve.errors import DataError

Format = Literal["parquet", "jsonl", "arrow"]

SUFFIXES: Final[dict[str, Format]] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".arrow": "arrow",
    ".feather": "arrow",
}
COMPRESSED: Final = {".gz", ".zst", ".bz2"}
"""JSON lines may be compressed as a whole."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the corpus."""

    path: str
    """As pyarrow opens it: an absolute path, or a URI."""
    format: Format
    size: int

    def open(self) -> tuple[fs.FileSystem, str]:
        """The filesystem and the path in it."""
        return open_filesystem(self.path)


def find_files(names: Sequence[str]) -> list[InputFile]:
    """The files of all names: given names in their order, a folder's or a glob's files sorted.

    Raises DataError for a name without files, of an unknown format, or given twice.
    """
    files = [file for name in names for file in _files_of(name)]
    seen: set[str] = set()
    for file in files:
        if file.path in seen:
            raise DataError(f"{file.path} is named twice; its rows would be scored twice")
        seen.add(file.path)
    return files


def format_of(path: str) -> Format | None:
    """The format that a file's name tells, or None."""
    pure = PurePosixPath(path)
    if pure.suffix in COMPRESSED:
        return "jsonl" if SUFFIXES.get(pure.with_suffix("").suffix) == "jsonl" else None
    return SUFFIXES.get(pure.suffix)


def _files_of(name: str) -> list[InputFile]:
    filesystem, path = open_filesystem(name)
    try:
        found = list(_found(filesystem, path))
    except OSError as error:
        raise DataError(f"cannot read {name}: {error}") from error
    files = [_input_file(name, info) for info in found]
    if not files:
        known = ", ".join(SUFFIXES)
        raise DataError(f"no input files at {name}; known formats are {known}")
    return files


def _input_file(name: str, info: fs.FileInfo) -> InputFile:
    known = format_of(info.path)
    if known is None:
        raise DataError(f"{info.path} has none of the known suffixes {', '.join(SUFFIXES)}")
    if "://" not in name:
        return InputFile(info.path, known, info.size or 0)
    scheme, _, rest = name.partition("://")
    options = "".join(rest.partition("?")[1:])
    return InputFile(f"{scheme}://{info.path}{options}", known, info.size or 0)


def _found(filesystem: fs.FileSystem, path: str) -> Iterator[fs.FileInfo]:
    if "*" in path or "?" in path:
        base = re.split(r"[*?]", path, maxsplit=1)[0].rpartition("/")[0]
        pattern = re.compile(_as_regex(path))
        yield from (i for i in _listed(filesystem, base) if pattern.fullmatch(i.path))
        return
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise DataError(f"there is no {path}")
    if info.type == fs.FileType.File:
        yield info
    else:
        yield from _folder(filesystem, path)


def _folder(filesystem: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    files = _listed(filesystem, path)
    names = {info.path: info for info in files}
    if f"{path}/dataset_dict.json" in names:
        splits = json.loads(_text(filesystem, f"{path}/dataset_dict.json"))["splits"]
        choices = ", ".join(f"{path}/{split}" for split in splits)
        raise DataError(f"{path} holds several splits; name one: {choices}")
    if f"{path}/state.json" in names:
        shards = json.loads(_text(filesystem, f"{path}/state.json"))["_data_files"]
        return [names[f"{path}/{shard['filename']}"] for shard in shards]
    known = [info for info in files if format_of(info.path) and _visible(info.path, path)]
    formats = {format_of(info.path) for info in known}
    if len(formats) > 1:
        raise DataError(f"{path} mixes {' and '.join(sorted(map(str, formats)))}; use a glob")
    return known


def _listed(filesystem: fs.FileSystem, base: str) -> list[fs.FileInfo]:
    found = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    return sorted((i for i in found if i.type == fs.FileType.File), key=lambda info: info.path)


def _visible(path: str, base: str) -> bool:
    return not any(part[0] in "._" for part in PurePosixPath(path).relative_to(base).parts)


def _text(filesystem: fs.FileSystem, path: str) -> bytes:
    with filesystem.open_input_file(path) as source:
        text: bytes = source.read()
    return text


def _as_regex(pattern: str) -> str:
    """`*` and `?` stay within a folder, `**/` crosses folders."""
    escaped = re.escape(pattern)
    for wildcard, regex in ((r"\*\*/", "(?:.*/)?"), (r"\*", "[^/]*"), (r"\?", "[^/]")):
        escaped = escaped.replace(wildcard, regex)
    return escaped
