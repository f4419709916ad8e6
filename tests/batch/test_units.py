"""Units cover every row once, in order, and never more than was asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardserve.batch import units
from rewardserve.batch.units import Block, Unit, cut
from rewardserve.errors import DataError


def blocks_of(sizes: list[int]) -> list[Block]:
    return [Block(rows, index, index + 1) for index, rows in enumerate(sizes)]


def rows_of(unit: Unit, sizes: list[int]) -> list[int]:
    """The rows of the file that a unit stands for, found from the block sizes alone."""
    first = sum(sizes[: unit.start]) + unit.skip
    assert first + unit.rows <= sum(sizes[: unit.stop])
    return list(range(first, first + unit.rows))


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 40))
def test_every_row_is_in_exactly_one_unit_in_order(sizes: list[int], unit_rows: int) -> None:
    planned = list(cut([("f", blocks_of(sizes))], unit_rows))
    assert [unit.index for unit in planned] == list(range(len(planned)))
    covered = [row for unit in planned for row in rows_of(unit, sizes)]
    assert covered == list(range(sum(sizes)))
    assert all(0 < unit.rows <= unit_rows for unit in planned)


def test_small_row_groups_are_joined_and_large_ones_cut() -> None:
    planned = list(cut([("f", blocks_of([3, 3, 3, 25]))], 10))
    assert [(u.start, u.stop, u.skip, u.rows) for u in planned] == [
        (0, 3, 0, 9),
        (3, 4, 0, 10),
        (3, 4, 10, 10),
        (3, 4, 20, 5),
    ]


def test_files_are_never_mixed_in_a_unit() -> None:
    planned = list(cut([("a", blocks_of([2])), ("b", blocks_of([2]))], 10))
    assert [(unit.path, unit.rows) for unit in planned] == [("a", 2), ("b", 2)]


def test_a_footer_that_claims_endless_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "MAX_UNITS", 1000)
    with pytest.raises(DataError, match="more than 1,000 units"):
        list(cut([("f", blocks_of([10**15]))]))
