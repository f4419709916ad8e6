"""Text to token ids with one tokenizer, in which a special token's name inside content is text.

Knows nothing of templates, turns or limits. Every function is safe to call from many threads.
"""

import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer

from rewardserve.errors import UnsupportedCheckpoint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokens:
    """One tokenizer's `parse` (special tokens are control) and `hide`/`parse_hidden` (for content).

    Content that names a special token goes through `hide` before it is rendered: the name is
    replaced by a stand-in that nobody outside this process can write. `parse_hidden` then turns
    the template's own special tokens into aliases, restores the names, and tokenises the whole
    text at once with special-token parsing off, so that pieces merge as in any other text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        special = {token.content: token for token in added.values() if token.special}
        self._names = sorted(special, key=len, reverse=True)
        self._prefixes = {name[:2] for name in self._names}
        self._pattern = re.compile("|".join(map(re.escape, self._names)) or r"(?!)")
        nonce = secrets.token_hex(8)
        self._stand_in = {name: f"\U000f0000{nonce}{i:04x}" for i, name in enumerate(self._names)}
        self._alias = {name: f"\U000f0001{nonce}{i:04x}" for i, name in enumerate(self._names)}
        self._hidden = re.compile(rf"\U000f0000{nonce}([0-9a-f]{{4}})")
        self._literal, self._real_ids = self._literal_tokenizer(special)

    def _literal_tokenizer(
        self, special: dict[str, AddedToken]
    ) -> tuple[Tokenizer, dict[int, int]]:
        literal = Tokenizer.from_str(self._tokenizer.to_str())
        literal.encode_special_tokens = True
        literal.add_tokens([self._aliased(token) for token in special.values()])
        aliases = literal.get_added_tokens_decoder()
        alias_ids = {token.content: token_id for token_id, token in aliases.items()}
        added = self._tokenizer.get_added_tokens_decoder()
        return literal, {
            alias_ids[self._alias[token.content]]: token_id
            for token_id, token in added.items()
            if token.special
        }

    def _aliased(self, token: AddedToken) -> AddedToken:
        return AddedToken(
            self._alias[token.content],
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=False,
        )

    def parse(self, text: str) -> list[int]:
        """Ids of `text`; special tokens in it are control tokens; none is added."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def through_last_special(self, text: str) -> tuple[int, ...]:
        """Ids of `text` up to its last special token; all of them when it has none."""
        ids = self.parse(text)
        control = set(self._real_ids.values())
        last = max((i for i, token in enumerate(ids) if token in control), default=len(ids) - 1)
        return tuple(ids[: last + 1])

    def names_special(self, content: str) -> bool:
        """Whether the name of a special token occurs in `content`."""
        return any(prefix in content for prefix in self._prefixes) and bool(
            self._pattern.search(content)
        )

    def hide(self, content: str) -> str:
        """`content` with the names of special tokens replaced by stand-ins."""
        return self._pattern.sub(lambda match: self._stand_in[match[0]], content)

    def parse_hidden(self, text: str) -> list[int]:
        """Ids of a text rendered from hidden contents; what was hidden is text."""
        aliased = self._pattern.sub(lambda match: self._alias[match[0]], text)
        restored = self._hidden.sub(lambda match: self._names[int(match[1], 16)], aliased)
        ids = self._literal.encode(restored, add_special_tokens=False).ids
        return [self._real_ids.get(token, token) for token in ids]


def last_occurrence(
    token_ids: Sequence[int] | NDArray[np.int32], pattern: Sequence[int]
) -> int | None:
    """Start of the last place where `pattern` occurs in `token_ids`."""
    ids = np.asarray(token_ids)
    if not 0 < len(pattern) <= len(ids):
        return None
    windows = np.lib.stride_tricks.sliding_window_view(ids, len(pattern))
    starts = np.flatnonzero((windows == np.asarray(pattern)).all(axis=1))
    return int(starts[-1]) if len(starts) else None


def marker_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    """Ids of a marker that a template writes; UnsupportedCheckpoint when the tokenizer lacks it."""
    vocabulary = tokenizer.get_vocab()
    for name in re.findall(r"<[^<>\s]+>", text):
        if name not in vocabulary:
            raise UnsupportedCheckpoint(
                f"the tokenizer lacks {name}, which this family's head looks for"
            )
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return tuple(ids)
