"""Every backend on a real GPU: agreement, no waiting, memory that ends, and bits that stay."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rewardserve.engine.backends import available_backends
from rewardserve.engine.scorer import Scorer, load_scorer
from rewardserve.engine.tree import plan_packs
from rewardserve.errors import ModelFailed
from rewardserve.families.base import Encoded
from rewardserve.families.loading import load_model
from rewardserve.settings import Dtype

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the compiler's own
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),  # it is a prototype
]

CUDA = torch.device("cuda", 0)
MODELS = ["skywork-llama-8b", "skywork-gemma2-27b", "armorm"]
DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
"""Of a score; the zoo's spread over units."""


def scorer_on(folder: Path, backend: str, dtype: Dtype, **more: Any) -> Scorer:
    if backend not in available_backends(CUDA, DTYPES[dtype]):
        pytest.skip(f"no {backend} here for {dtype}")
    model = load_model(str(folder), device="cuda:0", dtype=dtype)
    return Scorer(model, attention=backend, **more)  # type: ignore[arg-type]


def corpus(scorer: Scorer) -> list[Encoded]:
    """Answers to shared prompts, short and longer than any block, alone and doubled."""
    random = np.random.default_rng(9)

    def text(words: int) -> str:
        return " ".join(f"{number:x}" for number in random.integers(0, 999, words))

    conversations = []
    for words in (5, 60, 200):
        prompt = {"role": "user", "content": text(words)}
        conversations += [
            [prompt, {"role": "assistant", "content": text(answer)}] for answer in (1, 40, 90)
        ]
    return [scorer.encode(conversation) for conversation in [*conversations, conversations[4]]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ["flash", "flex", "sdpa"])
@pytest.mark.parametrize("name", MODELS)
def test_each_backend_gives_the_scores_of_the_cpu(
    zoo: Path, name: str, backend: str, dtype: Dtype
) -> None:
    scorer = scorer_on(zoo / name, backend, dtype, pack_tokens=700)
    encoded = corpus(scorer)
    expected = load_scorer(str(zoo / name)).score_encoded(encoded).rewards
    for reward, exact in zip(scorer.score_encoded(encoded).rewards, expected, strict=True):
        assert reward.score == pytest.approx(exact.score, abs=TOLERANCE[dtype])


@pytest.mark.parametrize("backend", ["flash", "flex", "sdpa"])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_known_is_not_computed_again(zoo: Path, name: str, backend: str) -> None:
    scorer = scorer_on(zoo / name, backend, "bfloat16", prefix_cache_gib=0.1)
    encoded = corpus(scorer)
    expected = load_scorer(str(zoo / name)).score_encoded(encoded).rewards
    first = scorer.score_encoded(encoded[:5])
    later = scorer.score_encoded(encoded)
    assert later.computed_tokens < later.tokens - first.computed_tokens / 2
    for reward, exact in zip(later.rewards, expected, strict=True):
        assert reward.score == pytest.approx(exact.score, abs=TOLERANCE["bfloat16"])


@pytest.fixture
def forbid_waiting() -> Iterator[None]:
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("backend", ["flash", "flex", "sdpa"])
@pytest.mark.parametrize("name", MODELS)
def test_a_forward_never_waits_for_the_device(
    zoo: Path, name: str, backend: str, request: pytest.FixtureRequest
) -> None:
    scorer = scorer_on(zoo / name, backend, "bfloat16")
    encoded = corpus(scorer)
    scorer.score_encoded(encoded)  # compiles
    (pack,) = plan_packs([item.token_ids for item in encoded], pack_tokens=10**6)
    request.getfixturevalue("forbid_waiting")
    with torch.inference_mode():
        scorer._launch(pack, encoded)


def test_results_are_read_while_later_work_runs(zoo: Path) -> None:
    scorer = scorer_on(zoo / "skywork-llama-8b", "sdpa", "bfloat16")
    encoded = corpus(scorer)
    (pack,) = plan_packs([item.token_ids for item in encoded], pack_tokens=10**6)
    with torch.inference_mode():
        expected = scorer._read(scorer._launch(pack, encoded))
        launched = scorer._launch(pack, encoded)
        torch.cuda._sleep(10**9)  # cycles: half a second of work behind it
        assert scorer._read(launched) == expected
        assert not torch.cuda.current_stream().query()
    torch.cuda.synchronize()


def test_out_of_memory_halves_the_packs_and_then_fails(zoo: Path) -> None:
    scorer = scorer_on(zoo / "skywork-llama-8b", "sdpa", "float32", pack_tokens=10**6)
    encoded = corpus(scorer) * 40
    # No prefix in common, so that the packs are as large as they are said to be.
    encoded = [
        Encoded(np.roll(item.token_ids, index), item.readouts) for index, item in enumerate(encoded)
    ]
    scorer.score_encoded(encoded[:1])
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(
            (torch.cuda.memory_reserved(CUDA) + 2**20) / total
        )
        with pytest.raises(ModelFailed, match="pack_tokens"):
            scorer.score_encoded(encoded)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert scorer.pack_tokens == 10**6 // 2
    assert len(scorer.score_encoded(encoded).rewards) == len(encoded)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_batch_invariant_scores_keep_their_bits(zoo: Path, name: str, dtype: Dtype) -> None:
    scorer = load_scorer(str(zoo / name), device="cuda:0", dtype=dtype, batch_invariant=True)
    encoded = corpus(scorer)
    alone = [scorer.score_encoded([item]).rewards[0] for item in encoded]
    random = np.random.default_rng(6)
    for _ in range(10):
        order = random.permutation(len(encoded))
        rewards = scorer.score_encoded([encoded[index] for index in order]).rewards
        assert rewards == [alone[index] for index in order]


def test_the_budget_is_chosen_and_holds(zoo: Path) -> None:
    scorer = load_scorer(str(zoo / "skywork-llama-8b"), device="cuda:0", dtype="bfloat16")
    assert scorer.attention == available_backends(CUDA, torch.bfloat16)[0]
    assert scorer.pack_tokens == 16_384
