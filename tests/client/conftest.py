"""What the client's tests share: conversations, and retries that do not wait."""

from collections.abc import Iterator

import pytest
import stamina

from rewardserve_client import Conversation, Message


def conversation(response: str, prompt: str = "Say something.") -> Conversation:
    """One turn each."""
    return [Message(role="user", content=prompt), Message(role="assistant", content=response)]


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Retries come at once, as many as usual."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield
