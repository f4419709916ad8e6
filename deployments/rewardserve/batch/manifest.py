"""What an output folder was made from, so that a later run goes on with it or is refused.

The manifest is written before the first part. Every part carries the fingerprint too, so that a
part of another run is never taken for one of this.
"""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from rewardserve.batch.fault_points import reach
from rewardserve.batch.inputs.formats import FOOTERS_AT_ONCE
from rewardserve.batch.parts import FINGERPRINT_KEY, part_name
from rewardserve.batch.plan import Corpus
from rewardserve.batch.settings import BulkModel, BulkRoutes, BulkSettings
from rewardserve.batch.storage import TEMPORARY, Folder
from rewardserve.batch.units import Unit
from rewardserve.errors import OutputConflict
from rewardserve.routing.members import calibrations_of

MANIFEST: Final = "_manifest.json"
SUMMARY: Final = "_summary.json"
READ_WHOLE_BYTES: Final = 16 * 2**20
"""A checkpoint's larger files are told apart by the time they were written."""

FORMAT: Final = 1
"""Raised whenever parts of an older version must not be mixed with new ones."""


def describe_run(corpus: Corpus, settings: BulkSettings) -> dict[str, Any]:
    """The manifest of a run: everything that can change a value in its output."""
    return {
        "format": FORMAT,
        "shape": corpus.layout.shape,
        "roles": dict(corpus.layout.roles),
        "prompt_source": corpus.layout.prompt_source,
        "inputs": corpus.inputs,
        "models": [_describe_model(model) for model in settings.models],
        **_describe_routes(settings.routes),
        "truncate": settings.truncate,
        "unit_rows": settings.unit_rows,
        "units": len(corpus.units),
        "rows": corpus.rows,
    }


def fingerprint(manifest: dict[str, Any]) -> str:
    """Equal for runs that may share an output folder."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def open_output(folder: Folder, manifest: dict[str, Any], *, overwrite: bool) -> None:
    """Make the folder this run's; the caller holds its lock.

    Raises OutputConflict where it is another run's and `overwrite` was not given, or where it holds
    files that no run wrote.
    """
    names = [name for name in folder.names() if name[0] not in "._"]
    foreign = [name for name in names if not name.startswith("part-")]
    if foreign:
        raise OutputConflict(
            f"{folder.path} holds other files ({foreign[0]}); name an empty folder"
        )
    earlier = folder.read_json(MANIFEST)
    if earlier == manifest:
        remove_temporary(folder)
        return
    if (earlier or names) and not overwrite:
        raise OutputConflict(
            f"{folder.path} holds the output of another run (different: "
            f"{_difference(earlier, manifest)}); name another folder, or give --overwrite"
        )
    _remove_run(folder, names)
    folder.write_json(MANIFEST, manifest)


def missing_units(folder: Folder, units: Sequence[Unit], run: str) -> list[Unit]:
    """The units without a whole part of this run, in order."""
    present = set(folder.names())

    def is_missing(unit: Unit) -> bool:
        return part_name(unit.index) not in present or not _is_whole(folder, unit, run)

    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as threads:
        return list(compress(units, threads.map(is_missing, units)))


def _is_whole(folder: Folder, unit: Unit, run: str) -> bool:
    try:
        with folder.open_input(part_name(unit.index)) as source:
            metadata = pq.read_metadata(source)
    except (OSError, pa.ArrowException):
        return False
    carried = (metadata.metadata or {}).get(FINGERPRINT_KEY)
    return carried == run.encode() and metadata.num_rows == unit.rows


def _describe_model(model: BulkModel) -> dict[str, Any]:
    """Name, settings that change scores, and for a local checkpoint what its files are."""
    settings = model.settings.model_dump(
        exclude={
            "gpus",
            "cpus",
            "accelerator_type",
            "replicas",
            "queue_tokens",
            "prefix_cache_gib",
        }
    )
    device = "cuda" if model.settings.gpus else "cpu"
    return {
        "name": model.name,
        "device": device,
        **settings,
        "files": _checkpoint(settings["source"]),
    }


def _describe_routes(routes: BulkRoutes) -> dict[str, Any]:
    """Their names, the settings of all that they are made of, and digests of calibrations."""
    plan = routes.plan()
    read = [calibrations_of(plan.route(name)) for name in routes.names]
    calibrations = {model: found for each in read for model, found in each.items()}
    settings = {name: routes.routes[name] for name in routes.behind()}
    return {
        "routes": list(routes.names),
        "route_settings": {
            name: each.model_dump(mode="json", exclude_defaults=True)
            for name, each in settings.items()
        },
        "calibrations": {
            model: hashlib.sha256(calibration.model_dump_json().encode()).hexdigest()
            for model, calibration in calibrations.items()
        },
    }


def _checkpoint(source: str) -> str | None:
    """A digest of a local checkpoint's files: content, or for large ones size and time too."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        status = file.stat()
        written = status.st_mtime_ns if status.st_size > READ_WHOLE_BYTES else ""
        digest.update(f"{file.relative_to(folder)}:{status.st_size}:{written}\n".encode())
        with file.open("rb") as source_file:
            digest.update(source_file.read(READ_WHOLE_BYTES))
    return digest.hexdigest()


def _difference(earlier: dict[str, Any] | None, manifest: dict[str, Any]) -> str:
    if earlier is None:
        return "it has no manifest"
    return ", ".join(key for key in manifest if earlier.get(key) != manifest[key])


def remove_temporary(folder: Folder) -> None:
    """Remove the unfinished files of processes that are gone; the caller holds the lock."""
    for name in folder.names():
        if name.startswith(TEMPORARY):
            folder.discard(name)


def _remove_run(folder: Folder, parts: Sequence[str]) -> None:
    """Remove what an earlier run wrote; its manifest stays until the new one replaces it."""
    remove_temporary(folder)
    folder.discard(SUMMARY)
    for position, name in enumerate(parts):
        if position == len(parts) // 2:
            reach("overwrite.half_removed")
        folder.discard(name)
