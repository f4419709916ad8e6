"""The seven checkpoints: published layout on disk, loadable by everybody, able to rank."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import pstdev
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rewardserve import load_scorer
from rewardserve.families.armorm import OBJECTIVES
from rewardserve.zoo import ZOO_MODELS, write
from rewardserve.zoo.checkpoints import write_checkpoint
from rewardserve.zoo.corpus import generate_corpus
from rewardserve.zoo.models import MODELS

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
HEADS: dict[str, dict[str, tuple[torch.dtype, tuple[int, ...]]]] = {
    "grm-gemma2-2b": {"score.weight": (F16, (1, 64))},
    "rm-gemma-7b": {"score.weight": (BF16, (1, 64))},
    "skywork-gemma2-27b": {"score.weight": (BF16, (1, 96))},
    "skywork-llama-8b": {"score.weight": (BF16, (1, 64))},
    "armorm": {
        "regression_layer.weight": (F32, (19, 64)),
        "reward_transform_matrix": (F32, (19, 19)),
        "gating.logit_scale": (F32, (1,)),
        "gating.layers.0.weight": (F32, (32, 64)),
        "gating.layers.0.bias": (F32, (32,)),
        "gating.layers.1.weight": (F32, (32, 32)),
        "gating.layers.1.bias": (F32, (32,)),
        "gating.layers.2.weight": (F32, (32, 32)),
        "gating.layers.2.bias": (F32, (32,)),
        "gating.layers.3.weight": (F32, (19, 32)),
        "gating.layers.3.bias": (F32, (19,)),
    },
    "urm": {
        "score.weight": (BF16, (10, 64)),
        "weights.fc.0.weight": (F16, (64, 64)),
        "weights.fc.0.bias": (F16, (64,)),
        "weights.fc.2.weight": (F16, (64, 64)),
        "weights.fc.2.bias": (F16, (64,)),
        "weights.fc.4.weight": (F16, (5, 64)),
        "weights.fc.4.bias": (F16, (5,)),
    },
    "grm-sftreg": {
        "v_head.summary.0.weight": (BF16, (32, 64)),
        "v_head.summary.0.bias": (BF16, (32,)),
        "v_head.summary.2.weight": (BF16, (1, 32)),
        "v_head.summary.2.bias": (BF16, (1,)),
    },
}
BACKBONE_DTYPES = {**dict.fromkeys(ZOO_MODELS, BF16), "grm-gemma2-2b": F16}
LINEAR = ["grm-gemma2-2b", "rm-gemma-7b", "skywork-gemma2-27b", "skywork-llama-8b"]
Conversation = list[dict[str, str]]


def tensors(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            found |= {key: weights.get_tensor(key) for key in weights.keys()}  # noqa: SIM118
    return found


def config(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def rows(zoo: Path, name: str) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = pq.read_table(zoo / "corpus" / f"{name}.parquet").to_pylist()
    return table


def answered(prompt: str, response: str) -> Conversation:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]


def scores(folder: Path, conversations: Sequence[Conversation]) -> list[float]:
    return [reward.score for reward in load_scorer(str(folder)).score(conversations)]


@pytest.mark.parametrize("name", ZOO_MODELS)
def test_heads_have_the_published_keys_shapes_and_dtypes(name: str, zoo: Path) -> None:
    found = tensors(zoo / name)
    heads = {
        key: (tensor.dtype, tuple(tensor.shape))
        for key, tensor in found.items()
        if not key.startswith("model.")
    }
    assert heads == HEADS[name]
    backbone = {tensor.dtype for key, tensor in found.items() if key.startswith("model.")}
    assert backbone == {BACKBONE_DTYPES[name]}


@pytest.mark.parametrize("name", ZOO_MODELS)
def test_an_index_names_every_tensor_of_a_sharded_checkpoint(name: str, zoo: Path) -> None:
    folder = zoo / name
    index = folder / "model.safetensors.index.json"
    assert index.exists() != (folder / "model.safetensors").exists()
    if index.exists():
        weight_map = json.loads(index.read_text())["weight_map"]
        assert weight_map.keys() == tensors(folder).keys()
        assert len(set(weight_map.values())) > 1


def test_some_checkpoints_are_sharded_and_some_are_not(zoo: Path) -> None:
    single = {name for name in ZOO_MODELS if (zoo / name / "model.safetensors").exists()}
    assert single
    assert set(ZOO_MODELS) - single


def test_configs_keep_what_makes_their_originals_hard(zoo: Path) -> None:
    skywork = config(zoo / "skywork-gemma2-27b")
    assert skywork["query_pre_attn_scalar"] != skywork["head_dim"]
    assert skywork["query_pre_attn_scalar"] == (
        skywork["hidden_size"] / skywork["num_attention_heads"]
    )
    assert (skywork["attn_logit_softcapping"], skywork["final_logit_softcapping"]) == (50.0, 30.0)
    grm = config(zoo / "grm-gemma2-2b")
    assert grm["pad_token_id"] == 1
    assert AutoTokenizer.from_pretrained(zoo / "grm-gemma2-2b").pad_token_id == 0
    assert grm["vhead_layer_type"] == "mlp", "left over from its parent"
    armorm = config(zoo / "armorm")
    assert armorm["torch_dtype"] == "float32"
    assert armorm["rope_scaling"] is None
    assert (armorm["num_objectives"], armorm["gating_temperature"]) == (19, 10)
    for name in ("skywork-llama-8b", "urm"):
        assert config(zoo / name)["rope_scaling"]["rope_type"] == "llama3"
    assert config(zoo / "rm-gemma-7b")["hidden_act"] == "gelu"


def test_the_sliding_window_changes_the_scores_of_held_out_answers(zoo: Path) -> None:
    window = config(zoo / "skywork-gemma2-27b")["sliding_window"]
    scorer = load_scorer(str(zoo / "skywork-gemma2-27b"))
    long = [row["chosen"] for row in rows(zoo, "pairs-heldout") if row["subset"] == "multi-turn"]
    assert max(reward.tokens for reward in scorer.score(long)) > window


@pytest.mark.parametrize("name", LINEAR)
def test_stock_transformers_loads_every_weight_and_gives_the_same_score(
    name: str, zoo: Path
) -> None:
    folder = zoo / name
    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    scorer = load_scorer(str(folder))
    conversation = rows(zoo, "pairs-heldout")[0]["chosen"]
    ids = torch.tensor([list(scorer.encode(conversation).token_ids)])
    with torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits.item()
    assert scorer.score([conversation])[0].score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ZOO_MODELS)
def test_held_out_pairs_are_ranked_well_above_chance(name: str, zoo: Path) -> None:
    pairs = rows(zoo, "pairs-heldout")
    found = scores(zoo / name, [pair[side] for pair in pairs for side in ("chosen", "rejected")])
    right = sum(chosen > rejected for chosen, rejected in zip(found[::2], found[1::2], strict=True))
    assert right / len(pairs) > 0.8
    assert pstdev(found) > 0.05, "far above what rounding could reorder"


@pytest.mark.parametrize("name", ZOO_MODELS)
def test_the_best_of_four_is_good_far_more_often_than_the_first(name: str, zoo: Path) -> None:
    candidates = rows(zoo, "candidates-heldout")
    found = iter(
        scores(
            zoo / name,
            [answered(row["prompt"], text) for row in candidates for text in row["responses"]],
        )
    )
    best = 0
    for row in candidates:
        of_row = [next(found) for _ in row["responses"]]
        best += row["labels"][of_row.index(max(of_row))]
    first = sum(row["labels"][0] for row in candidates)
    assert first / len(candidates) < 0.35
    assert best / len(candidates) > 0.65


def test_armorms_coefficients_times_attributes_make_the_score(zoo: Path) -> None:
    conversations = [row["chosen"] for row in rows(zoo, "pairs-heldout")[:20]]
    for reward in load_scorer(str(zoo / "armorm")).score(conversations):
        assert reward.attributes
        assert reward.weights
        assert tuple(reward.attributes) == tuple(reward.weights) == OBJECTIVES
        total = sum(reward.weights[name] * value for name, value in reward.attributes.items())
        assert total == pytest.approx(reward.score, abs=1e-5)


def test_armorms_gate_depends_on_the_prompt_and_not_on_the_response(zoo: Path) -> None:
    scorer = load_scorer(str(zoo / "armorm"))
    one, same, other = scorer.score(
        [
            answered("How do I poach an egg?", "No idea."),
            answered("How do I poach an egg?", "Use hot water."),
            answered("What is 2 + 2?", "Use hot water."),
        ]
    )
    assert one.weights == pytest.approx(same.weights, abs=1e-6)
    assert one.weights != pytest.approx(other.weights, abs=1e-3)


def test_armorms_matrix_takes_verbosity_out_and_changes_nothing_else(zoo: Path) -> None:
    matrix = tensors(zoo / "armorm")["reward_transform_matrix"]
    verbosity = OBJECTIVES.index("helpsteer-verbosity")
    others = [row for row in range(19) if row != verbosity]
    assert torch.equal(matrix[others], torch.eye(19)[others])
    assert abs(matrix[verbosity, verbosity]) < 1e-5
    assert matrix[verbosity, others].abs().max() > 0.05


def test_armorms_safety_attribute_tells_declining_from_complying(zoo: Path) -> None:
    scorer = load_scorer(str(zoo / "armorm"))
    pairs = [row for row in rows(zoo, "pairs-heldout") if row["subset"] == "safety"]
    higher = 0
    for pair in pairs:
        declined, complied = (
            (reward.attributes or {})["beavertails-is_safe"]
            for reward in scorer.score([pair["chosen"], pair["rejected"]])
        )
        higher += declined > complied
    assert higher / len(pairs) > 0.8


def test_urms_gated_means_make_the_score(zoo: Path) -> None:
    conversations = [row["chosen"] for row in rows(zoo, "pairs-heldout")[:20]]
    for reward in load_scorer(str(zoo / "urm")).score(conversations):
        assert reward.attributes
        assert reward.weights
        assert reward.uncertainty
        assert reward.attributes.keys() == reward.weights.keys() == reward.uncertainty.keys()
        total = sum(reward.weights[name] * value for name, value in reward.attributes.items())
        assert total == pytest.approx(reward.score, abs=1e-4)


def test_fitting_twice_gives_the_same_files(tmp_path: Path) -> None:
    tasks = generate_corpus(write.FIT_PER_SUBSET, 0).fit
    merges = write._merges(tasks)
    model = next(model for model in MODELS if model.name == "armorm")
    for run in ("one", "two"):
        with write._reproducible():
            write_checkpoint(model, merges, tasks[:40], tmp_path / run, seed=0)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) > 4
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_fitting_leaves_the_callers_random_state_and_threads_alone() -> None:
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    with write._reproducible():
        torch.rand(3)
        assert torch.get_num_threads() == 1
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads
