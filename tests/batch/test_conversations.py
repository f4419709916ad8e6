"""Rows become exactly the conversations that their corpus means, or a reason."""

from typing import Any

import pytest

from rewardserve.batch.columns import Layout, PromptSource, Shape
from rewardserve.batch.conversations import MAX_CHARS, row_items
from rewardserve.errors import ConversationTooLong, InvalidConversation


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def items(shape: Shape, source: PromptSource, row: dict[str, Any]) -> list[Any]:
    return row_items(Layout(shape, {name: name for name in row}, source), row)


def test_message_lists_are_taken_whole() -> None:
    row = {"chosen": [user("q"), answer("a")], "rejected": [user("q"), answer("b")]}
    assert items("pairs", "messages", row) == [row["chosen"], row["rejected"]]


def test_a_prompt_repeated_in_the_messages_is_not_doubled() -> None:
    row = {"prompt": "q", "chosen": [user("q"), answer("a")], "rejected": [user("q"), answer("b")]}
    assert items("pairs", "column", row) == [row["chosen"], row["rejected"]]


@pytest.mark.parametrize("prompt", ["q", [user("q")]])
def test_messages_that_open_with_the_assistant_continue_the_prompt(prompt: Any) -> None:
    row = {"prompt": prompt, "chosen": [answer("a")], "rejected": [answer("b")]}
    assert items("pairs", "column", row) == [[user("q"), answer("a")], [user("q"), answer("b")]]


def test_hh_text_splits_into_turns() -> None:
    text = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: how?\n\nAssistant: "
    row = {"chosen": text + "fine: thanks", "rejected": text + "bad"}
    turns = [user("hi"), answer("hello"), user("how?")]
    assert items("pairs", "hh_text", row) == [
        [*turns, answer("fine: thanks")],
        [*turns, answer("bad")],
    ]


def test_an_implicit_prompt_is_what_both_texts_share_up_to_a_word() -> None:
    row = {"chosen": "The colour is blue.", "rejected": "The colour is black."}
    assert items("pairs", "shared_prefix", row) == [
        [user("The colour is"), answer("blue.")],
        [user("The colour is"), answer("black.")],
    ]


def test_texts_without_a_shared_prompt_are_refused() -> None:
    row = {"chosen": "blue", "rejected": "red"}
    assert all(
        isinstance(item, InvalidConversation) for item in items("pairs", "shared_prefix", row)
    )


def test_candidates_share_their_prompt() -> None:
    row = {"prompt": "q", "responses": ["a", "b"]}
    assert items("candidates", "column", row) == [
        [user("q"), answer("a")],
        [user("q"), answer("b")],
    ]


def test_right_and_wrong_answers_become_candidates_right_ones_first() -> None:
    row = {"prompt": "q", "chosen": ["a"], "rejected": ["b", "c"]}
    assert [item[-1]["content"] for item in items("candidates", "column", row)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("shape", "row", "reason"),
    [
        ("single", {"prompt": None, "response": "a"}, "prompt is null"),
        ("single", {"prompt": "q", "response": None}, "response is null"),
        ("single", {"messages": None}, "response is null"),
        ("single", {"messages": [None]}, "message is null"),
        ("single", {"messages": [{"role": "user", "content": None}]}, "no content"),
        ("candidates", {"prompt": "q", "responses": None}, "no responses"),
        ("candidates", {"prompt": "q", "responses": []}, "no responses"),
        ("candidates", {"prompt": None, "responses": ["a"]}, "prompt is null"),
    ],
)
def test_what_cannot_be_a_conversation_says_why(shape: Shape, row: Any, reason: str) -> None:
    (item,) = items(shape, "column", row)
    assert isinstance(item, InvalidConversation)
    assert reason in item.message


def test_one_bad_side_of_a_pair_leaves_the_other() -> None:
    good, bad = items("pairs", "column", {"prompt": "q", "chosen": "a", "rejected": None})
    assert good == [user("q"), answer("a")]
    assert isinstance(bad, InvalidConversation)


def test_too_much_text_is_refused_before_any_tokenizer() -> None:
    (item,) = items("single", "column", {"prompt": "q", "response": "x" * MAX_CHARS})
    assert isinstance(item, ConversationTooLong)
