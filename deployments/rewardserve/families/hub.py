"""Where a checkpoint lies: a local folder as it is, or one commit of a hub repository.

Knows paths and commits. Opens no weights.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from rewardserve.errors import CheckpointError, UnsafeCheckpoint, UnsupportedCheckpoint
from rewardserve.families.registry import UNDESCRIBED, find

WANTED_FILES = ("*.safetensors", "*.json", "*.jinja")
"""Nothing else is fetched: no code, no pickles."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder on this machine, and the commit it holds when it came from a hub."""

    folder: Path
    revision: str | None


def locate(source: str, revision: str | None) -> Place:
    """The folder of `source`; a hub id is fetched unless the cache has it.

    A hub id needs a revision: the caller's, or the registry's for a known model. HF_HUB_OFFLINE is
    honoured. Raises UnsafeCheckpoint without a revision, UnsupportedCheckpoint for a model that is
    known not to work, CheckpointError when nothing is there.
    """
    folder = Path(source)
    if folder.is_dir():
        return Place(folder, None)
    if not _HUB_ID.fullmatch(source):
        raise CheckpointError(f"{source} is neither a folder nor a hub id such as owner/name")
    entry = find(source) or UNDESCRIBED
    if entry.unsupported is not None:
        raise UnsupportedCheckpoint(f"{source} is known and not supported: {entry.unsupported}")
    revision = revision or entry.revision
    if revision is None:
        raise UnsafeCheckpoint(
            f"{source} has no pinned revision, so its weights could change unseen; "
            "give a commit, or write revision: main to follow the branch"
        )
    fetched = Path(_fetch(source, revision))
    return Place(fetched, fetched.name)


def _fetch(source: str, revision: str) -> str:
    try:
        return snapshot_download(source, revision=revision, allow_patterns=list(WANTED_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{source} at {revision} cannot be fetched and is not in the local cache: "
            f"{type(error).__name__}"
        ) from error
