"""The text policy: how one model turns a conversation into token ids, down to the last BOS.

Knows the template, the tokenizer and the limits. Knows nothing of heads, packs or devices.
"""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeGuard

import numpy as np

from rewardserve.errors import ConversationTooLong, InvalidConversation, UnsupportedCheckpoint
from rewardserve.families.conversation import check_text, checked_conversation
from rewardserve.families.template import ChatTemplate
from rewardserve.families.tokens import Tokens
from rewardserve.families.truncation import Side, TokenArray, TurnMarks, shortened
from rewardserve.settings import Settings
from rewardserve_client._types import Conversation, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TextSpec(Settings):
    """What a model's card says about its text; the default suits a checkpoint nobody described."""

    bos: Literal["template", "one", "doubled"] = "one"
    """BOS tokens in front: what the template writes, exactly one, or two (as GRM was trained)."""
    system: Literal["template", "folded"] = "template"
    """A system message goes to the template, or in front of the first user message."""
    default_system: str | None = None
    """System message of conversations that bring none."""
    date: dt.date = dt.date(2024, 7, 26)
    """Printed by templates that would print today's; the constant of Llama 3.1's own template."""
    truncation: Side = "left"
    """The side that is cut when a request allows truncation."""
    chat_template: str | None = None
    """Jinja source in place of the checkpoint's template, for cards with a plain-text format."""
    eos: bool = False
    """Whether EOS is appended to the text."""


class TextPolicy:
    """Conversations, rendered text or token ids to token ids; `encode` is thread-safe."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", spec: TextSpec, vocab_size: int
    ) -> None:
        self.spec = spec
        self._vocab_size = vocab_size
        self._tokens = Tokens(tokenizer.backend_tokenizer)
        self._bos: str | None = tokenizer.bos_token
        self._bos_id: int | None = tokenizer.bos_token_id
        self._end: tuple[int, ...] = (tokenizer.eos_token_id,) if spec.eos else ()
        self._template = ChatTemplate(
            template_source(tokenizer, spec), tokenizer.special_tokens_map, spec.date
        )
        turn = self._template.turn
        self._marks = TurnMarks(
            bos=self._bos_id,
            header=self._tokens.through_last_special(turn.opening),
            opening_length=len(self._tokens.parse(turn.opening)),
            closing=(*self._tokens.parse(turn.closing), *self._end),
        )

    def encode(
        self, item: Conversation | str | Sequence[int], *, truncate: bool = False, max_tokens: int
    ) -> tuple[TokenArray, bool]:
        """Token ids (int32) of `item`, and whether they were shortened to `max_tokens`.

        A conversation is rendered by the model's template. A string is text already rendered by
        it: special tokens in it are control tokens, and BOS is set as for a conversation. A
        sequence of ints is token ids as they are.

        Raises InvalidConversation, and ConversationTooLong unless `truncate`.
        """
        token_ids = self._token_ids(item)
        if len(token_ids) <= max_tokens:
            return token_ids, False
        if not truncate:
            raise ConversationTooLong(
                f"{len(token_ids)} tokens; this model takes {max_tokens}; "
                "set truncate or shorten the conversation",
                param="messages",
            )
        return shortened(token_ids, max_tokens, self.spec.truncation, self._marks), True

    def render(self, conversation: Conversation) -> str:
        """The conversation as the model's template writes it."""
        return self._template.render(self._with_system_handled(checked_conversation(conversation)))

    def _token_ids(self, item: Conversation | str | Sequence[int]) -> TokenArray:
        if isinstance(item, str) and item:
            check_text(item, "text")
            ids = self._text_ids(item)
        elif _holds_integers(item):
            ids = list(item)
        else:
            ids = self._conversation_ids(checked_conversation(item))
        token_ids = np.asarray(ids, dtype=np.int64)
        if token_ids.min() < 0 or token_ids.max() >= self._vocab_size:
            raise InvalidConversation(
                f"a token id is outside the model's vocabulary of {self._vocab_size}", "messages"
            )
        return token_ids.astype(np.int32)

    def _conversation_ids(self, messages: list[Message]) -> list[int]:
        messages = self._with_system_handled(messages)
        if not any(self._tokens.names_special(message["content"]) for message in messages):
            return self._text_ids(self._template.render(messages))
        hidden = [
            Message(role=message["role"], content=self._tokens.hide(message["content"]))
            for message in messages
        ]
        return self._text_ids(self._template.render(hidden), hidden=True)

    def _text_ids(self, text: str, *, hidden: bool = False) -> list[int]:
        parse = self._tokens.parse_hidden if hidden else self._tokens.parse
        if self._bos is None or self._bos_id is None:
            return [*parse(text), *self._end]
        stripped = text.removeprefix(self._bos)
        written = int(len(stripped) < len(text))
        count = {"template": written, "one": 1, "doubled": 2}[self.spec.bos]
        return [*[self._bos_id] * count, *parse(stripped), *self._end]

    def _with_system_handled(self, messages: list[Message]) -> list[Message]:
        if self.spec.default_system is not None and messages[0]["role"] != "system":
            return [Message(role="system", content=self.spec.default_system), *messages]
        if messages[0]["role"] == "system" and self.spec.system == "folded":
            return _folded(messages)
        if messages[0]["role"] == "system" and not self._template.takes_system:
            raise InvalidConversation(
                "this model's chat template has no system role; "
                "put the text in front of the first user message",
                param="messages[0].role",
            )
        return messages


def _folded(messages: list[Message]) -> list[Message]:
    system, first, *rest = messages
    if first["role"] != "user":
        raise InvalidConversation(
            "a system message must be followed by the user's", param="messages[1].role"
        )
    content = f"{system['content']}\n\n{first['content']}"
    return [Message(role="user", content=content), *rest]


def _holds_integers(item: object) -> TypeGuard[Sequence[int]]:
    if isinstance(item, np.ndarray):
        return item.ndim == 1 and item.size > 0 and item.dtype.kind in "iu"
    return (
        isinstance(item, Sequence)
        and len(item) > 0
        and all(isinstance(token, int | np.integer) for token in item)
    )


def template_source(tokenizer: "PreTrainedTokenizerBase", spec: TextSpec) -> str:
    """The spec's template, else the checkpoint's; raises UnsupportedCheckpoint without either."""
    if spec.chat_template is not None:
        return spec.chat_template
    try:
        source: str = tokenizer.get_chat_template()
    except ValueError:
        raise UnsupportedCheckpoint(
            "the tokenizer has no chat template, so nobody can know how this model reads a "
            "conversation; add the model's own as chat_template.jinja"
        ) from None
    return source
