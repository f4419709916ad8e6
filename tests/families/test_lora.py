"""LoRA adapters score as peft computes them; what is more than plain LoRA is refused."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from family_reference import CONVERSATIONS, rewards
from safetensors.torch import load_file, save_file
from tiny_checkpoints import HIDDEN, random_tensors, write_checkpoint
from tiny_tokenizers import write_tokenizer
from transformers import LlamaConfig, LlamaForSequenceClassification

from rewardserve.errors import CheckpointError, UnsafeCheckpoint, WeightsMismatch
from rewardserve.families.loading import load_model

# peft asks transformers by a name that is going away.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_checkpoint(
        tmp_path / "base",
        "LlamaForCausalLM",
        backbone="llama",
        head=random_tensors({"lm_head.weight": [9, HIDDEN]}),
        template="llama3",
    )


def trained(base: Path, folder: Path, **lora: Any) -> torch.nn.Module:
    """An adapter with random weights, saved by peft; gives the adapted model."""
    config = json.loads((base / "config.json").read_text())
    config["torch_dtype"] = "float32"
    model = LlamaForSequenceClassification(LlamaConfig(**config, attn_implementation="eager"))
    weights = load_file(base / "model.safetensors")
    weights.pop("lm_head.weight")
    model.load_state_dict(weights, strict=False)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(
        model,
        peft.LoraConfig(
            task_type="SEQ_CLS", r=4, target_modules=["q_proj", "v_proj", "down_proj"], **lora
        ),
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name or "score" in name:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(folder)
    content = json.loads((folder / "adapter_config.json").read_text())
    content["base_model_name_or_path"] = str(base)
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return adapted.eval()


@pytest.mark.parametrize("lora", [{"lora_alpha": 16}, {"lora_alpha": 6, "use_rslora": True}])
def test_an_adapter_scores_as_peft_does(base: Path, tmp_path: Path, lora: dict[str, Any]) -> None:
    folder = tmp_path / "adapter"
    adapted = trained(base, folder, **lora)
    before = (base / "model.safetensors").read_bytes()
    model = load_model(str(folder))

    assert (model.family, model.name) == ("linear", "adapter")
    for ids, reward in rewards(model):
        with torch.no_grad():
            expected = adapted(torch.tensor([ids]), use_cache=False).logits.item()
        assert reward.score == pytest.approx(expected, abs=1e-5)
    assert (base / "model.safetensors").read_bytes() == before


def test_an_adapters_own_tokenizer_comes_first(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    trained(base, folder, lora_alpha=8)
    assert "Today Date" not in load_model(str(folder)).text.render(CONVERSATIONS[0])
    write_tokenizer(folder, "llama31")
    assert "Today Date" in load_model(str(folder)).text.render(CONVERSATIONS[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "IA3"}, "plain LoRA"),
        ({"bias": "all"}, "plain LoRA"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"base_model_name_or_path": "somebody/base"}, "no pinned revision"),
        ({"base_model_name_or_path": "/no/such/base"}, "neither a folder"),
    ],
)
def test_other_adapters_are_refused(
    base: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "adapter"
    trained(base, folder, lora_alpha=8)
    content = json.loads((folder / "adapter_config.json").read_text()) | changes
    (folder / "adapter_config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        load_model(str(folder))


def test_tensors_of_an_adapter_that_have_no_place_are_named(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    trained(base, folder, lora_alpha=8)
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    moved = {key.replace("layers.1.", "layers.7."): value for key, value in weights.items()}
    save_file(moved, file)
    with pytest.raises(WeightsMismatch, match=r"layers\.7\."):
        load_model(str(folder))
    save_file({**weights, "extra": torch.zeros(1)}, file)
    with pytest.raises(WeightsMismatch, match="extra"):
        load_model(str(folder))


def test_pickled_adapters_are_never_opened(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    trained(base, folder, lora_alpha=8)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UnsafeCheckpoint, match=r"adapter_model\.safetensors is missing"):
        load_model(str(folder))
