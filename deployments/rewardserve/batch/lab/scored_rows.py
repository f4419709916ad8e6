"""Rows of a scored corpus as groups again: the responses of a prompt, and what each model said.

Knows the output's columns. Knows nothing of routes or calibrations.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from rewardserve.batch.columns import Layout
from rewardserve.batch.conversations import row_items
from rewardserve.batch.output import ScoredCorpus
from rewardserve.batch.reward_columns import COLUMNS, Outcome
from rewardserve.errors import InvalidRequest
from rewardserve_client import Conversation, Reward

Said = dict[str, list[Outcome]]
"""Model -> its reward, or the reason for none, for each response of one row."""


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One row: the responses of a prompt, and every model's rewards for them, in order."""

    conversations: list[Conversation | InvalidRequest]
    said: Said


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
    names = {model: _reward_names(scored, suffix) for model, suffix in scored.suffixes.items()}
    for table in scored.batches([*own, *(name for each in names.values() for name in each)]):
        said = {
            model: _outcomes(table.select(columns), model, revisions[model])
            for model, columns in names.items()
        }
        rows = [
            ScoredRow(row_items(layout, row), {model: said[model][index] for model in said})
            for index, row in enumerate(table.select(own).to_pylist())
        ]
        yield ScoredBatch(table.select(own), rows)


def _reward_names(scored: ScoredCorpus, suffix: str) -> list[str]:
    """The columns that hold rewards; a pair's margin follows from its two."""
    return [name + suffix for name, _ in COLUMNS[scored.shape] if name != "margin"]


def _outcomes(table: pa.Table, model: str, revision: str | None) -> list[list[Outcome]]:
    """One list of outcomes for each row of reward columns."""
    columns = [table[name].to_pylist() for name in table.column_names]
    return [
        [_outcome(entry, model, revision) for entry in _entries(values)]
        for values in zip(*columns, strict=True)
    ]


def _entries(values: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
    return values[0] if isinstance(values[0], list) else values


def _outcome(entry: Mapping[str, Any], model: str, revision: str | None) -> Outcome:
    if entry["score"] is None:
        return InvalidRequest(entry["error"])
    return Reward(
        score=entry["score"],
        model=model,
        revision=revision,
        tokens=entry["tokens"],
        truncated=entry["truncated"],
        attributes=dict(entry["attributes"]) if entry["attributes"] else None,
        uncertainty=dict(entry["uncertainty"]) if entry["uncertainty"] else None,
    )
