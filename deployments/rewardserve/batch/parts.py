"""One unit's part file: the input's rows with the rewards beside them, whole or absent."""

import json
from collections.abc import Iterator, Mapping
from itertools import chain
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
    first = next(rows)
    schema = pa.schema([*first.schema, *rewards.schema])
    written = 0
    with (
        folder.open_output(temporary) as sink,
        pq.ParquetWriter(sink, schema, compression="zstd") as writer,
    ):
        reach("part.opened")
        for batch in chain([first], rows):
            beside = rewards.slice(written, len(batch))
            writer.write_table(pa.table([*batch.columns, *beside.columns], schema=schema))
            written += len(batch)
        if written != len(rewards):
            raise DataError(f"{written} rows were read and {len(rewards)} were scored")
        reach("part.rows_written")
        writer.add_key_value_metadata(metadata)
    reach("part.closed")
