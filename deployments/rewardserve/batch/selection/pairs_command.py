"""`rewardserve pairs`: preference pairs in TRL's format, mined from an output folder."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from rewardserve.batch.output import ScoredCorpus, open_scored
from rewardserve.batch.selection.candidates import model_named, scored_prompts
from rewardserve.batch.selection.parquet_rows import write_rows
from rewardserve_client.pairs import PairRules, mine_pairs

TURNS: Final = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

TRL_PAIRS: Final = pa.schema(
    [
        ("prompt", TURNS),
        ("chosen", TURNS),
        ("rejected", TURNS),
        ("score_chosen", pa.float64()),
        ("score_rejected", pa.float64()),
        ("margin", pa.float64()),
    ]
)


def mine(out: str, into: str, rules: PairRules, model: str | None = None) -> dict[str, int]:
    """Write the pairs that `rules` allow and return the counts.

    Raises DataError, OutputFailed, and SettingsError where several models scored and none is named.
    """
    scored = open_scored(out)
    counts: Counter[str] = Counter()
    rows = _pairs(scored, model_named(scored, model), rules, counts)
    counts["pairs"] = write_rows(into, rows, TRL_PAIRS)
    return {name: counts[name] for name in ("prompts", "prompts_without_a_pair", "pairs")}


def _pairs(
    scored: ScoredCorpus, model: str, rules: PairRules, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    for each in scored_prompts(scored, model):
        pairs = mine_pairs(each.prompt, each.responses, each.scores, rules)
        counts["prompts"] += 1
        counts["prompts_without_a_pair"] += not pairs
        yield from (pair.to_trl() for pair in pairs)
