"""Tensors from safetensors files into an empty backbone and head, one at a time.

Every expected tensor must be there, in the expected shape, and nothing else may be.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from safetensors import safe_open
from torch import Tensor, nn

from rewardserve.errors import WeightsMismatch
from rewardserve.families.base import Family
from rewardserve.families.checkpoint import Checkpoint

_COMPUTED_BUFFERS = re.compile(r"\.rotary_emb\.inv_freq$")
"""Stored by old releases; the model computes them."""
_NAMED = 5
"""Tensors that an error names before it only counts."""


def load_weights(
    checkpoint: Checkpoint,
    family: Family,
    backbone: nn.Module,
    head: nn.Module,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Fill `backbone` (in `dtype`) and `head` (in float32) on `device`.

    One tensor at a time is read and converted, so that memory stays at the model's own size.
    Raises WeightsMismatch naming the tensors that are missing, unexpected or of another shape.
    """
    prefix = family.backbone_prefix
    expected: dict[str, Tensor] = {
        **{prefix + key: tensor for key, tensor in backbone.state_dict().items()},
        **head.state_dict(),
    }
    _check(checkpoint, expected, family.ignored_weights)
    head_keys = set(head.state_dict())
    loaded = _read(
        checkpoint,
        {key: torch.float32 if key in head_keys else dtype for key in expected},
        device,
    )
    head.load_state_dict({key: loaded.pop(key) for key in head_keys}, assign=True)
    backbone.load_state_dict(
        {key.removeprefix(prefix): loaded.pop(key) for key in list(loaded)}, assign=True
    )
    for module in (backbone, head):
        module.requires_grad_(requires_grad=False)
        module.to(device)


def _read(
    checkpoint: Checkpoint, dtypes: Mapping[str, torch.dtype], device: torch.device
) -> dict[str, Tensor]:
    files = defaultdict(list)
    for key in dtypes:
        files[checkpoint.tensors[key].file].append(key)
    loaded: dict[str, Tensor] = {}
    for file, keys in files.items():
        with safe_open(file, framework="pt", device=str(device)) as weights:
            for key in keys:
                tensor = weights.get_tensor(key)
                loaded[key] = tensor.to(dtypes[key]) if tensor.is_floating_point() else tensor
    return loaded


def _check(checkpoint: Checkpoint, expected: Mapping[str, Tensor], ignored: Iterable[str]) -> None:
    found = {
        key: header.shape
        for key, header in checkpoint.tensors.items()
        if key not in ignored and not _COMPUTED_BUFFERS.search(key)
    }
    problems = [
        *_listed("missing", expected.keys() - found.keys()),
        *_listed("unexpected", found.keys() - expected.keys()),
        *_listed(
            "of the wrong shape",
            (
                f"{key} {list(found[key])} instead of {list(tensor.shape)}"
                for key, tensor in expected.items()
                if key in found and found[key] != tuple(tensor.shape)
            ),
        ),
    ]
    if problems:
        raise WeightsMismatch(f"{checkpoint.folder}: {'; '.join(problems)}")


def _listed(what: str, names: Iterable[str]) -> list[str]:
    ordered = sorted(names)
    if not ordered:
        return []
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    noun = "tensor" if len(ordered) == 1 else "tensors"
    return [f"{len(ordered)} {noun} {what}: {', '.join(ordered[:_NAMED])}{more}"]
