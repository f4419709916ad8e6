"""The stock transformers model under a head, built empty from a checkpoint's config.

Only keys that the model type's own config class knows are read; nothing in a config can choose
code, an attention kernel or a hub id. Loads no weights.
"""

from collections.abc import Mapping
from typing import Any

from accelerate import init_empty_weights
from transformers import (
    Gemma2Config,
    Gemma2Model,
    GemmaConfig,
    GemmaModel,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
)

from rewardserve.errors import UnsupportedCheckpoint

BACKBONES: dict[str, tuple[type[PretrainedConfig], type[PreTrainedModel]]] = {
    "gemma": (GemmaConfig, GemmaModel),
    "gemma2": (Gemma2Config, Gemma2Model),
    "llama": (LlamaConfig, LlamaModel),
    "mistral": (MistralConfig, MistralModel),
    "qwen2": (Qwen2Config, Qwen2Model),
    "qwen3": (Qwen3Config, Qwen3Model),
}
_ALSO_READ = {"head_dim", "hidden_act", "rope_scaling", "rope_theta"}
"""Keys that some config classes take without listing them."""
_NOT_READ = {
    "architectures",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "model_type",
    "pad_token_id",
    "tie_word_embeddings",
    "transformers_version",
    "_name_or_path",
}


def empty_backbone(config: Mapping[str, Any]) -> PreTrainedModel:
    """The base model of `config["model_type"]`: parameters on the meta device, buffers real.

    Raises UnsupportedCheckpoint for a model type without a native backbone or a config that its
    class refuses.
    """
    model_type = str(config.get("model_type"))
    if model_type not in BACKBONES:
        raise UnsupportedCheckpoint(
            f"config.json: model_type is not one of {', '.join(sorted(BACKBONES))}"
        )
    config_class, model_class = BACKBONES[model_type]
    known = (config_class().to_dict().keys() | _ALSO_READ) - _NOT_READ
    read = {key: value for key, value in config.items() if key in known}
    try:
        native = config_class.from_dict({**read, "pad_token_id": None, "use_cache": False})
        with init_empty_weights(include_buffers=False):
            backbone = model_class(native)
    except Exception as error:  # the config is untrusted and its classes raise many kinds
        raise UnsupportedCheckpoint(
            f"config.json: the {model_type} backbone cannot be built from it: {error}"
        ) from error
    backbone.train(mode=False)
    return backbone
