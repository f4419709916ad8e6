"""What would go wrong if a cluster file were brought up on this machine, found before it is.

Looks at GPUs, attention kernels, weights, disk, keys and the port; reads headers and never loads a
model. Starts nothing and changes nothing.
"""

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from rewardserve.errors import RewardServeError, SettingsError
from rewardserve.families.checkpoint import read_checkpoint
from rewardserve.families.dispatch import family_of
from rewardserve.families.hub import WANTED_FILES
from rewardserve.families.registry import described, find
from rewardserve.serving.auth import ApiKeys
from rewardserve.serving.cluster_file import ClusterFile
from rewardserve.serving.ports import check_port_is_free
from rewardserve.settings import ModelSettings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DISK_BYTES = 100 * 2**30
"""Free space under which the weights of one large model may not fit."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    verdict: Literal["good", "warning", "bad"]
    detail: str
    """What was found, and what to do about it."""


def examine(cluster: ClusterFile) -> list[Finding]:
    """Everything that was looked at, in the order a start would meet it."""
    return [
        *_gpus(cluster),
        *(_weights(name, model) for name, model in cluster.models.items()),
        _disk(),
        *_doors(cluster),
        _port(*cluster.address),
    ]


def _gpus(cluster: ClusterFile) -> Iterator[Finding]:
    needed = sum(model.gpus * max(model.replicas.min, 1) for model in cluster.models.values())
    if not needed:
        yield Finding("GPUs", "good", "no model asks for one")
        return
    import torch  # noqa: PLC0415, costs seconds and only GPUs need it

    found = torch.cuda.device_count()
    if found < needed:
        yield Finding(
            "GPUs",
            "warning" if found else "bad",
            f"{found} on this machine, {needed:g} for one replica of each model: "
            "models wait until other machines of the cluster have the rest",
        )
    else:
        yield Finding("GPUs", "good", f"{found}, of which {needed:g} are needed at first")
    if importlib.util.find_spec("flash_attn"):
        yield Finding("attention", "good", "flash-attn is installed")
    else:
        yield Finding("attention", "warning", "no flash-attn: install the extra `gpu` for speed")


def _weights(name: str, model: ModelSettings) -> Finding:
    subject = f"weights of {name}"
    try:
        folder = _local_folder(model)
        if folder is None:
            return Finding(subject, "warning", "not in the local cache: fetched at the first start")
        family = family_of(read_checkpoint(folder), described(model.source, folder).family)
    except RewardServeError as error:
        return Finding(subject, "bad", error.message)
    return Finding(subject, "good", f"family {family.name}, {folder}")


def _local_folder(model: ModelSettings) -> Path | None:
    """Where the weights lie on this machine, if they do."""
    if Path(model.source).is_dir():
        return Path(model.source)
    known = find(model.source)
    revision = model.revision or (known.revision if known else None)
    if revision is None:
        raise SettingsError("a hub id needs a revision: write the commit, or `revision: main`")
    try:
        return Path(
            snapshot_download(
                model.source,
                revision=revision,
                allow_patterns=list(WANTED_FILES),
                local_files_only=True,
            )
        )
    except LocalEntryNotFoundError:
        return None


def _disk() -> Finding:
    cache = Path(constants.HF_HUB_CACHE)
    existing = next(folder for folder in [cache, *cache.parents] if folder.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{free / 2**30:.0f} GiB free for weights in {cache}"
    return Finding("disk", "good" if free >= DISK_BYTES else "warning", detail)


def _doors(cluster: ClusterFile) -> Iterator[Finding]:
    host = cluster.address[0]
    for name, router in cluster.routers.items():
        if router.auth is None:
            alone = host in LOOPBACK
            detail = f"{name} asks for none, and {host} is reached from " + (
                "this machine alone" if alone else "elsewhere: set `auth.api_keys_env`"
            )
            yield Finding("API keys", "good" if alone else "bad", detail)
            continue
        variable = router.auth.api_keys_env
        try:
            ApiKeys.from_environment(variable)
            yield Finding("API keys", "good", f"{name} reads them from {variable}")
        except SettingsError as error:
            yield Finding("API keys", "bad", error.message)


def _port(host: str, port: int) -> Finding:
    try:
        check_port_is_free(host, port)
    except SettingsError as error:
        return Finding("port", "bad", error.message)
    return Finding("port", "good", f"{port} on {host} is free")
