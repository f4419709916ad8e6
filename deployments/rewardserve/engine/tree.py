"""Prefix trees and packs: how many token sequences become one forward that computes each shared
prefix once.

Pure data from token ids alone. Knows nothing of text, tensors or models; the attention that makes
a pack exact is in `attention`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

TokenIds: TypeAlias = NDArray[np.int32]

MIN_SHARED_TOKENS = 4
"""Shorter shared prefixes are computed again: a node of its own costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Node:
    """A run of tokens. It attends to its ancestors' tokens and, causally, to its own."""

    start: int
    """Index of its first token in the pack."""
    end: int
    parent: int
    """Index of the parent in `Pack.nodes`, always smaller than its own; -1 for a root."""
    depth: int
    """Position of its first token on the path from the root."""


@dataclass(frozen=True, slots=True)
class Pack:
    """One forward's flat token batch: a forest in depth-first order.

    Nodes behind `token_ids` are of tokens that need no computing (`prefixes`).
    """

    token_ids: TokenIds
    position_ids: TokenIds
    """Depth of each token on its path."""
    nodes: tuple[Node, ...]
    sequences: tuple[int, ...]
    """Which of the planned sequences are in this pack."""
    leaves: tuple[int, ...]
    """For each of `sequences`, the node its last token is in."""

    def locate(self, leaf: int, position: int) -> int:
        """Index in the pack of the token at `position` on the path that ends in node `leaf`."""
        node = self.nodes[leaf]
        while position < node.depth:
            node = self.nodes[node.parent]
        return node.start + position - node.depth

    def pieces(self, leaf: int, begin: int, end: int) -> list[slice]:
        """Rows of the tokens [begin, end) on the path through node `leaf`; neighbours joined."""
        found: list[slice] = []
        index = leaf
        while index >= 0 and end > begin:
            node = self.nodes[index]
            if node.depth < end:
                first = max(begin, node.depth)
                rows = slice(node.start + first - node.depth, node.start + end - node.depth)
                if found and rows.stop == found[-1].start:
                    rows = slice(rows.start, found.pop().stop)
                found.append(rows)
                end = first
            index = node.parent
        return found[::-1]


def plan_packs(
    sequences: Sequence[TokenIds], *, pack_tokens: int, min_shared: int = MIN_SHARED_TOKENS
) -> list[Pack]:
    """Packs that hold every sequence once, each of about `pack_tokens` computed tokens at most.

    Sequences that share a prefix are put side by side, whatever their order; one that is longer
    than `pack_tokens` has a pack of its own. No sequence may be empty.
    """
    if not sequences:
        return []
    order = sorted(range(len(sequences)), key=lambda index: _sort_key(sequences[index]))
    shared = [0] + [
        shared_length(sequences[left], sequences[right]) for left, right in pairwise(order)
    ]
    cuts = _cut([len(sequences[index]) for index in order], shared, pack_tokens, min_shared)
    return [
        _build(sequences, order[low:high], np.array(shared[low:high]), min_shared)
        for low, high in pairwise(cuts)
    ]


def shared_length(left: TokenIds, right: TokenIds) -> int:
    """Length of the longest common prefix."""
    length = min(len(left), len(right))
    different = left[:length] != right[:length]
    first = int(different.argmax()) if length else 0
    return first if length and different[first] else length


def _sort_key(token_ids: TokenIds) -> bytes:
    # Big-endian bytes of non-negative integers compare as the integers do, at memcmp's speed.
    return token_ids.astype(">u4").tobytes()


def _cut(lengths: list[int], shared: list[int], pack_tokens: int, min_shared: int) -> list[int]:
    """Where the sorted sequences are cut into packs, ends included."""
    cuts, computed = [0], 0
    for index, (length, common) in enumerate(zip(lengths, shared, strict=True)):
        added = length - common if common >= min_shared else length
        if computed and computed + added > pack_tokens:
            cuts.append(index)
            computed, added = 0, length
        computed += added
    return [*cuts, len(lengths)]


def _build(
    sequences: Sequence[TokenIds], order: list[int], shared: NDArray[np.int64], min_shared: int
) -> Pack:
    """The pack of the sorted sequences `order`; `shared[i]` is what i has in common with i - 1."""
    nodes: list[Node] = []
    runs: list[TokenIds] = []
    leaves = [0] * len(order)
    size = 0
    # Ranges of `order` whose sequences agree up to `depth`, the last token of node `parent`.
    ranges = [(0, len(order), 0, -1)]
    while ranges:
        low, high, depth, parent = ranges.pop()
        # In sorted order the first sequence is the shortest of those that agree everywhere.
        common = int(shared[low + 1 : high].min()) if high - low > 1 else len(sequences[order[low]])
        alike = high - low == 1 or common == len(sequences[order[high - 1]])
        if alike or common - depth >= min_shared:
            if common > depth:
                nodes.append(Node(size, size + common - depth, parent, depth))
                runs.append(sequences[order[low]][depth:common])
                size += common - depth
                depth, parent = common, len(nodes) - 1
            if alike:
                leaves[low:high] = [parent] * (high - low)
                continue
        splits = [low, *(low + 1 + np.flatnonzero(shared[low + 1 : high] == common)), high]
        ranges.extend(
            (int(left), int(right), depth, parent)
            for left, right in reversed(list(pairwise(splits)))
        )
    return Pack(
        token_ids=np.concatenate(runs).astype(np.int32),
        position_ids=np.concatenate(
            [np.arange(node.depth, node.depth + node.end - node.start) for node in nodes]
        ).astype(np.int32),
        nodes=tuple(nodes),
        sequences=tuple(order),
        leaves=tuple(leaves),
    )
