"""The families beside the first five, against formulas written out here."""

import json
from pathlib import Path

import pytest
import torch
from family_reference import CONVERSATIONS, assert_close, rewards
from tiny_checkpoints import (
    HIDDEN,
    hidden_states,
    plain_model,
    random_tensors,
    write_checkpoint,
)
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from rewardserve.families.loading import load_model


@pytest.mark.parametrize(
    ("architecture", "backbone", "key", "prefix", "family"),
    [
        ("EurusRewardModel", "mistral", "regression_head", "model.", "regression_head"),
        ("LlamaRewardModel", "llama", "regression_head", "model.", "regression_head"),
        ("LlamaForSequenceClassification", "llama", "v_head", "transformer.", "starling"),
    ],
)
def test_linear_heads_under_other_names(
    tmp_path: Path, architecture: str, backbone: str, key: str, prefix: str, family: str
) -> None:
    head = random_tensors({f"{key}.weight": [1, HIDDEN]})
    folder = write_checkpoint(
        tmp_path, architecture, backbone=backbone, head=head, template="llama3", prefix=prefix
    )
    plain, model = plain_model(folder, prefix), load_model(str(folder))

    assert model.family == family
    for ids, reward in rewards(model):
        assert_close(reward.score, head[f"{key}.weight"][0] @ hidden_states(plain, ids)[-1])


def test_openrlhf_checkpoints_name_their_head_and_normalise(tmp_path: Path) -> None:
    head = random_tensors({"value_head.weight": [1, HIDDEN]})
    folder = write_checkpoint(
        tmp_path,
        "LlamaForSequenceClassification",
        backbone="llama",
        head=head,
        template="llama3",
        value_head_prefix="value_head",
        normalize_reward=True,
        mean=0.25,
        std=2.0,
    )
    plain = plain_model(folder)
    for ids, reward in rewards(load_model(str(folder))):
        raw = head["value_head.weight"][0] @ hidden_states(plain, ids)[-1]
        assert_close(reward.score, (raw - 0.25) / 2.0)


@pytest.mark.parametrize(
    ("architecture", "backbone"),
    [("INFORMForSequenceClassification", "llama"), ("Qwen2ForRewardModel", "qwen2")],
)
def test_two_layer_heads(tmp_path: Path, architecture: str, backbone: str) -> None:
    head = random_tensors(
        {
            "score.0.weight": [HIDDEN, HIDDEN],
            "score.0.bias": [HIDDEN],
            "score.2.weight": [1, HIDDEN],
            "score.2.bias": [1],
        }
    )
    folder = write_checkpoint(
        tmp_path, architecture, backbone=backbone, head=head, template="llama3"
    )
    plain, model = plain_model(folder), load_model(str(folder))

    assert model.family == "mlp"
    for ids, reward in rewards(model):
        last = hidden_states(plain, ids)[-1]
        inner = functional.relu(head["score.0.weight"] @ last + head["score.0.bias"])
        assert_close(reward.score, (head["score.2.weight"] @ inner + head["score.2.bias"])[0])


def test_nemotron_reads_the_logit_of_token_zero(tmp_path: Path) -> None:
    head = random_tensors({"lm_head.weight": [9, HIDDEN]})
    folder = write_checkpoint(
        tmp_path, "LlamaForCausalLM", backbone="llama", head=head, template="llama31"
    )
    (folder / "rewardserve.json").write_text(
        json.dumps({"registry": "nvidia/Llama-3.1-Nemotron-70B-Reward-HF"})
    )
    plain, model = plain_model(folder), load_model(str(folder))

    assert model.family == "token_logit"
    assert sum(weight.numel() for weight in model.head.parameters()) == HIDDEN
    for ids, reward in rewards(model):
        assert_close(reward.score, (head["lm_head.weight"] @ hidden_states(plain, ids)[-1])[0])


def quantile_gate(indices: tuple[list[int], list[int]], objectives: int) -> dict[str, Tensor]:
    """Gate tensors with Linear layers at `indices[0]` and BatchNorm layers at `indices[1]`."""
    width = 10
    linears, norms = indices
    shapes: dict[str, list[int]] = {"gating.logit_scale": [1]}
    for place, index in enumerate(linears[:-1]):
        shapes[f"gating.layers.{index}.weight"] = [width, HIDDEN if place == 0 else width]
    shapes[f"gating.layers.{linears[-1]}.weight"] = [objectives, width]
    shapes[f"gating.layers.{linears[-1]}.bias"] = [objectives]
    for index in norms:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"gating.layers.{index}.{part}"] = [width]
    tensors = random_tensors(shapes, seed=2)
    for index in norms:
        tensors[f"gating.layers.{index}.running_var"].abs_().add_(0.5)
        tensors[f"gating.layers.{index}.num_batches_tracked"] = torch.tensor(7)
    return tensors


@pytest.mark.parametrize(
    ("architecture", "backbone", "template", "objectives", "indices", "temperature"),
    [
        ("LlamaForRewardModelWithGating", "llama", "llama31", 19, ([0, 3, 6, 9], [2, 5, 8]), 5.0),
        (
            "Gemma2ForQuantileSequenceClassification",
            "gemma2",
            "gemma",
            5,
            ([0, 4, 8, 11], [2, 6, 10]),
            1.0,
        ),
    ],
)
def test_qrm_gates_the_means_of_its_quantiles(
    tmp_path: Path,
    architecture: str,
    backbone: str,
    template: str,
    objectives: int,
    indices: tuple[list[int], list[int]],
    temperature: float,
) -> None:
    quantiles = 19
    head = quantile_gate(indices, objectives)
    head |= random_tensors({"regression_layer.weight": [objectives * quantiles, HIDDEN]})
    matrix = torch.eye(objectives)
    if objectives == 19:
        matrix = random_tensors({"m": [19, 19]}, seed=3)["m"]
        head["reward_transform_matrix"] = matrix
    folder = write_checkpoint(
        tmp_path,
        architecture,
        backbone=backbone,
        head=head,
        template=template,
        num_objectives=objectives,
        num_quantiles=quantiles,
        gating_hidden_dim=10,
    )
    plain, model = plain_model(folder), load_model(str(folder))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder))
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>" if template == "gemma" else "<|eot_id|>")

    assert model.family == "qrm"
    for (ids, reward), conversation in zip(rewards(model), CONVERSATIONS, strict=True):
        states = hidden_states(plain, ids)
        ends = [i for i, token in enumerate(ids) if token == end]
        assert len(ends) == len(conversation) + (template == "llama31")
        state = states[ends[-2]]
        linears, norms = indices
        for linear, norm in zip(linears, norms, strict=False):
            name = f"gating.layers.{norm}"
            state = functional.relu(head[f"gating.layers.{linear}.weight"] @ state)
            spread = torch.sqrt(head[f"{name}.running_var"] + 1e-5)
            state = (state - head[f"{name}.running_mean"]) / spread
            state = state * head[f"{name}.weight"] + head[f"{name}.bias"]
        name = f"gating.layers.{linears[-1]}"
        logits = head[f"{name}.weight"] @ state + head[f"{name}.bias"]
        gate = functional.softmax(logits / temperature, dim=0) * head["gating.logit_scale"]
        spread_out = (head["regression_layer.weight"] @ states[-1]).reshape(objectives, quantiles)
        expected = spread_out.mean(dim=1)

        assert_close(reward.score, (gate * (expected @ matrix)).sum())
        assert_close(reward.attributes, expected)
        assert_close(reward.weights, matrix @ gate)
