"""Which inputs are conversations.

Knows nothing of templates, tokenizers or limits. Messages of errors name the place and the
remedy, and echo no content.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rewardserve.errors import InvalidConversation
from rewardserve_client._types import Message

ROLES = ("system", "user", "assistant")


def checked_conversation(conversation: Any) -> list[Message]:
    """The conversation's messages with role and content alone; other keys are not read.

    Raises InvalidConversation unless it is a non-empty list of messages with known roles and text
    contents that ends with the assistant's.
    """
    if not isinstance(conversation, Sequence) or isinstance(conversation, str | bytes):
        raise _invalid("a conversation is a list of messages", "messages")
    if not conversation:
        raise _invalid("the conversation is empty; it needs at least one message", "messages")
    messages = [_checked_message(index, item) for index, item in enumerate(conversation)]
    if messages[-1]["role"] != "assistant":
        raise _invalid(
            f"the last message (of {len(messages)}) is not the assistant's; "
            "a reward is given to a response, so end with role 'assistant'",
            f"messages[{len(messages) - 1}].role",
        )
    return messages


def _checked_message(index: int, message: Any) -> Message:
    where = f"messages[{index}]"
    if not isinstance(message, Mapping):
        raise _invalid(f"{where} is not an object with role and content", where)
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise _invalid(f"{where}.role is not one of {', '.join(ROLES)}", f"{where}.role")
    if not isinstance(content, str):
        raise _invalid(f"{where}.content is not a string", f"{where}.content")
    check_text(content, f"{where}.content")
    return Message(role=role, content=content)


def check_text(text: str, where: str) -> None:
    """Raises InvalidConversation when `text` is not valid Unicode (a lone surrogate)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _invalid(
            f"{where} holds a lone surrogate, which is no text; repair or drop it", where
        ) from None


def _invalid(message: str, param: str) -> InvalidConversation:
    return InvalidConversation(message, param=param)
