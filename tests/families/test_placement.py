"""A model that one GPU cannot hold: whole layers shared out, states that follow them.

There is no GPU here. Sharing out is decided from given sizes, and the meta device, which refuses to
meet tensors of another device just as a second GPU does, stands for the second one.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_checkpoints import HIDDEN, random_tensors, write_checkpoint

from rewardserve import load_scorer
from rewardserve.engine.backbone import PackedBackbone
from rewardserve.engine.tree import plan_packs
from rewardserve.errors import SettingsError
from rewardserve.families.loading import load_model
from rewardserve.families.placement import device_of, follow, place, split

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(
        tmp_path,
        "Gemma2ForSequenceClassification",
        backbone="gemma2",
        head=random_tensors({"score.weight": [1, HIDDEN]}),
        template="gemma",
        num_hidden_layers=4,
    )


def test_one_device_takes_all(folder: Path) -> None:
    backbone = load_model(str(folder)).backbone
    assert place(backbone, "cpu", torch.float32) == {"": CPU}
    assert place(backbone, "cuda:3", torch.float32) == {"": torch.device("cuda", 3)}


def test_layers_stay_whole_and_no_gpu_is_overfilled(folder: Path) -> None:
    backbone = load_model(str(folder)).backbone
    sizes = {name: weight.numel() * 2 for name, weight in backbone.named_parameters()}
    limit = int(sum(sizes.values()) * 0.7)
    placement = split(backbone, {0: limit, 1: limit}, torch.bfloat16)

    used = {torch.device("cuda", 0): 0, torch.device("cuda", 1): 0}
    for name, size in sizes.items():
        used[device_of(name, placement)] += size
    assert all(0 < size <= limit for size in used.values())
    for layer in range(4):
        weights = (name for name in sizes if name.startswith(f"layers.{layer}."))
        assert len({device_of(name, placement) for name in weights}) == 1


def test_gpus_that_are_too_small_together_are_refused(folder: Path) -> None:
    backbone = load_model(str(folder)).backbone
    with pytest.raises(SettingsError, match="do not fit into 2 GPUs"):
        split(backbone, {0: 1000, 1: 1000}, torch.bfloat16)


def test_the_longest_name_decides_the_device() -> None:
    placement = {"": CPU, "layers.1": META}
    assert device_of("layers.1.mlp.up_proj.weight", placement) == META
    assert device_of("layers.10.mlp.up_proj.weight", placement) == CPU
    assert device_of("norm", placement) == CPU


def test_states_follow_the_layers_to_their_devices(folder: Path) -> None:
    packed = PackedBackbone(load_model(str(folder)).backbone, "sdpa")
    placement = dict.fromkeys(("embed_tokens", "rotary_emb", "layers.0", "layers.1"), CPU)
    placement |= dict.fromkeys(("layers.2", "layers.3", "norm"), META)
    for name, device in placement.items():
        packed.get_submodule(name).to(device)
    (pack,) = plan_packs([np.arange(5, 25, dtype=np.int32)], pack_tokens=64)
    with torch.inference_mode(), pytest.raises(RuntimeError):
        packed(pack, [19])

    follow(packed, placement)
    with torch.inference_mode():
        states = packed(pack, [19])
    assert (states.device, tuple(states.shape)) == (META, (1, HIDDEN))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_model_on_two_gpus_scores_as_on_one(folder: Path) -> None:
    conversation = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    model = load_model(str(folder))
    limit = sum(weight.numel() for weight in model.backbone.parameters()) * 4 * 7 // 10
    placement = split(model.backbone, {0: limit, 1: limit}, torch.float32)
    packed = PackedBackbone(model.backbone, "sdpa")
    for name, device in placement.items():
        packed.get_submodule(name).to(device)
    follow(packed, placement)
    ids, _ = model.text.encode(conversation, max_tokens=64)
    (pack,) = plan_packs([ids], pack_tokens=64)
    with torch.inference_mode():
        hidden = packed(pack, [len(ids) - 1]).cpu()
        score = model.head(hidden[:, None])[0].score
    (expected,) = load_scorer(str(folder), device="cuda:0").score([conversation])
    assert score == pytest.approx(expected.score, abs=1e-5)
