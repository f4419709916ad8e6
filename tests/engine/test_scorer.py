"""The Scorer: order kept, packed scores equal to scores alone, costs counted."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rewardserve.engine.prefix_cache import PackStates
from rewardserve.engine.scorer import Scorer, load_scorer
from rewardserve.engine.tree import Pack
from rewardserve.errors import ConversationTooLong, InvalidConversation, ModelFailed
from rewardserve.zoo import ZOO_MODELS
from rewardserve_client import Conversation

HISTORY = [
    {"role": "user", "content": "Name a prime number above ten, and say why it is one."},
    {"role": "assistant", "content": "Eleven: nothing but one and itself divides it."},
    {"role": "user", "content": "And the next one, please?"},
]


def answered(text: str, turns: int = 3) -> Conversation:
    return [*HISTORY[:turns], {"role": "assistant", "content": text}]


CORPORA: dict[str, list[Conversation]] = {
    "single turns": [answered("Thirteen.", 1), answered("Go away.", 1)],
    "multi-turn pairs": [
        answered("Thirteen."),
        answered("Twelve, I think."),
        answered("Eleven.", 1),
    ],
    "best of 16": [answered(f"It is {number}, since I counted.") for number in range(16)],
    "duplicates": [answered("Thirteen."), answered("No."), answered("Thirteen.")],
    "one-token response": [answered("7"), answered("7 and more")],
    # skywork-gemma2-27b's window is far shorter than this.
    "longer than the window": [answered("word " * 400), answered("word " * 400 + "end")],
}


@pytest.fixture(scope="module", params=ZOO_MODELS)
def scorer(request: pytest.FixtureRequest, zoo: Path) -> Scorer:
    return load_scorer(str(zoo / request.param))


@pytest.mark.parametrize("corpus", CORPORA)
def test_packed_scores_equal_scores_alone(scorer: Scorer, corpus: str) -> None:
    together = scorer.score(CORPORA[corpus])
    for conversation, reward in zip(CORPORA[corpus], together, strict=True):
        (alone,) = scorer.score([conversation])
        assert reward.score == pytest.approx(alone.score, abs=1e-5, rel=1e-5)
        assert reward.attributes == (alone.attributes and pytest.approx(alone.attributes, abs=1e-5))


def test_shared_prompts_are_computed_once(scorer: Scorer) -> None:
    encoded = [scorer.encode(item) for item in CORPORA["best of 16"]]
    batch = scorer.score_encoded(encoded)
    assert batch.tokens == sum(len(item.token_ids) for item in encoded)
    assert batch.computed_tokens < batch.tokens / 2


@pytest.fixture(scope="module")
def one(zoo: Path) -> Scorer:
    return load_scorer(str(zoo / "skywork-llama-8b"), name="one", max_tokens=200, pack_tokens=64)


def test_packs_smaller_than_the_batch_keep_its_order(one: Scorer) -> None:
    conversations = [item for corpus in list(CORPORA.values())[:5] for item in corpus]
    together = one.score(conversations)
    alone = [one.score([item])[0].score for item in conversations]
    assert [reward.score for reward in together] == pytest.approx(alone, abs=1e-5)


def test_a_pack_is_read_once_the_next_is_launched(
    one: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    launch, read = one._launch, one._read

    def launched(*arguments: Any) -> Any:
        events.append("launch")
        return launch(*arguments)

    def was_read(*arguments: Any) -> Any:
        events.append("read")
        return read(*arguments)

    monkeypatch.setattr(one, "_launch", launched)
    monkeypatch.setattr(one, "_read", was_read)
    one.score(CORPORA["best of 16"])
    packs = events.count("launch")
    assert packs > 2
    assert events == ["launch"] + ["launch", "read"] * (packs - 1) + ["read"]


def test_a_reward_says_what_gave_it(one: Scorer) -> None:
    (reward,) = one.score([answered("Thirteen.")])
    assert reward.model == "one"
    assert reward.revision is None
    assert not reward.truncated
    assert reward.tokens == len(one.encode(answered("Thirteen.")).token_ids)


def test_too_long_is_refused_and_truncation_is_told(one: Scorer) -> None:
    with pytest.raises(ConversationTooLong, match="200"):
        one.score([answered("word " * 400)])
    long_prompt = [{"role": "user", "content": "word " * 400}, HISTORY[1]]
    (reward,) = one.score([long_prompt], truncate=True)
    assert reward.truncated
    assert reward.tokens <= 200


def test_a_conversation_must_end_with_the_assistant(one: Scorer) -> None:
    with pytest.raises(InvalidConversation, match="assistant"):
        one.score([HISTORY])


def test_nothing_to_score_is_no_rewards(one: Scorer) -> None:
    assert one.score([]) == []


class SmallDevice:
    """A backbone whose memory ends at some tokens a pack."""

    def __init__(self, backbone: object, tokens: int) -> None:
        self._backbone = backbone
        self._tokens = tokens
        self.packs: list[int] = []

    def __call__(self, pack: Pack, rows: list[int], prefixes: PackStates) -> torch.Tensor:
        self.packs.append(len(pack.token_ids))
        if len(pack.token_ids) > self._tokens:
            raise torch.OutOfMemoryError
        return self._backbone(pack, rows, prefixes)  # type: ignore[operator, no-any-return]


def test_out_of_memory_halves_the_packs_once_and_for_good(zoo: Path) -> None:
    scorer = load_scorer(str(zoo / "skywork-llama-8b"), pack_tokens=400)
    conversations = CORPORA["best of 16"] + CORPORA["single turns"]
    expected = [reward.score for reward in scorer.score(conversations)]
    device = SmallDevice(scorer._backbone, 200)
    scorer._backbone = device  # type: ignore[assignment]
    rewards = scorer.score(conversations)
    assert [reward.score for reward in rewards] == pytest.approx(expected, abs=1e-5)
    assert device.packs[0] > 200
    device.packs.clear()
    scorer.score(conversations)
    assert max(device.packs) <= 200


def test_memory_that_is_too_small_even_then_is_a_model_failure(zoo: Path) -> None:
    scorer = load_scorer(str(zoo / "skywork-llama-8b"))
    scorer._backbone = SmallDevice(scorer._backbone, 10)  # type: ignore[assignment]
    with pytest.raises(ModelFailed, match="pack_tokens"):
        scorer.score([answered("Thirteen.")])
