"""Shortening token sequences without losing what a reward is read from: pure.

A cut never reaches the response's header (where ArmoRM's gate reads) nor the tokens that close the
last turn (where the score is read), and the BOS stays in front.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rewardserve.errors import ConversationTooLong
from rewardserve.families.tokens import last_occurrence

Side = Literal["left", "right"]
TokenArray = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TurnMarks:
    """What the template writes around the last response, in token ids."""

    bos: int | None
    header: tuple[int, ...]
    """Between the prompt's last content and the response, up to its last special token.

    What follows that token (a role, a line break) may merge with the response's first letters.
    """
    opening_length: int
    """Tokens between the prompt's last content and the response."""
    closing: tuple[int, ...]
    """After the response."""


def shortened(token_ids: TokenArray, limit: int, side: Side, marks: TurnMarks) -> TokenArray:
    """The first and last tokens of `token_ids`, `limit` in all; the cut is on `side`.

    Raises ConversationTooLong when what must stay does not fit.
    """
    opening = last_occurrence(token_ids, marks.header)
    if side == "left":
        kept = _leading(token_ids, marks.bos)
        cut_end = len(token_ids) - (limit - kept)
        last_cut_end = len(token_ids) - 1 if opening is None else opening
        fits = limit > kept and cut_end <= last_cut_end
        start, end = kept, cut_end
    else:
        tail = _trailing(token_ids, marks.closing)
        response = 0 if opening is None else opening + marks.opening_length
        start, end = limit - tail, len(token_ids) - tail
        fits = start > response
    if not fits:
        raise ConversationTooLong(
            f"{len(token_ids)} tokens; this model takes {limit}, and the turn that must stay whole "
            f"when the {side} is cut does not fit; shorten the conversation",
            param="messages",
        )
    return np.concatenate([token_ids[:start], token_ids[end:]])


def _leading(token_ids: TokenArray, bos: int | None) -> int:
    """How many BOS tokens stand in front, at most two."""
    return next((i for i, token in enumerate(token_ids[:2]) if token != bos), 2)


def _trailing(token_ids: TokenArray, closing: tuple[int, ...]) -> int:
    """How many tokens close the last turn; the pooled last token at least."""
    ends = closing and tuple(token_ids[-len(closing) :]) == closing
    return len(closing) if ends else 1
