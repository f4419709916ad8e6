"""Small tokenizers with the families' special tokens, and chat templates that render as theirs do.

Any text can be encoded: Llama's fall back to bytes by construction, Gemma's through byte tokens.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

GEMMA_TEMPLATE = """\
{{ bos_token }}
{%- for message in messages %}
{%- if message['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('roles must alternate') }}{% endif %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}"""
LLAMA3_TEMPLATE = """\
{{ bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
{{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}"""
LLAMA31_WITHOUT_BOS_TEMPLATE = """\
{%- set date = date_string if date_string is defined else '26 Jul 2024' %}
{%- set opened = messages[0]['role'] == 'system' %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date + '\\n\\n' }}
{{- messages[0]['content'] | trim if opened }}{{- '<|eot_id|>' }}
{%- for message in (messages[1:] if opened else messages) %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
{{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}"""
TEMPLATES = {
    "gemma": GEMMA_TEMPLATE,
    "llama3": LLAMA3_TEMPLATE,
    "llama31": "{{ bos_token }}\n" + LLAMA31_WITHOUT_BOS_TEMPLATE,
    "llama31-without-bos": LLAMA31_WITHOUT_BOS_TEMPLATE,
}
_PAIRS = ("th", "an", "in", "er", "ou", "on", "re", "wo", "rd", "ye")
_LLAMA_SPECIALS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "[PAD]",
)  # fmt: skip
_GEMMA_SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")


def _llama() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, "ĊĊ", *_PAIRS])}
    merges = [("Ċ", "Ċ"), *((pair[0], pair[1]) for pair in _PAIRS)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    # As in Llama-3, line breaks hold together whatever follows them.
    words = pre_tokenizers.Split(Regex(r" ?[^\s]+|\s*\n+|\s"), "isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    return _finished(tokenizer, _LLAMA_SPECIALS, bos="<|begin_of_text|>")


def _gemma() -> Tokenizer:
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = [*_GEMMA_SPECIALS, "\n", *fallback, "▁", *letters, *_PAIRS]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=[(pair[0], pair[1]) for pair in _PAIRS],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return _finished(tokenizer, _GEMMA_SPECIALS, bos="<bos>")


def _finished(tokenizer: Tokenizer, specials: tuple[str, ...], bos: str) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in specials])
    tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return tokenizer


TOKENIZERS = {"gemma": _gemma(), "llama": _llama()}


def vocabulary_size(template: str) -> int:
    """Of the tokenizer that goes with one of `TEMPLATES`."""
    return TOKENIZERS[_kind(template)].get_vocab_size()


def write_tokenizer(folder: Path, template: str) -> Path:
    """tokenizer.json and tokenizer_config.json with one of `TEMPLATES`."""
    folder.mkdir(parents=True, exist_ok=True)
    gemma = _kind(template) == "gemma"
    settings = {
        "tokenizer_class": "GemmaTokenizer" if gemma else "PreTrainedTokenizerFast",
        "bos_token": "<bos>" if gemma else "<|begin_of_text|>",
        "eos_token": "<eos>" if gemma else "<|eot_id|>",
        "pad_token": "<pad>" if gemma else "[PAD]",
        "chat_template": TEMPLATES[template],
    }
    TOKENIZERS[_kind(template)].save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def _kind(template: str) -> str:
    return "gemma" if template == "gemma" else "llama"
