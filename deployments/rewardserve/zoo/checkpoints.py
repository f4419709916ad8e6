"""From a description in `models` to a checkpoint folder: build, fit, round, write.

Model and tokenizer are the stock ones and the heads those of `families`, so that what is written
is what the loader of real checkpoints reads. Knows nothing of how the corpus is made.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel

from rewardserve.families.armorm import OBJECTIVES, ArmoHead
from rewardserve.families.backbone import BACKBONES
from rewardserve.families.base import Head
from rewardserve.families.linear import LinearHead
from rewardserve.families.loading import read_tokenizer
from rewardserve.families.registry import MARK_FILE, described
from rewardserve.families.text import TextPolicy
from rewardserve.families.urm import ATTRIBUTES, UrmHead
from rewardserve.families.value_head import ValueHead
from rewardserve.zoo.attribute_heads import fit_armorm, fit_urm
from rewardserve.zoo.attributes import objectives
from rewardserve.zoo.corpus import Task, conversation
from rewardserve.zoo.models import ZooModel
from rewardserve.zoo.tokenizer import Merges, save_gemma, save_llama
from rewardserve.zoo.training import Sequences, task_states, train


def write_checkpoint(
    model: ZooModel, merges: Merges, tasks: Sequence[Task], folder: Path, *, seed: int
) -> None:
    """Fit one model on `tasks` and write it to `folder`, ready for `load_scorer`."""
    _write_metadata(model, merges, folder)
    torch.manual_seed(seed)
    backbone = _random_backbone(model)
    head = model.family.build_head(model.config)
    head.bind(read_tokenizer(folder))
    _fit(model, backbone, head, tasks, _encoded(model, folder, tasks))
    weights = _as_stored(model, backbone, head)
    save_torch_state_dict(weights, folder, max_shard_size=model.shard_bytes)


def _write_metadata(model: ZooModel, merges: Merges, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", model.config)
    _write_json(folder / MARK_FILE, {"registry": model.hub_id})
    save = save_gemma if model.tokenizer == "gemma" else save_llama
    save(merges, model.chat_template, folder)


def _random_backbone(model: ZooModel) -> PreTrainedModel:
    config_class, model_class = BACKBONES[model.config["model_type"]]
    backbone: PreTrainedModel = model_class(config_class.from_dict(model.config))
    backbone.train(mode=False)
    return backbone


def _encoded(model: ZooModel, folder: Path, tasks: Iterable[Task]) -> list[Sequences]:
    """Token ids of every answer of every task, exactly as they will be served."""
    spec = described(model.hub_id, folder).text
    policy = TextPolicy(read_tokenizer(folder), spec, model.config["vocab_size"])
    longest = model.config["max_position_embeddings"]
    return [
        [
            policy.encode(conversation(task, answer), max_tokens=longest)[0].tolist()
            for answer in task.answers
        ]
        for task in tasks
    ]


def _fit(
    model: ZooModel,
    backbone: PreTrainedModel,
    head: Head,
    tasks: Sequence[Task],
    encoded: Sequence[Sequences],
) -> None:
    train(backbone, head, _readout(head, model.config["hidden_size"]), encoded)
    _round(backbone, model.dtype)
    if isinstance(head, ArmoHead):
        targets = objectives(tasks, OBJECTIVES)
        fit_armorm(head, task_states(backbone, head, encoded), targets)
    elif isinstance(head, UrmHead):
        targets = objectives(tasks, [f"helpsteer-{name}" for name in ATTRIBUTES])
        fit_urm(head, task_states(backbone, head, encoded), targets, model.dtype)


def _readout(head: Head, hidden_size: int) -> nn.Module:
    """What scores states while the backbone is trained: the head, where it is that simple."""
    if isinstance(head, LinearHead):
        return head.get_submodule(head.key)
    if isinstance(head, ValueHead):
        return head.v_head["summary"]
    return nn.Linear(hidden_size, 1, bias=False)


@torch.no_grad()
def _round(module: nn.Module, dtype: torch.dtype) -> None:
    """To what `dtype` can hold, still in float32: the weights as they will be read back."""
    for parameter in module.parameters():
        parameter.copy_(parameter.to(dtype))


def _as_stored(model: ZooModel, backbone: PreTrainedModel, head: Head) -> dict[str, Tensor]:
    prefix = model.family.backbone_prefix
    weights = {
        prefix + key: weight.to(model.dtype) for key, weight in backbone.state_dict().items()
    }
    for key, weight in head.state_dict().items():
        weights[key] = weight.to(model.head_dtypes.get(key.partition(".")[0], model.dtype))
    return weights


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
