"""Forwards of real layer shapes on the device `meta`, which runs the code of a GPU without data.

There, whatever needs a value on the host raises, as it would make a GPU's host wait.
"""

import sys
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModel, Gemma2Config, LlamaConfig, PretrainedConfig

from rewardserve.engine.backbone import PackedBackbone
from rewardserve.engine.backends import Backend
from rewardserve.engine.staging import staged
from rewardserve.engine.tree import Pack, plan_packs

LAYERS = {"num_hidden_layers": 3, "vocab_size": 1000}
SHAPES: dict[str, PretrainedConfig] = {
    "gemma-2-2b": Gemma2Config(
        hidden_size=2304,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        intermediate_size=9216,
        **LAYERS,
    ),
    "llama-3.1-8b": LlamaConfig(
        hidden_size=4096,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
        **LAYERS,
    ),
    "gemma-2-27b": Gemma2Config(
        hidden_size=4608,
        num_attention_heads=32,
        num_key_value_heads=16,
        head_dim=128,
        intermediate_size=36864,
        **LAYERS,
    ),
}


def packed(name: str, backend: Backend, dtype: torch.dtype = torch.bfloat16) -> PackedBackbone:
    with torch.device("meta"):
        stock = AutoModel.from_config(SHAPES[name], dtype=dtype)
    return PackedBackbone(stock, backend)


def pairs(prompts: int) -> tuple[Pack, list[int]]:
    """A pack of two answers to each prompt, and where each ends."""
    random = np.random.default_rng(5)
    sequences = []
    for _ in range(prompts):
        prompt = random.integers(1, 999, 300)
        sequences += [
            np.concatenate([prompt, random.integers(1, 999, 350)]) for _answer in range(2)
        ]
    arrays = [sequence.astype(np.int32) for sequence in sequences]
    (pack,) = plan_packs(arrays, pack_tokens=10**6)
    return pack, [pack.locate(leaf, 649) for leaf in pack.leaves]


def flash_attn() -> ModuleType:
    """Stands in for flash-attn: the shape of its result."""
    module = ModuleType("flash_attn")
    module.flash_attn_varlen_func = lambda query, *_, **__: query.clone()  # type: ignore[attr-defined]
    return module


def flex_kernel(query: Tensor, key: Tensor, value: Tensor, **masks: Any) -> Tensor:
    """Stands in for the compiled kernel: the shape of its result."""
    return query.clone()


class DeviceWork(TorchDispatchMode):
    """The most bytes alive on `meta`, and the copies to it that are not `staged`'s."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self.unstaged: list[str] = []
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, operator: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = operator(*arguments, **(options or {}))
        given = [each for each in tree_leaves((arguments, options)) if isinstance(each, Tensor)]
        from_host = any(tensor.device.type == "cpu" and tensor.dim() for tensor in given)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.is_meta:
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                self._alive[reference.cdata] = (reference, storage.nbytes())
                if from_host and not _within_staged():
                    self.unstaged.append(str(operator))
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result


def _within_staged() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not staged.__code__:
        frame = frame.f_back
    return frame is not None
