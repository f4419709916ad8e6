"""Which tokens of a pack need no computing, because their keys and values are known.

Index arithmetic on packs alone. Knows no tensors, and not where anything is kept.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from rewardserve.engine.tree import Node, Pack, TokenIds

DIGEST_BYTES: Final = 16
"""Two prefixes that share a digest would share scores: at this length none ever will."""


@dataclass(frozen=True, slots=True)
class Known:
    """A run of known tokens: [begin, end) of one of the planned sequences."""

    sequence: int
    begin: int
    end: int


def prefix_digests(token_ids: TokenIds, block: int) -> Iterator[bytes]:
    """For each whole block of so many tokens, a digest of everything up to its end."""
    content = token_ids.astype(np.int32, copy=False).tobytes()
    width = block * 4
    digest = b""
    for end in range(width, len(content) + 1, width):
        chained = digest + content[end - width : end]
        digest = hashlib.blake2b(chained, digest_size=DIGEST_BYTES).digest()
        yield digest


def without_known(pack: Pack, known: Mapping[int, int]) -> tuple[Pack, list[Known]]:
    """The pack that computes less: of sequence i the first `known[i]` tokens are known.

    Computed tokens have the first rows, known ones those behind them, in the order of the list.
    Only what all sequences that share a token know counts as known there: another may read it.
    """
    if not known:
        return pack, []
    ends = _known_ends(pack, known)
    splits = [
        min(max(node.start, node.start + end - node.depth), node.end)
        for node, (end, _) in zip(pack.nodes, ends, strict=True)
    ]
    computed = sum(node.end - split for node, split in zip(pack.nodes, splits, strict=True))
    runs: list[Known] = []
    rows: list[range] = []
    nodes: list[Node] = []
    last_of: list[int] = []
    next_computed, next_known = 0, computed
    for node, split, (_, sequence) in zip(pack.nodes, splits, ends, strict=True):
        parent = last_of[node.parent] if node.parent >= 0 else -1
        depth = node.depth + split - node.start
        if split > node.start:
            stop = next_known + split - node.start
            nodes.append(Node(next_known, stop, parent, node.depth))
            runs.append(Known(sequence, node.depth, depth))
            parent, next_known = len(nodes) - 1, stop
        if split < node.end:
            stop = next_computed + node.end - split
            nodes.append(Node(next_computed, stop, parent, depth))
            rows.append(range(split, node.end))
            parent, next_computed = len(nodes) - 1, stop
        last_of.append(parent)
    taken = np.concatenate(rows)
    smaller = replace(
        pack,
        token_ids=pack.token_ids[taken],
        position_ids=pack.position_ids[taken],
        nodes=tuple(nodes),
        leaves=tuple(last_of[leaf] for leaf in pack.leaves),
    )
    return smaller, runs


def _known_ends(pack: Pack, known: Mapping[int, int]) -> list[tuple[int, int]]:
    """For each node, how far from the root all its sequences know, and one of them."""
    ends: dict[int, tuple[int, int]] = {}
    for sequence, leaf in zip(pack.sequences, pack.leaves, strict=True):
        index, end = leaf, (known.get(sequence, 0), sequence)
        while index >= 0:
            ends[index] = min(ends.get(index, end), end)
            index = pack.nodes[index].parent
    return [ends[index] for index in range(len(pack.nodes))]
