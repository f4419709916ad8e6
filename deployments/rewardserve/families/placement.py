"""Which device each part of a backbone lies on: one, or several GPUs that are too small alone.

Layers are shared out by accelerate and stay whole; states travel from one device to the next.
Knows modules and memory. Knows nothing of checkpoints or packs.
"""

from collections.abc import Mapping
from typing import Final

import torch
from accelerate import infer_auto_device_map
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from accelerate.utils import get_balanced_memory
from torch import nn
from transformers import PreTrainedModel

from rewardserve.errors import SettingsError

Placement = Mapping[str, torch.device]
"""Device by module name; the longest name that a tensor's key starts with decides."""

MEMORY_FOR_WEIGHTS: Final = 0.8
"""Of a GPU's free memory; the rest is for the states of a pack."""


def place(backbone: PreTrainedModel, device: str, dtype: torch.dtype) -> Placement:
    """All on `device`; `cuda` without a number uses every visible GPU when one is too small.

    Raises SettingsError when all of them together are too small.
    """
    target = torch.device(device)
    if target != torch.device("cuda") or torch.cuda.device_count() < 2:
        return {"": target}
    free = {
        index: int(torch.cuda.mem_get_info(index)[0] * MEMORY_FOR_WEIGHTS)
        for index in range(torch.cuda.device_count())
    }
    needed = sum(weight.numel() for weight in backbone.parameters()) * dtype.itemsize
    return {"": target} if needed <= free[0] else split(backbone, free, dtype)


def split(backbone: PreTrainedModel, memory: Mapping[int, int], dtype: torch.dtype) -> Placement:
    """Whole layers shared out over GPUs with `memory` bytes each.

    Raises SettingsError when they are too small.
    """
    whole = list(backbone._no_split_modules or [])  # noqa: SLF001 - transformers' own contract
    balanced = get_balanced_memory(backbone, dict(memory), whole, dtype)
    gpus = {index: size for index, size in balanced.items() if index in memory}
    places = infer_auto_device_map(backbone, {**gpus, "cpu": 0}, whole, dtype)
    if not set(places.values()) <= set(memory):
        raise SettingsError(
            f"the weights in {dtype} do not fit into {len(memory)} GPUs; give the model more "
            "gpus, or a smaller dtype",
            "gpus",
        )
    return {name: torch.device("cuda", index) for name, index in places.items()}


def device_of(key: str, placement: Placement) -> torch.device:
    """The device of a module or tensor called `key`."""
    names = (name for name in placement if not name or f"{key}.".startswith(f"{name}."))
    return placement[max(names, key=len)]


def follow(module: nn.Module, placement: Placement) -> None:
    """Make every placed part of `module` fetch its inputs to its own device."""
    if len(set(placement.values())) > 1:
        for name, device in placement.items():
            hook = AlignDevicesHook(execution_device=device, place_submodules=True)
            add_hook_to_module(module.get_submodule(name), hook)
