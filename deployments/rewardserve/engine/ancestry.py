"""Which tokens of a pack see which, in square blocks: what a block-sparse kernel may skip.

A token sees the earlier tokens whose subtree has not ended when it comes: the pack is in
depth-first order. Arithmetic on packs alone. Knows no tensors.
"""

from dataclasses import dataclass
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


def subtree_ends(pack: Pack) -> Integers:
    """For each node, the index behind the last token of its subtree."""
    ends = [node.end for node in pack.nodes]
    for index in range(len(pack.nodes) - 1, -1, -1):
        parent = pack.nodes[index].parent
        if parent >= 0:
            ends[parent] = max(ends[parent], ends[index])
    return np.array(ends)


def token_blocks(pack: Pack, window: int | None) -> Blocks:
    """The blocks of all tokens of `pack`, which see `window` positions of their paths."""
    counts = _pairs(pack)
    partial, full = counts > 0, counts == BLOCK**2
    if window is not None:
        positions = padded(pack.position_ids).reshape(-1, BLOCK)
        first, last = positions.min(1), positions.max(1)
        partial &= first[:, None] - last < window
        full &= last[:, None] - first < window
    return Blocks(partial & ~full, full)


def readout_blocks(pack: Pack, readouts: int) -> Blocks:
    """For `readouts` single tokens, all blocks: there are too few to be worth a search."""
    shape = _count(readouts), _count(len(pack.token_ids))
    return Blocks(np.ones(shape, bool), np.zeros(shape, bool))


def padded(values: NDArray[np.integer]) -> Integers:
    """`values`, and zeros up to whole blocks."""
    return np.pad(values.astype(np.int64), (0, _count(len(values)) * BLOCK - len(values)))


def _pairs(pack: Pack) -> NDArray[np.float64]:
    """How many pairs of each two blocks, of queries and of keys, see each other."""
    starts = np.array([node.start for node in pack.nodes])
    ends = np.array([node.end for node in pack.nodes])
    blocks = _count(len(pack.token_ids))
    own = _overlaps(starts, ends, blocks)
    below = _overlaps(ends, subtree_ends(pack), blocks)
    # Descendants see all of a node. Its own tokens see those of earlier blocks, and causally
    # those of their own block.
    causal = np.tril(own.T @ own, -1) + np.diag((own * (own + 1) / 2).sum(0))
    pairs: NDArray[np.float64] = below.T @ own + causal
    return pairs


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
