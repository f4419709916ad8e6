"""What was computed lately is not computed again, and scores stay what they were."""

import random
from pathlib import Path

import pytest
import torch

from rewardserve.engine.prefix_cache import BLOCK
from rewardserve.engine.scorer import ScoredBatch, Scorer, load_scorer
from rewardserve.errors import ModelFailed
from rewardserve.zoo import ZOO_MODELS
from rewardserve_client import Conversation

GIB = 2**30
PROMPT = "Which of these numbers is prime, and how do you know? " * 12


def answered(text: str, prompt: str = PROMPT) -> Conversation:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]


def scored(scorer: Scorer, conversations: list[Conversation]) -> ScoredBatch:
    return scorer.score_encoded([scorer.encode(item) for item in conversations])


@pytest.fixture(scope="module", params=ZOO_MODELS)
def pair(request: pytest.FixtureRequest, zoo: Path) -> tuple[Scorer, Scorer]:
    """The same model without and with a prefix cache."""
    folder = str(zoo / request.param)
    return load_scorer(folder), load_scorer(folder, prefix_cache_gib=0.1)


def test_a_prompt_that_returns_is_not_computed_again(pair: tuple[Scorer, Scorer]) -> None:
    plain, remembering = pair
    remembering.forget_prefixes()
    first = scored(remembering, [answered("Eleven.")])
    assert first.computed_tokens == first.tokens
    again = scored(remembering, [answered("Twelve, of course: it is even.")])
    prompt = len(plain.encode(answered("")).token_ids)
    assert again.tokens - again.computed_tokens >= prompt - 2 * BLOCK
    assert (again.tokens - again.computed_tokens) % BLOCK == 0


def test_scores_are_those_of_a_scorer_that_forgets(pair: tuple[Scorer, Scorer]) -> None:
    plain, remembering = pair
    chance = random.Random(0)
    prompts = [f"{index}. {PROMPT}" for index in range(4)] + ["Short?"]
    history: Conversation = []
    computed = 0
    for turn in range(8):
        history += answered(f"Answer {turn}: " + "because " * chance.randrange(20))
        batch = [answered("so " * chance.randrange(40), chance.choice(prompts)) for _ in range(5)]
        # A conversation that grows by a turn, and one that was seen before.
        batch += [history[-6:], answered("Eleven.", prompts[0])]
        expected, actual = scored(plain, batch), scored(remembering, batch)
        computed += expected.computed_tokens - actual.computed_tokens
        for before, after in zip(expected.rewards, actual.rewards, strict=True):
            assert after.score == pytest.approx(before.score, abs=1e-5, rel=1e-5)
            assert after.tokens == before.tokens
            assert after.weights == (before.weights and pytest.approx(before.weights, abs=1e-5))
            assert after.uncertainty == (
                before.uncertainty and pytest.approx(before.uncertainty, abs=1e-5)
            )
    assert computed > 0


def test_bits_do_not_depend_on_what_is_known(zoo: Path) -> None:
    folder = str(zoo / "skywork-llama-8b")
    plain = load_scorer(folder, batch_invariant=True)
    remembering = load_scorer(folder, batch_invariant=True, prefix_cache_gib=0.1)
    chance = random.Random(1)
    for _ in range(20):
        batch = [answered("so " * chance.randrange(40)) for _ in range(chance.randrange(1, 6))]
        expected, actual = scored(plain, batch), scored(remembering, batch)
        assert actual.computed_tokens <= expected.computed_tokens
        assert [item.score for item in actual.rewards] == [item.score for item in expected.rewards]


@pytest.fixture
def small(zoo: Path) -> Scorer:
    """A cache of a thousand tokens or so."""
    scorer = load_scorer(str(zoo / "skywork-llama-8b"), pack_tokens=600)
    layers = len(scorer._backbone.layers)
    shape = scorer._backbone.layers[0]
    token = 4 * layers * shape.head_dim * (shape.heads - shape.query_heads)
    return load_scorer(
        str(zoo / "skywork-llama-8b"), pack_tokens=600, prefix_cache_gib=1000 * token / GIB
    )


def test_what_was_not_used_for_longest_is_forgotten(small: Scorer) -> None:
    cache = small._prefixes
    used, other = answered("Eleven.", "Used. " + PROMPT), "Not used. " + PROMPT
    scored(small, [answered("Eleven.", other)])
    for index in range(12):
        scored(small, [used])
        scored(small, [answered("Eleven.", f"{index}. {PROMPT}")])
        assert cache.tokens <= 1000
    held = sum(kept.layers[0].shape[1] for kept in cache._packs)
    assert held == cache.tokens
    again = scored(small, [used])
    assert again.computed_tokens <= BLOCK + 1
    forgotten = scored(small, [answered("Eleven.", other)])
    assert forgotten.computed_tokens > forgotten.tokens - 2 * BLOCK
    small.forget_prefixes()
    assert (cache.tokens, cache._paths) == (0, {})


def test_a_pack_that_is_larger_than_the_cache_is_not_kept(zoo: Path) -> None:
    scorer = load_scorer(str(zoo / "skywork-llama-8b"), prefix_cache_gib=1e-6)
    for _ in range(2):
        batch = scored(scorer, [answered("Eleven.")])
        assert batch.computed_tokens == batch.tokens


def test_a_failure_leaves_nothing_behind(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = load_scorer(str(zoo / "skywork-llama-8b"), prefix_cache_gib=0.1)
    scored(scorer, [answered("Eleven.")])
    assert scorer._prefixes.tokens > 0

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr(scorer._backbone, "forward", fail)
        with pytest.raises(ModelFailed):
            scored(scorer, [answered("Eleven.")])
    assert scorer._prefixes.tokens == 0
    batch = scored(scorer, [answered("Eleven.")])
    assert batch.computed_tokens == batch.tokens
