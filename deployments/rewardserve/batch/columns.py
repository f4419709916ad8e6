"""Which corpus shape a file has, and which column plays which role in it.

Decides from column names, Arrow types and a few sample rows. Reads no files and builds no
conversations (`conversations` does). What is not clear is an error that lists the choices.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.types as pt

from rewardserve.errors import SettingsError, UnknownColumns

Shape = Literal["pairs", "candidates", "single"]
PromptSource = Literal["column", "messages", "hh_text", "shared_prefix"]
"""Where a conversation's prompt is: a column of its own, inside the message lists, before the last
`Assistant:` marker of HH-RLHF text, or what the chosen and the rejected text have in common."""

HUMAN_MARKER: Final = "\n\nHuman:"

ROLES: Final = (
    "prompt", "chosen", "rejected", "responses", "messages", "response",
    "labels", "subset", "rating",
)  # fmt: skip
"""What `--columns role=column` may name."""

SIGNATURES: Final[tuple[tuple[Shape, dict[str, str]], ...]] = (
    ("pairs", {"chosen": "chosen", "rejected": "rejected"}),
    ("candidates", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}),
    ("candidates", {"prompt": "prompt", "responses": "responses"}),
    ("candidates", {"prompt": "prompt", "responses": "all_generated_responses"}),
    ("candidates", {"prompt": "input", "responses": "output"}),
    ("single", {"messages": "messages"}),
    ("single", {"prompt": "prompt", "response": "response"}),
    ("single", {"prompt": "prompt", "response": "completion"}),
    ("single", {"prompt": "input", "response": "output"}),
)
"""Role -> column of every corpus that is recognised by its column names and their types."""

OPTIONAL: Final[dict[Shape, dict[str, str]]] = {
    "pairs": {"prompt": "prompt", "subset": "subset"},
    "candidates": {"labels": "labels", "subset": "subset"},
    "single": {"subset": "subset", "rating": "helpfulness"},
}

KINDS: Final[dict[Shape, dict[str, set[str]]]] = {
    "pairs": {
        "prompt": {"text", "messages"},
        "chosen": {"text", "messages"},
        "rejected": {"text", "messages"},
    },
    "candidates": {
        "prompt": {"text", "messages"},
        "responses": {"texts"},
        "chosen": {"texts"},
        "rejected": {"texts"},
        "labels": {"labels"},
    },
    "single": {
        "prompt": {"text", "messages"},
        "response": {"text", "messages"},
        "messages": {"messages"},
        "rating": {"number"},
    },
}
"""What the column of a role may hold; a role that is not listed takes anything."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of one corpus become conversations."""

    shape: Shape
    roles: Mapping[str, str]
    """Role -> column name."""
    prompt_source: PromptSource

    def describe(self) -> str:
        """One line for people: the shape, and the column of each role."""
        columns = ", ".join(
            role if role == column else f"{role}={column}" for role, column in self.roles.items()
        )
        where = {
            "column": "prompt in its own column",
            "messages": "prompt inside the message lists",
            "hh_text": "HH-RLHF text",
            "shared_prefix": "prompt is the text that both answers share",
        }[self.prompt_source]
        return f"{self.shape} ({columns}; {where})"


def recognise(
    schema: pa.Schema, sample: Iterable[Mapping[str, Any]], overrides: Mapping[str, str] = {}
) -> Layout:
    """The layout of a corpus; `overrides` (role -> column) replace recognition by name.

    `sample` is looked at only where names and types do not tell how texts are written.

    Raises UnknownColumns, naming what was found and what would do.
    """
    matches = _matches(schema, overrides)
    if not matches:
        raise UnknownColumns(
            f"no known corpus shape; found {_found(schema)}; known are {_known()}; "
            f"name the columns with --columns role=column,... (roles: {', '.join(ROLES)})"
        )
    if len(matches) > 1:
        choices = " or ".join(f"--columns {_as_option(roles)}" for _, roles in matches)
        raise UnknownColumns(f"the columns fit several corpus shapes; choose one: {choices}")
    shape, roles = matches[0]
    return Layout(shape, roles, _prompt_source(schema, roles, sample))


