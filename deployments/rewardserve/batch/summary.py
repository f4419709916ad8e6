"""The summary of an output folder, made from its parts, so that it is right after a resume too."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from rewardserve.batch.output import ScoredCorpus
from rewardserve.batch.tally import ModelTally, tally_columns


def summarise(scored: ScoredCorpus) -> dict[str, Any]:
    """Rows, bad rows and tokens, and for each model and route its scores, errors and accuracy.

    Tokens are those of the models: routes only read what these computed.

    Reads every part once, in order and a little at a time; raises DataError.
    """
    tallies = {name: ModelTally(scored.shape, suffix) for name, suffix in scored.suffixes.items()}
    rows = bad_rows = 0
    for table in scored.batches(_columns(scored)):
        bad = np.zeros(len(table), bool)
        for tally in tallies.values():
            bad |= tally.add(table, scored.roles)
        rows += len(table)
        bad_rows += int(bad.sum())
    computed: Counter[str] = Counter()
    for counts in scored.computed_tokens():
        computed.update(counts)
    return {
        "shape": scored.shape,
        "rows": rows,
        "bad_rows": bad_rows,
        "tokens": sum(tallies[model].tokens for model in scored.models),
        "computed_tokens": computed.total(),
        "models": {
            name: tally.as_dict() | {"computed_tokens": computed[name]}
            for name, tally in tallies.items()
        },
    }


def _columns(scored: ScoredCorpus) -> list[str]:
    return list(dict.fromkeys(_each_column(scored)))


def _each_column(scored: ScoredCorpus) -> Iterator[str]:
    for suffix in scored.suffixes.values():
        yield from tally_columns(scored.shape, suffix)
    judged_by = {"pairs": (), "candidates": ("labels", "chosen", "rejected"), "single": ("rating",)}
    for role in ("subset", *judged_by[scored.shape]):
        if role in scored.roles:
            yield scored.roles[role]
    if scored.shape == "single" and "rating" in scored.roles:
        yield scored.roles["prompt"]
