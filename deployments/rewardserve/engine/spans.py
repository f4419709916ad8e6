"""Which tokens of a pack attend to which: each node's tokens to their path from the root.

Index arithmetic on packs alone. Knows no tensors.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from rewardserve.engine.tree import Node, Pack


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
    """Every token of the pack as a query, one span a node."""
    return [_span(pack, node, slice(node.start, node.end), node.end) for node in pack.nodes]


def readout_spans(pack: Pack, rows: Sequence[int]) -> list[Span]:
    """The pack's tokens `rows` alone as queries, in that order."""
    starts = [node.start for node in pack.nodes]
    return [
        _span(pack, pack.nodes[bisect_right(starts, row) - 1], slice(index, index + 1), row + 1)
        for index, row in enumerate(rows)
    ]


def _span(pack: Pack, node: Node, queries: slice, end: int) -> Span:
    """`queries` attending to the path that ends before index `end` of the pack, in `node`."""
    length = node.depth + end - node.start
    pieces = [slice(node.start, end)]
    while node.parent >= 0:
        node = pack.nodes[node.parent]
        if node.end == pieces[-1].start:
            pieces[-1] = slice(node.start, pieces[-1].stop)
        else:
            pieces.append(slice(node.start, node.end))
    return Span(queries, tuple(reversed(pieces)), length)
