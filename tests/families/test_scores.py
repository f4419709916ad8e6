"""Every family's score, attributes and token ids against formulas written out here.

The reference is the stock transformers backbone on one conversation at a time, in float32.
"""

import json
from pathlib import Path

import pytest
from family_reference import CONVERSATIONS, assert_close, card_ids, rewards
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

from rewardserve.families.armorm import OBJECTIVES
from rewardserve.families.loading import load_model


@pytest.mark.parametrize(
    ("architecture", "backbone", "template"),
    [
        ("Gemma2ForSequenceClassification", "gemma2", "gemma"),
        ("GemmaForSequenceClassification", "gemma", "gemma"),
        ("LlamaForSequenceClassification", "llama", "llama31"),
        ("LlamaForSequenceClassification", "llama", "llama31-without-bos"),
        ("MistralForSequenceClassification", "mistral", "llama3"),
        ("Qwen2ForSequenceClassification", "qwen2", "llama3"),
        ("Qwen3ForSequenceClassification", "qwen3", "llama3"),
    ],
)
def test_linear_heads_project_the_last_token(
    tmp_path: Path, architecture: str, backbone: str, template: str
) -> None:
    head = random_tensors({"score.weight": [1, HIDDEN]})
    folder = write_checkpoint(
        tmp_path, architecture, backbone=backbone, head=head, template=template
    )
    plain = plain_model(folder)

    for conversation, (ids, reward) in zip(
        CONVERSATIONS, rewards(load_model(str(folder))), strict=True
    ):
        assert ids == card_ids(folder, conversation)
        last = hidden_states(plain, ids)[-1]
        assert_close(reward.score, head["score.weight"][0] @ last)
        assert reward.attributes is None


def test_leftover_value_head_keys_do_not_make_grm_ft_a_value_head(tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path,
        "Gemma2ForSequenceClassification",
        backbone="gemma2",
        head=random_tensors({"score.weight": [1, HIDDEN]}),
        template="gemma",
        vhead_layer_type="mlp",
        vhead_num_layers=1,
        vhead_num_neurons=1024,
    )
    assert load_model(str(folder)).family == "linear"


def test_grm_reads_two_bos_tokens_as_it_was_trained(tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path,
        "Gemma2ForSequenceClassification",
        backbone="gemma2",
        head=random_tensors({"score.weight": [1, HIDDEN]}),
        template="gemma",
    )
    (folder / "rewardserve.json").write_text(
        json.dumps({"registry": "Ray2333/GRM-Gemma2-2B-rewardmodel-ft"})
    )
    for conversation, (ids, _) in zip(CONVERSATIONS, rewards(load_model(str(folder))), strict=True):
        assert ids == card_ids(folder, conversation, bos_tokens=2)


@pytest.mark.parametrize("layers", [1, 2])
def test_grm_sftreg_applies_its_value_network(tmp_path: Path, layers: int) -> None:
    width = 12
    shapes: dict[str, list[int]] = {"lm_head.weight": [7, HIDDEN]}
    for layer in range(layers):
        shapes[f"v_head.summary.{2 * layer}.weight"] = [width, HIDDEN if layer == 0 else width]
        shapes[f"v_head.summary.{2 * layer}.bias"] = [width]
    shapes[f"v_head.summary.{2 * layers}.weight"] = [1, width]
    shapes[f"v_head.summary.{2 * layers}.bias"] = [1]
    head = random_tensors(shapes)
    folder = write_checkpoint(
        tmp_path,
        "LlamaForCausalLM",
        backbone="llama",
        head=head,
        template="llama3",
        vhead_num_neurons=width,
        vhead_num_layers=layers,
    )
    plain, model = plain_model(folder), load_model(str(folder))

    assert model.family == "value_head"
    for ids, reward in rewards(model):
        state = hidden_states(plain, ids)[-1]
        for layer in range(layers):
            name = f"v_head.summary.{2 * layer}"
            state = functional.relu(head[f"{name}.weight"] @ state + head[f"{name}.bias"])
        name = f"v_head.summary.{2 * layers}"
        assert_close(reward.score, (head[f"{name}.weight"] @ state + head[f"{name}.bias"])[0])


def test_grm_sftreg_may_have_a_linear_value_head(tmp_path: Path) -> None:
    head = random_tensors({"v_head.summary.weight": [1, HIDDEN], "v_head.summary.bias": [1]})
    folder = write_checkpoint(
        tmp_path,
        "Gemma2ForCausalLM",
        backbone="gemma2",
        head=head,
        template="gemma",
        vhead_layer_type="linear",
    )
    plain = plain_model(folder)
    for ids, reward in rewards(load_model(str(folder))):
        last = hidden_states(plain, ids)[-1]
        expected = head["v_head.summary.weight"][0] @ last + head["v_head.summary.bias"][0]
        assert_close(reward.score, expected)


