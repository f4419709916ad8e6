"""`rewardserve filter`: the best answers of an output folder, for rejection-sampling fine-tuning.

As RAFT does it (Dong et al., 2023): each prompt keeps its best answer, and of those the best
fraction is kept over all prompts.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa

from rewardserve.batch.output import ScoredCorpus, open_scored
from rewardserve.batch.selection.candidates import ScoredPrompt, model_named, scored_prompts
from rewardserve.batch.selection.pairs_command import TURNS
from rewardserve.batch.selection.parquet_rows import write_rows
from rewardserve.errors import SettingsError

KEPT: Final = pa.schema([("messages", TURNS), ("score", pa.float64())])


def keep_best(
    out: str,
    into: str,
    *,
    fraction: float = 1.0,
    min_score: float | None = None,
    model: str | None = None,
) -> dict[str, int]:
    """Write each prompt's best answer, of those the best `fraction`, and return the counts.

    Answers below `min_score` are never kept; equal scores at the edge are all kept. Raises
    DataError, OutputFailed and SettingsError.
    """
    if not 0 < fraction <= 1:
        raise SettingsError(f"fraction is {fraction}; it must be above 0 and at most 1", "fraction")
    scored = open_scored(out)
    name = model_named(scored, model)
    best = np.array([max(each.scores) for each in scored_prompts(scored, name)])
    threshold = _threshold(best, fraction, min_score)
    kept = write_rows(into, _kept(scored, name, threshold), KEPT)
    return {"prompts": len(best), "kept": kept}


def _threshold(
    best: "np.ndarray[Any, np.dtype[np.float64]]", fraction: float, min_score: float | None
) -> float:
    """The lowest score that is kept."""
    lowest = -np.inf if min_score is None else min_score
    if not len(best):
        return lowest
    count = max(1, round(fraction * len(best)))
    return max(lowest, float(np.partition(best, len(best) - count)[len(best) - count]))


def _kept(scored: ScoredCorpus, model: str, threshold: float) -> Iterator[dict[str, Any]]:
    for each in scored_prompts(scored, model):
        score = max(each.scores)
        if score >= threshold:
            yield {"messages": _conversation(each, score), "score": score}


def _conversation(each: ScoredPrompt, score: float) -> list[Any]:
    prompt = each.prompt
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    answer = each.responses[each.scores.index(score)]
    return [*turns, {"role": "assistant", "content": answer}]
