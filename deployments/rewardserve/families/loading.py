"""From a hub id or folder to a model ready to score: backbone, head and text policy.

Knows the order of the steps; each step is a module of its own. Runs no forward and packs nothing.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import init_empty_weights
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rewardserve.errors import (
    CheckpointError,
    SettingsError,
    UnsafeCheckpoint,
    UnsupportedCheckpoint,
)
from rewardserve.families.backbone import empty_backbone
from rewardserve.families.base import Family, Head
from rewardserve.families.checkpoint import (
    Checkpoint,
    read_checkpoint,
    read_json,
    refuse_escaping_links,
)
from rewardserve.families.dispatch import family_of
from rewardserve.families.hub import locate
from rewardserve.families.lora import Adapter, merge, read_adapter, with_score_head
from rewardserve.families.placement import Placement, device_of, place
from rewardserve.families.registry import ModelSpec, described
from rewardserve.families.template_trial import refuse_costly_template
from rewardserve.families.text import TextPolicy, TextSpec, template_source
from rewardserve.families.weights import load_weights
from rewardserve.settings import Dtype, Quantization

TORCH_DTYPES: dict[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Everything that scoring needs of one model."""

    name: str
    source: str
    revision: str | None
    """The commit that was loaded; None for a plain folder."""
    family: str
    backbone: PreTrainedModel
    """The stock base model, without any head: eval mode, no gradients, default attention."""
    head: Head
    text: TextPolicy
    max_tokens: int
    dtype: torch.dtype
    """The backbone's; the head is float32."""
    device: torch.device
    """Where token ids go in."""
    quantize: Quantization | None = None
    """What the engine is to round the layers' weights to; they are loaded as they are."""
    placement: Placement = field(default_factory=dict)
    """Where each part of the backbone lies, when one GPU is too small."""


def load_model(
    source: str,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    name: str | None = None,
    max_tokens: int | None = None,
    quantize: Quantization | None = None,
) -> LoadedModel:
    """The model of a local folder or hub id, on `device`.

    `cuda` without a number means every visible GPU, of which one is used where one is enough.

    Raises CheckpointError or one of its kinds when it cannot be loaded exactly and safely, and
    SettingsError when `max_tokens` is over the model's limit or it must not be quantised so.
    """
    found = locate(source, revision)
    checkpoint, adapter = _read_parts(found.folder)
    entry = described(source, found.folder)
    _refuse_unfit_quantization(source, entry, quantize, dtype)
    family = family_of(checkpoint, entry.family)
    tokenizer = _nearest_tokenizer(found.folder, checkpoint.folder)
    text = _text_policy(tokenizer, entry.text, checkpoint)
    backbone, head = _empty_model(checkpoint, family)
    head.bind(tokenizer)
    placement = place(backbone, device, TORCH_DTYPES[dtype])
    load_weights(checkpoint, family, backbone, head, placement=placement, dtype=TORCH_DTYPES[dtype])
    if adapter is not None:
        merge(adapter, backbone)
    return LoadedModel(
        name=name or Path(source).name,
        source=source,
        revision=found.revision,
        family=family.name,
        backbone=backbone,
        head=head,
        text=text,
        max_tokens=_limit(checkpoint, entry.max_tokens, max_tokens),
        dtype=TORCH_DTYPES[dtype],
        device=device_of("embed_tokens", placement),
        quantize=quantize,
        placement=placement,
    )


def _read_parts(folder: Path) -> tuple[Checkpoint, Adapter | None]:
    """The checkpoint to load, and the adapter to merge into it when `folder` holds one."""
    refuse_escaping_links(folder)
    adapter = read_adapter(folder)
    if adapter is None:
        return read_checkpoint(folder), None
    base = read_checkpoint(locate(adapter.base, adapter.base_revision).folder)
    return with_score_head(base, adapter), adapter


def _refuse_unfit_quantization(
    source: str, entry: ModelSpec, quantize: Quantization | None, dtype: Dtype
) -> None:
    if quantize is None:
        return
    if dtype == "float16":
        raise SettingsError(
            f"{source}: products with 8-bit weights overflow float16 before they are scaled; "
            "set dtype to bfloat16",
            "quantize",
        )
    if not entry.quantizable:
        raise SettingsError(
            f"{source} loses its accuracy in 8 bits, as its card or benchmark says; "
            "leave quantize out",
            "quantize",
        )


def _text_policy(
    tokenizer: PreTrainedTokenizerFast, spec: TextSpec, checkpoint: Checkpoint
) -> TextPolicy:
    names = tuple(tokenizer.special_tokens_map.items())
    refuse_costly_template(template_source(tokenizer, spec), names)
    return TextPolicy(tokenizer, spec, checkpoint.config["vocab_size"])


def _nearest_tokenizer(folder: Path, base: Path) -> PreTrainedTokenizerFast:
    """The folder's own tokenizer, else that of the model that its adapter changes."""
    return read_tokenizer(folder if (folder / "tokenizer.json").is_file() else base)


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that tokenizer.json describes, whatever class the config names.

    Raises UnsafeCheckpoint when it asks for code, UnsupportedCheckpoint without a tokenizer.json.
    """
    if not (folder / "tokenizer.json").is_file():
        raise UnsupportedCheckpoint(
            f"{folder}/tokenizer.json is missing; convert the tokenizer to that format"
        )
    if "auto_map" in read_json(folder / "tokenizer_config.json"):
        raise UnsafeCheckpoint(
            f"{folder}/tokenizer_config.json: auto_map asks for the checkpoint's own code, "
            "which is never run"
        )
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the Rust parser raises bare Exception
        raise CheckpointError(f"{folder}/tokenizer.json cannot be read: {error}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise CheckpointError(f"{folder}/tokenizer.json gave no tokenizer")
    return tokenizer


def _empty_model(checkpoint: Checkpoint, family: Family) -> tuple[PreTrainedModel, Head]:
    try:
        with init_empty_weights(include_buffers=False):
            head = family.build_head(checkpoint.config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnsupportedCheckpoint(
            f"{checkpoint.folder}/config.json: no {family.name} head can be built from it: {error}"
        ) from error
    return empty_backbone(checkpoint.config), head.eval()


def _limit(checkpoint: Checkpoint, described_tokens: int | None, asked: int | None) -> int:
    longest: int = checkpoint.config["max_position_embeddings"]
    if asked is not None and asked > longest:
        raise SettingsError(
            f"max_tokens is {asked}; the checkpoint's positions end at {longest}", "max_tokens"
        )
    return asked or min(longest, described_tokens or longest)
