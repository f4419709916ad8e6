"""Text to token ids with one tokenizer, in which a special token's name inside content is text.

Knows nothing of templates, turns or limits. Every function is safe to call from many threads.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from threading import Lock
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
    replaced by a stand-in that nobody outside this process can write. `parse_hidden` then makes
    ids of the rendered text in which the template's special tokens are control and content is text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._special = {token_id: token for token_id, token in added.items() if token.special}
        self._names = sorted({token.content for token in self._special.values()}, key=len)[::-1]
        self._prefixes = {name[:2] for name in self._names}
        self._pattern = re.compile("|".join(map(re.escape, self._names)) or r"(?!)")
        stand_in = f"\U000f0000{secrets.token_hex(8)}"
        self._stand_ins = {name: f"{stand_in}{i:04x}" for i, name in enumerate(self._names)}
        self._hidden = re.compile(rf"{stand_in}([0-9a-f]{{4}})")
        self._literal: LiteralTokenizer | None = None
        self._building = Lock()

    def parse(self, text: str) -> list[int]:
        """Ids of `text`; special tokens in it are control tokens; none is added."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def through_last_special(self, text: str) -> tuple[int, ...]:
        """Ids of `text` up to its last special token; all of them when it has none."""
        ids = self.parse(text)
        special = (i for i, token in enumerate(ids) if token in self._special)
        return tuple(ids[: max(special, default=len(ids) - 1) + 1])

    def names_special(self, content: str) -> bool:
        """Whether the name of a special token occurs in `content`."""
        likely = any(prefix in content for prefix in self._prefixes)
        return likely and bool(self._pattern.search(content))

    def hide(self, content: str) -> str:
        """`content` with the names of special tokens replaced by stand-ins."""
        return self._pattern.sub(lambda match: self._stand_ins[match[0]], content)

    def parse_hidden(self, text: str) -> list[int]:
        """Ids of a text rendered from hidden contents; what was hidden is text."""
        literal = self._literal_tokenizer()
        aliased = self._pattern.sub(lambda match: literal.aliases[match[0]], text)
        restored = self._hidden.sub(lambda match: self._names[int(match[1], 16)], aliased)
        return literal.parse(restored)

    def _literal_tokenizer(self) -> "LiteralTokenizer":
        """Built when first needed: it holds the vocabulary once more, and few ever need it."""
        with self._building:
            if self._literal is None:
                self._literal = LiteralTokenizer(self._tokenizer, self._special)
            return self._literal


class LiteralTokenizer:
    """A copy of a tokenizer to which special tokens are text, and only their aliases control.

    The text is tokenised whole, so that its pieces merge as they do in any other text.
    """

    def __init__(self, tokenizer: Tokenizer, special: Mapping[int, AddedToken]) -> None:
        alias = f"\U000f0001{secrets.token_hex(8)}"
        self.aliases = {
            token.content: f"{alias}{token_id:08x}" for token_id, token in special.items()
        }
        self._copy = Tokenizer.from_str(tokenizer.to_str())
        self._copy.encode_special_tokens = True
        self._copy.add_tokens(
            [
                AddedToken(
                    self.aliases[token.content],
                    lstrip=token.lstrip,
                    rstrip=token.rstrip,
                    normalized=False,
                )
                for token in special.values()
            ]
        )
        self._special_ids = {
            alias_id: int(token.content[-8:], 16)
            for alias_id, token in self._copy.get_added_tokens_decoder().items()
            if token.content.startswith(alias)
        }

    def parse(self, text: str) -> list[int]:
        """Ids of `text`, in which aliases stand for special tokens."""
        ids = self._copy.encode(text, add_special_tokens=False).ids
        return [self._special_ids.get(token, token) for token in ids]


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
