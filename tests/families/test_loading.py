"""Loading: every tensor in its place and dtype, hub commits from the cache, errors that name."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants as hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import HIDDEN, random_tensors, write_checkpoint

from rewardserve.errors import CheckpointError, NonFiniteScore, SettingsError, WeightsMismatch
from rewardserve.families.loading import load_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(
        tmp_path / "some-model",
        "Gemma2ForSequenceClassification",
        backbone="gemma2",
        head=random_tensors({"score.weight": [1, HIDDEN]}),
        template="gemma",
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_backbone_has_the_asked_dtype_and_the_head_float32(folder: Path, dtype: str) -> None:
    model = load_model(str(folder), dtype=dtype)
    stored = load_file(folder / "model.safetensors")
    asked = getattr(torch, dtype)

    assert not model.backbone.training
    assert not model.head.training
    for name, weight in model.backbone.named_parameters():
        assert weight.dtype == asked
        assert not weight.requires_grad
        assert torch.equal(weight, stored[f"model.{name}"].to(asked))
    assert all(weight.dtype == torch.float32 for weight in model.head.parameters())
    assert all(
        buffer.dtype == torch.float32 and buffer.device.type == "cpu"
        for buffer in model.backbone.buffers()
        if buffer.is_floating_point()
    )


def test_name_limits_and_revision(folder: Path) -> None:
    model = load_model(str(folder))
    assert (model.name, model.revision, model.max_tokens) == ("some-model", None, 2048)
    assert load_model(str(folder), name="rm", max_tokens=100).max_tokens == 100
    with pytest.raises(SettingsError, match="positions end at 2048"):
        load_model(str(folder), max_tokens=4096)


def test_shards_are_read_through_their_index(folder: Path) -> None:
    whole = load_model(str(folder)).backbone.state_dict()
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    weight_map = {}
    for number, keys in enumerate((names[::2], names[1::2])):
        file = f"model-0000{number + 1}-of-00002.safetensors"
        save_file({key: weights[key] for key in keys}, folder / file)
        weight_map |= dict.fromkeys(keys, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    sharded = load_model(str(folder)).backbone.state_dict()
    assert all(torch.equal(sharded[key], value) for key, value in whole.items())


def test_missing_unexpected_and_misshapen_tensors_are_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    weights["model.layers.9.mlp.up_proj.weight"] = torch.zeros(1)
    weights["score.weight"] = torch.zeros(3, HIDDEN)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(WeightsMismatch) as caught:
        load_model(str(folder))
    message = str(caught.value)
    assert "1 tensor missing: model.layers.1.mlp.up_proj.weight" in message
    assert "1 tensor unexpected: model.layers.9.mlp.up_proj.weight" in message
    assert "score.weight [3, 16] instead of [1, 16]" in message


def test_a_language_model_head_is_unexpected_in_a_classifier(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = torch.zeros(4, HIDDEN)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(WeightsMismatch, match=r"lm_head\.weight"):
        load_model(str(folder))


def test_stored_rotary_frequencies_are_computed_anew(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.full((3,), 7.0)
    save_file(weights, folder / "model.safetensors")
    frequencies = load_model(str(folder)).backbone.get_buffer("rotary_emb.inv_freq")
    assert not (frequencies == 7.0).any()


def test_a_weight_that_is_no_number_never_becomes_a_score(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"][0, 3] = float("nan")
    save_file(weights, folder / "model.safetensors")
    model = load_model(str(folder))
    with pytest.raises(NonFiniteScore):
        model.head(torch.ones(1, 1, HIDDEN))


@pytest.fixture
def cached(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A hub id whose one commit lies in a cache, with the network switched off."""
    repository = tmp_path / "hub" / "models--somebody--some-rm"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    return "somebody/some-rm"


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_hub_id_loads_offline_and_records_its_commit(cached: str, revision: str) -> None:
    model = load_model(cached, revision=revision)
    assert (model.name, model.source, model.revision) == ("some-rm", cached, COMMIT)


def test_a_commit_that_is_not_in_the_cache_is_named(cached: str) -> None:
    with pytest.raises(CheckpointError, match="at deadbeef cannot be fetched"):
        load_model(cached, revision="deadbeef")
