"""Where Ray Data gets the units from: few tasks, each of which hands out many, one a block.

A task for each unit, or all units in the object store first, would cost the driver memory and time
for each of them before the first one is scored.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import pyarrow as pa
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from rewardserve.batch.stage import first_row
from rewardserve.batch.units import Unit

UNITS_A_TASK: Final = 1000
"""A task waits while its units do; what the driver notes of it goes when it ends."""


class UnitSource(Datasource):
    """The rows of some units, as the first stage takes them."""

    def __init__(self, units: Sequence[Unit]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._units = units

    @property
    def tasks(self) -> int:
        """How many tasks hand the units out."""
        return -(-len(self._units) // UNITS_A_TASK)

    def estimate_inmemory_data_size(self) -> None:
        """Unknown, and small."""

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """Each gives its units in order."""
        units = iter(self._units)
        pieces = iter(lambda: list(islice(units, UNITS_A_TASK)), [])
        return [_task(piece) for piece in pieces]


def _task(units: list[Unit]) -> ReadTask:
    def blocks() -> Iterator[pa.Table]:
        for unit in units:
            yield pa.Table.from_pylist([first_row(unit)])

    size = BlockMetadata(num_rows=len(units), size_bytes=None, input_files=None, exec_stats=None)
    return ReadTask(blocks, size)
