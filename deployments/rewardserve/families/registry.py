"""What is known of published reward models: registry.yaml, checked against a schema.

Knows facts and how to find them by hub id or folder. Loads no weights and asks no network.
"""

import re
from functools import cache
from pathlib import Path

import yaml

from rewardserve.errors import CheckpointError
from rewardserve.families.checkpoint import read_json
from rewardserve.families.text import TextSpec
from rewardserve.settings import Dtype, Settings

MARK_FILE = "rewardserve.json"
"""In a folder, `{"registry": "owner/name"}` says which entry describes the model there."""
_CACHE_FOLDER = re.compile(r"models--([^/]+?)--([^/]+)")


class ModelSpec(Settings):
    """One model as its card describes it."""

    family: str | None = None
    """Name of the native family; None when there is none."""
    dtype: Dtype = "bfloat16"
    """The dtype of the card's own numbers."""
    revision: str | None = None
    """The commit these facts are about."""
    max_tokens: int | None = None
    """Longest conversation, when shorter than the backbone's positions."""
    text: TextSpec = TextSpec()


UNDESCRIBED = ModelSpec()
"""For a checkpoint nobody described: its own template, exactly one BOS."""


@cache
def registry() -> dict[str, ModelSpec]:
    """Every known model by hub id."""
    text = Path(__file__).with_name("registry.yaml").read_text(encoding="utf-8")
    return {
        source: ModelSpec.model_validate(facts) for source, facts in yaml.safe_load(text).items()
    }


def find(source: str) -> ModelSpec | None:
    """The entry of a hub id, whatever its case; None when unknown."""
    wanted = source.lower()
    return next((spec for known, spec in registry().items() if known.lower() == wanted), None)


def described(source: str, folder: Path) -> ModelSpec:
    """The entry for a source that lies in `folder`: by hub id, mark file, or hub cache path.

    Raises CheckpointError when the mark file names no known model.
    """
    marked = folder / MARK_FILE
    if marked.is_file():
        entry = find(str(read_json(marked).get("registry")))
        if entry is None:
            raise CheckpointError(f"{marked}: registry does not name a known model")
        return entry
    cached = _CACHE_FOLDER.search(str(folder.resolve()))
    return find(source) or (find("/".join(cached.groups())) if cached else None) or UNDESCRIBED
