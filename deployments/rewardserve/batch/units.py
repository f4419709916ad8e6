"""How a corpus is cut into units: the pieces that are scored, written and resumed one by one.

Pure. A unit is a range of rows of one file; its part file is complete or absent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rewardserve.errors import DataError

UNIT_ROWS: Final = 1024
"""Rows of one part file. A kill may cost each actor the two units it has in hand."""

MAX_UNITS: Final = 2_000_000
"""About what a driver of 8 GB can plan; a file's footer may claim any number of rows."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that a format can reach without reading what lies before them."""

    rows: int
    start: int
    """Parquet: the row group's number. Other formats: its offset in bytes."""
    stop: int
    """The start of the block after it."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows [skip, skip + rows) of a file's blocks [start, stop)."""

    index: int
    """Position in the corpus, from 0; part names sort by it."""
    path: str
    start: int
    stop: int
    skip: int
    rows: int


def cut(files: Sequence[tuple[str, Sequence[Block]]], unit_rows: int = UNIT_ROWS) -> Iterator[Unit]:
    """Units of the files in order: small blocks joined, large ones cut, files never mixed.

    Raises DataError beyond MAX_UNITS.
    """
    index = 0
    for path, blocks in files:
        for start, stop, skip, rows in _ranges(blocks, unit_rows):
            if index == MAX_UNITS:
                raise DataError(
                    f"more than {MAX_UNITS:,} units of {unit_rows:,} rows; score the corpus in "
                    "several runs, or raise --unit-rows"
                )
            yield Unit(index, path, start, stop, skip, rows)
            index += 1


def _ranges(blocks: Sequence[Block], unit_rows: int) -> Iterator[tuple[int, int, int, int]]:
    joined: list[Block] = []
    rows = 0
    for block in filter(lambda block: block.rows, blocks):
        if joined and rows + block.rows > unit_rows:
            yield from _pieces(joined, rows, unit_rows)
            joined, rows = [], 0
        joined.append(block)
        rows += block.rows
    if joined:
        yield from _pieces(joined, rows, unit_rows)


def _pieces(
    joined: Sequence[Block], rows: int, unit_rows: int
) -> Iterator[tuple[int, int, int, int]]:
    for skip in range(0, rows, unit_rows):
        yield joined[0].start, joined[-1].stop, skip, min(unit_rows, rows - skip)
