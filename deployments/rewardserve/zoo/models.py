"""The seven checkpoints of the zoo: config.json as published, with small sizes.

Every key that the original's config carries is here under its own name, left-overs
included; only widths, depth, vocabulary and token ids are the zoo's.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import torch

from rewardserve.families.armorm import ARMORM
from rewardserve.families.base import Family
from rewardserve.families.linear import LINEAR
from rewardserve.families.urm import URM
from rewardserve.families.value_head import VALUE_HEAD
from rewardserve.zoo import templates
from rewardserve.zoo.tokenizer import BASE_VOCABULARY, GEMMA_VOCABULARY, LLAMA_VOCABULARY

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ZooModel:
    """One tiny checkpoint and the published model that it stands for."""

    name: str
    hub_id: str
    family: Family
    config: Config
    tokenizer: Literal["gemma", "llama"]
    chat_template: str
    dtype: torch.dtype
    """On disk, of the backbone and of what `head_dtypes` does not name."""
    head_dtypes: dict[str, torch.dtype] = field(default_factory=dict)
    """On disk, by the first part of the tensor's key."""
    shard_bytes: int = 2**30
    """Weights over this size are split into several files."""


def _sizes(hidden: int, heads: int, key_value_heads: int) -> Config:
    return {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_attention_heads": heads,
        "num_hidden_layers": 2,
        "num_key_value_heads": key_value_heads,
    }


def _labels(count: int) -> Config:
    return {
        "id2label": {str(i): f"LABEL_{i}" for i in range(count)},
        "label2id": {f"LABEL_{i}": i for i in range(count)},
    }


_SHARED: Final[Config] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
}

_GEMMA: Final[Config] = {
    **_SHARED,
    "bos_token_id": 2,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "vocab_size": GEMMA_VOCABULARY,
}

_GEMMA2: Final[Config] = {
    **_GEMMA,
    "attn_logit_softcapping": 50.0,
    "cache_implementation": "hybrid",
    "final_logit_softcapping": 30.0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "model_type": "gemma2",
}

_GRM: Final[Config] = {
    **_GEMMA2,
    **_sizes(hidden=64, heads=4, key_value_heads=2),
    "eos_token_id": [1, 107],
    "head_dim": 24,
    "query_pre_attn_scalar": 24,
    "sliding_window": 4096,
    "vhead_layer_type": "mlp",
    "vhead_num_layers": 1,
    "vhead_num_neurons": 32,
}

_LLAMA: Final[Config] = {
    **_SHARED,
    **_sizes(hidden=64, heads=4, key_value_heads=2),
    "bos_token_id": BASE_VOCABULARY,
    "hidden_act": "silu",
    "mlp_bias": False,
    "model_type": "llama",
    "pad_token_id": LLAMA_VOCABULARY - 1,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "use_cache": False,
    "vocab_size": LLAMA_VOCABULARY,
}

_LLAMA31: Final[Config] = {
    **_LLAMA,
    "eos_token_id": [BASE_VOCABULARY + offset for offset in (1, 8, 9)],
    "max_position_embeddings": 131072,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "torch_dtype": "bfloat16",
}

