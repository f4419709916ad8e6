"""What is known of published reward models: registry.yaml, checked against a schema.

Knows facts and how to find them by hub id or folder. Loads no weights and asks no network.
"""

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from rewardserve.errors import CheckpointError
from rewardserve.families.checkpoint import read_json
from rewardserve.families.text import TextSpec
from rewardserve.settings import Dtype, Settings
from rewardserve_client._types import Conversation, Message

MARK_FILE = "rewardserve.json"
"""In a folder, `{"registry": "owner/name"}` says which entry describes the model there.

`"checks"` beside it replaces the published values by the folder's own.
"""
_CACHE_FOLDER = re.compile(r"models--([^/]+?)--([^/]+)")


class Example(Settings):
    """A conversation that a model card scores."""

    prompt: str
    response: str

    @property
    def conversation(self) -> Conversation:
        """The two turns as messages."""
        return [
            Message(role="user", content=self.prompt),
            Message(role="assistant", content=self.response),
        ]


class Check(Settings):
    """One published number, and how far from it this model may be."""

    example: str
    """Name under `examples`."""
    part: Literal["score", "attributes", "weights"] = "score"
    name: str | None = None
    """Which attribute or weight."""
    expected: float
    tolerance: Annotated[float, Field(gt=0)]


class ModelSpec(Settings):
    """One model as its card describes it."""

    family: str | None = None
    """Name of the native family; None when the checkpoint's own config decides."""
    unsupported: str | None = None
    """Why this model cannot be loaded; None when it can."""
    note: str | None = None
    """What an operator should know before loading it."""
    dtype: Dtype = "bfloat16"
    """The dtype of the card's own numbers."""
    revision: str | None = None
    """The commit these facts are about."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest conversation, when shorter than the backbone's positions."""
    quantizable: bool = True
    """False where the card or its benchmark entry forbids quantised weights."""
    text: TextSpec = TextSpec()
    checks: tuple[Check, ...] = ()
    rewardbench: tuple[float, ...] = ()
    """Published average, and after it chat, chat-hard, safety and reasoning where known."""
    rewardbench_2: float | None = None


class Registry(Settings):
    """The whole of registry.yaml."""

    examples: dict[str, Example]
    models: dict[str, ModelSpec]


UNDESCRIBED = ModelSpec()
"""For a checkpoint nobody described: its own template, exactly one BOS."""


@cache
def registry() -> Registry:
    """Every known model and example."""
    text = Path(__file__).with_name("registry.yaml").read_text(encoding="utf-8")
    return Registry.model_validate(yaml.safe_load(text))


def find(source: str) -> ModelSpec | None:
    """The entry of a hub id, whatever its case; None when unknown."""
    wanted = source.lower()
    entries = registry().models.items()
    return next((spec for known, spec in entries if known.lower() == wanted), None)


def described(source: str, folder: Path) -> ModelSpec:
    """The entry for a source that lies in `folder`: by mark file, hub id or hub cache path.

    Raises CheckpointError when the mark file names no known model.
    """
    marked = folder / MARK_FILE
    if marked.is_file():
        return _marked(marked)
    cached = _CACHE_FOLDER.search(str(folder.resolve()))
    return find(source) or (find("/".join(cached.groups())) if cached else None) or UNDESCRIBED


def _marked(marked: Path) -> ModelSpec:
    content: dict[str, Any] = read_json(marked)
    entry = find(str(content.get("registry")))
    if entry is None:
        raise CheckpointError(f"{marked}: registry does not name a known model")
    try:
        checks = [Check.model_validate(check) for check in content.get("checks", entry.checks)]
    except (ValidationError, TypeError) as error:
        raise CheckpointError(f"{marked}: checks are not a list of published values") from error
    return entry.model_copy(update={"checks": tuple(checks)})
