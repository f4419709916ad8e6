"""Weights in 8 bits: rounded as written out here, smaller, and refused where cards forbid them."""

import json
from pathlib import Path

import pytest
import torch
from family_reference import CONVERSATIONS, card_ids
from tiny_checkpoints import (
    HIDDEN,
    hidden_states,
    plain_model,
    random_tensors,
    write_checkpoint,
)

from rewardserve import load_scorer
from rewardserve.engine.backbone import PackedBackbone
from rewardserve.engine.quantize import quantize
from rewardserve.errors import SettingsError
from rewardserve.families.loading import load_model
from rewardserve.families.verify import quantization_effect

HEAD = random_tensors({"score.weight": [1, HIDDEN]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(
        tmp_path,
        "Qwen2ForSequenceClassification",
        backbone="qwen2",
        head=HEAD,
        template="llama3",
    )


@pytest.mark.parametrize("how", ["int8", "fp8"])
def test_scores_are_those_of_a_plain_model_with_rounded_weights(folder: Path, how: str) -> None:
    plain = plain_model(folder)
    for layer in plain.layers.modules():
        if isinstance(layer, torch.nn.Linear):
            weight = layer.weight.detach()
            scale = weight.abs().amax(dim=1, keepdim=True) / (127 if how == "int8" else 448)
            grid = weight / scale
            grid = grid.round() if how == "int8" else grid.to(torch.float8_e4m3fn).float()
            layer.weight.data = grid * scale

    rewards = load_scorer(str(folder), quantize=how).score(CONVERSATIONS)
    for conversation, reward in zip(CONVERSATIONS, rewards, strict=True):
        last = hidden_states(plain, card_ids(folder, conversation))[-1]
        assert reward.score == pytest.approx((HEAD["score.weight"][0] @ last).item(), abs=1e-5)


def test_quantised_projections_take_a_byte_a_weight(folder: Path) -> None:
    packed = PackedBackbone(load_model(str(folder), dtype="bfloat16").backbone, "sdpa")
    weights = {
        name: weight.nbytes for name, weight in packed.named_buffers() if name.endswith("weight")
    }
    quantize(packed, "int8")
    halved = {
        name: weight.nbytes for name, weight in packed.named_buffers() if name.endswith("weight")
    }
    assert halved == {name: size // 2 for name, size in weights.items()}


def test_models_whose_cards_forbid_it_are_refused(folder: Path) -> None:
    mark = {"registry": "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2"}
    (folder / "rewardserve.json").write_text(json.dumps(mark))
    with pytest.raises(SettingsError, match="8 bits"):
        load_model(str(folder), quantize="int8")
    assert load_model(str(folder)).quantize is None


@pytest.mark.parametrize("how", ["int8", "fp8"])
def test_float16_is_refused_beside_8_bits(folder: Path, how: str) -> None:
    with pytest.raises(SettingsError, match=r"overflow float16.*bfloat16"):
        load_model(str(folder), dtype="float16", quantize=how)


def test_the_effect_counts_pairs_that_change_order() -> None:
    effect = quantization_effect([1.0, 0.0, 2.0, 3.0], [1.5, 0.0, 3.0, 2.75])
    assert effect.mean_difference == pytest.approx((0.5 + 0.0 + 1.0 + 0.25) / 4)
    assert effect.largest_difference == 1.0
    assert effect.agreement == 0.5
