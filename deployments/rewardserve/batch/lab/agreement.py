"""How far several scorers agree on which response to a prompt is better.

Pure: scores of one prompt's responses go in, rates over all prompts come out.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


class Agreement:
    """Counts over prompts with two or more responses.

    Kendall's tau-b over all pairs of responses to the same prompt, pooled: the sum of
    sign(a) * sign(b) over the pairs, divided by the root of (pairs that a orders) * (pairs that b
    orders). Only prompts that both scorers scored count.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        size = (len(names), len(names))
        self._concord = np.zeros(size)
        self._ordered = np.zeros(size)
        self._same_best = np.zeros(size)
        self._prompts = np.zeros(size)

    def add(self, scores: Mapping[str, Sequence[float]]) -> None:
        """Take in one prompt's scores; a scorer that has none is left out of `scores`."""
        count = max((len(row) for row in scores.values()), default=0)
        if count < 2:
            return
        known = np.array([name in scores for name in self.names], np.float64)
        table = np.array([scores.get(name, [0.0] * count) for name in self.names], np.float64)
        signs = _signs(table)
        self._concord += signs @ signs.T
        self._ordered += np.outer(np.abs(signs).sum(axis=1), known)
        best = table.argmax(axis=1)
        both = np.outer(known, known)
        self._prompts += both
        self._same_best += both * (best[:, None] == best[None, :])

    def kendall_tau(self) -> dict[str, dict[str, float | None]]:
        """Name -> name -> tau-b; None where one of them orders no pair."""
        return self._rates(self._concord, np.sqrt(self._ordered * self._ordered.T))

    def same_best(self) -> dict[str, dict[str, float | None]]:
        """Name -> name -> share of prompts with the same best response, the first of equals."""
        return self._rates(self._same_best, self._prompts)

    def _rates(
        self, counts: NDArray[np.float64], of: NDArray[np.float64]
    ) -> dict[str, dict[str, float | None]]:
        return {
            one: {
                other: float(counts[i, j] / of[i, j]) if of[i, j] else None
                for j, other in enumerate(self.names)
            }
            for i, one in enumerate(self.names)
        }


def _signs(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """[names, pairs]: which of each two responses scores higher."""
    left, right = np.triu_indices(table.shape[1], k=1)
    signs: NDArray[np.float64] = np.sign(table[:, left] - table[:, right])
    return signs
