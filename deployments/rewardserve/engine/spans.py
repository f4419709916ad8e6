"""Which tokens of a pack attend to which: each node's tokens to their path from the root.

Index arithmetic on packs alone. Knows no tensors.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from rewardserve.engine.tree import Pack


@dataclass(frozen=True, slots=True)
class Span:
    """Queries that are the last tokens of one path, and the pieces of the pack that path is."""

    queries: slice
    """Rows of the query tensor."""
    keys: tuple[slice, ...]
    """Rows of the key tensor, from the root on; neighbouring pieces are joined."""
    length: int
    """Tokens on the path."""

    @property
    def rows(self) -> int:
        return int(self.queries.stop - self.queries.start)


def node_spans(pack: Pack) -> list[Span]:
    """Every token that the pack computes as a query, one span a node."""
    nodes = [(index, pack.nodes[index]) for index in _computed(pack)]
    return [_span(pack, index, slice(node.start, node.end), node.end) for index, node in nodes]


def readout_spans(pack: Pack, rows: Sequence[int]) -> list[Span]:
    """The pack's tokens `rows` alone as queries, in that order."""
    computed = _computed(pack)
    starts = [pack.nodes[index].start for index in computed]
    return [
        _span(pack, computed[bisect_right(starts, row) - 1], slice(place, place + 1), row + 1)
        for place, row in enumerate(rows)
    ]


def _computed(pack: Pack) -> list[int]:
    return [index for index, node in enumerate(pack.nodes) if node.start < len(pack.token_ids)]


def _span(pack: Pack, index: int, queries: slice, end: int) -> Span:
    """`queries` attending to the path that ends before row `end`, in node `index`."""
    node = pack.nodes[index]
    length = node.depth + end - node.start
    return Span(queries, tuple(pack.pieces(index, 0, length)), length)
