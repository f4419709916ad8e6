"""Chat templates, against strings written by hand, through the stock transformers tokenizer."""

from pathlib import Path

import pytest
from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

CONVERSATION = [
    {"role": "user", "content": "  Hi "},
    {"role": "assistant", "content": "Hello.\n"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "So long."},
]
GEMMA = (
    "<bos><start_of_turn>user\nHi<end_of_turn>\n"
    "<start_of_turn>model\nHello.<end_of_turn>\n"
    "<start_of_turn>user\nBye<end_of_turn>\n"
    "<start_of_turn>model\nSo long.<end_of_turn>\n"
)
LLAMA_TURNS = (
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nSo long.<|eot_id|>"
)
DATES = (
    "<|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
)
GEMMA_MODELS = ["grm-gemma2-2b", "rm-gemma-7b", "skywork-gemma2-27b", "grm-sftreg"]
EXPECTED = {
    **dict.fromkeys(GEMMA_MODELS, GEMMA),
    "armorm": "<|begin_of_text|>" + LLAMA_TURNS,
    "skywork-llama-8b": "<|begin_of_text|>" + DATES + LLAMA_TURNS,
    "urm": DATES + LLAMA_TURNS,
}


def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    loaded = AutoTokenizer.from_pretrained(folder)
    assert isinstance(loaded, PreTrainedTokenizerBase)
    return loaded


@pytest.mark.parametrize(("name", "expected"), EXPECTED.items(), ids=EXPECTED)
def test_a_conversation_is_written_as_the_family_writes_it(
    name: str, expected: str, zoo: Path
) -> None:
    rendered = tokenizer(zoo / name).apply_chat_template(CONVERSATION, tokenize=False)
    assert rendered == expected


@pytest.mark.parametrize("name", GEMMA_MODELS)
@pytest.mark.parametrize(
    "roles", [("system", "user", "assistant"), ("user", "user"), ("assistant", "user")]
)
def test_gemma_refuses_system_messages_and_turns_out_of_order(
    name: str, roles: tuple[str, ...], zoo: Path
) -> None:
    messages = [{"role": role, "content": "x"} for role in roles]
    with pytest.raises(TemplateError):
        tokenizer(zoo / name).apply_chat_template(messages, tokenize=False)


def test_llama_3_takes_a_system_message_as_an_ordinary_turn(zoo: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *CONVERSATION]
    rendered = tokenizer(zoo / "armorm").apply_chat_template(messages, tokenize=False)
    system = "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    assert rendered == "<|begin_of_text|>" + system + LLAMA_TURNS


def test_llama_3_1_appends_a_system_message_to_its_dates(zoo: Path) -> None:
    messages = [{"role": "system", "content": " Be brief. "}, *CONVERSATION]
    rendered = tokenizer(zoo / "skywork-llama-8b").apply_chat_template(messages, tokenize=False)
    system = DATES.removesuffix("<|eot_id|>") + "Be brief.<|eot_id|>"
    assert rendered == "<|begin_of_text|>" + system + LLAMA_TURNS


def test_llama_3_1_prints_the_date_it_is_given(zoo: Path) -> None:
    rendered = tokenizer(zoo / "urm").apply_chat_template(
        CONVERSATION, tokenize=False, date_string="01 Jan 2030"
    )
    assert "Today Date: 01 Jan 2030\n\n<|eot_id|>" in rendered


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("rm-gemma-7b", "<start_of_turn>model\n"),
        ("armorm", "<|start_header_id|>assistant<|end_header_id|>\n\n"),
        ("urm", "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    ],
)
def test_a_generation_prompt_opens_the_assistants_turn(name: str, opening: str, zoo: Path) -> None:
    asked = tokenizer(zoo / name).apply_chat_template(
        CONVERSATION[:1], tokenize=False, add_generation_prompt=True
    )
    assert asked.endswith(opening)
