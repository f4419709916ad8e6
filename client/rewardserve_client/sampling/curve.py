"""How much drawing more responses helps: the expected best score of n, for growing n: pure."""

from collections.abc import Sequence
from math import comb
from statistics import fmean


def expected_best(scores: Sequence[float], n: int) -> float:
    """The mean, over all ways to draw `n` of `scores` without putting back, of the highest.

    With the scores sorted upwards as s_1 .. s_N it is the sum of s_i C(i-1, n-1) / C(N, n).
    """
    weighted = sum(score * comb(index, n - 1) for index, score in enumerate(sorted(scores)))
    return weighted / comb(len(scores), n)


def best_of_n_curve(scores: Sequence[Sequence[float]]) -> dict[int, float]:
    """n -> the expected best of n, averaged over the prompts with at least that many scores.

    n doubles from 1 and ends with the largest number of scores that a prompt has.
    """
    largest = max((len(each) for each in scores), default=0)
    steps = sorted({*_doubling(largest), largest} - {0})
    return {n: fmean(expected_best(each, n) for each in scores if len(each) >= n) for n in steps}


def _doubling(largest: int) -> list[int]:
    return [2**power for power in range(largest.bit_length()) if 2**power <= largest]
