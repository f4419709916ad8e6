"""Rewards as Arrow columns: their exact type, and the columns that each corpus shape gets.

Pure. A row that could not be scored has a null score and an error; nothing else stands for one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from rewardserve.batch.columns import Shape
from rewardserve.errors import HTTP_ERRORS, InvalidRequest, http_error
from rewardserve_client import Reward

NAMED_NUMBERS: Final = pa.map_(pa.string(), pa.float64())

REWARD: Final = pa.struct(
    [
        pa.field("score", pa.float64()),
        pa.field("tokens", pa.int32()),
        pa.field("truncated", pa.bool_()),
        pa.field("attributes", NAMED_NUMBERS),
        pa.field("uncertainty", NAMED_NUMBERS),
        pa.field("members", NAMED_NUMBERS),
        pa.field("error", pa.string()),
    ]
)

COLUMNS: Final[dict[Shape, tuple[tuple[str, pa.DataType], ...]]] = {
    "pairs": (("chosen_reward", REWARD), ("rejected_reward", REWARD), ("margin", pa.float64())),
    "candidates": (("rewards", pa.list_(REWARD)),),
    "single": (("reward", REWARD),),
}

Outcome = Reward | InvalidRequest
"""What became of one conversation: its reward, or why it has none."""

REFUSALS: Final = {
    code: kind for kind, (_, code) in HTTP_ERRORS.items() if issubclass(kind, InvalidRequest)
}
"""Code, as the column `error` begins with it -> the kind of outcome it stands for."""


def reward_schema(shape: Shape, suffix: str = "") -> pa.Schema:
    """The columns that one model adds to a corpus of this shape."""
    return pa.schema([(name + suffix, kind) for name, kind in COLUMNS[shape]])


def reward_names(shape: Shape, suffix: str = "") -> list[str]:
    """The columns of `reward_schema` that hold rewards; a pair's margin follows from its two."""
    return [name + suffix for name, kind in COLUMNS[shape] if kind != pa.float64()]


def suffixes(names: Sequence[str]) -> dict[str, str]:
    """Model or route -> what its columns end with: nothing for a lone one, else `_<name>`."""
    return {name: f"_{name}" if len(names) > 1 else "" for name in names}


def reward_columns(shape: Shape, rows: Sequence[Sequence[Outcome]], suffix: str = "") -> pa.Table:
    """One output row for each input row's outcomes, with the columns of `reward_schema`."""
    values = [_row(shape, [_entry(outcome) for outcome in outcomes]) for outcomes in rows]
    schema = reward_schema(shape, suffix)
    columns = zip(*values, strict=True) if values else [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )


def beside(table: pa.Table, columns: pa.Table) -> pa.Table:
    """The table with more columns on its right."""
    for field, column in zip(columns.schema, columns.columns, strict=True):
        table = table.append_column(field, column)
    return table


def read_outcomes(
    table: pa.Table, shape: Shape, suffix: str, model: str, revision: str | None
) -> Iterator[list[Outcome]]:
    """What `reward_columns` was given, row by row; `weights` and `members` have no columns."""
    columns = [table[name].to_pylist() for name in reward_names(shape, suffix)]
    for values in zip(*columns, strict=True):
        entries = values[0] if isinstance(values[0], list) else values
        yield [_outcome(entry, model, revision) for entry in entries]


def _row(shape: Shape, entries: list[dict[str, Any]]) -> tuple[Any, ...]:
    if shape == "candidates":
        return (entries,)
    if shape == "single":
        return (entries[0],)
    chosen, rejected = entries
    complete = chosen["score"] is not None and rejected["score"] is not None
    return chosen, rejected, chosen["score"] - rejected["score"] if complete else None


def _entry(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, InvalidRequest):
        return {"error": f"{http_error(outcome)[1]}: {outcome.message}", "score": None}
    members = {name: member.score for name, member in (outcome.members or {}).items()}
    return {
        "score": outcome.score,
        "tokens": outcome.tokens,
        "truncated": outcome.truncated,
        "attributes": _items(outcome.attributes),
        "uncertainty": _items(outcome.uncertainty),
        "members": _items(members),
        "error": None,
    }


def _items(numbers: Mapping[str, float] | None) -> list[tuple[str, float]] | None:
    return list(numbers.items()) if numbers else None


def _outcome(entry: Mapping[str, Any], model: str, revision: str | None) -> Outcome:
    if entry["score"] is None:
        code, _, message = entry["error"].partition(": ")
        return REFUSALS[code](message)
    return Reward(
        score=entry["score"],
        model=model,
        revision=revision,
        tokens=entry["tokens"],
        truncated=entry["truncated"],
        attributes=dict(entry["attributes"]) if entry["attributes"] else None,
        uncertainty=dict(entry["uncertainty"]) if entry["uncertainty"] else None,
    )
