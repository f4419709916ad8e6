"""What a checkpoint folder holds: its config and the header of every tensor, read without trust.

Opens JSON and safetensors headers alone. Refuses what could run code or reach out of the folder.
Knows nothing of devices or dtypes asked for; builds no module.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from rewardserve.errors import CheckpointError, UnsafeCheckpoint, UnsupportedCheckpoint

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FLOATING = {"F32", "F16", "BF16"}
REQUIRED_INTEGERS = (
    "hidden_size",
    "num_attention_heads",
    "num_hidden_layers",
    "max_position_embeddings",
    "vocab_size",
)
MAX_DIMENSION = 1_000_000
"""No published model has a width, a vocabulary or a count of heads beyond it."""
MAX_JSON_BYTES = 64_000_000
"""Far above any tokenizer.json; a larger file is not metadata."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """Where a tensor is stored, under which name, and its shape and kind."""

    file: Path
    name: str
    shape: tuple[int, ...]
    is_floating: bool


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One local folder with a model in it."""

    folder: Path
    config: Mapping[str, Any]
    """config.json as it is written."""
    tensors: Mapping[str, TensorHeader]
    """Every tensor of every safetensors file, by its key."""

    @property
    def architecture(self) -> str:
        """The one class name under `architectures`."""
        return str(self.config["architectures"][0])


def read_checkpoint(folder: Path) -> Checkpoint:
    """Config and tensor headers of a local folder.

    Raises UnsafeCheckpoint (pickled weights, links out of the folder, custom kernels),
    UnsupportedCheckpoint (no usable config) or CheckpointError (a broken file).
    """
    refuse_escaping_links(folder)
    config = read_json(folder / "config.json")
    _check_config(folder, config)
    tensors = dict(_tensor_headers(folder))
    _check_sizes(folder, config, len(tensors))
    return Checkpoint(folder, config, tensors)


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object; raises CheckpointError when the file is missing, too large or broken."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(f"{path} is over {MAX_JSON_BYTES} bytes, too large for metadata")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return content


def refuse_escaping_links(folder: Path) -> None:
    """Raises UnsafeCheckpoint when a link leaves the folder for anywhere but its cache's blobs."""
    root = folder.resolve()
    allowed = [root]
    if root.parent.name == "snapshots":
        allowed.append(root.parent.parent / "blobs")
    for path in folder.rglob("*"):
        target = path.resolve()
        if not any(target.is_relative_to(parent) for parent in allowed):
            raise UnsafeCheckpoint(f"{path} links out of the checkpoint's folder; copy the file")


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    path = folder / "config.json"
    for key, value in config.items():
        if key.startswith("_") and key.endswith("_internal"):
            raise UnsafeCheckpoint(f"{path}: {key} is not a setting that a checkpoint may carry")
        if key.endswith("attn_implementation") and "/" in str(value):
            raise UnsafeCheckpoint(f"{path}: {key} names code to fetch from a hub")
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or len(architectures) != 1:
        raise UnsupportedCheckpoint(f"{path}: architectures must name exactly one class")
    for key in REQUIRED_INTEGERS:
        value = config.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UnsupportedCheckpoint(f"{path}: {key} must be a positive integer")


def _check_sizes(folder: Path, config: Mapping[str, Any], tensors: int) -> None:
    """A config cannot ask for more memory or layers than its weights could fill."""
    for key, value in config.items():
        if not isinstance(value, int) or "position" in key:
            continue
        counts_layers = key.endswith(("layers", "n_hidden"))
        counts_width = key.endswith(("_size", "_dim", "heads", "neurons", "quantiles"))
        limit = tensors if counts_layers else MAX_DIMENSION
        if (counts_layers or counts_width) and value > limit:
            raise UnsupportedCheckpoint(
                f"{folder}/config.json: {key} is over {limit}, more than the weights can hold"
            )


def _tensor_headers(folder: Path) -> Iterator[tuple[str, TensorHeader]]:
    seen: set[str] = set()
    for file in weight_files(folder):
        for name, header in read_tensors(file).items():
            if name in seen:
                raise CheckpointError(f"{file}: tensor {name} is stored twice")
            seen.add(name)
            yield name, header


def read_tensors(file: Path) -> dict[str, TensorHeader]:
    """The headers of one safetensors file by name; raises CheckpointError when it is broken."""
    try:
        with safe_open(file, framework="pt") as weights:
            return {name: _header(file, name, weights.get_slice(name)) for name in weights.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is not a readable safetensors file: {error}") from error


def _header(file: Path, name: str, stored: Any) -> TensorHeader:
    return TensorHeader(file, name, tuple(stored.get_shape()), stored.get_dtype() in FLOATING)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: those that the index names, else the only one.

    Raises UnsafeCheckpoint when there are pickles alone, CheckpointError when one is missing.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return _indexed_files(index)
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise UnsafeCheckpoint(
            f"{folder} has its weights in {pickles[0]}, a pickle that may run code when opened; "
            "convert it to safetensors"
        )
    raise CheckpointError(f"{folder} has neither model.safetensors nor its index")


def _indexed_files(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UnsafeCheckpoint(f"{index} names a file that is not a safetensors file beside it")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index.parent / name}, named by the index, is missing")
    return [index.parent / name for name in names]
