"""What every input format gives: a few rows at a time, and which of them could not be read.

Texts stay dictionary-encoded as long as possible: a few hundred bytes of Parquet can stand for a
gigabyte of repeated text, and only what is needed is ever spelt out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from rewardserve.batch.units import Block

BATCH_ROWS: Final = 256
BATCH_BYTES: Final = 16 * 2**20
"""Rows and decoded bytes that are in hand at once."""


TEXTS: Final = (pt.is_string, pt.is_large_string, pt.is_binary, pt.is_large_binary)

Sizes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Description:
    """What planning needs to know of a file."""

    schema: pa.Schema
    blocks: list[Block]
    digest: str
    """Changes when the content does."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some consecutive rows; `problems` says which could not be read as they stand, and why."""

    batch: pa.RecordBatch
    problems: Mapping[int, str] = field(default_factory=dict)

    def decoded(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The same rows with plain text, in slices of about BATCH_BYTES."""
        for start, stop in slices_of(decoded_bytes(self.batch), BATCH_BYTES):
            yield self.batch.slice(start, stop - start).cast(schema)

    def values(self, columns: Sequence[str], max_bytes: int) -> Iterator[dict[str, Any] | str]:
        """Each row's values of `columns` as Python objects, or why it has none."""
        wanted = self.batch.select(list(columns))
        sizes = decoded_bytes(wanted)
        for index in range(len(wanted)):
            if index in self.problems:
                yield self.problems[index]
            elif sizes[index] > max_bytes:
                yield f"{sizes[index]:,} bytes of text; at most {max_bytes:,} are read"
            else:
                yield _python(wanted.slice(index, 1))


def _python(row: pa.RecordBatch) -> dict[str, Any] | str:
    try:
        values: dict[str, Any] = row.to_pylist()[0]
    except UnicodeDecodeError:
        return "a text is not valid UTF-8"
    return values


def slices_of(sizes: Sizes, limit: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges whose sizes add up to `limit` at most, or that hold one row alone."""
    start, total = 0, 0
    for index, size in enumerate(sizes.tolist()):
        if index > start and total + size > limit:
            yield start, index
            start, total = index, 0
        total += size
    if len(sizes) > start:
        yield start, len(sizes)


def decoded_bytes(batch: pa.RecordBatch) -> Sizes:
    """Bytes of text in each row, once spelt out; found without spelling it out.

    Raises pyarrow.ArrowInvalid for a dictionary index out of bounds, which Arrow itself follows.
    """
    sizes = np.zeros(len(batch), np.int64)
    for column in batch.columns:
        sizes += _text_bytes(column)
    return sizes


def _text_bytes(array: pa.Array) -> Sizes:
    kind = array.type
    if pt.is_dictionary(kind):
        known = len(array.dictionary)
        bounds = pc.min_max(array.indices).as_py()
        if bounds["max"] is not None and not 0 <= bounds["min"] <= bounds["max"] < known:
            raise pa.ArrowInvalid("a dictionary index is out of bounds")
        lengths = np.append(_text_bytes(array.dictionary), 0)
        return lengths[_int64(pc.fill_null(array.indices, known))]
    if pt.is_string_view(kind) or pt.is_binary_view(kind):
        return _text_bytes(array.cast(pa.large_binary()))
    if any(test(kind) for test in TEXTS):
        return _int64(pc.fill_null(pc.binary_length(array), 0))
    sizes = np.zeros(len(array), np.int64)
    if pt.is_struct(kind):
        for index in range(kind.num_fields):
            sizes += _text_bytes(array.field(index))
    elif pt.is_list(kind) or pt.is_large_list(kind) or pt.is_map(kind):
        totals = np.concatenate([[0], np.cumsum(_text_bytes(array.values))])
        offsets = _int64(array.offsets)
        sizes += totals[offsets[1:]] - totals[offsets[:-1]]
    return sizes


def _int64(array: pa.Array) -> Sizes:
    return np.asarray(array.to_numpy(zero_copy_only=False), np.int64)
