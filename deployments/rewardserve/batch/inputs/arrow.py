"""Arrow IPC, stream or file (`datasets` folders, Feather): record batches reached by offset.

As with Parquet, a schema that names extension types is refused before Arrow builds it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
from pyarrow import fs, ipc

from rewardserve.batch.inputs.files import InputFile
from rewardserve.batch.inputs.parquet import EXTENSION_MARK
from rewardserve.batch.inputs.rows import BATCH_BYTES, Description, Rows, decoded_bytes, slices_of
from rewardserve.batch.storage import open_filesystem
from rewardserve.batch.units import Block, Unit
from rewardserve.errors import DataError

FILE_MAGIC: Final = b"ARROW1\0\0"


def describe(file: InputFile) -> Description:
    """Schema, record batches and digest; raises DataError."""
    blocks: list[Block] = []
    with _opened(file.path) as source:
        digest = hashlib.sha256(source.read_at(min(file.size, 2**16), 0))
        schema = _schema(source, file.path)
        start = source.tell()
        for batch in _batches(source, schema):
            blocks.append(Block(len(batch), start, source.tell()))
            start = source.tell()
        digest.update(source.read_at(min(file.size, 2**16), max(0, file.size - 2**16)))
    digest.update(repr(blocks).encode())
    return Description(schema, blocks, digest.hexdigest())


class ArrowReader:
    """Reads units of Arrow files."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def read(self, path: str, unit: Unit) -> Iterator[Rows]:
        """The unit's rows, in order; raises DataError."""
        skip, rows = unit.skip, unit.rows
        with _opened(path) as source:
            source.seek(unit.start)
            for batch in _batches(source, self._schema):
                piece = batch.slice(skip, rows)
                skip = max(0, skip - len(batch))
                rows -= len(piece)
                for start, stop in slices_of(decoded_bytes(piece), BATCH_BYTES):
                    yield Rows(piece.slice(start, stop - start))
                if rows == 0:
                    return
        raise DataError(f"{path} has fewer rows than when the run was planned")


@contextmanager
def _opened(path: str) -> Iterator[pa.NativeFile]:
    filesystem, inner = open_filesystem(path)
    local = isinstance(filesystem, fs.LocalFileSystem)
    try:
        with pa.memory_map(inner) if local else filesystem.open_input_file(inner) as source:
            yield source
    except (OSError, pa.ArrowException, EOFError) as error:
        raise DataError(f"{path} is not readable Arrow: {type(error).__name__}") from error


def _schema(source: pa.NativeFile, path: str) -> pa.Schema:
    source.seek(8 if source.read_at(8, 0) == FILE_MAGIC else 0)
    message = ipc.read_message(source)
    if EXTENSION_MARK in message.metadata.to_pybytes():
        raise DataError(
            f"{path} holds columns of an Arrow extension type; such types may carry pickled "
            "objects; write the file again with plain types"
        )
    return ipc.read_schema(message).remove_metadata()


def _batches(source: pa.NativeFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            message = ipc.read_message(source)
        except EOFError:
            return
        if message.type != "record batch":
            raise pa.ArrowInvalid("dictionary-encoded columns cannot be read in parts")
        batch = ipc.read_record_batch(message, schema)
        batch.validate(full=True)
        yield batch
