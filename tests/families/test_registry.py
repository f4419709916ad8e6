"""The registry is data that agrees with the code: families, formats, names of checks."""

import json
from pathlib import Path

import pytest
from tiny_tokenizers import write_tokenizer
from transformers import PreTrainedTokenizerFast

from rewardserve.errors import CheckpointError, UnsafeCheckpoint, UnsupportedCheckpoint
from rewardserve.families.armorm import OBJECTIVES
from rewardserve.families.dispatch import FAMILIES
from rewardserve.families.hub import locate
from rewardserve.families.loading import load_model
from rewardserve.families.registry import UNDESCRIBED, described, find, registry
from rewardserve.families.text import TextPolicy

MODELS = registry().models


@pytest.mark.parametrize("source", MODELS)
def test_every_model_has_a_native_family_or_a_reason(source: str) -> None:
    spec = MODELS[source]
    assert (spec.unsupported is None) == (spec.family in {family.name for family in FAMILIES})


@pytest.mark.parametrize("source", MODELS)
def test_checks_name_an_example_and_what_the_family_gives(source: str) -> None:
    for check in MODELS[source].checks:
        assert check.example in registry().examples
        assert (check.name is None) == (check.part == "score")
        assert check.name is None or check.name in OBJECTIVES


def test_the_five_seed_models_are_known() -> None:
    for source in (
        "Ray2333/GRM-Gemma2-2B-rewardmodel-ft",
        "weqweasdas/RM-Gemma-7B-4096",
        "Skywork/Skywork-Reward-Gemma-2-27B-v0.2",
        "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2",
        "RLHFlow/ArmoRM-Llama3-8B-v0.1",
        "LxzGordon/URM-LLaMa-3.1-8B",
        "Ray2333/GRM-Gemma2-2B-sftreg",
    ):
        assert MODELS[source].unsupported is None


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ("openbmb/Eurus-RM-7b", "[INST] q [\\INST] a [INST] r [\\INST] b"),
        ("openbmb/UltraRM-13b", "Human: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: b"),
        (
            "Nexusflow/Starling-RM-34B",
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
            "<|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\nb<|im_end|>",
        ),
    ],
)
def test_plain_text_formats_are_the_cards(tmp_path: Path, source: str, rendered: str) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(write_tokenizer(tmp_path, "llama3")))
    policy = TextPolicy(tokenizer, MODELS[source].text, len(tokenizer))
    roles = ("user", "assistant", "user", "assistant")
    conversation = [
        {"role": role, "content": content} for role, content in zip(roles, "qarb", strict=True)
    ]
    assert policy.render(conversation) == rendered


def test_a_model_is_found_by_hub_id_cache_path_or_mark(tmp_path: Path) -> None:
    source = "RLHFlow/ArmoRM-Llama3-8B-v0.1"
    spec = MODELS[source]
    assert find(source.lower()) is spec
    cached = tmp_path / "models--RLHFlow--ArmoRM-Llama3-8B-v0.1" / "snapshots" / "abc"
    cached.mkdir(parents=True)
    assert described(str(cached), cached) is spec
    marked = tmp_path / "mine"
    marked.mkdir()
    assert described(str(marked), marked) is UNDESCRIBED
    (marked / "rewardserve.json").write_text(json.dumps({"registry": source}))
    assert described(str(marked), marked) == spec


@pytest.mark.parametrize(
    "mark",
    [{}, {"registry": "no/model"}, {"registry": "sfairXC/FsfairX-LLaMA3-RM-v0.1", "checks": [{}]}],
)
def test_a_mark_that_means_nothing_is_refused(tmp_path: Path, mark: object) -> None:
    (tmp_path / "rewardserve.json").write_text(json.dumps(mark))
    with pytest.raises(CheckpointError, match=r"rewardserve\.json"):
        described(str(tmp_path), tmp_path)


def test_a_hub_id_needs_a_pinned_revision_or_main_written_out() -> None:
    with pytest.raises(UnsafeCheckpoint, match="revision: main"):
        locate("somebody/some-reward-model", None)


def test_a_model_known_not_to_work_says_why() -> None:
    with pytest.raises(UnsupportedCheckpoint, match="steps of a response"):
        load_model("Qwen/Qwen2.5-Math-PRM-7B", revision="main")


def test_a_name_that_is_no_folder_and_no_hub_id_is_refused() -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor a hub id"):
        load_model("/no/such/folder")