MODELS: Final = (
    ZooModel(
        name="grm-gemma2-2b",
        hub_id="Ray2333/GRM-Gemma2-2B-rewardmodel-ft",
        family=LINEAR,
        config={
            "architectures": ["Gemma2ForSequenceClassification"],
            **_GRM,
            **_labels(1),
            "pad_token_id": 1,
            "torch_dtype": "float16",
            "use_cache": True,
        },
        tokenizer="gemma",
        chat_template=templates.GEMMA,
        dtype=torch.float16,
        shard_bytes=400_000,
    ),
    ZooModel(
        name="rm-gemma-7b",
        hub_id="weqweasdas/RM-Gemma-7B-4096",
        family=LINEAR,
        config={
            "architectures": ["GemmaForSequenceClassification"],
            **_GEMMA,
            **_sizes(hidden=64, heads=4, key_value_heads=4),
            **_labels(1),
            "eos_token_id": 1,
            "head_dim": 24,
            "hidden_act": "gelu",
            "model_type": "gemma",
            "pad_token_id": 0,
            "torch_dtype": "bfloat16",
            "use_cache": True,
        },
        tokenizer="gemma",
        chat_template=templates.GEMMA,
        dtype=torch.bfloat16,
        shard_bytes=300_000,
    ),
    ZooModel(
        name="skywork-gemma2-27b",
        hub_id="Skywork/Skywork-Reward-Gemma-2-27B-v0.2",
        family=LINEAR,
        config={
            "architectures": ["Gemma2ForSequenceClassification"],
            **_GEMMA2,
            **_sizes(hidden=96, heads=4, key_value_heads=2),
            **_labels(1),
            "eos_token_id": 1,
            "head_dim": 16,
            "pad_token_id": 0,
            "query_pre_attn_scalar": 24,
            "sliding_window": 64,
            "sliding_window_size": 64,
            "torch_dtype": "bfloat16",
            "use_cache": False,
        },
        tokenizer="gemma",
        chat_template=templates.GEMMA,
        dtype=torch.bfloat16,
        shard_bytes=300_000,
    ),
    ZooModel(
        name="skywork-llama-8b",
        hub_id="Skywork/Skywork-Reward-Llama-3.1-8B-v0.2",
        family=LINEAR,
        config={"architectures": ["LlamaForSequenceClassification"], **_LLAMA31, **_labels(1)},
        tokenizer="llama",
        chat_template=templates.LLAMA31,
        dtype=torch.bfloat16,
        shard_bytes=300_000,
    ),
    ZooModel(
        name="armorm",
        hub_id="RLHFlow/ArmoRM-Llama3-8B-v0.1",
        family=ARMORM,
        config={
            "architectures": ["LlamaForRewardModelWithGating"],
            "auto_map": {
                "AutoModelForSequenceClassification": (
                    "modeling_custom.LlamaForRewardModelWithGating"
                )
            },
            **_LLAMA,
            **_labels(1),
            "eos_token_id": BASE_VOCABULARY + 1,
            "gating_hidden_dim": 32,
            "gating_n_hidden": 3,
            "gating_temperature": 10,
            "max_position_embeddings": 8192,
            "num_objectives": 19,
            "rope_scaling": None,
            "torch_dtype": "float32",
        },
        tokenizer="llama",
        chat_template=templates.LLAMA3,
        dtype=torch.bfloat16,
        head_dtypes={
            "regression_layer": torch.float32,
            "reward_transform_matrix": torch.float32,
            "gating": torch.float32,
        },
        shard_bytes=300_000,
    ),
    ZooModel(
        name="urm",
        hub_id="LxzGordon/URM-LLaMa-3.1-8B",
        family=URM,
        config={
            "architectures": ["LlamaForSequenceClassificationWithNormal_Weights"],
            "auto_map": {
                "AutoModelForSequenceClassification": (
                    "modeling_custom.LlamaForSequenceClassificationWithNormal_Weights"
                )
            },
            **_LLAMA31,
            **_labels(10),
        },
        tokenizer="llama",
        chat_template=templates.LLAMA31_WITHOUT_BOS,
        dtype=torch.bfloat16,
        head_dtypes={"weights": torch.float16},
    ),
    ZooModel(
        name="grm-sftreg",
        hub_id="Ray2333/GRM-Gemma2-2B-sftreg",
        family=VALUE_HEAD,
        config={
            "architectures": ["Gemma2ForCausalLM"],
            **_GRM,
            "pad_token_id": 0,
            "torch_dtype": "bfloat16",
            "use_cache": True,
        },
        tokenizer="gemma",
        chat_template=templates.GEMMA,
        dtype=torch.bfloat16,
    ),
)
