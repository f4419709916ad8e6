"""A chat template frozen at load: the same text tomorrow, and no way for a request to change it.

Knows the template and how to render it. Knows nothing of tokens, limits or which model it serves.
"""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from rewardserve.errors import InvalidConversation, UnsupportedCheckpoint
from rewardserve_client._types import Message

_CLOCK_CALL = re.compile(r"""strftime_now\(\s*(["'])([^"']*)\1\s*\)""")
_PROBE_PROMPT = "3fe2f2d2 prompt"
_PROBE_RESPONSE = "7c1c02d9 response"


class ChatTemplate:
    """Renders conversations; today's date is replaced by `date` wherever the template prints it."""

    def __init__(self, source: str, special_tokens: Mapping[str, str], date: dt.date) -> None:
        self._source = _CLOCK_CALL.sub(lambda call: repr(date.strftime(call[2])), source)
        if "strftime_now(" in self._source:
            raise UnsupportedCheckpoint(
                "the chat template prints today's date in a format that it computes; "
                "scores would change from day to day"
            )
        self._special_tokens = dict(special_tokens)
        self.turn = self._probe()
        self.takes_system = self._renders_system()

    def render(self, messages: Sequence[Message]) -> str:
        """The whole conversation as text.

        Raises InvalidConversation when the template refuses the sequence of roles.
        """
        try:
            return self._render(messages)
        except TemplateError as error:
            raise InvalidConversation(
                "the model's chat template refuses this sequence of roles; "
                "most want user and assistant in turn, the user first",
                param="messages",
            ) from error

    def _render(self, messages: Sequence[Message]) -> str:
        names: dict[str, Any] = self._special_tokens
        turns: list[Any] = list(messages)
        rendered = render_jinja_template([turns], chat_template=self._source, **names)
        return str(rendered[0][0])

    def _probe(self) -> "TurnText":
        messages = [
            Message(role="user", content=_PROBE_PROMPT),
            Message(role="assistant", content=_PROBE_RESPONSE),
        ]
        try:
            text = self._render(messages)
        except (TemplateError, TypeError, ValueError) as error:
            raise UnsupportedCheckpoint(
                f"the chat template does not render one user and one assistant turn: {error}"
            ) from error
        before, prompt, rest = text.partition(_PROBE_PROMPT)
        opening, response, closing = rest.partition(_PROBE_RESPONSE)
        if not prompt or not response:
            raise UnsupportedCheckpoint("the chat template leaves out the prompt or the response")
        return TurnText(before, opening, closing)

    def _renders_system(self) -> bool:
        messages = [
            Message(role="system", content=_PROBE_PROMPT),
            Message(role="user", content=_PROBE_PROMPT),
            Message(role="assistant", content=_PROBE_RESPONSE),
        ]
        try:
            return self._render(messages).count(_PROBE_PROMPT) == 2
        except TemplateError:
            return False


@dataclass(frozen=True, slots=True)
class TurnText:
    """What a template writes around one prompt and one response."""

    before: str
    opening: str
    closing: str
