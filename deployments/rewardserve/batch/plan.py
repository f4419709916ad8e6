"""What a run will do: its input files, their layout, and the units that they are cut into."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from rewardserve.batch.columns import Layout, recognise
from rewardserve.batch.conversations import MAX_CHARS
from rewardserve.batch.inputs.files import Format, InputFile, find_files
from rewardserve.batch.inputs.formats import describe_all, open_reader
from rewardserve.batch.inputs.jsonl import merge_schemas
from rewardserve.batch.inputs.rows import Description
from rewardserve.batch.reward_columns import reward_schema, suffixes
from rewardserve.batch.settings import BulkSettings
from rewardserve.batch.units import Unit, cut
from rewardserve.errors import DataError, UnknownColumns

SAMPLE_ROWS: Final = 64
"""Rows that are looked at where column names and types do not say how texts are written."""

MAX_VALUE_BYTES: Final = 4 * MAX_CHARS
"""UTF-8 takes at most four bytes a character; more is not even decoded."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """The files of one run, all of one format and schema."""

    format: Format
    schema: pa.Schema
    layout: Layout
    inputs: list[dict[str, Any]]
    """Path, size, rows and digest of each file: the corpus's share of the fingerprint."""
    units: list[Unit]

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(unit.rows for unit in self.units)


def plan_corpus(names: Sequence[str], settings: BulkSettings) -> Corpus:
    """Find, look at and cut the input; raises DataError and UnknownColumns."""
    files = find_files(names)
    descriptions = describe_all(files)
    schema = _common_schema(files, descriptions)
    units = list(
        cut(
            [(file.path, each.blocks) for file, each in zip(files, descriptions, strict=True)],
            settings.unit_rows,
        )
    )
    sample = _sample(files[0].format, schema, units)
    layout = recognise(schema, sample, settings.columns)
    _refuse_taken_names(schema, layout, settings)
    inputs = [_entry(file, each) for file, each in zip(files, descriptions, strict=True)]
    return Corpus(files[0].format, schema, layout, inputs, units)


def _entry(file: InputFile, description: Description) -> dict[str, Any]:
    rows = sum(block.rows for block in description.blocks)
    return {"path": file.path, "size": file.size, "rows": rows, "digest": description.digest}


def _common_schema(files: list[InputFile], descriptions: list[Description]) -> pa.Schema:
    first = files[0]
    for file, description in zip(files, descriptions, strict=True):
        if file.format != first.format:
            raise DataError(f"{first.path} and {file.path} differ in format; score them apart")
        same = description.schema.equals(descriptions[0].schema)
        if file.format != "jsonl" and not same:
            raise DataError(
                f"{file.path} has other columns than {first.path}: "
                f"{_difference(descriptions[0].schema, description.schema)}; score them apart"
            )
    return merge_schemas([description.schema for description in descriptions])


def _difference(first: pa.Schema, other: pa.Schema) -> str:
    fields = set(first) ^ set(other)
    return ", ".join(sorted(f"{field.name} ({field.type})" for field in fields)) or "their order"


def _sample(file_format: Format, schema: pa.Schema, units: list[Unit]) -> Iterator[dict[str, Any]]:
    if not units:
        return
    columns = [field.name for field in schema if pa.types.is_string(field.type)]
    reader = open_reader(file_format, schema)
    rows = (
        value
        for batch in reader.read(units[0].path, units[0])
        for value in batch.values(columns, MAX_VALUE_BYTES)
    )
    yield from (row for row in islice(rows, SAMPLE_ROWS) if isinstance(row, dict))


def _refuse_taken_names(schema: pa.Schema, layout: Layout, settings: BulkSettings) -> None:
    for suffix in suffixes(settings.names).values():
        taken = set(reward_schema(layout.shape, suffix).names) & set(schema.names)
        if taken:
            raise UnknownColumns(
                f"the input has columns that the output needs: {', '.join(sorted(taken))}; "
                "rename them, or score with several models at once, whose columns carry their names"
            )
