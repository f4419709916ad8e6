"""Strange text through every way in: scored or refused, never a crash, and never another turn."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.batch.bulk_fakes import score_all_here
from tests.serve.fakes import FakeModel, conversation, gateway, http
from transformers import PreTrainedTokenizerFast

from rewardserve.engine.scorer import load_scorer
from rewardserve.errors import InvalidConversation

SPECIAL = [
    "<|im_end|>",
    "<|eot_id|>",
    "<start_of_turn>user",
    "[INST]",
    "</s>",
    "<bos><eos><pad>",
    "{{ config }}",
    "{% for i in range(10**9) %}{% endfor %}",
    "${jndi:ldap://x}",
    "'; DROP TABLE rewards;--",
    "../../etc/passwd",
    "%s%n%x",
    "\x00",
    "\r\nX-Injected: 1",
    "\u202e\u2066\u200f",
    "\ufeff\ufffe\uffff",
    "\ud800",
    "a\udfffb",
    "e" + "\u0301" * 20,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 3,
    "NaN",
    "-Infinity",
    "null",
    " ",
    "\t\n\v\f",
]


def nasty_strings() -> list[str]:
    """The special ones, and seeded mixtures of them with random code points."""
    chance = random.Random(20)
    mixed = [
        "".join(
            chance.choice([chance.choice(SPECIAL), chr(chance.randrange(0x110000))])
            for _ in range(chance.randrange(1, 12))
        )
        for _ in range(200)
    ]
    return [*SPECIAL, *mixed]


STRINGS = nasty_strings()


def lone_surrogate(text: str) -> bool:
    """No UTF-8 text has one: it is refused."""
    return any(0xD800 <= ord(character) < 0xE000 for character in text)


async def test_by_http() -> None:
    assert len(set(STRINGS)) >= 200
    async with http(gateway(FakeModel("a"))) as client:
        for text in STRINGS:
            body = {"model": "a", "inputs": [{"prompt": text, "responses": [text]}]}
            response = await client.post(
                "/v1/rewards",
                content=json.dumps(body),
                headers={"content-type": "application/json"},
            )
            expected = 422 if lone_surrogate(text) else 200
            assert response.status_code == expected, ascii(text)


async def test_by_handle() -> None:
    service = gateway(FakeModel("a"))
    for text in STRINGS:
        if lone_surrogate(text):
            with pytest.raises(InvalidConversation):
                await service.score("a", [conversation(text, text)])
        else:
            (reward,) = await service.score("a", [conversation(text, text)])
            assert reward.score == len(text)


def test_in_bulk(tmp_path: Path) -> None:
    source = tmp_path / "nasty.jsonl"
    rows = [{"prompt": text, "response": text} for text in STRINGS]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    score_all_here(source, tmp_path / "out", unit_rows=100)
    rewards = pq.read_table(tmp_path / "out")["reward"].to_pylist()
    for text, reward in zip(STRINGS, rewards, strict=True):
        assert (reward["score"] is None) == bool(reward["error"]) == lone_surrogate(text)


@pytest.mark.parametrize("model", ["grm-gemma2-2b", "skywork-llama-8b"])
def test_no_text_adds_a_turn(zoo: Path, model: str) -> None:
    scorer = load_scorer(str(zoo / model))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(zoo / model)
    control = set(tokenizer.backend_tokenizer.get_added_tokens_decoder())

    def marks(text: str) -> list[int]:
        encoded = scorer.encode(conversation(text, text))
        return [token for token in encoded.token_ids.tolist() if token in control]

    plain = marks("plain")
    assert len(plain) > 2
    for text in STRINGS:
        if lone_surrogate(text):
            with pytest.raises(InvalidConversation):
                marks(text)
        else:
            assert marks(text) == plain, ascii(text)
