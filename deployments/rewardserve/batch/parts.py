"""One unit's part file: the input's rows with the rewards beside them, whole or absent."""

import json
from collections.abc import Iterator, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from rewardserve.batch.fault_points import reach
from rewardserve.batch.storage import Folder
from rewardserve.errors import DataError

FINGERPRINT_KEY: Final = b"rewardserve.fingerprint"
COMPUTED_KEY: Final = b"rewardserve.computed_tokens"


def part_name(index: int) -> str:
    """Names of parts sort in the order of the input's rows."""
    return f"part-{index:07d}.parquet"


def write_part(
    folder: Folder,
    index: int,
    rows: Iterator[pa.RecordBatch],
    rewards: pa.Table,
    *,
    run: str,
    computed_tokens: Mapping[str, int],
) -> None:
    """Write the unit's rows, each beside its rewards, and publish them in one step.

    `rows` are the input's columns, as many rows in all as `rewards` has. Raises OutputFailed
    where the folder cannot take them; nothing is left under the final name then.
    """
    name = part_name(index)
    temporary = folder.temporary(name)
    try:
        _write(folder, temporary, rows, rewards, _metadata(run, computed_tokens))
    except OSError as error:
        folder.discard(temporary)
        raise folder.failure("write", name, error) from error
    except BaseException:
        folder.discard(temporary)
        raise
    folder.publish(temporary, name)


def computed_tokens_of(metadata: pq.FileMetaData) -> dict[str, int]:
    """Model -> computed tokens, as the part's footer has them."""
    counts: dict[str, int] = json.loads(metadata.metadata[COMPUTED_KEY])
    return counts


def _metadata(run: str, computed_tokens: Mapping[str, int]) -> dict[bytes, bytes]:
    return {
        FINGERPRINT_KEY: run.encode(),
        COMPUTED_KEY: json.dumps(computed_tokens, sort_keys=True).encode(),
    }


def _write(
    folder: Folder,
    temporary: str,
    rows: Iterator[pa.RecordBatch],
    rewards: pa.Table,
    metadata: dict[bytes, bytes],
) -> None:
    written = 0
    writer: pq.ParquetWriter | None = None
    with folder.open_output(temporary) as sink:
        reach("part.opened")
        for batch in rows:
            table = _beside(pa.Table.from_batches([batch]), rewards.slice(written, len(batch)))
            if writer is None:
                writer = pq.ParquetWriter(sink, table.schema, compression="zstd")
            writer.write_table(table)
            written += len(batch)
        if writer is None or written != len(rewards):
            raise DataError(f"{written} rows were read and {len(rewards)} were scored")
        reach("part.rows_written")
        writer.add_key_value_metadata(metadata)
        writer.close()
    reach("part.closed")


def _beside(rows: pa.Table, rewards: pa.Table) -> pa.Table:
    for field, column in zip(rewards.schema, rewards.columns, strict=True):
        rows = rows.append_column(field, column)
    return rows
