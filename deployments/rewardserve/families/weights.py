"""Tensors from safetensors files into an empty backbone and head, one at a time.

Every expected tensor must be there, in the expected shape, and nothing else may be.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from rewardserve.errors import WeightsMismatch
from rewardserve.families.base import Family, Head
from rewardserve.families.checkpoint import Checkpoint, TensorHeader
from rewardserve.families.placement import Placement, device_of

_COMPUTED_BUFFERS = re.compile(r"\.rotary_emb\.inv_freq$")
"""Stored by old releases; the model computes them."""
_NAMED = 5
"""Tensors that an error names before it only counts."""


def load_weights(
    checkpoint: Checkpoint,
    family: Family,
    backbone: nn.Module,
    head: Head,
    *,
    placement: Placement,
    dtype: torch.dtype,
) -> None:
    """Fill `backbone` (in `dtype`) and `head` (in float32), each part on its device.

    One tensor at a time is read and converted, so that memory stays at the model's own size.
    Raises WeightsMismatch naming the tensors that are missing, unexpected or of another shape.
    """
    prefix = family.backbone_prefix
    wanted: dict[str, Tensor] = {
        **{prefix + key: tensor.to(dtype) for key, tensor in backbone.state_dict().items()},
        **head.state_dict(),
    }
    _check(checkpoint, wanted, family.ignored_weights, head.first_rows)
    last = device_of("norm", placement)
    places = {
        **{prefix + key: device_of(key, placement) for key in backbone.state_dict()},
        **dict.fromkeys(head.state_dict(), last),
    }
    loaded = _read(checkpoint, wanted, places)
    head.load_state_dict({key: loaded.pop(key) for key in head.state_dict()}, assign=True)
    backbone.load_state_dict(
        {key.removeprefix(prefix): loaded.pop(key) for key in list(loaded)}, assign=True
    )
    head.to(last)
    for name, device in placement.items():
        backbone.get_submodule(name).to(device)
    for module in (backbone, head):
        module.requires_grad_(requires_grad=False)


def _read(
    checkpoint: Checkpoint, wanted: Mapping[str, Tensor], places: Mapping[str, torch.device]
) -> dict[str, Tensor]:
    """Tensors in the shape and dtype of their (empty) namesakes in `wanted`."""
    files = defaultdict(list)
    for key in wanted:
        files[checkpoint.tensors[key].file, places[key]].append(key)
    loaded: dict[str, Tensor] = {}
    for (file, device), keys in files.items():
        with safe_open(file, framework="pt", device=str(device)) as weights:
            for key in keys:
                loaded[key] = _tensor(weights, checkpoint.tensors[key], wanted[key])
    return loaded


def _tensor(weights: Any, header: TensorHeader, wanted: Tensor) -> Tensor:
    if header.shape == tuple(wanted.shape):
        stored: Tensor = weights.get_tensor(header.name)
    else:
        stored = weights.get_slice(header.name)[: wanted.shape[0]]
    return stored.to(wanted.dtype)


def _check(
    checkpoint: Checkpoint,
    expected: Mapping[str, Tensor],
    ignored: Iterable[str],
    first_rows: Iterable[str],
) -> None:
    found = {
        key: _read_shape(header.shape, expected.get(key) if key in first_rows else None)
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
        *_listed(
            "of another kind of number",
            (
                key
                for key, tensor in expected.items()
                if key in found
                and checkpoint.tensors[key].is_floating != tensor.is_floating_point()
            ),
        ),
    ]
    if problems:
        raise WeightsMismatch(f"{checkpoint.folder}: {'; '.join(problems)}")


def _read_shape(stored: tuple[int, ...], wanted: Tensor | None) -> tuple[int, ...]:
    """The shape that is read: all of it, or the first rows that `wanted` has."""
    return stored if wanted is None else (min(stored[0], wanted.shape[0]), *stored[1:])


def _listed(what: str, names: Iterable[str]) -> list[str]:
    ordered = sorted(names)
    if not ordered:
        return []
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    noun = "tensor" if len(ordered) == 1 else "tensors"
    return [f"{len(ordered)} {noun} {what}: {', '.join(ordered[:_NAMED])}{more}"]
