"""What the queue promises about order, bounds and deadlines, on a clock the test owns."""

from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardserve.engine.token_queue import BULK_TURN, PREFIX_BLOCK, TokenQueue, Waiting
from rewardserve.errors import Busy


@dataclass(frozen=True)
class FakeEncoded:
    token_ids: Any


starts = count(step=10_000)


def waiting(
    token_ids: list[int] | int, priority: Any = "interactive", *, until: float = 1e9
) -> Waiting:
    """A conversation of the given tokens, or of so many tokens that nobody else has."""
    if isinstance(token_ids, int):
        start = next(starts)
        token_ids = list(range(start, start + token_ids))
    encoded: Any = FakeEncoded(np.array(token_ids, np.int32))
    return Waiting(encoded, priority, arrived_at=0.0, expires_at=until)


def queue(*, pack_tokens: int = 100, queue_tokens: int = 10_000) -> TokenQueue:
    return TokenQueue(pack_tokens=pack_tokens, queue_tokens=queue_tokens)


def test_a_pack_is_filled_in_arrival_order_up_to_the_budget() -> None:
    entries = [waiting(40) for _ in range(5)]
    waiting_room = queue()
    waiting_room.put(entries)
    assert waiting_room.take(0) == entries[:2]
    assert waiting_room.take(0) == entries[2:4]
    assert waiting_room.take(0) == entries[4:]
    assert waiting_room.take(0) == []
    assert waiting_room.tokens == 0


def test_what_does_not_fit_is_passed_over_once_and_then_goes_first() -> None:
    small, large, later = waiting(60), waiting(90), waiting(30)
    waiting_room = queue()
    waiting_room.put([small, large, later])
    assert waiting_room.take(0) == [small, later]
    assert waiting_room.take(0) == [large]


def test_a_conversation_longer_than_a_pack_goes_alone() -> None:
    long, other = waiting(500), waiting(10)
    waiting_room = queue()
    waiting_room.put([long])
    waiting_room.put([other])
    assert waiting_room.take(0) == [long]
    assert waiting_room.take(0) == [other]


def test_responses_to_one_prompt_share_a_pack_whoever_sent_them() -> None:
    prompt = list(range(2 * PREFIX_BLOCK))
    callers = [waiting([*prompt, 900 + i]) for i in range(3)]
    strangers = [waiting(60) for _ in range(3)]
    waiting_room = queue(pack_tokens=80)
    for caller, stranger in zip(callers, strangers, strict=True):
        waiting_room.put([caller])
        waiting_room.put([stranger])
    assert waiting_room.take(0) == callers


def test_interactive_goes_first_and_bulk_starts_every_fourth_pack() -> None:
    waiting_room = queue(pack_tokens=10)
    waiting_room.put([waiting(10, "bulk") for _ in range(20)])
    waiting_room.put([waiting(10) for _ in range(40)])
    order = [waiting_room.take(0)[0].priority for _ in range(3 * BULK_TURN)]
    assert order == (["interactive"] * (BULK_TURN - 1) + ["bulk"]) * 3


def test_bulk_fills_what_interactive_leaves_of_a_pack() -> None:
    bulk, interactive = waiting(40, "bulk"), waiting(40)
    waiting_room = queue()
    waiting_room.put([bulk])
    waiting_room.put([interactive])
    assert waiting_room.take(0) == [interactive, bulk]


def test_a_full_queue_refuses_the_whole_call_and_says_when_to_come_back() -> None:
    waiting_room = queue(queue_tokens=100)
    waiting_room.put([waiting(60)])
    with pytest.raises(Busy) as refused:
        waiting_room.put([waiting(30), waiting(30)], retry_after_s=7.0)
    assert refused.value.retry_after_s == 7.0
    assert waiting_room.tokens == 60


def test_bulk_leaves_half_of_the_queue_to_interactive_callers() -> None:
    waiting_room = queue(queue_tokens=100)
    waiting_room.put([waiting(50, "bulk")])
    with pytest.raises(Busy):
        waiting_room.put([waiting(1, "bulk")])
    waiting_room.put([waiting(50)])
    assert waiting_room.tokens == 100


def test_an_empty_queue_takes_a_call_larger_than_its_bound() -> None:
    waiting_room = queue(queue_tokens=100)
    waiting_room.put([waiting(300)])
    assert waiting_room.tokens == 300


def test_what_must_be_alone_shares_its_pack_with_nobody() -> None:
    suspect, first, second = waiting(10), waiting(10), waiting(10)
    suspect.alone = True
    waiting_room = queue()
    waiting_room.put([first, suspect, second])
    assert [waiting_room.take(0) for _ in range(2)] == [[first, second], [suspect]]
    waiting_room.put([third := waiting(10, "bulk")])
    other = waiting(10)
    other.alone = True
    waiting_room.put([other])
    assert [waiting_room.take(0) for _ in range(2)] == [[other], [third]]


def test_what_is_past_its_deadline_never_reaches_a_pack() -> None:
    late, in_time = waiting(10, until=5.0), waiting(10, until=6.0)
    waiting_room = queue()
    waiting_room.put([late, in_time])
    assert waiting_room.take(5.0) == [in_time]
    assert late.gone
    assert waiting_room.tokens == 0


def test_a_caller_that_left_frees_its_place_at_once() -> None:
    leaver, stayer = waiting(60), waiting(60)
    waiting_room = queue(queue_tokens=120)
    waiting_room.put([leaver])
    waiting_room.put([stayer])
    assert waiting_room.discard([leaver]) == 1
    assert waiting_room.tokens == 60
    assert waiting_room.take(0) == [stayer]
    assert waiting_room.discard([stayer]) == 0


arrivals = st.lists(
    st.tuples(
        st.sampled_from(["interactive", "bulk"]),
        st.lists(st.integers(0, 2), min_size=1, max_size=150),
    ),
    max_size=40,
)


@given(arrivals)
def test_everything_is_served_once_within_the_budget_and_in_few_packs(arrived: Any) -> None:
    waiting_room = queue(pack_tokens=100, queue_tokens=10**6)
    entries = [waiting(tokens, priority) for priority, tokens in arrived]
    for entry in entries:
        waiting_room.put([entry])
    served: list[Waiting] = []
    while pack := waiting_room.take(0):
        served += pack
        distinct = {tuple(entry.encoded.token_ids[:end]) for entry in pack for end in blocks(entry)}
        assert len(pack) == 1 or PREFIX_BLOCK * len(distinct) <= 100
    assert sorted(map(id, served)) == sorted(map(id, entries))
    assert waiting_room.tokens == 0


def blocks(entry: Waiting) -> range:
    return range(PREFIX_BLOCK, entry.tokens + 1, PREFIX_BLOCK)
