"""Random tiny checkpoints with published key names, and an independent way to read them.

Nothing here calls the code under test: configs, key names and forwards are spelled out.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tiny_tokenizers import vocabulary_size, write_tokenizer
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2Model,
    GemmaConfig,
    GemmaModel,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
)

HIDDEN = 16
MODELS: dict[str, tuple[type, type]] = {
    "gemma": (GemmaConfig, GemmaModel),
    "gemma2": (Gemma2Config, Gemma2Model),
    "llama": (LlamaConfig, LlamaModel),
    "mistral": (MistralConfig, MistralModel),
    "qwen2": (Qwen2Config, Qwen2Model),
    "qwen3": (Qwen3Config, Qwen3Model),
}
_SHARED = {
    "hidden_size": HIDDEN,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "id2label": {"0": "LABEL_0"},
    "torch_dtype": "bfloat16",
    "use_cache": True,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**_SHARED, "hidden_act": "silu", "rope_theta": 500000.0, "head_dim": 4},
    "mistral": {**_SHARED, "hidden_act": "silu", "sliding_window": None},
    "qwen2": {**_SHARED, "hidden_act": "silu", "use_sliding_window": False},
    "qwen3": {**_SHARED, "hidden_act": "silu", "attention_bias": False},
    "gemma": {**_SHARED, "hidden_act": "gelu"},
    "gemma2": {
        **_SHARED,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 12,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "sliding_window": 24,
        "cache_implementation": "hybrid",
    },
}


def write_checkpoint(
    folder: Path,
    architecture: str,
    *,
    backbone: str,
    head: Mapping[str, Tensor],
    template: str,
    prefix: str = "model.",
    **config: Any,
) -> Path:
    """A folder with config.json, model.safetensors and a tokenizer; weights from a fixed seed."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {
        "architectures": [architecture],
        "model_type": backbone,
        "vocab_size": vocabulary_size(template),
        **CONFIGS[backbone],
        **config,
    }
    (folder / "config.json").write_text(json.dumps(written))
    weights = {f"{prefix}{key}": value for key, value in _random_backbone(written).items()}
    save_file({**weights, **head}, folder / "model.safetensors", metadata={"format": "pt"})
    return write_tokenizer(folder, template)


def random_tensors(shapes: Mapping[str, Sequence[int]], seed: int = 1) -> dict[str, Tensor]:
    """Seeded normal tensors, scaled so that activations stay of order one."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(list(shape), generator=generator) * 0.3 for key, shape in shapes.items()
    }


def plain_model(folder: Path, prefix: str = "model.") -> PreTrainedModel:
    """The folder's backbone in plain transformers, eager attention, float32."""
    config = json.loads((folder / "config.json").read_text())
    config_class, model_class = MODELS[config["model_type"]]
    config.pop("architectures")
    model = model_class(config_class(**config, attn_implementation="eager")).eval().float()
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict(
        {
            key.removeprefix(prefix): value
            for key, value in weights.items()
            if key.startswith(prefix)
        }
    )
    return model


@torch.no_grad()
def hidden_states(model: PreTrainedModel, token_ids: Sequence[int]) -> Tensor:
    """[tokens, hidden] after the final norm, one conversation at a time."""
    ids = torch.tensor([[int(token) for token in token_ids]])
    return model(input_ids=ids, use_cache=False).last_hidden_state[0]


def _random_backbone(config: Mapping[str, Any]) -> dict[str, Tensor]:
    config_class, model_class = MODELS[config["model_type"]]
    keys = {key: value for key, value in config.items() if key != "architectures"}
    with torch.device("meta"):
        shapes = {
            key: value.shape
            for key, value in model_class(config_class(**keys)).state_dict().items()
        }
    return random_tensors(shapes, seed=0)
