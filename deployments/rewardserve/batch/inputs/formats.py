"""The table of input formats: how each is described and read."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pyarrow as pa

from rewardserve.batch.inputs import arrow, jsonl, parquet
from rewardserve.batch.inputs.files import Format, InputFile
from rewardserve.batch.inputs.rows import Description, Rows
from rewardserve.batch.units import Unit

DESCRIBE = {"parquet": parquet.describe, "jsonl": jsonl.describe, "arrow": arrow.describe}

FOOTERS_AT_ONCE = 16
"""Files that are looked at together: it hides an object store's latency."""


class Reader(Protocol):
    """Reads units of one format; not to be shared between threads."""

    def read(self, path: str, unit: Unit) -> Iterator[Rows]:
        """The unit's rows, in order; raises DataError."""
        ...


def describe_all(files: list[InputFile]) -> list[Description]:
    """What planning needs of each file, in order; raises DataError."""
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as threads:
        return list(threads.map(lambda file: DESCRIBE[file.format](file), files))


def open_reader(file_format: Format, schema: pa.Schema) -> Reader:
    """A reader of that format."""
    if file_format == "parquet":
        return parquet.ParquetReader()
    return jsonl.JsonLinesReader(schema) if file_format == "jsonl" else arrow.ArrowReader(schema)
