"""Rows into one Parquet file, a little at a time and whole or not at all."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from rewardserve.batch.storage import Folder, split

ROWS: Final = 1000
"""Of one row group."""


def write_rows(path: str, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> int:
    """Write the rows and return how many they were; raises OutputFailed."""
    parent, name = split(path)
    folder = Folder(parent)
    folder.create()
    temporary = folder.temporary(name)
    count = 0
    try:
        with (
            folder.open_output(temporary) as sink,
            pq.ParquetWriter(sink, schema, compression="zstd") as writer,
        ):
            remaining = iter(rows)
            while group := list(islice(remaining, ROWS)):
                writer.write_table(pa.Table.from_pylist(group, schema))
                count += len(group)
    except OSError as error:
        folder.discard(temporary)
        raise folder.failure("write", name, error) from error
    except BaseException:
        folder.discard(temporary)
        raise
    folder.publish(temporary, name)
    return count
