"""The small tokenizers: any text survives, and special tokens sit where the family has them."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rewardserve.zoo import ZOO_MODELS
from rewardserve.zoo.tokenizer import BASE_VOCABULARY, GEMMA_VOCABULARY, LLAMA_VOCABULARY

GEMMA_IDS = {
    "<pad>": 0,
    "<eos>": 1,
    "<bos>": 2,
    "<unk>": 3,
    "<start_of_turn>": 106,
    "<end_of_turn>": 107,
    "\n": 108,
}
LLAMA_OFFSETS = {
    "<|begin_of_text|>": 0,
    "<|end_of_text|>": 1,
    "<|start_header_id|>": 6,
    "<|end_header_id|>": 7,
    "<|eot_id|>": 9,
    "[PAD]": 256,
}
TEXTS = [
    "Plain words.",
    "  two  spaces,\ttab\n\n\nlines \n end ",
    "naïve façade, Ελληνικά, 日本語, 🙂👍🏽",
    "def f(x):\n    return x ** 2  # 1234567890",
]


@pytest.fixture(params=ZOO_MODELS)
def folder(request: pytest.FixtureRequest, zoo: Path) -> Path:
    path: Path = zoo / request.param
    return path


def test_every_text_can_be_read_back(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_the_named_class_and_tokenizer_json_cut_alike(folder: Path) -> None:
    named = AutoTokenizer.from_pretrained(folder)
    plain = PreTrainedTokenizerFast.from_pretrained(folder)
    for text in TEXTS:
        assert named.encode(text) == plain.encode(text)


def test_special_tokens_have_the_familys_ids(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.bos_token == "<bos>":
        expected, size = GEMMA_IDS, GEMMA_VOCABULARY
    else:
        expected = {token: BASE_VOCABULARY + offset for token, offset in LLAMA_OFFSETS.items()}
        size = LLAMA_VOCABULARY
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in expected} == expected
    assert len(tokenizer) == size


def test_the_tokenizer_adds_one_bos(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode("Hi")
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1


def test_digits_stand_alone_and_roles_are_single_tokens(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer.encode("90210", add_special_tokens=False)) == 5
    for role in ("user", "assistant" if "[PAD]" in tokenizer.get_vocab() else "model"):
        assert len(tokenizer.encode(role, add_special_tokens=False)) == 1


def test_ordinary_english_takes_fewer_tokens_than_half_its_characters(folder: Path) -> None:
    text = (
        "The history of the city began many years before the first university was founded, and "
        "there is still a great deal that people do not know about those early times."
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer.encode(text, add_special_tokens=False)) < len(text) / 2.5