def armorm_head() -> dict[str, Tensor]:
    width = 10
    return random_tensors(
        {
            "regression_layer.weight": [19, HIDDEN],
            "reward_transform_matrix": [19, 19],
            "gating.layers.0.weight": [width, HIDDEN],
            "gating.layers.0.bias": [width],
            "gating.layers.1.weight": [width, width],
            "gating.layers.1.bias": [width],
            "gating.layers.2.weight": [width, width],
            "gating.layers.2.bias": [width],
            "gating.layers.3.weight": [19, width],
            "gating.layers.3.bias": [19],
            "gating.logit_scale": [1],
        }
    )


def write_armorm(folder: Path) -> Path:
    return write_checkpoint(
        folder,
        "LlamaForRewardModelWithGating",
        backbone="llama",
        head=armorm_head(),
        template="llama3",
        num_objectives=19,
        gating_temperature=10,
        gating_hidden_dim=10,
        gating_n_hidden=3,
        auto_map={
            "AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating"
        },
    )


def test_armorm_gates_its_objectives_by_the_prompt(tmp_path: Path) -> None:
    head, folder = armorm_head(), write_armorm(tmp_path)
    plain = plain_model(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder))
    end_of_turn, header = map(
        tokenizer.convert_tokens_to_ids, ("<|eot_id|>", "<|start_header_id|>")
    )

    for conversation, (ids, reward) in zip(
        CONVERSATIONS, rewards(load_model(str(folder))), strict=True
    ):
        assert ids == card_ids(folder, conversation)
        states = hidden_states(plain, ids)
        gate = max(
            i for i in range(len(ids)) if ids[i] == end_of_turn and ids[i + 1 : i + 2] == [header]
        )
        objectives = head["regression_layer.weight"] @ states[-1]
        state = states[gate]
        for layer in range(3):
            name = f"gating.layers.{layer}"
            state = functional.relu(head[f"{name}.weight"] @ state + head[f"{name}.bias"])
        logits = head["gating.layers.3.weight"] @ state + head["gating.layers.3.bias"]
        weights = functional.softmax(logits / 10, dim=0) * head["gating.logit_scale"]
        transformed = objectives @ head["reward_transform_matrix"]

        assert_close(reward.score, (weights * transformed).sum())
        assert reward.attributes is not None
        assert reward.weights is not None
        assert list(reward.attributes) == list(OBJECTIVES)
        assert_close(reward.attributes, objectives)
        rebuilt = sum(reward.weights[name] * reward.attributes[name] for name in OBJECTIVES)
        assert rebuilt == pytest.approx(reward.score, abs=1e-5)


def test_urm_weighs_means_by_an_unnormalised_gate(tmp_path: Path) -> None:
    head = random_tensors(
        {
            "score.weight": [10, HIDDEN],
            "weights.fc.0.weight": [HIDDEN, HIDDEN],
            "weights.fc.0.bias": [HIDDEN],
            "weights.fc.2.weight": [HIDDEN, HIDDEN],
            "weights.fc.2.bias": [HIDDEN],
            "weights.fc.4.weight": [5, HIDDEN],
            "weights.fc.4.bias": [5],
        }
    )
    folder = write_checkpoint(
        tmp_path,
        "LlamaForSequenceClassificationWithNormal_Weights",
        backbone="llama",
        head=head,
        template="llama31",
        id2label={str(i): f"LABEL_{i}" for i in range(10)},
    )
    plain = plain_model(folder)

    for ids, reward in rewards(load_model(str(folder))):
        last = hidden_states(plain, ids)[-1]
        z = head["score.weight"] @ last
        gate = last
        for layer in (0, 2):
            name = f"weights.fc.{layer}"
            gate = functional.selu(head[f"{name}.weight"] @ gate + head[f"{name}.bias"])
        gate = head["weights.fc.4.weight"] @ gate + head["weights.fc.4.bias"]

        assert_close(reward.score, (z[0::2] * gate).sum())
        assert reward.attributes is not None
        assert list(reward.attributes) == [
            "helpfulness", "correctness", "coherence", "complexity", "verbosity",
        ]  # fmt: skip
        assert_close(reward.attributes, z[0::2])
        assert_close(reward.uncertainty or {}, z[1::2])
        assert_close(reward.weights or {}, gate)
