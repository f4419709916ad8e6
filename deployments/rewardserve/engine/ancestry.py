"""Which tokens of a pack see which, in square blocks: what a block-sparse kernel may skip.

The computed tokens are in depth-first order, so that those who see a token are neighbours: itself
and what follows in its subtree, or, for one that is known and lies behind them, its whole subtree.
Arithmetic on packs alone. Knows no tensors.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rewardserve.engine.tree import Pack

Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

BLOCK: Final = 128
"""Queries, and keys, in a block."""
LEAST_BLOCKS: Final = 2
"""A kernel for blocks of any number is not compiled from one block."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Which blocks of keys [blocks of queries, blocks of keys] a kernel must visit."""

    partial: Booleans
    """Some pairs may see each other: the mask decides pair by pair."""
    full: Booleans
    """All pairs see each other."""


class Ancestry:
    """Who sees each row of a pack's keys, computed ones first; made once for all layers."""

    begins: Integers
    """The first row of queries that sees it."""
    ends: Integers
    """The row behind the last one."""
    positions: Integers
    """On its path."""

    def __init__(self, pack: Pack) -> None:
        nodes = _Nodes.of(pack)
        computed = len(pack.token_ids)
        order = np.argsort(nodes.starts)
        sizes = (nodes.stops - nodes.starts)[order]
        rows = np.arange(sizes.sum())
        self.begins = np.where(rows < computed, rows, np.repeat(nodes.low[order], sizes))
        self.ends = np.repeat(nodes.high[order], sizes)
        self.positions = rows + np.repeat((nodes.depths - nodes.starts)[order], sizes)
        self._nodes, self._computed = nodes, computed

    def token_blocks(self, window: int | None) -> Blocks:
        """The blocks of the computed tokens, which see `window` positions of their paths."""
        partial, full = self._pairs > 0, self._pairs == BLOCK**2
        if window is not None:
            positions = padded(self.positions).reshape(-1, BLOCK)
            queries, first, last = positions[: len(full)], positions.min(1), positions.max(1)
            partial &= queries.min(1)[:, None] - last < window
            full &= queries.max(1)[:, None] - first < window
        return Blocks(partial & ~full, full)

    def readout_blocks(self, readouts: int) -> Blocks:
        """For `readouts` single tokens, all blocks: there are too few to be worth a search."""
        shape = _count(readouts), _count(len(self.positions))
        return Blocks(np.ones(shape, bool), np.zeros(shape, bool))

    @cached_property
    def _pairs(self) -> NDArray[np.float64]:
        """How many pairs of each two blocks, of queries and of keys, see each other."""
        nodes, queries = self._nodes, _count(self._computed)
        own = _overlaps(nodes.starts, nodes.stops, _count(len(self.positions)))
        known = nodes.starts >= self._computed
        below = _overlaps(np.where(known, nodes.low, nodes.stops), nodes.high, queries)
        # Descendants see all of a node. Its own tokens, where computed, see those of earlier
        # blocks, and causally those of their own block.
        self_seen = own * ~known[:, None]
        causal = np.tril(self_seen.T @ self_seen, -1)
        causal += np.diag((self_seen * (self_seen + 1) / 2).sum(0))
        pairs: NDArray[np.float64] = below.T @ own + causal[:queries]
        return pairs


def padded(values: NDArray[np.integer]) -> Integers:
    """`values`, and zeros up to whole blocks."""
    return np.pad(values.astype(np.int64), (0, _count(len(values)) * BLOCK - len(values)))


@dataclass(frozen=True, slots=True)
class _Nodes:
    """The nodes of a pack as arrays, and the computed rows [low, high) of their subtrees."""

    starts: Integers
    stops: Integers
    depths: Integers
    low: Integers
    high: Integers

    @classmethod
    def of(cls, pack: Pack) -> "_Nodes":
        computed = len(pack.token_ids)
        starts, stops = [n.start for n in pack.nodes], [n.end for n in pack.nodes]
        low = [min(computed, start) for start in starts]
        high = [stop if stop <= computed else 0 for stop in stops]
        for index in range(len(pack.nodes) - 1, -1, -1):
            parent = pack.nodes[index].parent
            if parent >= 0:
                low[parent] = min(low[parent], low[index])
                high[parent] = max(high[parent], high[index])
        depths = [node.depth for node in pack.nodes]
        return cls(*map(np.array, (starts, stops, depths, low, high)))


def _overlaps(starts: Integers, ends: Integers, blocks: int) -> NDArray[np.float64]:
    """[nodes, blocks]: how many of the tokens [start, end) are in each block."""
    # In floats, whose products are exact at this size and far faster than integers'.
    edges = np.arange(blocks) * BLOCK
    low = np.maximum(starts[:, None], edges)
    high = np.minimum(ends[:, None], edges + BLOCK)
    overlaps: NDArray[np.float64] = np.maximum(high - low, 0).astype(np.float64)
    return overlaps


def _count(tokens: int) -> int:
    return max(LEAST_BLOCKS, -(-tokens // BLOCK))