def parse_overrides(option: str | None) -> dict[str, str]:
    """`prompt=question,responses=answers` as role -> column; raises SettingsError."""
    overrides: dict[str, str] = {}
    for entry in filter(None, (option or "").split(",")):
        role, equals, column = entry.partition("=")
        if role not in ROLES or not equals or not column:
            raise SettingsError(
                f"--columns takes role=column,... with the roles {', '.join(ROLES)}", "columns"
            )
        overrides[role] = column
    return overrides


def _matches(schema: pa.Schema, overrides: Mapping[str, str]) -> list[tuple[Shape, dict[str, str]]]:
    missing = [column for column in overrides.values() if column not in schema.names]
    if missing:
        raise UnknownColumns(f"no column {', '.join(missing)}; found {_found(schema)}")
    matches: list[tuple[Shape, dict[str, str]]] = []
    for shape, signature in SIGNATURES:
        if overrides and not signature.keys() <= overrides.keys():
            continue
        roles = _with_optional(schema, shape, {**signature, **overrides})
        if _fits(schema, shape, roles) and (shape, roles) not in matches:
            matches.append((shape, roles))
    if any(shape == "pairs" for shape, _ in matches):
        # UltraFeedback repeats the chosen conversation in a column `messages`.
        matches = [match for match in matches if "messages" not in match[1]]
    return matches


def _with_optional(schema: pa.Schema, shape: Shape, roles: dict[str, str]) -> dict[str, str]:
    optional = {
        role: column
        for role, column in OPTIONAL[shape].items()
        if role not in roles and column in schema.names and column not in roles.values()
    }
    kinds = KINDS[shape]
    return roles | {
        role: column
        for role, column in optional.items()
        if role not in kinds or value_kind(schema.field(column).type) in kinds[role]
    }


def _fits(schema: pa.Schema, shape: Shape, roles: Mapping[str, str]) -> bool:
    known = {*KINDS[shape], "subset"}
    return known >= roles.keys() and all(
        column in schema.names
        and (
            role not in KINDS[shape] or value_kind(schema.field(column).type) in KINDS[shape][role]
        )
        for role, column in roles.items()
    )


def value_kind(kind: pa.DataType) -> str:
    """What a column of this Arrow type can hold: text, texts, messages, labels, number or other."""
    if pt.is_dictionary(kind):
        return value_kind(kind.value_type)
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return "text"
    if pt.is_integer(kind) or pt.is_floating(kind):
        return "number"
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return _list_kind(kind.value_type)
    return "other"


def _list_kind(item: pa.DataType) -> str:
    if value_kind(item) == "text":
        return "texts"
    if pt.is_boolean(item) or pt.is_integer(item):
        return "labels"
    if pt.is_struct(item):
        names = {item.field(index).name for index in range(item.num_fields)}
        return "messages" if names >= {"role", "content"} else "other"
    return "other"


def _prompt_source(
    schema: pa.Schema, roles: Mapping[str, str], sample: Iterable[Mapping[str, Any]]
) -> PromptSource:
    if "prompt" in roles:
        return "column"
    if "messages" in roles or value_kind(schema.field(roles["chosen"]).type) == "messages":
        return "messages"
    columns = (roles["chosen"], roles["rejected"])
    texts = [row[column] for row in sample for column in columns if row.get(column)]
    marked = [text.startswith(HUMAN_MARKER) for text in texts]
    if any(marked) and not all(marked):
        raise UnknownColumns(
            f"some texts of {columns[0]} and {columns[1]} have HH-RLHF's Human: marker and some do "
            "not; split the file, or give the prompts a column of their own"
        )
    return "hh_text" if any(marked) else "shared_prefix"


def _found(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema) or "no columns"


def _known() -> str:
    return "; ".join(f"{shape}: {' + '.join(roles.values())}" for shape, roles in SIGNATURES)


def _as_option(roles: Mapping[str, str]) -> str:
    return ",".join(f"{role}={column}" for role, column in roles.items())
