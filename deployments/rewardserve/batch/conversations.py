"""One input row to the conversations that it stands for. Pure: no files, no models, no Arrow.

A value that cannot become a conversation is returned as an InvalidConversation in its place, so
that one bad value costs one reward and never its neighbours'.
"""

from collections.abc import Mapping
from typing import Any

from rewardserve.batch.columns import HUMAN_MARKER, Layout
from rewardserve.errors import ConversationTooLong, InvalidConversation, InvalidRequest
from rewardserve_client import Conversation, Prompt

ASSISTANT_MARKER = "\n\nAssistant:"

MAX_CHARS = 400_000
"""Characters of one conversation; more are refused before a tokenizer sees them."""

Item = Conversation | InvalidRequest
"""A conversation, or why there is none."""


def row_items(layout: Layout, row: Mapping[str, Any]) -> list[Item]:
    """The row's items in output order: chosen and rejected, or one per response, or one."""
    values = {role: row[column] for role, column in layout.roles.items()}
    if layout.shape == "pairs":
        return _pair(layout, values)
    if layout.shape == "candidates":
        return _candidates(values)
    if "messages" in values:
        return [_item(None, values["messages"])]
    return [_item(values["prompt"], values["response"])]


def too_long(characters: int) -> ConversationTooLong:
    """The refusal of a text that is over the limit whatever its tokens are."""
    return ConversationTooLong(
        f"{characters:,} characters; at most {MAX_CHARS:,} are read; shorten the text"
    )


def _pair(layout: Layout, values: Mapping[str, Any]) -> list[Item]:
    chosen, rejected = values["chosen"], values["rejected"]
    if layout.prompt_source == "hh_text":
        return [_split_hh(chosen), _split_hh(rejected)]
    if layout.prompt_source == "shared_prefix":
        return _split_shared(chosen, rejected)
    if layout.prompt_source == "column" and values["prompt"] is None:
        return [InvalidConversation("the prompt is null")] * 2
    return [_item(values.get("prompt"), chosen), _item(values.get("prompt"), rejected)]


def _candidates(values: Mapping[str, Any]) -> list[Item]:
    if "responses" in values:
        responses = values["responses"]
    else:
        responses = [*(values["chosen"] or ()), *(values["rejected"] or ())]
    if not responses:
        return [InvalidConversation("the row has no responses")]
    return [_item(values["prompt"], response) for response in responses]


def _item(prompt: Prompt | None, answer: Any) -> Item:
    """Prompt and answer joined.

    An answer in messages that opens with the assistant continues the prompt; any other is the
    whole conversation (UltraFeedback repeats the prompt inside it).
    """
    if isinstance(answer, str):
        if not isinstance(prompt, (str, list)):
            return InvalidConversation("the prompt is null")
        answer = [{"role": "assistant", "content": answer}]
    if not isinstance(answer, list):
        return InvalidConversation("the response is null")
    if prompt is not None and answer and _role(answer[0]) == "assistant":
        return _checked([*_as_turns(prompt), *answer])
    return _checked(answer)


def _as_turns(prompt: Prompt) -> Conversation:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _checked(turns: list[Any]) -> Item:
    characters = 0
    for turn in turns:
        if not isinstance(turn, dict):
            return InvalidConversation("a message is null")
        if not isinstance(turn.get("role"), str) or not isinstance(turn.get("content"), str):
            return InvalidConversation("a message has no role or no content")
        characters += len(turn["content"])
    if characters > MAX_CHARS:
        return too_long(characters)
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def _split_hh(text: str | None) -> Item:
    """HH-RLHF's text as turns; the markers stand at the start of a paragraph."""
    if text is None:
        return InvalidConversation("the text is null")
    if not text.startswith(HUMAN_MARKER):
        return InvalidConversation("the text does not start with a Human: marker")
    turns: Conversation = []
    for part in text.split(HUMAN_MARKER)[1:]:
        question, *answers = part.split(ASSISTANT_MARKER)
        turns.append({"role": "user", "content": question.strip()})
        turns += [{"role": "assistant", "content": answer.strip()} for answer in answers]
    return _checked(turns)


def _split_shared(chosen: str | None, rejected: str | None) -> list[Item]:
    """The texts' common beginning is the prompt, cut back to a whole word."""
    if chosen is None or rejected is None:
        return [InvalidConversation("a text is null")] * 2
    differing = (at for at, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b)
    shared = next(differing, min(len(chosen), len(rejected)))
    split = max(0, chosen.rfind(" ", 0, shared))
    prompt = chosen[:split].strip()
    if not prompt:
        return [InvalidConversation("the two texts share no prompt")] * 2
    return [_item(prompt, text[split:].strip()) for text in (chosen, rejected)]
