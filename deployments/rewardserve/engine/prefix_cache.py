"""Keys and values of what was computed lately, so that a prefix that returns is not computed again.

Callers who send one response each ask for the same prompt again and again, seconds apart, and a
conversation that grows by a turn begins with all it was. A pack's keys and values are kept as they
lie, the known ones that it used with them, so that what is used stays while older packs go.
Knows packs and their states. Knows nothing of text, heads or scores.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from torch import Tensor

from rewardserve.engine.prefixes import prefix_digests, without_known
from rewardserve.engine.tree import Pack, TokenIds

BLOCK: Final = 32
"""Prefixes are found in whole blocks of so many tokens."""


@dataclass(eq=False, slots=True)
class _KeptPack:
    """One pack's rows, computed and known, and their keys and values."""

    pack: Pack
    rows: int
    layers: list[Tensor] = field(default_factory=list)
    """[key heads, then value heads; rows; head dim] of each layer."""
    digests: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Found:
    """The first `tokens` tokens of a sequence: those of a path."""

    kept: _KeptPack
    leaf: int
    tokens: int


class PackStates:
    """What one pack takes from the cache and leaves there, layer by layer."""

    def __init__(self, pack: Pack, found: Mapping[int, _Found], *, capacity: int) -> None:
        self.pack, runs = without_known(
            pack, {sequence: item.tokens for sequence, item in found.items()}
        )
        """The pack without what is known."""
        self._sources: list[tuple[_KeptPack, slice]] = [
            (found[run.sequence].kept, rows)
            for run in runs
            for rows in found[run.sequence].kept.pack.pieces(
                found[run.sequence].leaf, run.begin, run.end
            )
        ]
        self.known_tokens = sum(run.end - run.begin for run in runs)
        rows = len(self.pack.token_ids) + self.known_tokens
        self.kept = _KeptPack(self.pack, rows) if rows <= capacity else None

    def exchange(self, layer: int, states: Tensor) -> None:
        """Put the known keys and values of a layer behind the computed ones, and keep both.

        Takes `states` [key heads, then value heads; computed, known and other rows; head dim].
        """
        row = len(self.pack.token_ids)
        for source, rows in self._sources:
            known = source.layers[layer][:, rows]
            states[:, row : row + known.shape[1]] = known
            row += known.shape[1]
        if self.kept is not None:
            self.kept.layers.append(states[:, :row].clone())


class PrefixCache:
    """The keys and values of the last packs, `capacity` tokens at most."""

    def __init__(self, capacity: int) -> None:
        self.tokens = 0
        """Rows that are kept."""
        self._capacity = capacity
        self._packs: deque[_KeptPack] = deque()
        self._paths: dict[bytes, tuple[_KeptPack, int]] = {}

    def states(
        self, pack: Pack, sequences: Mapping[int, TokenIds], limits: Mapping[int, int]
    ) -> PackStates:
        """For the pack's forward; of sequence i, `limits[i]` tokens at most will be known."""
        found = {
            index: item
            for index in pack.sequences
            if (item := self._find(sequences[index][: limits[index]]))
        }
        states = PackStates(pack, found, capacity=self._capacity)
        if states.kept is not None:
            # Now, so that the new states never lie in memory beside all the old ones.
            while self.tokens + states.kept.rows > self._capacity:
                self._forget_oldest()
        return states

    def keep(self, states: PackStates, sequences: Mapping[int, TokenIds]) -> None:
        """Let later packs find what this one, whose last layer has run, knows."""
        kept = states.kept
        if kept is None:
            return
        self._packs.append(kept)
        self.tokens += kept.rows
        for index, leaf in zip(kept.pack.sequences, kept.pack.leaves, strict=True):
            for digest in prefix_digests(sequences[index], BLOCK):
                self._paths[digest] = kept, leaf
                kept.digests.append(digest)

    def clear(self) -> None:
        """Forget everything."""
        while self._packs:
            self._forget_oldest()

    def _find(self, token_ids: TokenIds) -> _Found | None:
        # Whoever keeps a prefix keeps all shorter ones, so that the first unknown one ends it.
        found = None
        for index, digest in enumerate(prefix_digests(token_ids, BLOCK), 1):
            if digest not in self._paths:
                break
            found = _Found(*self._paths[digest], index * BLOCK)
        return found

    def _forget_oldest(self) -> None:
        oldest = self._packs.popleft()
        self.tokens -= oldest.rows
        for digest in oldest.digests:
            if digest in self._paths and self._paths[digest][0] is oldest:
                del self._paths[digest]
