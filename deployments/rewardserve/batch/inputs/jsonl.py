"""JSON lines, plain or compressed as a whole: blocks of lines, found by one pass over the file.

A line that is no JSON object, or a value that does not fit its column, costs its row and no other.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
from pyarrow import fs

from rewardserve.batch.inputs.files import COMPRESSED, InputFile
from rewardserve.batch.inputs.rows import BATCH_BYTES, BATCH_ROWS, Description, Rows
from rewardserve.batch.storage import open_filesystem
from rewardserve.batch.units import Block, Unit
from rewardserve.errors import DataError

BLOCK_BYTES: Final = 4 * 2**20
MAX_LINE_BYTES: Final = 64 * 2**20

Line = dict[str, Any] | str
"""A parsed line, or why it is none."""

VALUE_ERRORS: Final = (pa.ArrowException, TypeError, ValueError, OverflowError)


def describe(file: InputFile) -> Description:
    """Schema of all lines, blocks of lines and digest; raises DataError."""
    filesystem, path = file.open()
    digest = hashlib.sha256()
    blocks: list[Block] = []
    schema = pa.schema([])
    offset = 0
    with _open(filesystem, path) as source:
        for lines in _blocks(source, file.path):
            size = 0
            for line in lines:
                digest.update(line)
                size += len(line)
            blocks.append(Block(sum(map(_is_row, lines)), offset, offset + size))
            offset += size
            schema = merge_schemas([schema, _schema_of([_parse(line) for line in lines])])
    return Description(schema, blocks, digest.hexdigest())


class JsonLinesReader:
    """Reads units of JSON lines under the schema of the whole corpus."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def read(self, path: str, unit: Unit) -> Iterator[Rows]:
        """The unit's rows, in order; raises DataError."""
        filesystem, inner = open_filesystem(path)
        with _open(filesystem, inner) as source:
            _skip(source, unit.start)
            lines = filter(_is_row, _lines(source, path))
            for _ in range(unit.skip):
                next(lines, None)
            yield from self._batches(lines, unit.rows)

    def _batches(self, lines: Iterator[bytes], rows: int) -> Iterator[Rows]:
        held: list[Line] = []
        size = 0
        for line, _ in zip(lines, range(rows), strict=False):
            held.append(_parse(line))
            size += len(line)
            if len(held) == BATCH_ROWS or size > BATCH_BYTES:
                yield _as_rows(held, self._schema)
                held, size = [], 0
        if held:
            yield _as_rows(held, self._schema)


def _open(filesystem: fs.FileSystem, path: str) -> pa.NativeFile:
    if any(path.endswith(suffix) for suffix in COMPRESSED):
        return filesystem.open_input_stream(path, compression="detect")
    return filesystem.open_input_file(path)


def _skip(source: pa.NativeFile, offset: int) -> None:
    if source.seekable():
        source.seek(offset)
        return
    while offset > 0:
        offset -= len(source.read(min(offset, BLOCK_BYTES)))


def _lines(source: pa.NativeFile, path: str) -> Iterator[bytes]:
    for block in _blocks(source, path):
        yield from block


def _blocks(source: pa.NativeFile, path: str) -> Iterator[list[bytes]]:
    """Lists of whole lines, newlines included, of about BLOCK_BYTES."""
    rest = b""
    while data := source.read(BLOCK_BYTES):
        rest += data
        *lines, rest = rest.splitlines(keepends=True) if data else (rest,)
        if len(rest) > MAX_LINE_BYTES:
            raise DataError(f"{path} has a line longer than {MAX_LINE_BYTES:,} bytes")
        if lines:
            yield lines
    if rest:
        yield [rest]


def _is_row(line: bytes) -> bool:
    return not line.isspace()


def _parse(line: bytes) -> Line:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return "the line is not JSON"
    return value if isinstance(value, dict) else "the line is not a JSON object"


def _schema_of(lines: Sequence[Line]) -> pa.Schema:
    rows = [line for line in lines if isinstance(line, dict)]
    try:
        return pa.schema(pa.array(rows).type) if rows else pa.schema([])
    except VALUE_ERRORS:
        return _majority_schema(rows)


def _majority_schema(rows: Sequence[dict[str, Any]]) -> pa.Schema:
    """Of values that contradict each other, the commoner type wins; the others are bad rows."""
    counts: Counter[pa.Field] = Counter()
    for row in rows:
        for name, value in row.items():
            try:
                counts[pa.field(name, pa.array([value]).type)] += 1
            except VALUE_ERRORS:
                continue
    return merge_schemas([pa.schema([field]) for field, _ in counts.most_common()])


def merge_schemas(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """All columns of all schemas; where two contradict each other, the earlier type stays."""
    merged = schemas[0]
    for schema in schemas[1:]:
        for field in schema:
            try:
                merged = pa.unify_schemas(
                    [merged, pa.schema([field])], promote_options="permissive"
                )
            except pa.ArrowException:
                continue
    return merged


def _as_rows(lines: Sequence[Line], schema: pa.Schema) -> Rows:
    problems = {index: line for index, line in enumerate(lines) if isinstance(line, str)}
    columns = []
    for field in schema:
        values = [line.get(field.name) if isinstance(line, dict) else None for line in lines]
        columns.append(_column(values, field, problems))
    return Rows(pa.record_batch(columns, schema=schema), problems)


def _column(values: list[Any], field: pa.Field, problems: dict[int, str]) -> pa.Array:
    try:
        return pa.array(values, field.type)
    except VALUE_ERRORS:
        return pa.array(
            [_fitting(value, index, field, problems) for index, value in enumerate(values)],
            field.type,
        )


def _fitting(value: Any, index: int, field: pa.Field, problems: dict[int, str]) -> Any:
    try:
        pa.array([value], field.type)
    except VALUE_ERRORS:
        problems.setdefault(index, f"column {field.name} is not {field.type}")
        return None
    return value
