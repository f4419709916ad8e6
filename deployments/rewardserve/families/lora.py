"""LoRA adapters: a folder with low-rank updates and a score head for a base model elsewhere.

The updates are added to the base weights once, at load: W + s B A with s = alpha / r, or
alpha / sqrt(r) for rank-stabilised adapters. Layers and ranks are read from the tensors
themselves; nothing in the adapter's config can choose code or a pattern to match.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from rewardserve.errors import UnsafeCheckpoint, UnsupportedCheckpoint, WeightsMismatch
from rewardserve.families.checkpoint import Checkpoint, TensorHeader, read_json, read_tensors

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_UPDATE = re.compile(r"base_model\.model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
_SCORE = re.compile(r"base_model\.model\.score\.(modules_to_save\.)?weight")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A checked adapter folder."""

    base: str
    """Hub id or folder of the model that it changes."""
    base_revision: str | None
    file: Path
    alpha: float
    rank_stabilised: bool
    updates: Mapping[str, dict[str, str]]
    """Tensor names by side (A, B), for each changed layer of the backbone."""
    score: TensorHeader


def read_adapter(folder: Path) -> Adapter | None:
    """The adapter in `folder`; None when the folder holds no adapter or a whole model.

    Raises UnsafeCheckpoint for pickled weights, UnsupportedCheckpoint for other kinds than plain
    LoRA or without a score head, WeightsMismatch for tensors that have no place.
    """
    if not (folder / CONFIG_FILE).is_file() or (folder / "config.json").is_file():
        return None
    config = read_json(folder / CONFIG_FILE)
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise UnsafeCheckpoint(f"{file} is missing; adapters in other formats are not opened")
    _check_kind(folder / CONFIG_FILE, config)
    updates: dict[str, dict[str, str]] = {}
    score: TensorHeader | None = None
    for name, header in read_tensors(file).items():
        if match := _UPDATE.fullmatch(name):
            updates.setdefault(match["layer"], {})[match["side"]] = name
        elif _SCORE.fullmatch(name):
            score = header
        else:
            raise WeightsMismatch(f"{file}: 1 tensor unexpected: {name}")
    if score is None:
        raise UnsupportedCheckpoint(f"{file} has no score head, so the adapter gives no reward")
    return Adapter(
        base=str(config.get("base_model_name_or_path")),
        base_revision=config.get("revision"),
        file=file,
        alpha=float(config["lora_alpha"]),
        rank_stabilised=bool(config.get("use_rslora")),
        updates=updates,
        score=score,
    )


def _check_kind(path: Path, config: Mapping[str, Any]) -> None:
    plain = config.get("peft_type") == "LORA" and config.get("bias", "none") == "none"
    unusual = ("use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "layer_replication")
    for key in unusual:
        if config.get(key):
            raise UnsupportedCheckpoint(f"{path}: {key} is not supported; merge the adapter first")
    if not plain or not isinstance(config.get("lora_alpha"), int | float):
        raise UnsupportedCheckpoint(f"{path} is not a plain LoRA adapter; merge it first")


def with_score_head(base: Checkpoint, adapter: Adapter) -> Checkpoint:
    """`base` as the sequence classifier that it is with the adapter's score head.

    A language-model head, and a score head of the base's own, are left out.
    """
    backbone = re.sub(r"For\w+$", "", base.architecture)
    tensors = {
        name: header
        for name, header in base.tensors.items()
        if name not in {"lm_head.weight", "score.weight"}
    }
    return replace(
        base,
        config={**base.config, "architectures": [f"{backbone}ForSequenceClassification"]},
        tensors={**tensors, "score.weight": adapter.score},
    )


@torch.no_grad()
def merge(adapter: Adapter, backbone: nn.Module) -> None:
    """Add the adapter's updates to the backbone's weights, computed in float32.

    Raises WeightsMismatch when a layer is unknown or an update has another shape.
    """
    layers = dict(backbone.named_modules())
    with safe_open(adapter.file, framework="pt") as weights:
        for name, sides in adapter.updates.items():
            layer = layers.get(name)
            if not isinstance(layer, nn.Linear) or sides.keys() != {"A", "B"}:
                raise WeightsMismatch(f"{adapter.file}: the update of {name} has no place")
            down, up = (weights.get_tensor(sides[side]).float() for side in "AB")
            rank = down.shape[0]
            scale = adapter.alpha / (sqrt(rank) if adapter.rank_stabilised else rank)
            if up.shape != (layer.out_features, rank) or down.shape[1] != layer.in_features:
                raise WeightsMismatch(f"{adapter.file}: the update of {name} has another shape")
            update = scale * (up @ down).to(layer.weight.device)
            layer.weight.copy_(layer.weight.float() + update)
