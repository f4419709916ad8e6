"""Parquet: row groups, read forward in small batches with texts left dictionary-encoded.

A file is data from a stranger. Its Arrow schema may name extension types, whose loading has run
code before; such a file is refused from its raw footer, before Arrow looks at the schema.
"""

import base64
import hashlib
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from rewardserve.batch.inputs.files import InputFile
from rewardserve.batch.inputs.rows import BATCH_BYTES, BATCH_ROWS, Description, Rows, decoded_bytes
from rewardserve.batch.storage import open_filesystem
from rewardserve.batch.units import Block, Unit
from rewardserve.errors import DataError

MAX_FOOTER_BYTES: Final = 256 * 2**20
DICTIONARY_BYTES: Final = 64 * 2**20
"""Row groups up to this size, before compression, keep their texts dictionary-encoded."""

EXTENSION_MARK: Final = b"ARROW:extension:name"
EDGE_BYTES: Final = 64 * 1024
"""Read at both ends of a file for its digest; the end holds the footer and its statistics."""


def describe(file: InputFile) -> Description:
    """Schema, row groups and digest; raises DataError."""
    filesystem, path = file.open()
    try:
        with filesystem.open_input_file(path) as source:
            digest = _edges_digest(source, file.size)
            _refuse_extensions(source, file)
            metadata = _open(source).metadata
            schema = pq.read_schema(source)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{file.path} is not readable Parquet: {type(error).__name__}") from error
    groups = (metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
    blocks = [Block(rows, index, index + 1) for index, rows in enumerate(groups)]
    return Description(schema.remove_metadata(), blocks, digest)


def _edges_digest(source: pa.NativeFile, size: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    digest.update(source.read_at(min(size, EDGE_BYTES), 0))
    digest.update(source.read_at(min(size, EDGE_BYTES), max(0, size - EDGE_BYTES)))
    return digest.hexdigest()


def _refuse_extensions(source: pa.NativeFile, file: InputFile) -> None:
    if file.size < 12:
        raise DataError(f"{file.path} is too short to be Parquet")
    length = int.from_bytes(source.read_at(4, file.size - 8), "little")
    if length > min(MAX_FOOTER_BYTES, file.size - 8):
        raise DataError(f"{file.path} claims a footer of {length:,} bytes; it is cut off or bad")
    footer = source.read_at(length, file.size - 8 - length)
    if any(mark in footer for mark in _encoded_marks()):
        raise DataError(
            f"{file.path} holds columns of an Arrow extension type; such types may carry pickled "
            "objects; write the file again with plain types"
        )


def _encoded_marks() -> list[bytes]:
    """EXTENSION_MARK as base64 shows it at each of the three alignments (Arrow's schema is stored
    in base64)."""
    marks = [EXTENSION_MARK]
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + EXTENSION_MARK)
        marks.append(encoded[4 if shift else 0 : len(encoded) // 4 * 4 - 4])
    return marks


def _open(source: pa.NativeFile, read_dictionary: list[str] | None = None) -> pq.ParquetFile:
    return pq.ParquetFile(
        source,
        read_dictionary=read_dictionary,
        pre_buffer=False,
        buffer_size=2**20,
        arrow_extensions_enabled=False,
    )


class ParquetReader:
    """Reads units of Parquet files; going forward through one large row group costs it once."""

    def __init__(self) -> None:
        self._cursor: _Cursor | None = None

    def read(self, path: str, unit: Unit) -> Iterator[Rows]:
        """The unit's rows, in order; raises DataError naming file and row group."""
        try:
            if self._cursor is None or not self._cursor.can_reach(path, unit):
                self._cursor = _Cursor(path, unit)
            for rows in self._cursor.take(unit):
                decoded_bytes(rows.batch)  # refuses what Arrow would read out of bounds
                yield rows
        except (OSError, pa.ArrowException, ValueError) as error:
            self._cursor = None
            raise DataError(
                f"{path}, row group {unit.start}: {type(error).__name__}; the file is damaged"
            ) from error


class _Cursor:
    """A position in consecutive row groups of one file; it only moves forward."""

    def __init__(self, path: str, unit: Unit) -> None:
        self._at = (path, unit.start, unit.stop)
        filesystem, inner = open_filesystem(path)
        self._batches = _batches(filesystem.open_input_file(inner), unit)
        self._position = 0
        self._rest: pa.RecordBatch | None = None

    def can_reach(self, path: str, unit: Unit) -> bool:
        return self._at == (path, unit.start, unit.stop) and self._position <= unit.skip

    def take(self, unit: Unit) -> Iterator[Rows]:
        stop = unit.skip + unit.rows
        while self._position < stop:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                raise ValueError("fewer rows than the footer says")
            first = max(0, unit.skip - self._position)
            last = min(len(batch), stop - self._position)
            self._rest = batch.slice(last) if last < len(batch) else None
            self._position += last
            if first < last:
                yield Rows(batch.slice(first, last - first))


def _text_columns(file: pq.ParquetFile) -> list[str]:
    columns: list[Any] = [file.schema.column(index) for index in range(len(file.schema))]
    return [
        column.path
        for column in columns
        if column.physical_type == "BYTE_ARRAY" and column.logical_type.type != "DECIMAL"
    ]


def _batches(source: pa.NativeFile, unit: Unit) -> Iterator[pa.RecordBatch]:
    """The unit's row groups one by one: a dictionary belongs to one group."""
    plain = _open(source)
    texts = _text_columns(plain)
    for index in range(unit.start, unit.stop):
        group = plain.metadata.row_group(index)
        # Arrow keeps a group's dictionary whole and hands it out with every batch. That bounds a
        # small group whatever it decodes to; a large one would pay for it, and needs no bound.
        small = group.total_byte_size <= DICTIONARY_BYTES
        file = _open(source, texts) if small else plain
        yield from file.iter_batches(_batch_rows(group), row_groups=[index])


def _batch_rows(group: pq.RowGroupMetaData) -> int:
    """Rows that are about BATCH_BYTES by what the footer says of their size."""
    fitting: int = BATCH_BYTES * group.num_rows // max(1, group.total_byte_size)
    return max(1, min(BATCH_ROWS, fitting))
