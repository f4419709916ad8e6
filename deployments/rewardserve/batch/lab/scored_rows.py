"""Rows of a scored corpus as groups again: the responses of a prompt, and what each model said.

Knows the output's columns. Knows nothing of routes or calibrations.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from rewardserve.batch.columns import Layout
from rewardserve.batch.conversations import row_items
from rewardserve.batch.output import ScoredCorpus
from rewardserve.batch.reward_columns import read_outcomes, reward_names
from rewardserve.batch.route_outcomes import ScoredRow


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """Some rows, beside the table they were read from."""

    table: pa.Table
    """The corpus's own columns that play a role, `labels` and `subset` among them."""
    rows: list[ScoredRow]


def scored_batches(
    scored: ScoredCorpus, revisions: Mapping[str, str | None]
) -> Iterator[ScoredBatch]:
    """The corpus in its order, a thousand rows at a time. `revisions` names those of the models."""
    manifest = scored.manifest
    layout = Layout(scored.shape, scored.roles, manifest["prompt_source"])
    own = list(dict.fromkeys(scored.roles.values()))
    suffixes = scored.suffixes
    names = [name for each in suffixes.values() for name in reward_names(scored.shape, each)]
    for table in scored.batches([*own, *names]):
        said = {
            model: list(read_outcomes(table, scored.shape, suffix, model, revisions[model]))
            for model, suffix in suffixes.items()
        }
        rows = [
            ScoredRow(row_items(layout, row), {model: said[model][index] for model in said})
            for index, row in enumerate(table.select(own).to_pylist())
        ]
        yield ScoredBatch(table.select(own), rows)
